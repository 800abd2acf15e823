"""What training keeps out of its memory: the libraries that find faces, and the parts of the model that it is done with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.images import SourceImage, read_images
from faceexpr_core.photos import subject_process
from faceexpr_core.photos.subject import Subject, SubjectSettings, prepare_subject
from faceexpr_core.photos.subject_files import read_sources, write_sources
from faceexpr_core.photos.subject_process import main, prepare_apart, prepare_centred

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = SubjectSettings(resolution=64, class_word="woman", drop_duplicates=False)
FLAGS = "--instance_prompt=ohwx --resolution=64 --train_batch_size=1 --max_train_steps=1 --seed=0 --report_to=none --device=cpu"

TRAIN = """
import gc, json, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from faceexpr_core.train import main

alive = []
register_optimizer_step_post_hook(lambda *_: alive.extend(type(one).__name__ for one in gc.get_objects()))
status = main(sys.argv[1:])
names = {"UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer", "SourceImage"}
modules = {"mediapipe", "cv2", "kornia", "rich.progress", "diffusers", "faceexpr_core.photos.subject"}
print(json.dumps([status, sorted(names & set(alive)), sorted(modules & set(sys.modules))]))
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (1, 2):
        shutil.copy(mini.subject_path() / f"photo_{number}.png", folder)
    return folder


def arguments(photos: Path) -> list[str]:
    given = {"pretrained_model_name_or_path": "mini", "instance_data_dir": photos, "output_dir": photos.parent / "out"}
    return [*(f"--{name}={value}" for name, value in given.items()), *FLAGS.split()]


def python(*words: str, **more: str) -> subprocess.Popen[str]:
    """Python in a session of its own that hears Ctrl-C, which shells switch off in what they start in the background."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    command = [sys.executable, *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def hear() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=hear if os.name == "posix" else None, **pipes)


@pytest.mark.long
def test_the_steps_begin_without_what_they_do_not_need(photos: Path) -> None:
    process = python("-c", TRAIN, *arguments(photos), PYTHONWARNINGS="ignore")
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    status, alive, modules = json.loads(output.splitlines()[-1])
    assert status == 0
    assert alive == ["UNet2DConditionModel"]
    assert modules == [
        "diffusers",
        "faceexpr_core.photos.subject",
    ]  # torchvision too where it is: peft imports transformers whole


@pytest.mark.parametrize(("centre_crop", "prepare"), [(False, prepare_subject), (True, prepare_centred)])
def test_a_subject_prepared_apart_is_the_same(
    photos: Path, centre_crop: bool, prepare: Callable[[Sequence[SourceImage], SubjectSettings], Subject]
) -> None:
    (photos / "photo_1.txt").write_text("ohwx woman, grüßt", encoding="utf-8")
    (photos / "broken.png").write_bytes(b"no picture")
    sources = read_images(photos)
    first = sources[1]
    assert first.rgb is not None
    sources[1] = replace(first, rgb=np.pad(first.rgb, ((0, 0), (0, 64), (0, 0)), mode="edge"))
    here, apart = prepare(sources, SETTINGS), prepare_apart(sources, SETTINGS, centre_crop)
    assert (apart.trigger, apart.class_word, apart.resolution, apart.report) == ("ohwx", "woman", 64, here.report)
    assert "broken.png" in apart.report and len(apart.photos) == len(here.photos) == 2
    for one, other in zip(apart.photos, here.photos, strict=True):
        for name in ("name", "caption", "expression", "original_size", "crop_top_left", "target_size"):
            assert getattr(one, name) == getattr(other, name), name
        assert (one.face.box, one.face.blendshapes) == (other.face.box, other.face.blendshapes)
        for array, expected in ((one.image, other.image), (one.face.landmarks, other.face.landmarks), (one.mask(), other.mask())):
            assert array.dtype == expected.dtype and np.array_equal(array, expected)


def test_the_other_process_finds_its_package_in_a_python_that_looks_into_no_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of ComfyUI's portable, which heeds PYTHONPATH no more than the current folder."""
    (pack := tmp_path / "pack").mkdir()
    shutil.copytree(Path(subject_process.__file__).parents[1], pack / "faceexpr_core", ignore=shutil.ignore_patterns("checkpoint"))
    with (pack / "faceexpr_core" / "photos" / "subject_process.py").open("a") as file:
        file.write(f"\n(Path({str(tmp_path)!r}) / 'ran').touch()\n")
    (python := tmp_path / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(subject_process, "__file__", str(pack / "faceexpr_core" / "photos" / "subject_process.py"))
    assert len(prepare_apart(read_images(photos), SETTINGS).photos) == 2 and (tmp_path / "ran").is_file()


def test_photos_are_read_without_pytorch(photos: Path, tmp_path: Path) -> None:
    """It would take 500 MB more beside the process that trains, which has it already."""
    write_sources(tmp_path / "photos.npz", read_images(photos))
    (tmp_path / "settings.json").write_text(json.dumps({"centre_crop": False, "subject": asdict(SETTINGS)}))
    script = (
        "import sys; from faceexpr_core.photos.subject_process import main, Path; print(main(Path(sys.argv[1])), 'torch' in sys.modules)"
    )
    process = python("-c", script, str(tmp_path))
    output, errors = process.communicate(timeout=300)
    assert output.split() == ["0", "False"], errors
    assert (tmp_path / "subject.npz").is_file()


def test_photos_are_handed_over_as_they_were_read(tmp_path: Path) -> None:
    sources = [
        SourceImage("a.png", np.arange(60, dtype=np.uint8).reshape(4, 5, 3), "lächelnd"),
        SourceImage("b.heic", None, None, "cannot be read", ("b.txt is empty",)),
        SourceImage("b.md", None, None, "no picture", photo=False),
        SourceImage("c.png", np.zeros((2, 2, 3), np.uint8)),
    ]
    write_sources(tmp_path / "photos.npz", sources)
    for one, other in zip(read_sources(tmp_path / "photos.npz"), sources, strict=True):
        assert replace(one, rgb=None).__dict__ == replace(other, rgb=None).__dict__
        if one.rgb is None or other.rgb is None:
            assert one.rgb is other.rgb
        else:
            assert np.array_equal(one.rgb, other.rgb)


def test_an_error_of_the_other_process_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    grey = [SourceImage("grey.png", np.full((96, 96, 3), 128, np.uint8))]
    with pytest.raises(FaceExprError) as here:
        prepare_subject(grey, SETTINGS)
    with pytest.raises(FaceExprError) as apart:
        prepare_apart(grey, SETTINGS)
    assert "grey.png: no face found" in str(apart.value) and str(apart.value) == str(here.value)
    assert not list(tmp_path.iterdir())


def test_a_process_whose_folder_is_gone_ends_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while it was being made: the one that made it could not end it, and took the folder away."""
    assert main(tmp_path / "gone") == 2 and capfd.readouterr() == ("", "")


def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FaceExprError, match="looks for faces ended with status -6"):
        prepare_apart([SourceImage("grey.png", np.zeros((96, 96, 3), np.uint8))], SETTINGS)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_ctrl_c_ends_both_processes_and_leaves_nothing(photos: Path, tmp_path: Path, sent: int, status: int) -> None:
    for path in photos.iterdir():
        for number in range(60):
            shutil.copy(path, photos / f"{path.stem}_{number}.png")  # long enough to be in the middle of them
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = python("-m", "faceexpr_core.train", *arguments(photos), TMPDIR=str(scratch))
    end = time.monotonic() + 200
    while not (found := children(process.pid)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status and errors.splitlines()[-1] == "faceexpr: stopped" and "Traceback" not in errors
    end = time.monotonic() + 30
    while any(map(running, found)):  # it was killed, but may end a moment after its parent
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not list(scratch.glob("faceexpr_*"))


def children(process: int) -> list[str]:
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [child for path in lists for child in path.read_text().split()]


def running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
