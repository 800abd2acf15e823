"""What the trainers of `trainer_cost` are given: the model, Mini's or one of SDXL's shape with random weights, and photos of one size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from faceexpr_core import mini
from faceexpr_core.diffusers_host.pipeline import SDXL_CONFIGS

PARTS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
}


def write_photos(folder: Path, side: int) -> None:
    """The photos of Mini's subject as squares of `side` pixels, so that no trainer has to cut or resize them."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(mini.subject_path().glob("*.png")):
        with Image.open(path) as opened:
            opened.convert("RGB").resize((side, side), Image.Resampling.LANCZOS).save(folder / path.name)


def write_random_sdxl(folder: Path, configs: Path = SDXL_CONFIGS, device: str = "cpu") -> None:
    """A pipeline of the shape that `configs` tells (SDXL's: 7 GB), float16, with random weights from seed 0 and CLIP's own tokenizer.

    Speed and memory do not depend on the weights' values. Drawn on `device`; the folder appears when it is whole.
    """
    import torch

    if (folder / "model_index.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for part, (library, name) in PARTS.items():
        config = json.loads((configs / part / "config.json").read_text())
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(0)
            model = _model(library, name, config)
        model.half().save_pretrained(folder / part, safe_serialization=True, max_shard_size="100GB")
        del model
        if library == "transformers":
            _prefix(folder / part / "model.safetensors")
    shutil.copytree(configs / "scheduler", folder / "scheduler", dirs_exist_ok=True)
    for tokenizer in ("tokenizer", "tokenizer_2"):
        shutil.copytree(mini.path() / tokenizer, folder / tokenizer, dirs_exist_ok=True)
    shutil.copy(configs / "model_index.json", folder / "model_index.json")


def _prefix(file: Path) -> None:
    """Names as SDXL's files have them: transformers 5 leaves out the prefix by which ComfyUI knows a text encoder."""
    from safetensors.torch import load_file, save_file

    whole = ("text_model.", "text_projection.")
    weights = {name if name.startswith(whole) else f"text_model.{name}": weight for name, weight in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _model(library: str, name: str, config: dict[str, object]):  # type: ignore[no-untyped-def]
    if library == "diffusers":
        import diffusers

        return getattr(diffusers, name).from_config(config)
    import transformers

    return getattr(transformers, name)(transformers.CLIPTextConfig.from_dict(config))
