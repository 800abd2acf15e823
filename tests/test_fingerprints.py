"""What makes a node run again: the files that it reads and no others, and of a file that is named by a link, any that it may read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
from PIL import Image

from faceexpr_core.photos.dataset import watched_files


def picture(path: Path, grey: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (grey, grey, grey)).save(path)
    return path


def rewrite(path: Path, content: bytes = b"other") -> Path:
    """With another time, and another size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + (path.read_bytes() if path.is_file() else b""))
    os.utime(path, ns=(1, 1 + path.stat().st_size))
    return path


@pytest.fixture
def photos(comfy_modules: SimpleNamespace) -> Iterator[Path]:
    folder = Path(comfy_modules.folder_paths.get_input_directory()) / "fingerprints"
    picture(folder / "a.png")
    yield folder
    shutil.rmtree(folder)


def told(folder: str | None = "fingerprints") -> Any:
    return pack.node("load_subject_images").LoadSubjectImages.fingerprint_inputs(folder=[folder], trigger_word=["ohwx"])


CLUTTER = (
    ".DS_Store",
    "Thumbs.db",
    ".directory",
    "not_read/x.bin",
    "not_read/x.png",
    ".hidden/x.png",
    "notes.md",
    "a.json",
    "10_none/x.bin",
)


@pytest.mark.parametrize("home", ["", "train", "img/10_ohwx woman", "3_ohwx woman"])
def test_what_is_not_read_makes_nothing_run_again(photos: Path, home: str) -> None:
    (photos / "a.png").rename(picture(photos / home / "a.png"))
    for name in CLUTTER:
        for folder in {photos, photos / home}:
            rewrite(folder / name)
    before = told()
    for name in CLUTTER:
        for folder in {photos, photos / home}:
            rewrite(folder / name)
            assert told() == before, folder / name
    for name in (".new", "not_read/new.bin"):
        rewrite(photos / home / name)
    assert told() == before


@pytest.mark.parametrize("home", ["", "train", "img/10_ohwx woman", "3_ohwx woman"])
def test_what_is_read_or_named_in_the_report_makes_it_run_again(photos: Path, home: str) -> None:
    (photos / "a.png").rename(picture(photos / home / "a.png"))
    seen = [told()]
    for changed in (
        lambda: picture(photos / home / "a.png", 7),
        lambda: rewrite(photos / home / "a.txt", b"ohwx woman, sad"),
        lambda: rewrite(photos / home / "a.txt", b"very "),
        lambda: rewrite(photos / home / "new.bin"),
        lambda: rewrite(photos / "new_above.bin"),
        lambda: rewrite(photos / home / "new_folder" / ".x"),
        lambda: picture(photos / home / "b.png"),
        lambda: (photos / home / "b.png").unlink(),
    ):
        changed()
        seen.append(told())
    assert seen[-1] == seen[-3] and len({*seen}) == len(seen) - 1


def test_kohyas_folders_count_once_they_are_read(photos: Path) -> None:
    rewrite(photos / "10_ohwx woman" / "x.bin")
    before = told()
    inside = picture(photos / "10_ohwx woman" / "b.png")
    assert told() == before  # photos that lie in the folder itself go before
    (photos / "a.png").unlink()
    first = told()
    rewrite(inside)
    assert len({before, first, told()}) == 3


def test_of_pictures_that_the_table_does_not_name_only_the_names_count(photos: Path) -> None:
    for name in ("more/1.png", "more/2.png"):
        picture(photos / name)
    (photos / "metadata.jsonl").write_text(json.dumps({"file_name": "more/1.png"}))
    seen = [told()]
    rewrite(photos / "more" / "2.png")
    rewrite(photos / "a.png")
    assert told() == seen[0]
    for changed in (
        lambda: rewrite(photos / "more" / "1.png"),
        lambda: picture(photos / "more" / "3.png"),
        lambda: (photos / "metadata.jsonl").write_text(json.dumps({"file_name": "more/3.png"})),
        lambda: (photos / "metadata.jsonl").write_text("no JSON"),
        lambda: (photos / "metadata.jsonl").unlink(),
    ):
        changed()
        seen.append(told())
    assert len({*seen}) == len(seen)


def test_what_is_watched_is_told_apart(tmp_path: Path) -> None:
    photo = picture(tmp_path / "train" / "a.png")
    rewrite(tmp_path / "train" / "notes.md")
    rewrite(tmp_path / ".DS_Store")
    assert watched_files(tmp_path) == ([photo], [tmp_path / "train", tmp_path / "train" / "notes.md"])


def test_a_folder_that_is_named_by_a_link_is_any_of_those_that_are_offered(photos: Path) -> None:
    root = photos.parent
    before = told(None)
    rewrite(photos / ".DS_Store")
    rewrite(root / "upload.png")  # in no folder of photos
    assert told(None) == before
    rewrite(photos / "a.png")
    second = told(None)
    picture(root / "others" / "deep" / "deeper" / "3_ohwx woman" / "b.png")
    assert len({before, second, told(None)}) == 3 and str(root) not in before
    shutil.rmtree(root / "others")
    (root / "upload.png").unlink()


def test_features_that_are_named_by_a_link_are_any_of_those_that_are_there(comfy_modules: SimpleNamespace) -> None:
    stamp = pack.node("load_features").LoadFeatures.fingerprint_inputs
    folder = pack.node("host.folders").features_folders()[-1] / "fingerprints"
    seen = [stamp(None)]
    for name in ("a.safetensors", "a.safetensors", "deep/b.safetensors"):
        rewrite(folder / name)
        seen.append(stamp(None))
    assert len({*seen}) == 4 and stamp(None) == seen[-1] and str(folder) not in str(seen)
    rewrite(folder / "notes.md")
    assert stamp(None) == seen[-1]
    shutil.rmtree(folder)


def test_a_lora_that_is_named_by_a_link_is_any_of_those_that_are_there(comfy_modules: SimpleNamespace) -> None:
    load, train = (pack.node("load_lora").LoadLoRA.fingerprint_inputs, pack.node("train_lora").TrainLoRA.fingerprint_inputs)
    folder = Path(comfy_modules.folder_paths.get_folder_paths("loras")[0]) / "fingerprints"
    folder.mkdir(parents=True)
    seen = [load(lora_name=None)]
    for name in ("a.safetensors", "a.safetensors", "peft/adapter_model.safetensors", "peft/adapter_config.json"):
        rewrite(folder / name)
        assert train(start_from=None) == load(lora_name=None)
        seen.append(load(lora_name=None))
    assert len({*seen}) == 5 and load(lora_name=None) == seen[-1]
    rewrite(folder / "a.preview.png")
    assert load(lora_name=None) == seen[-1] and len(seen[-1]) == 1  # ComfyUI writes it into every picture
    shutil.rmtree(folder)
