"""KSampler, and its epsilon mode for the strength of an expression."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..faceexpr_core.text import expression_direction
from . import host


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprSampler",
            display_name="FaceExpr Sampler",
            category="FaceExpr",
            description="KSampler, latent for latent, unless a neutral conditioning is connected and the expression scale is not 1. "
            "The scale then strengthens or weakens the expression alone, at each step, for one more U-Net evaluation.",
            inputs=[
                io.Model.Input("model", tooltip="The SDXL MODEL that draws."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip="The seed of the noise."
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="How many denoising steps."),
                io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="How closely to follow the prompt."),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler", tooltip="The sampling method."),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="normal", tooltip="How the noise levels are spaced."
                ),
                io.Conditioning.Input("positive", tooltip="What to draw, with the expression."),
                io.Conditioning.Input("negative", tooltip="What to avoid."),
                io.Latent.Input("latent_image", tooltip="The latent to start from."),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="1 draws anew, less keeps more of the latent given."
                ),
                io.Conditioning.Input(
                    "neutral",
                    optional=True,
                    tooltip="The same prompt with a neutral face: second output of Expression Text Encode, whose intensity then stays 1.",
                ),
                io.Float.Input(
                    "expression_scale",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.05,
                    round=0.001,
                    optional=True,
                    tooltip="How far to go from neutral towards the expression at each step: 0 is neutral, 1 is plain guidance, "
                    "more exaggerates. Needs 'neutral'.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The drawn latent, for VAE Decode.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        denoise: float,
        neutral: Any = None,
        expression_scale: float = 1.0,
    ) -> io.NodeOutput:
        host.require_sdxl(model, "FaceExpr Sampler")
        guider = None
        if neutral is not None and expression_scale != 1.0:
            guider = host.ExpressionGuider(model, positive, negative, neutral, cfg, partial(expression_direction, scale=expression_scale))
        latent = host.sample(
            model,
            positive,
            negative,
            latent_image,
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler=sampler_name,
            scheduler=scheduler,
            denoise=denoise,
            guider=guider,
        )
        return io.NodeOutput(latent)
