"""What comes from strangers is read, not run: a model's folder, a LoRA's settings, links, long texts, names for a terminal or a table."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch
from safetensors.torch import save_file

from faceexpr_core import mini
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.tables import _csv
from faceexpr_core.expressions import action_unit
from faceexpr_core.files import one_line
from faceexpr_core.fusion.recorder import FORMAT, VERSION, load_bank
from faceexpr_core.lora.describe import describe
from faceexpr_core.lora.files import read_lora
from faceexpr_core.lora.formats import Lora, decode
from faceexpr_core.photos.dataset import read_dataset
from faceexpr_core.text import without_slot

MODULE = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def with_settings(folder: Path, **settings: Any) -> Lora:
    """A LoRA file with PEFT's settings in its metadata, as diffusers writes them."""
    state = {f"{MODULE}.lora_A.weight": torch.ones(2, 4), f"{MODULE}.lora_B.weight": torch.ones(4, 2)}
    told = {f"unet.{name}": value for name, value in {"r": 2, "lora_alpha": 2, **settings}.items()}
    save_file(state, folder / "lora.safetensors", {"lora_adapter_metadata": json.dumps(told)})
    state, metadata = read_lora(folder / "lora.safetensors")
    return decode(state, metadata, {})


@pytest.mark.parametrize("kind", ["DiffusionPipeline", "UNet2DModel", "load_image", ["a", "b"]])
def test_only_schedulers_are_loaded_as_a_folders_scheduler(tmp_path: Path, kind: Any) -> None:
    """A pipeline as a scheduler ran `evil.py` of the same folder."""
    model = Path(shutil.copytree(mini.path(), tmp_path / "model"))
    parts = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**parts, "scheduler": ["diffusers", kind]}))
    (model / "scheduler" / "model_index.json").write_text(json.dumps({"_class_name": ["evil", "Evil"]}))
    (model / "scheduler" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(FaceExprError, match="which the diffusers here does not have"):
        load_pipeline(str(model))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("to_q", True),
        (r"attn1\.to_q", True),
        ("attn1.*to_q", True),
        ("down_blocks.*attn1.*to_q", True),
        ("^down_blocks.1.*to_q$", True),
        ("^attn1.*to_q", False),
        ("^attn1.to_q", False),
        ("ttn1.to_q", False),
        ("ttn1.*to_q", False),
        ("to_q.*attn1", False),
        ("attn1.*to", False),
        ("to_q.*to_q", False),
    ],
)
def test_patterns_of_pefts_settings_fit_the_modules_that_peft_means(tmp_path: Path, pattern: str, fits: bool) -> None:
    (layer,) = with_settings(tmp_path, alpha_pattern={pattern: 7}).layers.values()
    assert layer.alpha == (7 if fits else 2)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"alpha_pattern": {r"(?:\w+\.?)+!": 1}}, r"names modules by '\(\?:.*' *, a regular expression"),
        ({"alpha_pattern": {"(": 1}}, "a regular expression"),
        ({"alpha_pattern": ["to_q"]}, "alpha_pattern of the LoRA's settings is a list"),
        ({"alpha_pattern": {"to_q": "much"}}, "give .*to_q 'much' where a number belongs"),
        ({"lora_alpha": None}, "None where a number belongs"),
    ],
)
def test_a_loras_settings_are_no_program(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    started = time.monotonic()
    with pytest.raises(FaceExprError, match=told):
        with_settings(tmp_path, **settings)
    assert time.monotonic() - started < 20  # it took for ever


def test_long_texts_are_read_in_time() -> None:
    """Each took more than ten seconds; what they are read as stays the same."""
    spaces, started = " " * 40000, time.process_time()
    with pytest.raises(FaceExprError, match="is not an action unit"):
        action_unit(f"AU{spaces}x")
    assert action_unit(f"AU{spaces}12") == action_unit("12") and action_unit(" au  r  12 ") == action_unit("R12")
    assert without_slot(f"a {{expression}}{spaces}x") == f"a{spaces}x"
    assert without_slot(f"a{spaces},{spaces}{{expression}}") == f"a{spaces}"
    assert time.process_time() - started < 5


def test_what_a_terminal_takes_for_commands_is_not_shown(tmp_path: Path) -> None:
    said = "a\x1b]52;c;aGk=\x07b\x9b2J\nc"
    assert one_line(said) == "a ]52;c;aGk= b 2J c"
    save_file({"x\x1b]0;y": torch.ones(1)}, tmp_path / "lora.safetensors", {"ss_note\x1b[2J": said})
    state, metadata = read_lora(tmp_path / "lora.safetensors")
    shown = describe(decode(state, metadata, {}))
    assert "a ]52;c;aGk= b 2J c" in shown and not set(shown) & {"\x1b", "\x07", "\x9b"}
    shutil.copy(mini.subject_path() / "photo_1.png", tmp_path)
    (tmp_path / "photo_1.txt").write_text(said, encoding="utf-8")
    assert read_dataset(tmp_path)[0].caption == "a ]52;c;aGk= b 2J c"
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "photo_1.png", "text": said}))
    assert read_dataset(tmp_path)[0].caption == "a ]52;c;aGk= b 2J c"


def test_a_name_is_no_formula_in_a_table() -> None:
    rows = [{"person": "=HYPERLINK(1)", "likeness": -0.5}, {"person": "anna", "likeness": 0.5}]
    assert _csv(rows) == "person,likeness\n'=HYPERLINK(1),-0.5\nanna,0.5\n"


@pytest.mark.parametrize(
    "changed", [{"grids": '{"a": [1e400, 1]}'}, {"sigmas": "[" * 100_000}, {"notes": "[]"}], ids=lambda one: next(iter(one))
)
def test_features_that_hold_no_numbers_are_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    said = {
        "format": FORMAT,
        "version": VERSION,
        "site": "skip",
        "mode": "twin",
        "sigmas": "[1.0]",
        "grids": "{}",
        "notes": "{}",
        **changed,
    }
    save_file({"a": torch.ones(1)}, tmp_path / "f.safetensors", {f"faceexpr.{name}": value for name, value in said.items()})
    with pytest.raises(FaceExprError, match="cannot be read as expression features"):
        load_bank(tmp_path / "f.safetensors")


@pytest.mark.parametrize("kind", ["photo", "caption", "folder", "named"])
def test_links_in_a_folder_of_photos_do_not_lead_out_of_comfyuis_input(comfy_modules: SimpleNamespace, tmp_path: Path, kind: str) -> None:
    photo, secret = mini.subject_path() / "photo_1.png", tmp_path / "secret.txt"
    secret.write_text("comfy settings")
    folder = Path(comfy_modules.folder_paths.get_input_directory()) / f"of_strangers_{kind}"
    folder.mkdir()
    if kind == "photo":
        (folder / "1.png").symlink_to(photo)
    elif kind == "caption":
        shutil.copy(photo, folder / "1.png")
        (folder / "1.txt").symlink_to(secret)
    elif kind == "folder":
        (folder / "train").symlink_to(photo.parent, target_is_directory=True)
    else:
        (folder / "s").symlink_to(photo.parent, target_is_directory=True)
        (folder / "metadata.jsonl").write_text(json.dumps({"file_name": f"s/{photo.name}"}))
    wishes = {
        "folder": folder.name,
        "trigger_word": "ohwx",
        "class_word": "woman",
        "resolution": 64,
        "framing": "face crop",
        "padding": 0.75,
    }
    wishes |= {"face": 0, "drop_small_faces": False, "drop_duplicates": False}
    given = {name: [value] for name, value in wishes.items()}
    load = pack.node("load_subject_images").LoadSubjectImages.execute
    with pytest.raises(Exception, match=r"lies, by a link, outside ComfyUI's input folder\. Put the files themselves into it"):
        load(**given)
    inside = folder.with_name(f"{folder.name}_kept")
    inside.mkdir()
    shutil.copy(photo, inside / "photo.png")
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "1.png").symlink_to(inside / "photo.png")
    assert load(**given).args[0].photos
