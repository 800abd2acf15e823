"""The ablation: its arms, and what its table says of each part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_lora import every_projection, write_lora

from faceexpr_core import mini
from faceexpr_core.commands.loras import load_loras
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.draw import Drawer
from faceexpr_core.evaluation.people import Person
from faceexpr_core.evaluation.plan import Place, Plan
from faceexpr_core.evaluation.records import Lines
from faceexpr_core.evaluation.run import Evaluation, read_picture, write_picture
from faceexpr_core.evaluation.summary import Row, summarise
from faceexpr_core.fusion.run import Run
from faceexpr_core.measure.expression import CLASSES
from faceexpr_core.measure.identity import IdentityMeter, normalised
from faceexpr_core.training.prior import CLASS_CFG
from faceexpr_core.training.settings import TrainSettings
from lab.benchmarks import ablation, ablation_picture, ablation_table, subjects, summary
from lab.benchmarks.ablation import MergedDrawer
from lab.benchmarks.ablation_arms import ARMS, BASE, PARTS, RECIPE, WHOLE, chosen_steps
from lab.benchmarks.ablation_class import class_arms, class_evaluation, with_class
from lab.benchmarks.ablation_figures import read_figures, with_figures, write_figures
from lab.benchmarks.ablation_unseen import compare_unseen, with_unseen
from lab.benchmarks.preset_arms import parse_preset_arms
from lab.benchmarks.store import write_json
from lab.benchmarks.subjects import class_noise, lora_file

COMMON = "steps=400,learning_rate=6e-4"


def test_the_recipe_is_the_papers_and_the_whole_is_the_default() -> None:
    steps = {step.name: step for step in chosen_steps(ARMS, COMMON)}
    recipe, whole = steps[RECIPE], steps[WHOLE]
    assert recipe.training.meaning() == steps[BASE].training.meaning() and steps[BASE].arm.lora_strength == 0
    assert (recipe.training.settings.rank, recipe.training.settings.captions, recipe.training.settings.prior) == (4, False, "off")
    assert not recipe.arm.embeddings and recipe.arm.fusion is None
    trained = whole.training.settings
    assert (trained.captions, trained.prior, trained.crafting_weight, trained.text_encoder, trained.steps) == (
        True,
        "images",
        0.05,
        True,
        400,
    )
    assert whole.arm.embeddings and whole.arm.fusion is not None and whole.arm.text == "neutral"
    rates = {name: step.training.settings.learning_rate for name, step in steps.items()}
    assert {rates.pop(BASE), rates.pop(RECIPE)} == {2e-4} and set(rates.values()) == {6e-4}  # gaussian: each step is larger
    assert recipe.training.settings.init_lora_weights == "gaussian" and trained.init_lora_weights == "kaiming"


def test_each_part_is_the_only_difference_of_its_arms() -> None:
    steps = {step.name: step for step in chosen_steps(ARMS, COMMON)}

    def meaning(name: str) -> dict[str, Any]:
        step = steps[name]
        fusion = None if step.arm.fusion is None else (step.arm.fusion.mode, step.arm.fusion.site)
        return {"embeddings": step.arm.embeddings, "fusion": fusion, **step.training.meaning()}

    changed = {}
    for part in PARTS:
        for kind, (have, lack) in part.pairs():
            one, other = meaning(have), meaning(lack)
            changed[part.name, kind] = {key for key in one | other if one.get(key) != other.get(key)}
    assert changed["prior preservation", "added"] == changed["prior preservation", "left out"] == {"prior"}
    assert changed["captions", "added"] == changed["captions", "left out"] == {"captions"}
    assert changed["expression text embeddings", "added"] == changed["expression text embeddings", "left out"] == {"embeddings"}
    assert changed["crafting loss", "added"] == changed["crafting loss", "left out"] == {"crafting_weight"}
    assert changed["the paper's fusion", "added"] == changed["our fusion", "added"] == changed["our fusion", "left out"] == {"fusion"}
    assert not changed["our network", "added"] & {"prior", "captions", "embeddings", "crafting_weight", "fusion"}


def test_fewer_loras_than_arms_are_learned() -> None:
    steps = chosen_steps(ARMS, COMMON)
    assert len({json.dumps(step.training.meaning()) for step in steps}) == 7
    (own,) = chosen_steps(["fusion:strength=0.8,prior=off"], COMMON)
    assert own.name == "fusion:strength=0.8,prior=off" and own.arm.fusion is not None and own.arm.fusion.strength == 0.8
    assert not own.training.settings.draws_class
    with pytest.raises(FaceExprError, match="'half' is no arm of the ablation"):
        chosen_steps(["half"], "")


def records(likeness: Mapping[str, float], right: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Five people, neutral and two expressions at three intensities, as the arms have them."""
    found = []
    for person in "abcde":
        for arm in likeness:
            where = {"person": person, "arm": arm, "scene": "a photo of {person}", "seed": 0, "likeness": likeness[arm], "leak": None}
            where |= {"face": True, "unseen": likeness[arm], "background": 0.02, "pose": 3.0}
            rest = {"expression": "neutral", "intensity": 1.0, "right": True, "right_on_person": True, "strength": None}
            found.append({**where, **rest, "likeness": 0.8, "unseen": 0.8})
            for name in ("happy", "sad"):
                hit = {"expression": name, "right": right[arm], "right_on_person": right[arm]}
                found += [{**where, **hit, "intensity": one, "strength": one if right[arm] else 0.5} for one in (0.4, 0.7, 1.0)]
    return found


def table(known: Sequence[Mapping[str, Any]], names: Sequence[str], command: str = "") -> str:
    return ablation_table.table(summarise(known, names, ablation_table.MEASURES), command)


def test_the_table_says_which_part_has_an_effect_and_which_harms() -> None:
    known = records({"prior": 0.75, "captions": 0.75, "embeddings": 0.6}, {"prior": False, "captions": True, "embeddings": True})
    told = table(known, ["prior", "captions", "embeddings"], "the command")
    line = {row.split(" | ")[0].strip("| "): row for row in told.splitlines() if "` / `" in row}
    assert list(line) == ["captions", "expression text embeddings"]
    assert line["captions"].endswith("| right, on the person, order | none |")
    assert "+1.00" in line["captions"]
    assert line["expression text embeddings"].endswith("| none | identity at 0.5 |")
    assert "| `captions` | 35 | 1.00 | 1.00 |" in told
    four = [one for one in known if one["person"] != "e"]
    assert "| too few people | too few people |" in table(four, ["prior", "captions"])


def test_arms_are_compared_at_one_strength_of_the_expression() -> None:
    """One arm shows half as much as another and so keeps more of the person, on the same line."""

    def moved(read: float) -> dict[str, float]:
        return {"background": 0.04 * read, "pose": 5 * read}

    def of(reached: float) -> list[dict[str, Any]]:
        where = {"scene": "", "seed": 0}
        rest = {**where, "expression": "neutral", "intensity": 1.0, "strength": None, "likeness": 0.8, "unseen": 0.8}
        shown = [(asked, reached * asked) for asked in (0.4, 0.7, 1.0)]
        return [
            {**rest, "background": None, "pose": None},
            *(
                {**rest, "expression": "happy", "intensity": asked, "strength": read, "unseen": 0.8 - 0.3 * read, **moved(read)}
                for asked, read in shown
            ),
        ]

    measured = {one.name: one for one in ablation_table.MEASURES}
    strong, weak, never = of(1.0), of(0.6), of(0.4)
    assert measured["unseen"].of(weak) > measured["unseen"].of(strong)  # type: ignore[operator]
    alike = [measured["alike"].of(one) for one in (strong, weak, never)]
    assert alike[0] == pytest.approx(normalised(0.65)) == pytest.approx(alike[1]) and alike[2] is None
    kept = [measured["kept alike"].of(one) for one in (strong, weak, never)]
    assert kept[0] == pytest.approx(normalised(0.65) - normalised(0.8)) == pytest.approx(kept[1]) and kept[2] is None
    for name, expected in (("background", 0.02), ("pose", 2.5)):
        found = [measured[name].of(one) for one in (strong, weak, never)]
        assert found[:2] == [pytest.approx(expected)] * 2 and found[2] is None
    assert measured["alike"].of([{key: value for key, value in one.items() if key != "unseen"} for one in strong]) is None


def test_pictures_are_compared_with_photos_that_were_not_learned(tmp_path: Path) -> None:
    """A picture of the person is near to those photos, one without a face is not compared; neither is measured twice."""
    place = Place("1", "a photo of {person}", 0)
    photos = [read_picture(path) for path in sorted((Path(mini.__file__).parent / "subject").glob("photo_*.png"))]
    shown = {"happy": photos[0], "sad": np.zeros((192, 192, 3), np.uint8)}
    where = {"person": "1", "scene": place.scene, "seed": 0, "arm": WHOLE, "intensity": 1.0}
    known = [{**where, "expression": name, "picture": f"{name}.png"} for name in shown]
    for name, picture in shown.items():
        write_picture(tmp_path / f"{name}.png", picture)
    with IdentityMeter() as meter:
        reference = meter.reference(photos[1:])
        counts = [compare_unseen(tmp_path, place, known, reference, meter) for _ in range(2)]
    other = {**where, "arm": RECIPE, "expression": "happy"}
    happy, sad, lacking = with_unseen(tmp_path, [*known, other])
    assert counts == [2, 0] and lacking == other
    assert normalised(happy["unseen"]) > 0.6 and sad["unseen"] is None


def test_a_harm_that_may_be_none_is_marked() -> None:
    known = records({"prior": 0.75, "captions": 0.75}, {"prior": True, "captions": True})
    for one in known:
        one["right"] &= (one["person"], one["arm"]) != ("a", "captions")
    told = table(known, ["prior", "captions"])
    assert next(row for row in told.splitlines() if row.startswith("| captions |")).endswith("| none | right (?) |")


def test_a_class_pushed_away_from_the_person_is_moved_too() -> None:
    known = records({"prior": 0.75, "network": 0.75}, {"prior": True, "network": True})
    known = [{**one, "drift": -0.06 if one["arm"] == "network" else 0.01} for one in known]
    rows = summarise(known, ["network", "prior"], ablation_table.MEASURES)
    network, prior = rows
    less, more = (ablation_table.difference_of(rows, *pair) for pair in (("prior", "network"), ("network", "prior")))
    assert less is not None and more is not None
    assert ablation_table.effects(less) == ["moved"] and ablation_table.harms(less, network) == []
    assert ablation_table.effects(more) == [] and ablation_table.harms(more, prior) == ["moved"]


def test_a_background_that_changes_half_as_much_again_is_a_harm_though_its_number_is_small() -> None:
    for changed, said in ((0.03, "background at 0.5"), (0.022, "none")):
        known = records({"prior": 0.75, "captions": 0.75}, {"prior": True, "captions": True})
        for one in known:
            if one["expression"] != "neutral":
                one["background"] = one["strength"] * (changed if one["arm"] == "captions" else 0.02)
        told = table(known, ["prior", "captions"])
        assert next(row for row in told.splitlines() if row.startswith("| captions |")).endswith(f"| none | {said} |")


def test_a_mean_of_fewer_people_than_its_row_says_of_how_many() -> None:
    known = records({"prior": 0.75, "captions": 0.75}, {"prior": True, "captions": True})
    known = [{**one, "leak": 0.1 if one["person"] in "ab" else None} for one in known]
    told = table(known, ["prior", "captions"])
    assert told.count("0.100 (of 2)") == 2 and "+0.000 (of 2)" in told and " (of 5)" not in told


def test_of_a_measure_of_few_people_no_effect_is_said() -> None:
    """Two of six people's class gave an effect without an interval."""
    known = records({"prior": 0.75, "captions": 0.75}, {"prior": True, "captions": True})
    for people, said in (("abcde", "moved"), ("ab", "none")):
        moved = [{**one, "drift": (0.01 if one["arm"] == "captions" else 0.1) if one["person"] in people else None} for one in known]
        told = table(moved, ["prior", "captions"])
        assert next(row for row in told.splitlines() if row.startswith("| captions |")).endswith(f"| {said} | none |")


def test_the_class_is_drawn_once_with_each_lora_without_the_trigger_word(tmp_path: Path) -> None:
    steps = chosen_steps(ARMS, COMMON)
    arms = class_arms(steps)
    assert set(arms) == set(ARMS) and len(set(arms.values())) == 8
    assert (arms[BASE], arms[RECIPE]) == (BASE, RECIPE)
    assert arms["captions"] == arms["embeddings"] == arms["without crafting"] == "captions"
    assert arms["crafting"] == arms["paper fusion"] == arms[WHOLE] == "crafting"
    plan = Plan(tuple(step.arm for step in steps), ("happy",), (0.4, 1.0), ("a photo of {person}",), (0, 1))
    of_class = class_evaluation(Evaluation(tmp_path, plan, (Person("1", tmp_path, "ohwx", "woman"),)), steps)
    assert of_class.plan.intensities == (1.0,) and of_class.output.parent == tmp_path
    assert all(arm.fusion is None and arm.embeddings for arm in of_class.plan.arms)
    assert [arm.name for arm in of_class.plan.arms if not arm.lora_strength] == [BASE]
    assert len({class_noise(person, noise) for person in (200000, 200001, 200009) for noise in (0, 1)}) == 6
    (place, _), (one,) = of_class.places(), of_class.people
    assert place.scene.replace("{person}", one.words) == "a photo of a woman"


def test_the_table_says_what_became_of_the_class() -> None:
    known = records({BASE: 0.2, "network": 0.7, "prior": 0.7}, {BASE: True, "network": True, "prior": True})
    seen = [("network", 0.4, False), ("prior", 0.1, True), (BASE, 0.1, True)]
    where = [(person, name) for person in "abcde" for name in ("neutral", "happy", "sad")]
    of_class = [
        {"person": person, "seed": 0, "arm": arm, "expression": name, "likeness": likeness, "right": right}
        for person, name in where
        for arm, likeness, right in seen
    ]
    of_class[0]["likeness"] = None  # no face: no drift can be said
    told = with_class(known, of_class, {BASE: BASE, "network": "network", "prior": "prior"})
    line = next(row for row in table(told, ["network", "prior"]).splitlines() if row.startswith("| prior pres"))
    assert "| +1.00 | -0.300 | -0.300 |" in line
    assert line.endswith("| class, moved | none |")
    alone = with_class(known, [one for one in of_class if one["arm"] != BASE], {"network": "network", "prior": "prior", BASE: BASE})
    assert all(one["drift"] is None for one in alone)


def test_what_belongs_to_the_pictures_of_a_training_makes_another_lora(tmp_path: Path) -> None:
    plain, silent, whole = parse_preset_arms(["default", "default:class_captions=off", "default:background_weight=1,rank=4"])
    assert plain.class_captions and not silent.class_captions and (whole.background_weight, whole.settings.rank) == (1.0, 4)
    assert plain.settings == silent.settings and "class_captions" not in plain.meaning()
    (guided,) = parse_preset_arms(["default:class_cfg=5"])
    assert (plain.class_cfg, guided.class_cfg, guided.settings) == (CLASS_CFG, 5.0, plain.settings)
    files = {one.file(tmp_path, 3, "base") for one in (plain, silent, whole, guided)} | {plain.file(tmp_path, 3, "base", "smiling")}
    assert len(files) == 5
    assert plain.file(tmp_path, 3, "base") == lora_file(tmp_path, 3, plain.settings, "base")
    with pytest.raises(FaceExprError, match=r"class_cfg is 1\.5\.2; give a number"):
        parse_preset_arms(["default:class_cfg=1.5.2"])
    with pytest.raises(FaceExprError, match="class_captions is maybe; give on or off"):
        parse_preset_arms(["default:class_captions=maybe"])


def measured(people: str, better: float = 0.0) -> list[Row]:
    known = records({"prior": 0.75, "captions": 0.75 + better}, {"prior": False, "captions": True})
    return summarise([one for one in known if one["person"] in people], ["prior", "captions"], ablation_table.MEASURES)


def test_people_measured_on_another_machine_count_in_the_table(tmp_path: Path) -> None:
    names, folder = ["prior", "captions"], tmp_path / "figures"
    meaning = {"run": {"base": "1"}, **{name: {"text": "neutral"} for name in names}}
    assert read_figures(folder, meaning, names) == {}
    for people in ("ab", "c"):
        write_figures(folder, meaning, measured(people), people)
    kept = read_figures(folder, meaning, names)
    assert [*kept] == ["a", "b", "c"]
    whole = ablation_table.table(measured("abcde"), "")
    assert ablation_table.table(with_figures(measured("de"), kept, names, ablation_table.MEASURES), "") == whole
    assert ablation_table.table(with_figures([], kept, names, ablation_table.MEASURES), "") == ablation_table.table(measured("abc"), "")


def test_who_was_measured_anew_counts_as_measured_anew(tmp_path: Path) -> None:
    names, new = ["prior", "captions"], measured("ab", 0.1)
    write_figures(tmp_path, {"run": {}}, measured("abc"), "abc")
    joined = with_figures(new, read_figures(tmp_path, {"run": {}}, names), names, ablation_table.MEASURES)
    values = {name: own["SFace"] for name, own in joined[1].people.items()}
    assert values == {"a": pytest.approx(0.85), "b": pytest.approx(0.85), "c": pytest.approx(0.75)}


def test_figures_that_mean_something_else_or_lack_an_arm_are_not_mixed_in(tmp_path: Path) -> None:
    write_figures(tmp_path, {"run": {"base": "1"}}, measured("a"), "a")
    assert read_figures(tmp_path, {"run": {"base": "1"}}, ["prior", "captions", "whole"]) == {}
    with pytest.raises(FaceExprError, match=r"holds figures for which 'run' was .*give another --figures_dir"):
        read_figures(tmp_path, {"run": {"base": "2"}}, ["prior"])
    with pytest.raises(FaceExprError, match="give another --figures_dir"):
        write_figures(tmp_path, {"run": {"base": "2"}}, measured("b"), "b")
    assert not (tmp_path / "b.json").exists()


def test_who_was_not_compared_with_photos_that_nothing_learned_is_not_whole(tmp_path: Path) -> None:
    """A run that was stopped before that would keep figures without them, and never measure them again."""
    steps = tuple(chosen_steps(["whole"], COMMON))
    plan = Plan((replace(steps[0].arm, name="whole"),), ("happy",), (1.0,), ("a photo of {person}",), (0,))
    evaluation = Evaluation(tmp_path, plan, (Person("7", tmp_path, "ohwx", "woman"),))
    run = ablation.Ablation(tmp_path, "mini", "base", "smiling", Run(0, 2, 4.0, 64, 64), steps, evaluation, {})
    for one in (run.evaluation, run.of_class, run.of_person):
        for place in one.places():
            lines, where = Lines(place.records(one.output)), {"person": "7", "scene": place.scene, "seed": place.seed}
            for (name, intensity), arm in product(one.plan.wanted(), one.plan.arms):
                lines.add({**where, "arm": arm.name, "expression": name, "intensity": intensity, "face": True, "picture": "."})
    assert run.whole_people() == ()
    for one in (run.evaluation, run.of_person):
        for record in one.records():
            Lines(one.output / "unseen" / "7.jsonl").add({**record, "unseen": 0.5})
    assert [one.name for one in run.whole_people()] == ["7"]


def test_figures_of_a_folder_drawn_in_another_way_are_not_kept(tmp_path: Path) -> None:
    """Nor by a command that draws nothing."""
    write_json(tmp_path / "work" / "people_smiling" / "7" / "person.json", {"gender": "woman", "reference": [1.0]})
    words = ["--work_dir", f"{tmp_path / 'work'}", "--output_dir", f"{tmp_path / 'out'}", "--figures_dir", f"{tmp_path / 'figures'}"]
    words += ["--subjects", "7", "--arms", "base", "whole", "--summary_only"]
    ablation.main(words)
    known = json.loads((tmp_path / "out" / "arms.json").read_text())
    known["whole"]["strength 1"] = [1.0, 1.0]
    write_json(tmp_path / "out" / "arms.json", known)
    with pytest.raises(SystemExit, match=r"ablation: .*'whole' was .*give another --output_dir"):
        ablation.main(words)
    write_json(tmp_path / "out" / "run.json", {"album": "smiling"})
    with pytest.raises(SystemExit, match=r"ablation: .*'base' was not said"):
        ablation.main(words)


def test_a_lora_is_kept_under_all_that_it_learned_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default of the trainer may become another."""
    own: dict[str, Any] = {"prior_target": "model", "prior_dropout": 0.2}
    changed = TrainSettings(init_lora_weights="gaussian", prior="images", **own)  # what came later
    assert subjects.chosen_settings(changed).keys() == asdict(TrainSettings()).keys()
    before = asdict(TrainSettings()).keys() - {"init_lora_weights", *own}
    assert subjects.chosen_settings(TrainSettings()).keys() == subjects.chosen_settings(TrainSettings(**own)).keys() == before
    file = lora_file(tmp_path, 1, TrainSettings(), "base")
    monkeypatch.setattr(subjects, "ADDED_LATER", {"ema": 0.99})
    assert "ema" not in subjects.chosen_settings(TrainSettings()) and "ema" in subjects.chosen_settings(TrainSettings(ema=0.0))
    assert lora_file(tmp_path, 1, TrainSettings(), "base") != file


def test_an_arm_added_later_stands_beside_those_known(tmp_path: Path) -> None:
    prior, captions = measured("a")
    for row in (prior, captions):
        write_figures(tmp_path, {"run": {}}, [row], "a")
    assert {*read_figures(tmp_path, {"run": {}}, ["prior", "captions"])["a"]} == {"prior", "captions"}


def test_a_picture_for_the_documents_has_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    """Of the first noise, in the order asked, the renders among them."""
    colours = {"the person": 10, "recipe": 60, "whole": 110}
    for arm, colour in colours.items():
        folder = tmp_path / "truth" if arm == "the person" else tmp_path
        for seed in (1, 0):
            place = Place("7", "a photo of {person}", seed)
            lines = Lines(place.records(folder))
            for name in ("neutral", *CLASSES):
                path = place.picture(arm, name, 1.0)
                write_picture(folder / path, np.full((16, 16, 3), colour + 30 * seed, np.uint8))
                lines.add({"person": "7", "scene": place.scene, "seed": seed, "arm": arm, "expression": name, "intensity": 1.0,
                           "picture": path.as_posix()})  # fmt: skip
    words = ["--output_dir", f"{tmp_path}", "--people", "7", "--save", f"{tmp_path / 'rows.png'}", "--arms"]
    ablation_picture.main([*words, "whole", "the person"])
    with pytest.raises(SystemExit, match="1 names were given for 2 arms; give one each"):
        ablation_picture.main([*words, "whole", "the person", "--called", "fused"])
    page = read_picture(tmp_path / "rows.png")
    row_height = 16 + summary.LABEL
    assert page.shape[:2] == (summary.LABEL + 2 * row_height, 8 * 16)
    assert [int(page[(1 + row) * row_height + summary.LABEL - 8, 100, 0]) for row in range(2)] == [colours["whole"], colours["the person"]]
    with pytest.raises(SystemExit, match=r"no pictures of person 7 by the arm 'base'; its arms are: the person, recipe, whole\."):
        ablation_picture.main([*words, "base"])


@pytest.mark.long
def test_with_the_lora_in_the_weights_an_arm_draws_as_with_it_beside_them(tmp_path: Path) -> None:
    file = write_lora(tmp_path / "person.safetensors", layers=every_projection(), spread=0.1)
    how, one = Run(0, 2, 4.0, 64, 64), Person("1", tmp_path, "ohwx", "man")
    place = Place(one.name, "a photo of {person}", 0)
    merged = MergedDrawer(load_pipeline("mini"), how)
    drawn = {}
    for step in chosen_steps([BASE, "crafting", WHOLE], COMMON):
        beside = Drawer(load_pipeline("mini"), how, lambda pipe, file, strength: load_loras(pipe, [file], strength))
        drawn[step.name], other = (each.draw(step.arm, file, one, place, "happy", 1.0).astype(int) for each in (merged, beside))
        assert np.abs(drawn[step.name] - other).max() <= 1, step.name
    assert np.abs(drawn[BASE] - drawn["crafting"]).mean() > 1 and np.abs(drawn[WHOLE] - drawn["crafting"]).mean() > 1
