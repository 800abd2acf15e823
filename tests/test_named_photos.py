"""A table that names a few of many pictures: only these are read and counted, the others told, and wherever they lie they are watched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pack
import pytest
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.evaluate_plan import evaluation_of
from faceexpr_core.commands.evaluate_work import PEOPLE, Worker
from faceexpr_core.commands.sharing import Share
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.people import find_people
from faceexpr_core.photos.dataset import name_in, photo_files, read_dataset, watched_files

SIDE = 64


def picture(path: Path, grey: int = 128, side: int = SIDE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (grey, grey, grey)).save(path)
    return path


def album(folder: Path, *named: str, there: int = 5) -> Path:
    """A table that names some of the pictures 0.png, 1.png ... of `more/`."""
    for number in range(there):
        picture(folder / "more" / f"{number}.png", number)
    rows = [{"file_name": name, "text": f"caption of {name}"} for name in named]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_only_the_named_pictures_are_read_and_the_others_are_told(tmp_path: Path) -> None:
    named = ("more/3.png", "more/1.png", "more/3.png")
    seen: list[str] = []
    read = read_dataset(album(tmp_path, *named), reading=seen.append)
    assert seen == ["3.png", "1.png"]
    photos = [one for one in read if one.rgb is not None]
    assert [Path(one.name).as_posix() for one in photos] == [*named]
    assert [one.caption for one in photos] == [f"caption of {name}" for name in named]
    assert [int(np.asarray(one.rgb)[0, 0, 0]) for one in photos] == [3, 1, 3]
    told = {Path(one.name).name: one.problem for one in read if one.rgb is None}
    assert {name for name, problem in told.items() if problem == "is not named in metadata.jsonl"} == {"0.png", "2.png", "4.png"}


def test_a_caption_of_a_folder_that_is_not_used_is_told_whatever_divides_a_path_here(tmp_path: Path) -> None:
    """On Windows the folder of one name ended in another sign than that of the same name elsewhere."""
    folder = album(tmp_path, "more/1.png")
    (folder / "more" / "1.txt").write_text("another", encoding="utf-8")
    told = {one.name: one.problem for one in read_dataset(folder)}
    assert told["more/1.txt"] == "not used: metadata.jsonl has a caption for the photo of its name"
    assert told["more/1.png"] == "" and told["more/2.png"].startswith("is not named")
    assert name_in(PureWindowsPath(r"more\deep"), "1.txt") == name_in(PurePosixPath("more/deep"), "1.txt") == "more/deep/1.txt"
    assert name_in(PureWindowsPath("."), "1.txt") == "1.txt"


def test_room_is_asked_for_the_named_pictures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = album(tmp_path, "more/1.png", "more/1.png", "more/2.png", there=9)
    needed = 2 * 3 * SIDE * SIDE
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * needed))
    assert sum(one.rgb is not None for one in read_dataset(folder)) == 3
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * needed - 2))
    with pytest.raises(FaceExprError, match="The 2 pictures in"):
        read_dataset(folder)


def test_a_named_picture_that_is_not_there_is_told_before_any_is_read(tmp_path: Path) -> None:
    seen: list[str] = []
    for missing in ("more/none.png", "nowhere/none.png"):
        with pytest.raises(FaceExprError, match=r"line 2, names .*none\.png, which is no picture"):
            read_dataset(album(tmp_path, "more/1.png", missing), reading=seen.append)
        assert {path.name for path in photo_files(tmp_path)} == {"metadata.jsonl", "1.png"}
    assert seen == []


def evaluate(photos: Path, output: Path) -> Worker:
    words = ["evaluate", "--model", "mini", "--photos", str(photos), "--output_dir", str(output), "--arms", "base"]
    arguments = _parser().parse_args(words)
    return Worker(arguments, evaluation_of(arguments), Share())


def kept_by(worker: Worker, output: Path) -> None:
    """As after the first picture was drawn."""
    worker.keep_meaning()
    (output / "records").mkdir(parents=True, exist_ok=True)
    (output / "records" / "a.jsonl").write_text("")


def test_a_picture_that_is_not_named_is_none_of_the_persons(tmp_path: Path) -> None:
    folder, output = album(tmp_path / "anna", "more/1.png", "more/2.png"), tmp_path / "out"
    kept_by(evaluate(folder, output), output)
    picture(folder / "more" / "4.png", 99)
    picture(folder / "more" / "new.png")
    evaluate(folder, output).keep_meaning()
    picture(folder / "more" / "2.png", 99)
    with pytest.raises(FaceExprError, match="'anna' was"):
        evaluate(folder, output).keep_meaning()


def test_an_evaluation_that_began_with_the_pictures_beside_goes_on(tmp_path: Path) -> None:
    """Versions until 0.2.0 took all pictures that lie beside those of the table for the person's."""
    folder, output = album(tmp_path / "anna", "more/1.png", "more/2.png"), tmp_path / "out"
    before = hashlib.sha256()
    for path in sorted([folder / "metadata.jsonl", *(folder / "more").iterdir()]):
        before.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    kept_by(evaluate(folder, output), output)
    kept = json.loads((output / PEOPLE).read_text(encoding="utf-8"))
    kept["anna"]["photos"] = before.hexdigest()[:16]
    (output / PEOPLE).write_text(json.dumps(kept), encoding="utf-8")
    worker = evaluate(folder, output)
    worker.keep_meaning()
    assert worker.meanings["anna"]["photos"] == kept["anna"]["photos"] != find_people(folder, "ohwx", "person")[0].meaning()["photos"]
    picture(folder / "more" / "2.png", 99)
    with pytest.raises(FaceExprError, match="'anna' was"):
        evaluate(folder, output).keep_meaning()


def test_a_folder_of_others_is_refused_whatever_its_people_are(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / PEOPLE).write_bytes(b"\xff no JSON")
    with pytest.raises(FaceExprError, match=r"holds people\.json, which is not of an evaluation"):
        evaluate(album(tmp_path / "anna", "more/1.png"), tmp_path / "out")


@pytest.mark.parametrize("home", ["", "train/"])
def test_the_node_sees_named_photos_that_change_however_deep_they_lie(comfy_modules: SimpleNamespace, home: str) -> None:
    inside = f"deep{home.strip('/')}"
    folder = Path(comfy_modules.folder_paths.get_input_directory()) / inside
    node = pack.node("load_subject_images").LoadSubjectImages
    deep = folder / home / "a" / "b" / "c"
    photo = picture(deep / "x.png")
    (folder / home / "metadata.jsonl").write_text('{"file_name": "a/b/c/x.png"}')
    first = node.fingerprint_inputs(folder=[inside])
    assert node.fingerprint_inputs(folder=[inside]) == first
    assert photo in watched_files(folder)[0] and [one.name for one in read_dataset(folder) if one.rgb is not None] == [f"{home}a/b/c/x.png"]
    os.utime(photo, ns=(1, 1))
    second = node.fingerprint_inputs(folder=[inside])
    (deep / "x.txt").write_text("ohwx, sad")
    third = node.fingerprint_inputs(folder=[inside])
    picture(deep / "y.png")
    fourth = node.fingerprint_inputs(folder=[inside])
    (folder / home / "metadata.jsonl").write_text("no JSON")
    assert len({first, second, third, fourth, node.fingerprint_inputs(folder=[inside])}) == 5
    shutil.rmtree(folder)


def test_all_of_a_folder_without_a_table_is_watched(tmp_path: Path) -> None:
    shutil.copytree(mini.subject_path(), tmp_path / "3_ohwx woman")
    assert {path.name for path in watched_files(tmp_path)[0]} == {path.name for path in mini.subject_path().iterdir()}
