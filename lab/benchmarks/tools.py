"""What a process loads once: the pipeline, and what measures pictures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from faceexpr_core.diffusers_host import pipeline as diffusers_pipeline
from faceexpr_core.measure.expression import ExpressionMeter
from faceexpr_core.measure.identity import IdentityMeter

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline


class Meters(NamedTuple):
    expression: ExpressionMeter
    identity: IdentityMeter


@cache
def pipeline(model: str) -> StableDiffusionXLPipeline:
    """The base model, to be left as it is."""
    from diffusers.utils import logging

    logging.set_verbosity_error()  # a LoRA of the U-Net alone is no reason for a warning
    return diffusers_pipeline.load_pipeline(model)


@cache
def meters() -> Meters:
    """Both meters, on one detector of faces; see `close`."""
    expression = ExpressionMeter()
    return Meters(expression, IdentityMeter(detector=expression.detector))


def close() -> None:
    """Free the meters: to be called at the end of a program, where MediaPipe would fail to free itself."""
    if meters.cache_info().currsize:
        meters().expression.close()
        meters.cache_clear()
