"""The world of people: identities, expressions, captions, parts, pictures and sets. No MakeHuman asset is needed (see world_parts.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("FACEEXPR_WORLD_CACHE", str(Path(__file__).parents[1] / "build" / "world"))

from world_parts import make_parts

from faceexpr_core import expressions as vocabulary
from faceexpr_core.errors import FaceExprError
from lab.world import makehuman, parts
from lab.world.assets import GEOMETRY, load_parts, parts_folder, picture_names
from lab.world.attach import Part, part_of, placed
from lab.world.backgrounds import PLACES, TINTS, background
from lab.world.body import PART_BACKGROUND, PART_EYE, PART_MOUTH, PART_OTHER, PART_SKIN
from lab.world.captions import caption, details, looks_of
from lab.world.check import identity_figures, judged
from lab.world.covers import HEADSCARF
from lab.world.dataset import check_settings, identity_pictures, load_shard, main, shown_by, write_shard
from lab.world.expressions import ACTION_UNITS, EXPRESSIONS, Shown, unit_weights, weights_of
from lab.world.identity import REPORTING_IDENTITIES, TRAINING_IDENTITIES, TUNING_IDENTITIES, person_of
from lab.world.light import Lights
from lab.world.mesh import head_mesh, subdivide
from lab.world.picture import picture
from lab.world.render import draw
from lab.world.scene import LIGHT_WORDS, Scene, lights_of, outfit_of, scene_of

SIZE = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEEXPR_PARTS", str(folder))
    return folder


def drawn(seed: int, weights: dict[str, float], scene: Scene | None = None, **outfit: Any) -> tuple[np.ndarray, np.ndarray]:
    person = person_of(seed)
    worn = replace(outfit_of(person, np.random.default_rng(3)), **{"cover": "none", "glasses": False, "earrings": "none", **outfit})  # type: ignore[arg-type]
    return draw(person, worn, weights, scene or Scene(), SIZE)


# identities


def test_a_seed_is_one_person_and_two_seeds_are_two() -> None:
    assert person_of(100_001) == person_of(100_001)
    assert person_of(100_001).local != person_of(100_002).local


def test_ranges_of_identities_do_not_touch_and_stay_below_900_000() -> None:
    ranges = (TRAINING_IDENTITIES, TUNING_IDENTITIES, REPORTING_IDENTITIES)
    assert [r.start for r in ranges] == [0, 100_000, 200_000]
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    assert ranges[-1].stop <= 900_000


def test_people_are_of_both_genders_all_ages_and_all_tones_and_only_men_have_beards() -> None:
    people = [person_of(100_000 + k) for k in range(120)]
    assert {p.gender for p in people} == {"man", "woman"}
    assert {p.age for p in people} == {"young", "middle-aged", "old"}
    assert {p.skin for p in people} == {"pale", "fair", "tan", "brown", "dark"}
    assert all(p.beard == "none" for p in people if p.gender == "woman")
    assert any(p.wears_headscarf for p in people) and not any(p.wears_headscarf for p in people if p.gender == "man")


def test_local_shapes_of_a_head_stay_in_range() -> None:
    values = np.array([person_of(100_000 + k).local for k in range(60)])
    assert np.abs(values).max() <= 1.0
    assert 0.15 < values.std() < 0.40


# expressions


def test_every_unit_of_every_expression_exists_on_the_mesh() -> None:
    known = set(head_mesh().unit_labels)
    for weights in (*EXPRESSIONS.values(), *ACTION_UNITS.values()):
        assert set(weights) <= known
    assert len(known) == 52


def test_the_world_shows_the_whole_vocabulary() -> None:
    assert set(EXPRESSIONS) == {expression.word for expression in vocabulary.EXPRESSIONS.values()}
    assert set(ACTION_UNITS) == set(vocabulary.ACTION_UNITS)
    for name in vocabulary.COMPOUNDS:
        assert weights_of(Shown(name))


def test_a_side_moves_only_that_half_of_the_persons_face() -> None:
    assert unit_weights("R12") == {"mouthSmileRight": ACTION_UNITS[12]["mouthSmileRight"]}
    assert set(unit_weights("R46")) == {"eyeBlinkRight", "cheekSquintRight"}
    assert all(name.endswith("Left") for name in unit_weights("L6"))


def test_intensity_scales_and_a_compound_takes_the_stronger_part() -> None:
    half = weights_of(Shown("happy", 0.5))
    assert half == {unit: weight / 2 for unit, weight in EXPRESSIONS["happy"].items()}
    compound = weights_of(Shown("happily surprised"))
    assert compound["mouthSmileLeft"] == pytest.approx(0.7 * EXPRESSIONS["happy"]["mouthSmileLeft"])
    assert compound["eyeWideLeft"] == pytest.approx(0.7 * EXPRESSIONS["surprised"]["eyeWideLeft"])


def test_an_unknown_action_unit_is_refused() -> None:
    with pytest.raises(FaceExprError, match="AU99"):
        weights_of(Shown(None, 1.0, ("AU99",)))


# captions


def attributes(**changed: object) -> dict[str, object]:
    return {
        "expression": "sad", "intensity": 0.7, "action_units": [], "age": "young", "gender": "woman", "skin": "tan", "hair": "red",
        "hair_style": "long", "eyes": "green", "beard": "none", "freckles": False, "glasses": False, "hat": "none", "hat_colour": "",
        "earrings": "none", "clothes": "", "background": "grey", "light": "soft light", "yaw": 0.0, **changed,
    }


def phrases(**changed: object) -> str:
    """Everything that captions of a picture may say."""
    seen = attributes(**changed)
    ways = (part(seen, np.random.default_rng(seed)) for seed in range(30) for part in (looks_of, details))
    return " | ".join(text for way in ways for _, text in way)


@pytest.mark.parametrize(("changed", "said"), [
    ({"glasses": True}, "wearing glasses"), ({"hat": "knit cap", "hat_colour": "orange"}, "wearing an orange knit cap"),
    ({"hat": "headscarf", "hat_colour": "blue"}, "wearing a blue headscarf"), ({"earrings": "hoops"}, "hoop earrings"),
    ({"beard": "goatee"}, "with a goatee"), ({"background": "library"}, "in a library"), ({"background": "teal"}, "teal background"),
    ({"light": "backlight"}, "backlight"), ({"yaw": 22.0}, "turned to the right"), ({"yaw": -22.0}, "turned to the left"),
    ({"clothes": "red top"}, "a red top"), ({"hair_style": "tied back"}, "red hair tied back"), ({"hair_style": "bald"}, "bald"),
])
def test_captions_name_what_is_seen(changed: dict[str, object], said: str) -> None:
    assert said in phrases(**changed)
    if changed != {"hair_style": "tied back"}:
        assert said not in phrases()


def test_a_caption_without_looks_tells_the_scene_and_the_expression_but_not_the_person() -> None:
    seen = attributes(skin="tan", hair="red", hair_style="long", beard="full", hat="none", glasses=True)
    texts = [caption(seen, np.random.default_rng(seed), looks=False) for seed in range(40)]
    assert not any(word in text for text in texts for word in ("tan skin", "red hair", "beard", "freckles"))
    assert any("glasses" in text for text in texts)


def test_captions_do_not_speak_of_hair_under_a_headscarf() -> None:
    assert "hair" in phrases()
    assert "hair" not in phrases(hat="headscarf", hat_colour="blue").replace("headscarf", "")


def test_nearly_every_caption_names_the_expression_and_action_units_by_their_phrases() -> None:
    made = [caption(attributes(), np.random.default_rng(k)) for k in range(200)]
    assert np.mean(["sad" in text or "frowning" in text for text in made]) > 0.9
    units = attributes(expression=None, action_units=["1", "R12"])
    made = [caption(units, np.random.default_rng(k)) for k in range(40)]
    assert any("raised inner brows" in text and "lip corners pulled up on the right side" in text for text in made)


# geometry and parts


def test_one_subdivision_of_a_cube_is_catmull_and_clarks() -> None:
    cube = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    matrix, fine, _ = subdivide(quads, 8)
    places = matrix @ cube
    assert matrix.shape == (8 + 12 + 6, 8) and fine.shape == (24, 4)
    np.testing.assert_allclose(np.abs(places[:8]), 5 / 9)  # corners
    np.testing.assert_allclose(np.sort(np.abs(places[8:20]), axis=1), np.tile([0, 0.75, 0.75], (12, 1)))  # edges
    np.testing.assert_allclose(np.sort(np.abs(places[20:]), axis=1), np.tile([0, 0, 1.0], (6, 1)), atol=1e-12)  # faces


def test_a_part_follows_its_vertices_and_grows_with_the_head() -> None:
    mesh = head_mesh()
    a, b, c = (int(v) for v in mesh.ids[mesh.skin_base[:3]])
    far = np.abs(mesh.template[mesh.skin_base[0]] - mesh.template[mesh.skin_base[1]]) + 1e-9
    part: Part = part_of({
        "idx": np.array([[a, b, c]]), "w": np.array([[0.5, 0.25, 0.25]]), "off": np.array([[0.01, 0.02, 0.03]]),
        "tri": np.zeros((1, 3), int), "uv": np.zeros((1, 3, 2), int), "scale": np.array([[a, b, far[0]], [a, b, far[2]], [a, b, far[1]]]),
    }, mesh)
    resting = placed(part, mesh.template)
    in_our_axes = np.array([0.01, -0.03, 0.02])  # MakeHuman's y is up, its z the front
    expected = np.array([0.5, 0.25, 0.25]) @ mesh.template[mesh.skin_base[:3]] + in_our_axes
    np.testing.assert_allclose(resting[0], expected, atol=1e-4)
    np.testing.assert_allclose(placed(part, mesh.template + 0.1)[0], resting[0] + 0.1, atol=1e-5)
    np.testing.assert_allclose(placed(part, 2 * mesh.template)[0], 2 * resting[0], atol=1e-4)


def test_a_part_that_hangs_below_the_cut_is_refused() -> None:
    mesh = head_mesh()
    below = np.setdiff1d(np.arange(mesh.ids.max()), mesh.ids)[:1]
    with pytest.raises(ValueError, match="below the cut"):
        mesh.index(below)


def test_makehumans_files_are_read_with_their_oddities(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3 4/4\n")
    vertices, places, faces, corners = makehuman.read_mesh(tmp_path / "a.obj")
    assert vertices.shape == (4, 3) and places.shape == (4, 2)
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(corners, faces)
    (tmp_path / "a.mhclo").write_text(
        "# CC0\nname a\nx_scale 1 2 1.5\ny_scale 3 4 2.5\nz_scale 5 6 3.5\nverts 0\nmaterial a.mhmat\n7\n1 2 3 0.5 0.25 0.25 0.1 0.2 0.3\n"
        "delete_verts\n4 - 6 9\n")
    fitting = makehuman.read_fitting(tmp_path / "a.mhclo")
    assert fitting.index.tolist() == [[7, 7, 7], [1, 2, 3]]
    assert fitting.weights.tolist() == [[1, 0, 0], [0.5, 0.25, 0.25]]
    assert fitting.scale["z"] == (5, 6, 3.5) and fitting.deleted.tolist() == [4, 5, 6, 9]


def test_the_builder_refuses_other_files_than_the_world_was_made_with(tmp_path: Path) -> None:
    wanted = {"skins/a.png": "0" * 64}
    with pytest.raises(FaceExprError, match="missing"):
        parts.check_sources(tmp_path, wanted)
    (tmp_path / "skins").mkdir()
    (tmp_path / "skins" / "a.png").write_bytes(b"another")
    with pytest.raises(FaceExprError, match="sha256"):
        parts.check_sources(tmp_path, wanted)


def test_the_builders_list_of_sources_covers_all_that_it_reads() -> None:
    named = set(parts.sources())
    for part, place in parts.part_folders().items():
        assert sum(name.startswith(f"{place}/") and name.endswith((".obj", ".mhclo")) for name in named) == 2, part
    for name, place in parts.SKIN_FOLDERS.items():
        assert f"skins/{place}/{name}.png" in named
    assert all(len(digest) == 64 for digest in parts.sources().values())


def test_a_mixed_skin_has_the_colours_of_one_and_the_lines_of_the_other() -> None:
    colours, detail = np.full((80, 80, 3), 100, np.uint8), np.full((80, 80, 3), 200, np.uint8)
    detail[40] = 100
    made = parts.mixed(colours, detail, False).astype(int)
    assert abs(made[10].mean() - 100) < 2
    assert made[40].mean() < 70


def test_a_world_without_parts_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FACEEXPR_PARTS", raising=False)
    with pytest.raises(FaceExprError, match="--parts"):
        parts_folder()
    with pytest.raises(FaceExprError, match=picture_names()[0]):
        load_parts(tmp_path)


def test_geometry_that_lacks_a_part_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in picture_names():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(folder / name)
    with np.load(folder / GEOMETRY) as stored:
        np.savez(tmp_path / GEOMETRY, **{key: stored[key] for key in stored.files if not key.startswith("teeth.")})
    with pytest.raises(FaceExprError, match="teeth"):
        load_parts(tmp_path)


# pictures


def test_the_same_seeds_give_the_same_pixels_and_another_number_does_not(given: Path) -> None:
    first = picture(100_003, 5, Shown("happy"), SIZE)
    again, other = picture(100_003, 5, Shown("happy"), SIZE), picture(100_003, 6, Shown("happy"), SIZE)
    assert first.image.shape == (SIZE, SIZE, 3) and first.image.dtype == np.uint8
    np.testing.assert_array_equal(first.image, again.image)
    assert first.caption == again.caption and first.attributes == again.attributes
    assert np.abs(first.image.astype(int) - other.image).mean() > 3


def test_the_renderer_prints_nothing_where_tables_go() -> None:
    words = "import warp; from lab.world import raster; warp.init()"
    assert subprocess.run([sys.executable, "-c", words], capture_output=True, check=True, cwd=Path(__file__).parents[1]).stdout == b""


def test_skin_lies_in_the_middle_and_the_background_in_the_corner(given: Path) -> None:
    _, found = drawn(100_003, {})
    assert found[int(0.5 * SIZE), SIZE // 2] == PART_SKIN
    assert found[4, 2] == PART_BACKGROUND
    face = np.flatnonzero((found == PART_SKIN).any(1))
    assert face.max() > 0.85 * SIZE


def test_a_person_who_is_changed_is_drawn_as_changed(given: Path) -> None:
    person = replace(person_of(100_003), gender="man", beard="none")
    outfit = replace(outfit_of(person, np.random.default_rng(3)), cover="none")
    shaved, bearded = (draw(replace(person, beard=beard), outfit, {}, Scene(), SIZE)[0].astype(int) for beard in ("none", "full"))
    assert np.abs(shaved - bearded)[SIZE // 2 :].mean() > 1


def test_lids_close_over_the_eyes_and_a_dropped_jaw_opens_the_mouth(given: Path) -> None:
    _, resting = drawn(100_003, {})
    _, closed = drawn(100_003, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    _, wide = drawn(100_003, {"jawOpen": 1.0})
    assert (closed == PART_EYE).sum() < 0.6 * (resting == PART_EYE).sum()
    assert (wide == PART_MOUTH).sum() > 1.4 * (resting == PART_MOUTH).sum()


def test_a_wink_of_the_left_eye_changes_the_right_half_of_the_picture(given: Path) -> None:
    resting, _ = drawn(100_003, {})
    winking, _ = drawn(100_003, {"eyeBlinkLeft": 1.0})
    change = np.abs(winking.astype(int) - resting).sum((0, 2))
    assert change[SIZE // 2 :].sum() > 5 * change[: SIZE // 2].sum()


def test_yaw_turns_the_nose_to_the_right_of_the_picture(given: Path) -> None:
    centres = []
    for yaw in (-30.0, 0.0, 30.0):
        _, found = drawn(100_003, {"jawOpen": 0.6}, Scene(yaw=yaw))
        centres.append(np.nonzero(found == PART_MOUTH)[1].mean())
    assert centres[0] < centres[1] - 4 and centres[2] > centres[1] + 4


@pytest.mark.parametrize("worn", [{"glasses": True}, {"earrings": "hoops"}, {"cover": "knit cap"}, {"cover": "baseball cap"},
                                  {"cover": "brimmed hat"}, {"cover": HEADSCARF}])
def test_what_is_worn_is_seen(given: Path, worn: dict[str, Any]) -> None:
    _, bare = drawn(100_003, {})
    _, dressed = drawn(100_003, {}, **worn)
    assert ((dressed == PART_OTHER) & (bare != PART_OTHER)).sum() > (8 if "earrings" in worn else 40)


def test_light_from_the_left_brightens_the_left_half_of_the_face(given: Path) -> None:
    image, found = drawn(100_003, {}, Scene(lights=Lights(azimuth=-60, ambient=0.2)))
    skin, left = found == PART_SKIN, np.arange(SIZE) < SIZE // 2
    assert image[skin & left].mean() > 1.25 * image[skin & ~left].mean()


def test_every_word_of_light_gives_lights_and_scenes_stay_within_30_degrees() -> None:
    rng = np.random.default_rng(0)
    assert len({lights_of(word, np.random.default_rng(1)) for word in LIGHT_WORDS}) == len(LIGHT_WORDS)
    scenes = [scene_of(rng, 20.0) for _ in range(200)]
    assert max(abs(s.yaw) for s in scenes) == 30.0
    assert {s.background for s in scenes} == {*TINTS, *PLACES}


def test_backgrounds_differ_and_repeat() -> None:
    made = {name: background(name, Lights(), 4, 32) for name in (*TINTS, *PLACES)}
    assert all(image.shape == (32, 32, 3) and np.isfinite(image).all() for image in made.values())
    np.testing.assert_array_equal(made["library"], background("library", Lights(), 4, 32))
    rows = np.stack([image.ravel() for image in made.values()])
    assert np.abs(rows[:, None] - rows[None]).mean(2)[~np.eye(len(rows), dtype=bool)].min() > 0.005


# sets


def test_a_set_begins_neutral_and_shows_expressions_compounds_and_action_units() -> None:
    shown = [one for seed in range(60) for one in shown_by(seed, 8)]
    assert all(shown_by(seed, 4)[0].expression == "neutral" for seed in range(10))
    words = {one.expression for one in shown}
    assert set(EXPRESSIONS) <= words and words & set(vocabulary.COMPOUNDS)
    codes = [one.action_units for one in shown if one.expression is None]
    assert any(len(c) == 2 for c in codes) and any(c[0][0] in "LR" for c in codes)


def test_a_finished_shard_is_left_alone_and_holds_what_was_drawn(given: Path, tmp_path: Path) -> None:
    path = write_shard(tmp_path, 100_000, 1, 2, 48)
    images, found, lines = load_shard(path)
    wanted = identity_pictures(100_000, 2, 48)
    np.testing.assert_array_equal(images, np.stack([one.image for one in wanted]))
    np.testing.assert_array_equal(found, np.stack([one.parts for one in wanted]))
    assert [line["caption"] for line in lines] == [one.caption for one in wanted]
    before = path.stat().st_mtime_ns
    write_shard(tmp_path, 100_000, 1, 2, 48)
    assert path.stat().st_mtime_ns == before


def test_a_set_is_not_continued_with_other_settings_and_kept_identities_are_not_rendered(given: Path, tmp_path: Path) -> None:
    check_settings(tmp_path, 5, 192)
    check_settings(tmp_path, 5, 192)
    with pytest.raises(FaceExprError, match="another side"):
        check_settings(tmp_path, 5, 128)
    stored = json.loads((tmp_path / "world.json").read_text())
    stored["expressions"]["happy"] = {}
    (tmp_path / "world.json").write_text(json.dumps(stored))
    with pytest.raises(FaceExprError, match="another expressions"):
        check_settings(tmp_path, 5, 192)
    with pytest.raises(FaceExprError, match="900000"):
        main(["--out", str(tmp_path / "x"), "--people", "2", "--first-seed", "899999"])


def test_the_readers_agreement_is_counted_absolutely_and_by_change() -> None:
    def row(identity: int, expression: str, likely: int, second: float = 0.0) -> dict[str, object]:
        probabilities = [0.0] * 7
        probabilities[likely] = 1.0 - second
        probabilities[3] += second
        return {"identity": identity, "expression": expression, "found": True, "reader": probabilities}

    rows = [row(1, "neutral", 0), row(1, "happy", 1), row(1, "angry", 0, 0.3), row(1, "sad", 0, 0.1),
            row(1, "fearful", 4), row(1, "disgusted", 5), row(1, "surprised", 6), row(1, "shocked", 6)]
    found = judged(rows)
    assert found.by_class["angry"] == (0.0, 1.0)  # read as neutral, but it moved towards anger
    assert found.by_class["sad"] == (0.0, 0.0)
    assert found.absolute == pytest.approx(5 / 7) and found.changed == pytest.approx(5 / 6)
    lost = judged([{"identity": 1, "expression": "neutral", "found": False}, *rows[1:]])
    assert lost.changed == 0.0


def test_the_expression_that_hides_people_is_named_first() -> None:
    def row(identity: int, expression: str, looks: int) -> dict[str, Any]:
        embedding = [0.1] * 128
        embedding[looks] = 1.0
        return {"identity": identity, "expression": expression, "intensity": 1.0, "found": True, "blendshapes": {"a": 0.0},
                "embedding": embedding}

    rows = [row(who, name, 9 if name == "disgusted" else who) for who in (1, 2) for name in ("neutral", "happy", "disgusted")]
    sheet, training = identity_figures(rows, [one for one in rows if one["expression"] != "disgusted"])
    assert "without disgusted 1.0000, " in sheet and ": 1.0000;" not in sheet
    assert training.endswith("of 2 people: 1.0000")
