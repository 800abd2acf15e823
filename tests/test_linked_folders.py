"""Links in ComfyUI's folders of models, which ComfyUI lists and follows, and folders of extra_model_paths.yaml; in real ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pack
import pytest
import torch

from faceexpr_core.fusion.bank import FeatureBank
from faceexpr_core.fusion.recorder import save_bank
from faceexpr_core.lora.files import save_lora

NAME = "faceexpr_features"


def bank(number: float) -> FeatureBank:
    tokens = {f"middle.0.0@0:{which}": torch.full((1, 12, 8), value).half() for which, value in (("e", number), ("n", 0.0))}
    return FeatureBank("cross_attention", "twin", (3.0,), tokens, {"middle.0.0": (4, 3)})


def number_in(name: str) -> float:
    """Of the bank that Load Features gives for a name of its list."""
    loader = pack.node("load_features").LoadFeatures
    assert name in loader.define_schema().inputs[0].options and loader.validate_inputs(name) is True
    loaded, _ = loader.execute(name).args
    return float(loaded.tokens["middle.0.0@0:e"][0, 0, 0])


@pytest.fixture
def features(comfy_modules: SimpleNamespace) -> Iterator[Path]:
    """models/faceexpr_features; what a test puts there with its name in front is gone afterwards."""
    folder = Path(comfy_modules.folder_paths.models_dir) / NAME
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for path in folder.glob("linked*"):
        path.unlink()


@pytest.fixture
def loras(comfy_modules: SimpleNamespace, tmp_path: Path) -> Iterator[Path]:
    """The loras folder, whose `linked` lies on another disk."""
    folder = Path(comfy_modules.folder_paths.get_folder_paths("loras")[0])
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    yield folder
    (folder / "linked").unlink()


def test_a_lora_is_trained_into_a_folder_behind_a_link(comfy_modules: SimpleNamespace, loras: Path, tmp_path: Path) -> None:
    folders, job = pack.node("host.folders"), pack.node("training_job")
    path = folders.file_in(folders.loras_folder(), "linked/deep/person", ".safetensors", "lora_name")
    states = job.states_at(path, {**pack.node("train_lora").DEFAULTS, "state_every": 5})
    assert states.path.parts[-4:] == ("training", "linked", "deep", "person")
    save_lora(path, {"lora_unet_conv_in.alpha": torch.ones(1)}, {}, None)
    assert (tmp_path / "deep" / "person.safetensors").is_file()
    assert "linked/deep/person.safetensors" in comfy_modules.folder_paths.get_filename_list("loras")


@pytest.mark.parametrize("name", ["../outside", "linked/../../outside", "/etc/outside", "linked\\..\\..\\outside"])
def test_a_name_still_leads_out_of_no_folder(comfy_modules: SimpleNamespace, loras: Path, name: str) -> None:
    folders = pack.node("host.folders")
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match="leads out of"):
        folders.file_in(folders.loras_folder(), name, ".safetensors", "lora_name")
    assert folders.file_in(loras, "linked/../inside", ".safetensors", "lora_name") == loras / "inside.safetensors"


@pytest.mark.parametrize(
    "name", ["con", "NUL.safetensors", "aux.old", "smiles/com1", "lpt9/wide", "COM\u00b9", "prn .x", "smiles./wide", "smiles /wide"]
)
def test_a_name_that_windows_does_not_take_is_refused_there_and_nowhere_else(
    comfy_modules: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    """Elsewhere files of that name may lie, and are loaded."""
    folders = pack.node("host.folders")
    with pytest.raises(comfy_modules.core.errors.FaceExprError, match="Windows takes no file or folder of that name"):
        folders.file_in(tmp_path, name, ".safetensors", "lora_name", windows=True)
    there = tmp_path / f"{name.removesuffix('.safetensors')}.safetensors"
    assert folders.file_in(tmp_path, name, ".safetensors", "lora_name", windows=False) == there


@pytest.mark.parametrize(
    "name", ["anna", "console", "com10", "com", "nullable/aux1", "linked/../inside", "./anna", "v1.0", "anna con", ".aux"]
)
def test_what_windows_takes_stays(comfy_modules: SimpleNamespace, tmp_path: Path, name: str) -> None:
    plain = Path(os.path.abspath(tmp_path / f"{name}.safetensors"))
    assert pack.node("host.folders").file_in(tmp_path, name, ".safetensors", "lora_name", windows=True) == plain


def test_features_behind_links_are_listed_loaded_and_saved(features: Path, tmp_path: Path) -> None:
    save_bank(bank(1), tmp_path / "file.safetensors")
    save_bank(bank(2), tmp_path / "folder" / "deep" / "wide.safetensors")
    (features / "linked.safetensors").symlink_to(tmp_path / "file.safetensors")
    (features / "linked").symlink_to(tmp_path / "folder", target_is_directory=True)
    assert number_in("linked.safetensors") == 1
    assert number_in("linked/deep/wide.safetensors") == 2
    saved = pack.node("save_features").SaveFeatures.execute(bank(3), "linked/deep/wide").args[0]
    assert Path(saved) == features / "linked" / "deep" / "wide_00001_.safetensors"
    assert number_in("linked/deep/wide_00001_.safetensors") == 3 and number_in("linked/deep/wide.safetensors") == 2


def test_folders_of_extra_model_paths_are_looked_into_and_the_first_is_saved_in(
    comfy_modules: SimpleNamespace, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy_modules.folder_paths, "folder_names_and_paths", {**comfy_modules.folder_paths.folder_names_and_paths})
    save_bank(bank(1), features / "linked_own.safetensors")
    save_bank(bank(2), tmp_path / "theirs.safetensors")
    comfy_modules.folder_paths.add_model_folder_path(NAME, str(tmp_path))  # what ComfyUI does with a line of the file
    assert (number_in("linked_own.safetensors"), number_in("theirs.safetensors")) == (1, 2)
    saved = pack.node("save_features").SaveFeatures.execute(bank(3), "mine").args[0]
    assert Path(saved) == tmp_path / "mine.safetensors" and number_in("mine.safetensors") == 3
    refused = pack.node("load_features").LoadFeatures.validate_inputs("gone.safetensors")
    assert str(tmp_path) in refused and str(features) in refused
