"""Put the trained parts together.

`python -m lab.recipe.export --state O/state.pt --vae O/vae --vocabulary V --output_dir D`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel

from .pipeline import assemble, save
from .unet import Denoiser


def averaged_denoiser(state_file: Path) -> tuple[Denoiser, int]:
    """The moving average of a training state, and its step."""
    state = torch.load(state_file, weights_only=True, mmap=True)
    denoiser = Denoiser()
    ema = EMAModel(denoiser.parameters())
    ema.load_state_dict(state["ema"])
    ema.copy_to(denoiser.parameters())
    return denoiser, state["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("state", "vae", "vocabulary", "output_dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    denoiser, step = averaged_denoiser(arguments.state)
    vae = AutoencoderKL.from_pretrained(arguments.vae)
    save(assemble(arguments.vocabulary, denoiser.unet, vae, denoiser.text_encoder, denoiser.text_encoder_2), arguments.output_dir)
    for file in arguments.output_dir.glob("tokenizer*/tokenizer.json"):
        file.write_text(json.dumps(json.loads(file.read_text()), separators=(",", ":"), ensure_ascii=False))
    for file in arguments.output_dir.glob("*/config.json"):
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    print(f"step {step} -> {arguments.output_dir}")


if __name__ == "__main__":
    main()
