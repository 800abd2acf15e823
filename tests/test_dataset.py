"""`faceexpr dataset` on Mini, in small: what `datasets` loads is what was drawn; a killed and shared run gives the same files."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import killed_dataset
import numpy as np
import pytest
import yaml
from forks import fork
from PIL import Image

from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.dataset_plan import limits_of
from faceexpr_core.dataset.reading import NO_NEUTRAL, NOT_SHOWN, OTHER_FACE
from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.measure.judges import Judges
from faceexpr_core.provenance import DRAWN_BY_A_MODEL, XMP_KEY

pytestmark = pytest.mark.long

SPLITS = ("train", "validation", "test")
SAME_PERSON, _ = limits_of(Namespace(model="mini", same_person=None, twins=None))
Row = Mapping[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `whole`, made by one process, and `shared`, by two of which the first was killed."""
    folder = tmp_path_factory.mktemp("made")
    told = json.loads(fork(folder, killed_dataset.main, folder).printed())
    assert 2 <= told["killed"] < 12 and not told["card_before_all"]
    return folder


@pytest.fixture(scope="module")
def loaded(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Split -> rows, as `datasets` reads them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HUB_OFFLINE", "1")
        from datasets import load_dataset

    found = load_dataset("imagefolder", data_dir=str(made / "whole"), cache_dir=str(tmp_path_factory.mktemp("cache")))
    return {split: list(found[split]) for split in found}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def tables(card: str) -> dict[str, dict[str, dict[str, str]]]:
    """The card's tables by the first word of their head: first cell of a line -> column -> cell."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for block in card.split("\n\n"):
        if block.startswith("| "):
            head, _, *rest = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines())
            found[head[0]] = {line[0]: dict(zip(head, line, strict=True)) for line in rest}
    return found


def test_killed_resumed_and_shared_gives_the_same_files(made: Path) -> None:
    whole, shared = made / "whole", made / "shared"
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(shared) for path in shared.rglob("*") if path.is_file())
    assert len([file for file in files if file.suffix == ".png"]) > 9
    for file in files:
        assert (whole / file).read_bytes() == (shared / file).read_bytes(), file
    assert all(DRAWN_BY_A_MODEL in Image.open(whole / file).info[XMP_KEY] for file in files if file.suffix == ".png")


def test_datasets_loads_every_picture_that_was_kept_and_no_other(made: Path, loaded: dict[str, list[dict[str, Any]]]) -> None:
    assert {*loaded} == {*SPLITS}
    for split, rows in loaded.items():
        assert len(rows) == len([*(made / "whole" / split).rglob("*.png")]) > 0
        for row, line in zip(rows, lines(made / "whole" / split / "metadata.jsonl"), strict=True):
            assert (np.asarray(row["image"]) == read_picture(made / "whole" / split / line["file_name"])).all()
            assert {key: value for key, value in line.items() if key != "file_name"} == {
                key: value for key, value in row.items() if key != "image"
            }
            assert len(row["blendshapes"]) == 52 and np.shape(row["landmarks"]) == (478, 3) and len(row["action_units"]) == 20
            assert all(0 <= value <= 1 for value in [*row["blendshapes"].values(), *row["action_units"].values()])


def test_what_is_told_of_a_picture_is_what_is_measured_in_it(loaded: dict[str, list[dict[str, Any]]]) -> None:
    row = next(row for rows in loaded.values() for row in rows if row["intensity"] == 1)
    rest = next(row for row in loaded[split_of(loaded, row)] if row["expression"] == "neutral")
    with Judges() as judges:
        seen, neutral = judges.see(np.asarray(row["image"])), judges.see(np.asarray(rest["image"]))
    assert seen.face is not None and seen.vector is not None and neutral.vector is not None
    assert row["blendshapes"] == pytest.approx(seen.face.blendshapes, abs=1e-5)
    assert np.abs(np.array(row["landmarks"]) - seen.face.landmarks).max() < 0.01
    assert row["likeness"] == pytest.approx(float(seen.vector @ neutral.vector), abs=1e-4)
    smile = np.mean([seen.face.blendshapes[f"mouthSmile{side}"] - rest["blendshapes"][f"mouthSmile{side}"] for side in ("Left", "Right")])
    assert row["action_units"]["AU12"] == pytest.approx(max(0.0, smile), abs=1e-3)


def split_of(loaded: dict[str, list[dict[str, Any]]], row: Row) -> str:
    (split,) = {split for split, rows in loaded.items() if row["person"] in {one["person"] for one in rows}}
    return split


def test_no_person_is_in_two_splits_and_everybody_asked_for_is_there_or_told(made: Path, loaded: dict[str, list[dict[str, Any]]]) -> None:
    people = [{row["person"] for row in loaded[split]} for split in SPLITS]
    assert sum(map(len, people)) == len(set().union(*people))
    assert sum(name.startswith("described") for name in set().union(*people)) == 3
    said = (made / "whole_0.txt").read_text()
    for name in ("learned_00000", *[f"described_{number:05}" for number in range(3)]):
        assert name in set().union(*people) or f"{name} (" in said


def test_rejected_pictures_lie_apart_with_their_reasons_and_are_told(made: Path, loaded: dict[str, list[dict[str, Any]]]) -> None:
    rejected = lines(made / "whole" / "rejected" / "metadata.jsonl")
    faint = [row for row in rejected if row["intensity"] == 0.05]
    assert faint and all(NOT_SHOWN in row["reasons"] for row in faint)
    assert all(row["reasons"] and (made / "whole" / "rejected" / row["file_name"]).is_file() for row in rejected)
    for row in (row for row in rejected if row["read"] is not None and row["intensity"] > 0):
        shown = {NOT_SHOWN: row["read"] != row["expression"], OTHER_FACE: row["likeness"] < SAME_PERSON}
        assert {reason for reason, true in shown.items() if true} == {*row["reasons"]} - {NO_NEUTRAL}
    assert all(row["read"] == row["expression"] and row["likeness"] >= SAME_PERSON for rows in loaded.values() for row in rows)
    said = (made / "whole_0.txt").read_text()
    kept = sum(map(len, loaded.values()))
    assert f"{kept} pictures of" in said and f"rejected {len(rejected)}." in said
    assert f"{NOT_SHOWN}: {sum(NOT_SHOWN in row['reasons'] for row in rejected)}" in said


def test_the_cards_figures_are_those_of_the_data(made: Path, loaded: dict[str, list[dict[str, Any]]]) -> None:
    card = (made / "whole" / "README.md").read_text(encoding="utf-8")
    rejected = lines(made / "whole" / "rejected" / "metadata.jsonl")
    kept = [row for rows in loaded.values() for row in rows]
    found = tables(card)
    for split, rows in loaded.items():
        assert found["split"][split]["pictures"] == str(len(rows))
        assert found["split"][split]["people"] == str(len({row["person"] for row in rows}))
    for key, values in (("expression", ("neutral", "happy")), ("intensity", (0, 0.05, 1))):
        for value in values:
            line = found[key][str(value)]
            there, gone = [sum(row[key] == value for row in rows) for rows in (kept, rejected)]
            assert line["rejected"] == str(gone) and line["kept"] == f"{there / (there + gone):.0%}"
            assert [line[split] for split in SPLITS] == [str(sum(row[key] == value for row in loaded[split])) for split in SPLITS]
    strong = [row for row in kept if row["intensity"] == 1]
    assert found["intensity"]["1"]["strength read"] == f"{np.mean([row['strength'] for row in strong]):.2f}"
    measured = found["measure"]
    assert measured["likeness to the person's portrait, mean (SFace)"]["value"] == f"{np.mean([row['likeness'] for row in strong]):.2f}"
    right = [row["classified"] == row["expression"] for row in strong]
    assert measured["expression asked is the classifier's favourite"]["value"] == f"{np.mean(right):.0%}"
    for reason, line in found["reason"].items():
        assert line["pictures"] == str(sum(any(one.startswith(reason) for one in row["reasons"]) for row in rejected))
    women = {row["person"] for row in loaded["train"] if row["gender"] == "woman"}
    assert found["asked"].get("woman", {"train": "0"})["train"] == str(len(women))


def test_the_cards_head_is_read_by_hugging_face_and_leaves_the_licence_to_the_maker(made: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(made / "whole" / "README.md")
    assert card.data.license == "unknown" and "TO DO by the maker: the licence" in card.text
    came_in = "learned_00000 (" not in (made / "whole_0.txt").read_text()
    assert ("TO DO by the maker: consent.** 1 of the people were learned" in card.text) == came_in
    head = yaml.safe_load((made / "whole" / "README.md").read_text().split("---")[1])
    assert head["size_categories"] == ["n<1K"]
    assert [one["split"] for one in head["configs"][0]["data_files"]] == list(SPLITS)
    found = load_dataset(str(made / "whole"), cache_dir=str(tmp_path))  # by the head alone
    assert {split: len(found[split]) for split in found} == {
        split: len(lines(made / "whole" / split / "metadata.jsonl")) for split in SPLITS
    }


def again(made: Path, *more: str) -> list[str]:
    from killed_dataset import WORDS

    return [*WORDS.format(folder=made, name="whole").split(), *more]


def test_a_card_that_its_maker_changed_is_left_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = made / "whole" / "README.md"
    before = card.read_text(encoding="utf-8")
    card.write_text(before + "\nMade by Anna.\n", encoding="utf-8")
    try:
        assert faceexpr(again(made, "--license", "cc-by-4.0")) == 0
        assert card.read_text(encoding="utf-8").endswith("Made by Anna.\n")
        assert "README.md was changed by somebody" in capsys.readouterr().err
        other = (made / "whole" / "README_00001_.md").read_text(encoding="utf-8")
        assert "license: cc-by-4.0\n" in other and "the licence.**" not in other
    finally:
        (made / "whole" / "README_00001_.md").unlink(missing_ok=True)
        card.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--seed", "1"], "holds pictures for which 'seed' was 0, now it is 1"),
        (["--twins", "0.9"], "for which 'twins' was"),
        (["--expressions", "sad"], "no longer asked for: described_00"),
        (["--intensities", "1"], "happy at intensity 0.05. Ask for all"),
        (["--intensities", "0.05"], "happy at intensity 1. Ask for all"),
        (["--people", "0", "--splits", "0.4", "0.3", "0.3"], "1 people are too few for these splits: validation would be empty"),
    ],
)
def test_the_folder_refuses_what_would_mix_two_data_sets(
    made: Path, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faceexpr(again(made, *more)) == 2
    assert told in capsys.readouterr().err


def test_a_scene_may_be_added_and_leaves_what_was_there(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "whole", tmp_path / "whole")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    words = [word.replace(str(made / "whole"), str(tmp_path / "whole")) for word in again(made)]
    assert faceexpr([*words, "--scenes", "a photo of {person}", "a photo of {person}, test, green background"]) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    found = [row for split in (*SPLITS, "rejected") for row in lines(tmp_path / "whole" / split / "metadata.jsonl")]
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found:
        if not row["file_name"].endswith("portrait.png"):
            places.setdefault((row["person"], row["scene"]), []).append(row)
    people = {person for person, _ in places}
    assert len(places) == 2 * len(people) and all(len(rows) == 3 for rows in places.values())
    for (_, scene), rows in places.items():
        assert ("green background" in scene) == all("green background" in row["prompt"] for row in rows)
        if any(row["expression"] == "neutral" and row.get("reasons") for row in rows):
            assert all(NO_NEUTRAL in row["reasons"] for row in rows if row["expression"] != "neutral")
    written = {path.relative_to(tmp_path / "whole").as_posix() for path in tmp_path.rglob("*.png") if "making" not in path.parts}
    assert len(written) == len(found)
    assert f"rejected {sum('reasons' in row for row in found)}." in capsys.readouterr().err


def test_a_picture_that_was_weeded_out_by_hand_stays_out(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "whole", tmp_path / "whole")
    words = [word.replace(str(made / "whole"), str(tmp_path / "whole")) for word in again(made)]
    before = lines(tmp_path / "whole" / "train" / "metadata.jsonl")
    weeded = next(row["file_name"] for row in before if row["expression"] != "neutral")
    (tmp_path / "whole" / "train" / weeded).unlink()
    assert faceexpr(words) == 0
    assert lines(tmp_path / "whole" / "train" / "metadata.jsonl") == [row for row in before if row["file_name"] != weeded]
    assert "1 pictures were deleted or moved since they were drawn, and are left out" in capsys.readouterr().err
    assert not (tmp_path / "whole" / "train" / weeded).exists()
