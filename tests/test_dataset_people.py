"""Who comes into a data set, into which split, and what is measured wrong: without drawing."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from skimage import data

from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.dataset_plan import meaning_of
from faceexpr_core.commands.dataset_plan import plan_of as command_plan
from faceexpr_core.commands.dataset_work import Worker
from faceexpr_core.commands.sharing import Share
from faceexpr_core.dataset import traits
from faceexpr_core.dataset.cast import check_splits, choose, closest_pair, portrait_file
from faceexpr_core.dataset.layout import _where, write_layout
from faceexpr_core.dataset.people import Candidate, described, learned, parse_words
from faceexpr_core.dataset.plan import MAKING, REJECTED, SPLITS, DatasetPlan, picture_name, split_of
from faceexpr_core.dataset.reading import NO_FACE, NOT_SHOWN, OTHER_FACE, SEVERAL, SHOWN, TWIN, look, measure
from faceexpr_core.dataset.run import Dataset
from faceexpr_core.dataset.traits import CELLS, describe_person
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.arms import parse_arms
from faceexpr_core.evaluation.plan import Place, Plan
from faceexpr_core.fusion import settings
from faceexpr_core.measure.judges import Judges
from faceexpr_core.measure.picture_score import Asked


def plan_of(people: int, loras: tuple[Candidate, ...] = (), shares: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> DatasetPlan:
    grid = Plan(tuple(parse_arms(["fusion"])), ("happy",), (1.0,), ("a photo of {person}",), (0,))
    return DatasetPlan(grid, people, 0, loras, shares, 0.363, 0.5, "both")


def vector(angle: float) -> list[float]:
    return [float(np.cos(angle)), float(np.sin(angle)), *[0.0] * 126]


def see(folder: Path, one: Candidate, looks: list[float] | None, *reasons: str) -> None:
    file = portrait_file(folder, one).with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**dict.fromkeys(SHOWN), "vector": looks, "reasons": reasons, "who": one.meaning}))


def lora(path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    save_file({"weight": torch.zeros(1)}, path, dict(metadata or {}) or None)
    return path


def test_people_are_the_same_from_the_same_seed_and_balanced_over_every_thirty() -> None:
    people = [describe_person(3, number) for number in range(60)]
    assert people == [describe_person(3, number) for number in range(60)]
    assert people[:30] != [describe_person(4, number) for number in range(30)]
    assert len({noise for _, noise in people}) == 60
    for block in (people[:30], people[30:]):
        assert {(one.gender, one.age, one.skin) for one, _ in block} == {*CELLS}
    assert all(one.gender == "man" for one, _ in people if one.beard or one.hair == "bald")
    assert not [one for one, _ in people if one.age == "young" and "grey hair" in one.hair]


def test_a_person_stands_in_the_prompt_in_words() -> None:
    texts = [described(0, number).words for number in range(200)]
    assert all(text.startswith(("a young", "a middle-aged", "an old")) for text in texts)
    assert all(" skin, " in text and (" hair" in text or "bald" in text) and "eyes" in text for text in texts)


def test_the_prompt_of_a_row_is_without_the_expression_wherever_it_stood() -> None:
    one = described(0, 3)
    for scene in (
        "a photo of {person}, at a beach",
        "a photo of {person}, {expression}, at a beach",
        "{expression}, a photo of {person}, at a beach",
    ):
        assert _where({"scene": scene, "seed": 1}, one) == {"scene": scene, "prompt": f"a photo of {one.words}, at a beach", "seed": 1}


def test_more_people_leave_those_before_in_their_splits() -> None:
    many = split_of(1000, (0.8, 0.1, 0.1))
    assert Counter(many) == {"train": 800, "validation": 100, "test": 100}
    for fewer in (1, 2, 7, 10, 333):
        assert split_of(fewer, (0.8, 0.1, 0.1)) == many[:fewer]
    assert {*split_of(10, (0.8, 0.1, 0.1))} == {*SPLITS}


def test_who_has_the_face_of_another_is_replaced_and_told(tmp_path: Path) -> None:
    people = [described(0, number) for number in range(5)]
    for one, angle in zip(people, (0.0, 0.5, 1.2, 2.6, 2.5), strict=True):  # of the first two the cosine is 0.88, of the last two 0.995
        see(tmp_path, one, vector(angle))
    cast = choose(tmp_path, plan_of(3, shares=(0.34, 0.33, 0.33)))
    assert [one.name for one in cast.people] == ["described_00000", "described_00002", "described_00003"]
    ((refused, kept),) = cast.refused
    assert refused.name == "described_00001" and kept["reasons"] == [f"{TWIN}, described_00000 (0.88)"]
    assert not cast.unknown
    pair = closest_pair(tmp_path, cast)
    assert pair is not None and pair[:2] == ("described_00000", "described_00002") and pair[2] == pytest.approx(np.cos(1.2))


def test_people_are_asked_for_until_enough_are_found_and_more_change_nothing(tmp_path: Path) -> None:
    plan = plan_of(2, shares=(0.5, 0.5, 0.0))
    assert [one.name for one in choose(tmp_path, plan).unknown] == ["described_00000", "described_00001"]
    see(tmp_path, described(0, 0), None, NO_FACE)
    see(tmp_path, described(0, 1), vector(0.0))
    assert [one.name for one in choose(tmp_path, plan).unknown] == ["described_00002"]
    see(tmp_path, described(0, 2), vector(2.0))
    two = choose(tmp_path, plan)
    see(tmp_path, described(0, 3), vector(4.0))
    three = choose(tmp_path, plan_of(3, shares=(0.5, 0.5, 0.0)))
    assert three.people[:2] == two.people and {**three.splits} | {**two.splits} == {**three.splits}


def test_too_many_twins_end_with_what_to_do(tmp_path: Path) -> None:
    for number in range(60):
        see(tmp_path, described(0, number), vector(0.0))
    with pytest.raises(
        FaceExprError, match=r"described only 1 could be used, 10 were asked for\. Refused: .*another person \d+.*fewer --people"
    ):
        choose(tmp_path, plan_of(10))


def test_learned_people_come_first_and_are_not_replaced(tmp_path: Path) -> None:
    words = {"faceexpr.trigger": "ohwx", "faceexpr.class_word": "man"}
    anna, ben = lora(tmp_path / "anna.safetensors", {**words, "x": "1"}), lora(tmp_path / "ben.safetensors", {**words, "x": "2"})
    found = tuple(learned([anna, ben], {"ben": "sks woman"}, (5, 6)))
    assert [(one.name, one.words, one.kind, one.seeds) for one in found] == [
        ("learned_00000", "ohwx man", "learned", (5, 6)),
        ("learned_00001", "sks woman", "learned", (5, 6)),
    ]
    plan = plan_of(1, found, (1.0, 0.0, 0.0))
    for one, angle in ((found[0], 0.0), (found[1], 0.1), (described(0, 0), 3.0)):
        see(tmp_path, one, vector(angle))
    cast = choose(tmp_path, plan)
    assert [one.name for one in cast.people] == ["learned_00000", "described_00000"]
    assert [one.name for one, _ in cast.refused] == ["learned_00001"]


def test_a_split_that_nobody_is_left_for_is_an_error(tmp_path: Path) -> None:
    words = {"faceexpr.trigger": "ohwx", "faceexpr.class_word": "man"}
    found = learned([lora(tmp_path / f"{x}.safetensors", {**words, "x": x}) for x in "ab"], {}, (0,))
    plan = plan_of(0, tuple(found), (0.5, 0.5, 0.0))
    see(tmp_path, found[0], vector(0.0))
    see(tmp_path, found[1], None, NO_FACE)
    with pytest.raises(FaceExprError, match=r"none is left for validation.*no face was found 1"):
        check_splits(plan, choose(tmp_path, plan))


def test_words_of_a_lora_are_read_from_others_files_or_asked_for(tmp_path: Path) -> None:
    other = lora(tmp_path / "other.safetensors", {"modelspec.trigger_phrase": "zwx old woman"})
    (one,) = learned([other], {}, (0,))
    assert one.words == "zwx old woman" and one.person.class_word == "woman"
    silent = lora(tmp_path / "silent.safetensors")
    with pytest.raises(FaceExprError, match="--lora_words silent='TRIGGER CLASS'"):
        learned([silent], {}, (0,))
    with pytest.raises(FaceExprError, match="is the same as"):
        learned([other, other], {}, (0,))
    with pytest.raises(FaceExprError, match="names 'nobody'"):
        learned([other], parse_words(["nobody=ohwx man"]), (0,))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors")
    with pytest.raises(FaceExprError, match="cannot be read as a LoRA"):
        learned([broken], {}, (0,))


def test_a_peft_adapter_is_a_learned_person_by_its_folder(tmp_path: Path) -> None:
    found = []
    for number, name in enumerate(("anna", "ben")):
        for part in ("", "text_encoder"):
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
            lora(tmp_path / name / part / "adapter_model.safetensors", {"x": str(number)} if part else {})
        found.append(tmp_path / name)
    with pytest.raises(FaceExprError, match="--lora_words ben='TRIGGER CLASS'"):
        learned(found, {"anna": "ohwx woman"}, (0,))
    words = {"anna": "ohwx woman", "ben": "sks man"}
    anna, ben = learned(found, words, (0,))
    assert (anna.words, ben.words) == ("ohwx woman", "sks man")
    assert anna.digest != ben.digest  # which differ in the text encoder alone
    with pytest.raises(FaceExprError, match="is the same as"):
        learned([found[0], found[0] / "adapter_model.safetensors"], {"anna": "ohwx woman"}, (0,))


def test_a_files_name_holds_no_word_of_the_users() -> None:
    name = picture_name(Place("described_00000", "a test of train, {person}", 7), "happily surprised", 0.5)
    assert "test" not in name and "train" not in name and name.endswith("_7_happily_surprised-" + name[-14:-8] + "_0.5.png")


@pytest.fixture(scope="module")
def judges() -> Any:
    with Judges() as opened:
        yield opened


def reasons_of(judges: Judges, picture: NDArray[np.uint8], asked: Asked, judge: str = "both", **more: Any) -> list[str]:
    seen, faces = look(judges, picture)
    found: list[str] = measure(seen, faces, asked, judge, 0.363, more.get("reference"), more.get("neutral"))["reasons"]
    return found


def test_what_is_wrong_in_a_picture_is_named(judges: Judges) -> None:
    smile = np.ascontiguousarray(data.astronaut()[:300, 60:360])
    neutral, _ = look(judges, smile)
    assert neutral.vector is not None
    assert reasons_of(judges, np.zeros((256, 256, 3), np.uint8), Asked("happy")) == [NO_FACE]
    assert reasons_of(judges, smile, Asked("neutral")) == [NOT_SHOWN]
    assert reasons_of(judges, smile, Asked("neutral"), "classifier") == [NOT_SHOWN]
    assert reasons_of(judges, smile, Asked("neutral"), "blendshapes") == [NOT_SHOWN]
    assert SEVERAL in reasons_of(judges, np.concatenate([smile, smile[:, ::-1]], axis=1), Asked("neutral"))
    own, other = neutral.vector, -neutral.vector
    assert reasons_of(judges, smile, Asked("happy"), "classifier", reference=own, neutral=neutral) == []
    assert reasons_of(judges, smile, Asked("happy"), "classifier", reference=other, neutral=neutral) == [OTHER_FACE]
    assert reasons_of(judges, smile, Asked("happy"), "blendshapes", reference=own, neutral=neutral) == [NOT_SHOWN]  # nothing moved


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", "needs people"),
        ("--people 3", "validation would be empty"),
        ("--people 10 --splits 0.5 0.5 0.5", "three that add up to 1"),
        ("--people 10 --splits nan 0.5 0.5", "three that add up to 1"),
        ("--people 10 --splits 0.5 nan 0.5", "three that add up to 1"),
        ("--people 10 --cfg nan", "the guidance (cfg) is nan"),
        ("--people 10 --steps 0", "at least 1 is needed"),
        ("--people 10 --arm fusion:strength=nan", "strength is 'nan', which is no number"),
        ("--people 10 --arm base:scale=inf", "scale is 'inf', which is no number"),
        ("--seed 3", "--seed would change nothing: it says which made-up people are drawn"),
        ("--people 10 --seeds 1 2", "a made-up person is its words and its noise"),
        ("--lora anna.safetensors --seeds 1 9223372036854775808", "--seeds is 9223372036854775808; give at most 9223372036854775807"),
        ("--people 10 --arm fusion:preset=paper", "'preset' belongs to a training"),
        ("--people 10 --scenes portrait", "write {person} there"),
        ("--people 10 --judge classifier", "does not know contempt"),
        ("--people 10 --judge classifier --expressions Contemptuous", "does not know contempt"),
        ("--people 10 --twins 2", "--twins is 2"),
        ("--people 10 --model nowhere.safetensors", "there is no model"),
    ],
)
def test_what_cannot_be_made_is_said(more: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faceexpr(["dataset", "--model", "mini", "--output_dir", str(tmp_path / "out"), *more.split()]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "README.md").exists()


def test_made_up_people_may_be_added_and_learned_ones_may_not(tmp_path: Path) -> None:
    (anna,) = learned([lora(tmp_path / "anna.safetensors")], {"anna": "ohwx woman"}, (0,))
    few, more = (meaning_of(plan_of(people, shares=(1.0, 0.0, 0.0))) for people in (1, 2))
    assert few == more != meaning_of(plan_of(1, (anna,), (1.0, 0.0, 0.0)))
    told = next(action for action in _parser()._actions if action.dest == "verb").choices["dataset"].description  # type: ignore[index,union-attr]
    assert "made-up people, expressions, intensities and scenes may be added" in told


def test_a_described_person_whose_words_became_others_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old pictures would stand beside the new words, and new ones show somebody else."""
    plan = plan_of(1, shares=(1.0, 0.0, 0.0))
    see(tmp_path, plan.described(0), vector(0.0))
    assert [one.name for one in choose(tmp_path, plan).people] == ["described_00000"]
    monkeypatch.setattr(traits, "SKINS", ("green",))
    monkeypatch.setattr(traits, "CELLS", [("woman", "young", "green")])
    monkeypatch.setitem(traits.HAIR, "green", ("blue",))
    monkeypatch.setitem(traits.EYES, "green", ("red",))
    with pytest.raises(FaceExprError, match=r"another described_00000: there it is .*words.*here .*green skin.*give another --output_dir"):
        choose(tmp_path, plan)


def test_a_data_set_drawn_by_fusion_knows_what_strength_1_stood_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = plan_of(10)
    words = replace(fused, grid=replace(fused.grid, arms=tuple(parse_arms(["lora"]))))
    before = [meaning_of(one) for one in (words, fused)]
    monkeypatch.setitem(settings._UNITS, settings.CONTEXT_SITE, (1.0, 1.0))
    assert meaning_of(words) == before[0] and meaning_of(fused) != before[1]


def test_the_last_two_processes_may_write_the_data_set_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(1, shares=(1.0, 0.0, 0.0))
    see(tmp_path, plan.described(0), None, NO_FACE)
    see(tmp_path, plan.described(1), vector(0.0))
    portrait_file(tmp_path, plan.described(0)).write_bytes(b"portrait")
    run, cast, since = Dataset(tmp_path, plan), choose(tmp_path, plan), time.time() - 60
    killed = tmp_path / REJECTED / "described_00000" / ".portrait-1.part"
    killed.parent.mkdir(parents=True)
    killed.touch()
    os.utime(killed, (since - 1, since - 1))
    plain = os.replace

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", plain)
        write_layout(run, cast, {REJECTED}, since)
        plain(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    write_layout(run, cast, {REJECTED}, since)
    files = sorted(path.relative_to(tmp_path / REJECTED).as_posix() for path in (tmp_path / REJECTED).rglob("*") if path.is_file())
    assert files == ["described_00000/portrait.png", "metadata.jsonl"]


def test_what_a_killed_process_half_wrote_is_nothing_begun(tmp_path: Path) -> None:
    """Else the same command would be refused, with all that it asks for as the difference."""
    arguments = _parser().parse_args(["dataset", "--model=mini", "--people=10", f"--output_dir={tmp_path}"])
    making = tmp_path / MAKING
    making.mkdir()
    for name in (".run-0123456789abcdef.part", ".run-01234567.part"):
        (making / name).write_text("{")
    (making / "run.json").write_text(json.dumps({"seed": 7}))
    worker = Worker(arguments, Dataset(tmp_path, command_plan(arguments)), Share())
    worker.keep_meaning()
    assert json.loads((making / "run.json").read_text())["seed"] == 0
    (making / "portraits").mkdir()
    worker.keep_meaning()
    (making / "portraits" / "described_00000.png").touch()
    (making / "run.json").write_text(json.dumps({"seed": 7}))
    with pytest.raises(FaceExprError, match="holds pictures for which"):
        worker.keep_meaning()


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "holiday.png").write_bytes(b"mine")
    assert faceexpr(["dataset", "--model", "mini", "--people", "10", "--output_dir", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.png"]
