"""Assemble Mini's parts into a diffusers pipeline directory."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from . import shape


def tokenizers(vocabulary: Path) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """CLIP's tokenizer twice, padded as SDXL pads: with end-of-text for L, with `!` (id 0) for G."""
    files = {"vocab": str(vocabulary / "vocab.json"), "merges": str(vocabulary / "merges.txt")}
    common = {"model_max_length": 77, "unk_token": "<|endoftext|>"}
    return (
        CLIPTokenizer(**files, **common, pad_token="<|endoftext|>"),
        CLIPTokenizer(**files, **common, pad_token="!"),
    )


def assemble(
    vocabulary: Path,
    unet: torch.nn.Module,
    vae: torch.nn.Module,
    text_encoder: torch.nn.Module,
    text_encoder_2: torch.nn.Module,
) -> StableDiffusionXLPipeline:
    tokenizer, tokenizer_2 = tokenizers(vocabulary)
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=shape.scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def save(pipeline: StableDiffusionXLPipeline, directory: Path) -> None:
    """Half precision on disk; every reader upcasts on CPU."""
    pipeline.to(dtype=torch.float16).save_pretrained(directory, safe_serialization=True)
