"""Expression features of a text or of a photograph, for exactly the steps that a sampler will take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.samplers
from comfy_api.latest import io, ui

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.expressions import NONE, names
from ..faceexpr_core.fusion.donor_faces import twins_picture
from ..faceexpr_core.fusion.donors import NEUTRALS, describe
from ..faceexpr_core.fusion.run import GUIDANCE, STEPS
from ..faceexpr_core.fusion.settings import (
    CONTEXT_SITE,
    LAYERS,
    SITES,
    SKIP_LEVELS,
    FusionSettings,
    default_levels,
    default_site,
    site_settings,
)
from . import extraction
from .fusion_inputs import FEATURES, SAYS_NOTHING, window_inputs
from .host.folders import missing_models
from .host.models import require_sdxl
from .host.pixels import to_image
from .host.predictions import require_own_levels
from .host.texts import has_hooks, without_hooks
from .host.widgets import advanced, require_choices, require_pictures, tell, tell_unused

NODE = "Extract Expression Features"
DEFAULT = "default"
AUTO = 0


class ExtractExpressionFeatures(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        samplers = comfy.samplers.KSampler
        layers = [DEFAULT, *LAYERS, *(level for level in SKIP_LEVELS if level not in LAYERS)]
        return io.Schema(
            node_id="FaceExprExtractExpressionFeatures",
            display_name=NODE,
            category="FaceExpr",
            description="Keeps what the base model makes of an expression, from words or from a photo of anybody. "
            "Apply Attention-Focused Fusion carries it over to your person, drawn with the neutral text.",
            inputs=[
                io.Model.Input("model", tooltip="The SDXL MODEL as it came from its loader, without the person's LoRA."),
                io.Conditioning.Input("positive", tooltip="The prompt with the expression: first output of Expression Text Encode."),
                io.Conditioning.Input("neutral", tooltip="The same prompt with a neutral face: its second output."),
                io.Conditioning.Input("negative", tooltip="What to avoid, as in the sampler."),
                io.Latent.Input("latent_image", tooltip="The latent that the sampler starts from."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="The sampler's seed: features from the same noise fit best.",
                ),
                io.Int.Input("steps", default=STEPS, min=1, max=10000, tooltip="The sampler's steps."),
                io.Float.Input("cfg", default=GUIDANCE, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="The sampler's cfg."),
                io.Combo.Input("sampler_name", options=samplers.SAMPLERS, default="euler", tooltip="The sampler's method."),
                io.Combo.Input("scheduler", options=samplers.SCHEDULERS, default="normal", tooltip="The sampler's scheduler."),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="The sampler's denoise."),
                io.Combo.Input(
                    "expression",
                    options=[NONE, *names()],
                    default=NONE,
                    tooltip="Only a name for the features. The texts decide where they act: an expression on the whole face, action units "
                    "alone on their part of it.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The checkpoint's VAE. With it the twins are shown and the face is found, so that nothing else is changed. "
                    "A photo needs it.",
                ),
                io.Image.Input("photo", optional=True, tooltip="A photo of anybody with the expression. The face is cut out of it."),
                io.Image.Input("neutral_photo", optional=True, tooltip="The same person with a neutral face: better than drawing one."),
                *advanced(
                    io.Combo.Input(
                        "photo_neutral",
                        display_name="if no neutral photo",
                        options=list(NEUTRALS),
                        default=NEUTRALS[0],
                        tooltip="What stands in for a neutral_photo that is not given. drawn: the model draws the neutral face. none: "
                        "nothing does; more of the stranger's looks comes along.",
                    ),
                    io.Combo.Input(
                        "site",
                        options=[DEFAULT, *SITES],
                        default=DEFAULT,
                        tooltip=f"Where in the U-Net. default: {default_site(False)} for words, {default_site(True)} for a photo, which "
                        "the former cannot take. skip is the published one, and does little.",
                    ),
                    io.Combo.Input(
                        "layers",
                        options=layers,
                        default=DEFAULT,
                        tooltip="Which blocks. default: the decoder. 1, 2, 3, 2+3: levels of the site skip.",
                    ),
                    *window_inputs("Low-noise end, a share of the schedule.", "High-noise end, a share of the schedule."),
                    io.Combo.Input(
                        "tokens",
                        options=["face", "all"],
                        default="face",
                        tooltip="'face' keeps only what lies where the expression acts, which needs far less memory. "
                        "The mode 'paper' needs 'all'.",
                    ),
                    io.Int.Input(
                        "levels",
                        default=AUTO,
                        min=AUTO,
                        max=10000,
                        tooltip="How many noise levels to keep at most, each of which serves those beside it: fewer need less memory. "
                        f"0: all for words, {default_levels(True)} for a photo, whose features are large.",
                    ),
                ),
            ],
            outputs=[
                FEATURES.Output(display_name="features", tooltip="For Apply Attention-Focused Fusion, FaceExpr Sampler or Save Features."),
                io.Image.Output(display_name="twins", tooltip="The neutral and the expressive twin, and where they differ."),
                io.String.Output(display_name="report", tooltip="What was recorded, and where it will act."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> str:
        return missing_models()

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        neutral: Any,
        negative: Any,
        latent_image: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        expression: str = NONE,
        vae: Any = None,
        photo: Any = None,
        neutral_photo: Any = None,
        photo_neutral: str = NEUTRALS[0],
        site: str = DEFAULT,
        layers: str = DEFAULT,
        window_low: float = FusionSettings.window[0],
        window_high: float = FusionSettings.window[1],
        tokens: str = "face",
        levels: int = AUTO,
    ) -> io.NodeOutput:
        require_choices(
            cls,
            sampler_name=sampler_name,
            scheduler=scheduler,
            expression=expression,
            photo_neutral=photo_neutral,
            site=site,
            layers=layers,
            tokens=tokens,
        )
        for name, given in (("photo", photo), ("neutral_photo", neutral_photo)):
            require_pictures(name, None if given is None else [given])
        require_sdxl(model, NODE)
        of_photo = photo is not None
        if neutral_photo is not None and not of_photo:
            raise FaceExprError(f"{NODE} got a neutral_photo without a photo. Connect the photo with the expression too.")
        settings = replace(site_settings(default_site(of_photo) if site == DEFAULT else site), window=(window_low, window_high))
        if layers != DEFAULT:
            settings = replace(settings, layers=layers)
        if of_photo or settings.site != CONTEXT_SITE:
            require_own_levels(model, NODE)
        if not of_photo or neutral_photo is not None:
            tell_unused(cls, "it is for a photo without a neutral_photo", photo_neutral=photo_neutral)
        if settings.site == CONTEXT_SITE:
            idle = {"window_low": window_low, "window_high": window_high, "tokens": tokens, "levels": levels}
            tell_unused(cls, f"at the site {CONTEXT_SITE} nothing is recorded but the words", **idle)
        if has_hooks(positive, neutral, negative):
            tell(cls, "the hooks on the texts, such as a person's LoRA, are left out: features are what the MODEL itself makes of them")
        request = extraction.Request(
            model,
            expression=without_hooks(positive),
            neutral=without_hooks(neutral),
            negative=without_hooks(negative),
            latent=latent_image,
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler=sampler_name,
            scheduler=scheduler,
            denoise=denoise,
            settings=settings,
            vae=vae,
            name=expression,
            keep=tokens,
            levels=default_levels(of_photo) if levels == AUTO else levels,
        )
        made = extraction.from_photo(request, photo, neutral_photo, photo_neutral) if of_photo else extraction.from_text(request)
        if made.bank.says_nothing:
            tell(cls, SAYS_NOTHING)
        picture = to_image(twins_picture(made.twins, made.bank.mask))
        return io.NodeOutput(made.bank, picture, describe(made), ui=ui.PreviewImage(picture, cls=cls))
