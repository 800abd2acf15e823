"""KSampler, its epsilon mode for the strength of an expression, and fusion with donors of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.fusion.run import GUIDANCE, STEPS
from ..faceexpr_core.fusion.settings import NEUTRAL_TEXT, FusionSettings
from .drawing import TEXTS, Drawing, Texts
from .fusion_inputs import FEATURES, SAYS_NOTHING, moved_by, strength_input
from .host.folders import missing_models
from .host.fusion import Seen
from .host.models import drawn_side, require_sdxl
from .host.spots import Spot, at_spot, texts_at
from .host.texts import pair_texts, same_text, unmatched
from .host.widgets import advanced, require_choices, tell, tell_unused
from .refine import refine_faces, require_refining

NODE = "FaceExpr Sampler"
REFINE_DENOISE = 0.4


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprSampler",
            display_name="FaceExpr Sampler",
            category="FaceExpr",
            description="KSampler, latent for latent, until one of the last inputs is connected. 'features' or 'base_model' bring the "
            "expression in by Attention-Focused Fusion, on the neutral text; an expression scale other than 1 strengthens or weakens it at "
            "each step.",
            inputs=[
                io.Model.Input("model", tooltip="The SDXL MODEL that draws."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip="The seed of the noise."
                ),
                io.Int.Input("steps", default=STEPS, min=1, max=10000, tooltip="How many denoising steps."),
                io.Float.Input(
                    "cfg", default=GUIDANCE, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="How closely to follow the prompt."
                ),
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
                    tooltip="The same prompt with a neutral face: second output of Expression Text Encode. base_model needs it, and an "
                    "expression_scale other than 1, with which intensity is best left at 1.",
                ),
                io.Float.Input(
                    "expression_scale",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.05,
                    round=0.001,
                    display_mode=io.NumberDisplay.slider,
                    optional=True,
                    tooltip="How far to go from neutral towards the expression at each step: 0 is neutral, 1 is plain guidance, "
                    "more exaggerates. Needs 'neutral'.",
                ),
                FEATURES.Input(
                    "features",
                    optional=True,
                    tooltip="Expression features to fuse, from Extract Expression Features or Load Features. For best results connect "
                    "'neutral' too, which is then drawn; without it 'positive' is.",
                ),
                io.Model.Input(
                    "base_model",
                    optional=True,
                    tooltip="The MODEL without the person's LoRA. It says what 'positive' changes of 'neutral', and that is fused. Costs "
                    "next to nothing. Needs 'neutral'. Not used where features are connected.",
                ),
                strength_input(
                    "fusion_strength",
                    "How strong the fusion is: 0 is off, and 'positive' is drawn. Needs 'features' or 'base_model'.",
                    optional=True,
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The checkpoint's VAE. With it the face is looked for while it is drawn, and the fusion leaves all else alone.",
                ),
                io.Float.Input(
                    "refine_below",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Draw faces again, enlarged, that are smaller than this share of the picture's shorter side, say 0.25. 0: off. "
                    "Needs 'vae'.",
                ),
                *advanced(
                    io.Float.Input(
                        "refine_denoise",
                        default=REFINE_DENOISE,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip="How much an enlarged face may change.",
                    ),
                    io.Combo.Input(
                        "fusion_text",
                        options=list(TEXTS),
                        default=NEUTRAL_TEXT,
                        tooltip="The text that is drawn while features are fused. neutral: the expression comes by fusion alone, which "
                        "keeps the rest of the picture. positive: the words say it too, and it comes out stronger. Without 'neutral', and "
                        "with an expression scale other than 1, always positive.",
                    ),
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The drawn latent, for VAE Decode.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> str:
        return missing_models()

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
        features: Any = None,
        base_model: Any = None,
        fusion_strength: float = FusionSettings.strength,
        vae: Any = None,
        refine_below: float = 0.0,
        refine_denoise: float = REFINE_DENOISE,
        fusion_text: str = NEUTRAL_TEXT,
    ) -> io.NodeOutput:
        require_choices(cls, sampler_name=sampler_name, scheduler=scheduler, fusion_text=fusion_text)
        require_sdxl(model, NODE)
        if expression_scale != 1.0 and neutral is None:
            raise FaceExprError(
                f"{NODE} got expression_scale {expression_scale:g} but no neutral conditioning, from which to scale. Connect the second "
                "output of Expression Text Encode to 'neutral', or set it to 1."
            )
        fuses = fusion_strength > 0 and (features is not None or base_model is not None)
        refines = refine_below > 0 and refine_denoise > 0
        if refines:
            require_refining(vae)
        if fuses and features is None and (denoise > 0 or refines):
            require_sdxl(base_model, NODE)
            if neutral is None:
                raise FaceExprError(
                    f"{NODE} got a base_model but no neutral conditioning. "
                    "Connect the second output of Expression Text Encode to 'neutral'."
                )
        if features is not None:
            tell_unused(cls, "features are connected", base_model=base_model)
        elif base_model is None and fusion_strength > 0:
            tell_unused(cls, "neither features nor a base_model is connected", fusion_strength=fusion_strength)
        if refine_denoise == 0:
            tell_unused(cls, "refine_denoise is 0, so that no face is drawn again", refine_below=refine_below)
        if refine_below == 0:
            tell_unused(cls, "refine_below is 0, so that no face is drawn again", refine_denoise=refine_denoise)
        if fuses:
            cls._tell_texts(positive, neutral, features)
        else:
            tell_unused(cls, "nothing is fused", fusion_text=fusion_text, **({} if refines else {"vae": vae}))

        drawing = Drawing(
            steps,
            cfg,
            sampler_name,
            scheduler,
            expression_scale,
            features,
            base_model,
            fusion_strength,
            fusion_text,
            None if vae is None else Seen(vae, () if features is None else moved_by(features)),
        )
        texts = Texts(positive, negative, neutral)

        def again(latent: dict[str, Any], spot: Spot) -> dict[str, Any]:
            # another seed: the noise of the whole picture is not the enlarged face's
            return drawing.draw(at_spot(model, spot), Texts(*texts_at(*texts, spot)), latent, (seed + 1) % 2**64, refine_denoise)

        drawn = drawing.draw(model, texts, latent_image, seed, denoise)
        if refines:
            drawn = refine_faces(vae, drawn, refine_below, drawn_side(model), again, partial(tell, cls))
        return io.NodeOutput(drawn)

    @classmethod
    def _tell_texts(cls, positive: Any, neutral: Any, features: Any) -> None:
        """Say what of the texts, or of the features, is not fused."""
        if features is not None and features.says_nothing:
            tell(cls, SAYS_NOTHING)
        if neutral is None:
            return
        for what in unmatched(positive, neutral):
            tell(cls, what)
        if features is None and all(same_text(positive[one], neutral[other]) for one, other in pair_texts(positive, neutral)):
            tell(cls, "nothing is fused: no text of positive says something else than its own in neutral")
