"""Folders of diffusers whose weights lie there in 16 bits alone, as a download of the variant fp16 leaves them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from faceexpr_core import mini
from faceexpr_core.commands.hub_cache import local_model
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.diffusers_host.training import load_vae
from faceexpr_core.errors import FaceExprError

PARTS = ("text_encoder", "text_encoder_2", "unet", "vae")


def weights(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def renamed(folder: Path, variant: str, *parts: str) -> Path:
    """Mini, the weights of its `parts` called as those of a variant."""
    shutil.copytree(mini.path(), folder)
    for part in parts:
        file = weights(folder / part)
        file.rename(file.with_name(f"{file.stem}.{variant}.safetensors"))
    return folder


def of_plain(pipe, part: str) -> dict[str, torch.Tensor]:
    return {name: one.float() for name, one in getattr(pipe, part).state_dict().items()}


@pytest.mark.parametrize(
    ("variant", "parts"), [("fp16", PARTS), ("fp16", ("unet", "text_encoder_2")), ("bf16", ("vae", "text_encoder"))], ids=str
)
def test_the_parts_that_lie_there_in_16_bits_alone_are_read(tmp_path: Path, pipe, variant: str, parts: tuple[str, ...]) -> None:
    folder = renamed(tmp_path / "owner" / "sdxl", variant, *parts)
    read = load_pipeline(folder)
    for part in PARTS:
        known, there = of_plain(pipe, part), of_plain(read, part)
        assert known.keys() == there.keys() and all(torch.equal(there[name], one) for name, one in known.items()), part


def test_a_name_in_the_hubs_cache_whose_files_are_links_is_read(tmp_path: Path, pipe) -> None:
    cached = tmp_path / "models--owner--name"
    blobs = renamed(cached / "blobs", "fp16", *PARTS)
    snapshot = cached / "snapshots" / "abc"
    for file in (path for path in blobs.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(blobs)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    read = load_pipeline(local_model("owner/name", None, str(tmp_path)))
    assert torch.equal(read.unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_whole_weights_go_before_those_in_16_bits_beside_them(tmp_path: Path, pipe) -> None:
    folder = renamed(tmp_path / "sdxl", "fp16")
    file = weights(folder / "unet")
    save_file({name: torch.zeros_like(one) for name, one in load_file(file).items()}, file.with_name(f"{file.stem}.fp16.safetensors"))
    assert torch.equal(load_pipeline(folder).unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_weights_in_pieces_are_read(tmp_path: Path, pipe) -> None:
    folder = renamed(tmp_path / "sdxl", "fp16")
    pieces = tmp_path / "pieces"
    load_pipeline(folder, torch.float16).unet.save_pretrained(pieces, max_shard_size="4MB", variant="fp16")
    assert len([*pieces.glob("*.safetensors")]) > 1
    weights(folder / "unet").unlink()
    for file in pieces.glob("*.safetensors*"):
        file.rename(folder / "unet" / file.name)
    assert torch.equal(load_pipeline(folder).unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_a_vae_alone_is_read_by_its_folder_and_by_its_pipelines(tmp_path: Path, pipe) -> None:
    folder = renamed(tmp_path / "sdxl", "fp16", "vae")
    for given in (folder, folder / "vae"):
        assert torch.equal(load_vae(str(given), torch.float32).encoder.conv_in.weight, pipe.vae.encoder.conv_in.weight)


def test_where_there_are_no_weights_the_folder_is_not_whole(tmp_path: Path) -> None:
    folder = renamed(tmp_path / "sdxl", "fp16", *PARTS)
    weights(folder / "unet").unlink()
    with pytest.raises(FaceExprError, match="is not a whole diffusers pipeline"):
        load_pipeline(folder)
