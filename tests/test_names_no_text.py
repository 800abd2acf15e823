"""Files and folders whose names are no UTF-8, as unpacked archives leave them on Linux: photos are used, the rest is refused in time."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from test_evaluation_tables import recorded

from faceexpr_core import mini
from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.drawing import checkpoint_digest
from faceexpr_core.commands.evaluate_plan import evaluation_of
from faceexpr_core.commands.evaluate_work import PEOPLE, Worker
from faceexpr_core.commands.learned import FILES
from faceexpr_core.commands.sharing import Share
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.arms import parse_arms
from faceexpr_core.evaluation.plan import Plan
from faceexpr_core.evaluation.records import short_name
from faceexpr_core.evaluation.report import write_report
from faceexpr_core.lora.given import digest_of_lora

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names cannot be there")
ODD = os.fsdecode(b"M\xfcller")


def person(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in (1, 2):
        shutil.copy(mini.subject_path() / f"photo_{number}.png", folder / f"{ODD}{number}.png")
    (folder / f"{ODD}1.txt").write_text("ohwx, sad")
    return folder


def worker_of(photos: Path, output: Path, *more: str) -> Worker:
    words = ["evaluate", "--model", "mini", "--photos", str(photos), "--output_dir", str(output), "--expressions", "happy", *more]
    arguments = _parser().parse_args(words)
    return Worker(arguments, evaluation_of(arguments), Share())


@pytest.mark.parametrize("arms", [("base",), ("lora",)])
def test_an_evaluation_of_such_photos_of_such_a_person_has_its_page(tmp_path: Path, arms: tuple[str, ...]) -> None:
    photos = person(tmp_path / "people" / ODD).parent
    worker = worker_of(photos, tmp_path / "out", "--arms", *arms)
    worker.keep_meaning()
    run = worker.evaluation
    assert [one.name for one in run.people] == ["M?ller"]
    before = worker.meanings["M?ller"]
    assert json.loads((tmp_path / "out" / PEOPLE).read_text(encoding="utf-8")) == {"M?ller": before}
    recorded(run)
    page, _ = write_report(run, {"LoRAs": f"faceexpr train --vae {ODD}"})
    assert "M?ller" in page.read_text(encoding="utf-8")
    with (tmp_path / "out" / "people.csv").open(encoding="utf-8") as file:
        assert {row["person"] for row in csv.DictReader(file)} == {"M?ller"}
    shutil.copy(mini.subject_path() / "photo_3.png", photos / ODD / f"{ODD}2.png")
    assert worker_of(photos, tmp_path / "out", "--arms", *arms).meanings["M?ller"] != before


def test_two_people_who_would_be_shown_alike_are_told(tmp_path: Path) -> None:
    for name in (b"M\xfcller", b"M\xe4ller"):
        person(tmp_path / os.fsdecode(name))
    with pytest.raises(FaceExprError, match=r"Two people in .* have one name.*'M\?ller' and 'M\?ller'"):
        worker_of(tmp_path, tmp_path / "out")


def test_what_such_files_hold_is_known_again(tmp_path: Path) -> None:
    for name in (f"{ODD}.safetensors", "adapter_config.json"):
        (tmp_path / name).write_bytes(b"1")
    digests = [digest_of_lora(tmp_path / f"{ODD}.safetensors"), FILES["vae"](tmp_path)]
    (tmp_path / f"{ODD}.safetensors").write_bytes(b"2")
    assert not {*digests} & {digest_of_lora(tmp_path / f"{ODD}.safetensors"), FILES["vae"](tmp_path)}
    assert short_name(ODD) != short_name(os.fsdecode(b"M\xe4ller"))


def test_a_model_or_an_output_that_cannot_be_read_again_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / ODD
    shutil.copytree(mini.path(), model)
    for use in (load_pipeline, lambda path: checkpoint_digest(str(path))):
        with pytest.raises(FaceExprError, match=r"M\?ller is no UTF-8, .*Rename the file or folder"):
            use(model)
    assert faceexpr(["generate", "--model", str(model), "--output_dir", str(tmp_path / "out")]) == 2
    assert "M?ller is no UTF-8" in capsys.readouterr().err
    with pytest.raises(FaceExprError, match=r"M\?ller is no UTF-8"):
        worker_of(mini.subject_path(), tmp_path / ODD, "--arms", "lora")
    assert worker_of(mini.subject_path(), tmp_path / f"{ODD}2", "--arms", "base").loras == {}


def test_words_that_no_page_could_show_are_refused() -> None:
    for arm, scene in ((f"lora:vae={ODD}", "a photo of {person}"), ("lora", f"{{person}} {ODD}")):
        with pytest.raises(FaceExprError, match=r"M\?ller.* is no UTF-8"):
            Plan(tuple(parse_arms([arm])), ("happy",), (1.0,), (scene,), (0,))
