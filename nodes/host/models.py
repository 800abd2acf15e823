"""Which model a MODEL or CLIP is, and the refusal of others."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.sdxl_clip

from ...faceexpr_core.errors import FaceExprError


def is_sdxl(model: Any) -> bool:
    """True for a MODEL with the SDXL base U-Net (refiner, inpainting and pix2pix variants are not)."""
    inner = getattr(model, "model", None)
    if not isinstance(inner, comfy.model_base.SDXL):
        return False
    return inner.model_config.unet_config.get("in_channels") == 4


def drawn_side(model: Any) -> int:
    """Pixels of the side of a picture that the model was made to draw: SDXL's, or Mini's where the network is as narrow as Mini's."""
    from ...faceexpr_core import mini

    return 1024 if model.model.model_config.unet_config["model_channels"] >= mini.FULL_WIDTH else mini.RESOLUTION


def require_sdxl(model: Any, node: str) -> None:
    """Raise FaceExprError unless `model` is an SDXL MODEL."""
    if model is None:
        raise FaceExprError(f"{node} got no MODEL. Connect the MODEL output of an SDXL checkpoint loader or of FaceExpr Mini.")
    if is_sdxl(model):
        return
    given = f"a MODEL of type {model_name(model)}"
    if isinstance(getattr(model, "model", None), comfy.model_base.SDXL):
        channels = model.model.model_config.unet_config.get("in_channels")
        given += f" that takes {channels} channels where SDXL base takes 4: it is made for inpainting, or for editing a picture"
    raise FaceExprError(
        f"{node} got {given}; it needs an SDXL base model. Load an SDXL checkpoint (or FaceExpr Mini) and connect its MODEL."
    )


def require_sdxl_clip(clip: Any, node: str) -> None:
    """Raise FaceExprError unless `clip` holds SDXL's two text encoders."""
    encoder = getattr(clip, "cond_stage_model", None)
    if not isinstance(encoder, comfy.sdxl_clip.SDXLClipModel):
        given = "nothing" if encoder is None else f"a CLIP of type {type(encoder).__name__}"
        raise FaceExprError(
            f"{node} got {given}; it needs SDXL's two text encoders. "
            "Connect the CLIP output of an SDXL checkpoint loader or of FaceExpr Mini."
        )


def model_name(model: Any) -> str:
    config = getattr(getattr(model, "model", None), "model_config", None)
    return type(model).__name__ if config is None else type(config).__name__
