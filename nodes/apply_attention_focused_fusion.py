"""Expression features fused into a MODEL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..faceexpr_core.expressions import REGIONS
from ..faceexpr_core.fusion.settings import CONTEXT_SITE, MODES, FusionSettings, site_settings
from .fusion_inputs import FEATURES, SAYS_NOTHING, moved_by, strength_input, window_inputs
from .host.folders import missing_models
from .host.fusion import Seen, attach_fusion
from .host.models import require_sdxl
from .host.widgets import EMPTY_MASK, advanced, require_choices, require_mask, tell, tell_unused

NODE = "Apply Attention-Focused Fusion"
WHERE: dict[str, tuple[str, ...]] = {
    "as extracted": (),
    "upper face": ("brows", "eyes"),
    "lower face": ("nose", "mouth", "jaw"),
    **{name: (name,) for name in REGIONS},
}
SITES_OWN = 0.0


class ApplyAttentionFocusedFusion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        default = FusionSettings()
        return io.Schema(
            node_id="FaceExprApplyAttentionFocusedFusion",
            display_name=NODE,
            category="FaceExpr",
            description="Gives the MODEL the expression of the features while it draws. The person stays: only the change from neutral to "
            "expression is carried over. Draw the neutral text after it: the features bring the expression. Several may follow each "
            "other, each with its mask.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL that draws the person, with the person's LoRA."),
                FEATURES.Input("features", tooltip="From Extract Expression Features or Load Features."),
                strength_input("strength", "How strong the expression comes: 0 changes nothing, 1 is the usual amount, more exaggerates."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the expression may act: one face of several, say; of a batch of masks each picture takes its own. "
                    "Without it, the face: that which is seen ('vae') or was found in the twins; or everywhere.",
                ),
                *advanced(
                    io.Combo.Input(
                        "mode",
                        options=list(MODES),
                        default=default.mode,
                        tooltip="twin: carries over only what changes from neutral to expression. adain: for a photo without a "
                        "neutral twin. paper: the published formula, for comparison; it needs features of the site skip or "
                        "cross_attention.",
                    ),
                    io.Combo.Input("regions", options=list(WHERE), default="as extracted", tooltip="Keep the change to this part of it."),
                    *window_inputs(
                        "Until which noise level it acts, as a share of the schedule: 0 to the end. Published: 0.3.",
                        "From which noise level it acts, as a share of the schedule: 1 from the start. Published: 0.7.",
                    ),
                    io.Float.Input(
                        "temperature",
                        default=default.temperature,
                        min=0.001,
                        max=10.0,
                        step=0.005,
                        round=0.0001,
                        tooltip="How sharply parts of the two faces are matched. Lower is sharper. Not for features of the site "
                        "cross_attention_difference, which need no matching.",
                    ),
                    io.Float.Input(
                        "region_penalty",
                        default=default.region_penalty,
                        min=0.0,
                        max=100.0,
                        step=0.5,
                        tooltip="How much a brow is kept from matching a mouth. Acts where faces are matched and their parts known.",
                    ),
                    io.Float.Input(
                        "cap",
                        default=SITES_OWN,
                        min=0.0,
                        max=100.0,
                        step=0.1,
                        tooltip="How far one place may change, as a multiple of what is there. 0 takes the usual limit.",
                    ),
                    io.Boolean.Input(
                        "matching",
                        default=default.matching,
                        tooltip="Find which part of one face belongs to which part of the other. Off: the same position in both. Not for "
                        "features of the site cross_attention_difference.",
                    ),
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The checkpoint's VAE. With it the face is looked for in each picture while it is drawn, at any size and seed, "
                    "and nothing else is changed.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The MODEL with the fusion, for any sampler.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> str:
        return missing_models()

    @classmethod
    def execute(
        cls,
        model: Any,
        features: Any,
        strength: float,
        mask: Any = None,
        mode: str = FusionSettings.mode,
        regions: str = "as extracted",
        window_low: float = FusionSettings.window[0],
        window_high: float = FusionSettings.window[1],
        temperature: float = FusionSettings.temperature,
        region_penalty: float = FusionSettings.region_penalty,
        cap: float = SITES_OWN,
        matching: bool = FusionSettings.matching,
        vae: Any = None,
    ) -> io.NodeOutput:
        require_choices(cls, mode=mode, regions=regions)
        require_sdxl(model, NODE)
        require_mask(NODE, mask)
        if features.says_nothing:
            tell(cls, SAYS_NOTHING)
        settings = site_settings(features.site)
        settings = replace(
            settings,
            mode=mode,
            strength=strength,
            window=(window_low, window_high),
            temperature=temperature,
            region_penalty=region_penalty,
            cap=settings.cap if cap == SITES_OWN else cap,
            matching=matching,
            regions=WHERE[regions],
            layers="all",  # those that were recorded
        )
        if features.site == CONTEXT_SITE:
            idle = {"temperature": temperature, "region_penalty": region_penalty, "matching": matching}
            tell_unused(cls, f"features of the site {CONTEXT_SITE} match nothing", **idle)
        elif mode == "paper":
            idle = {"temperature": temperature, "region_penalty": region_penalty, "cap": cap, "matching": matching}
            tell_unused(cls, "the printed formula knows none of it", **idle)
        elif not matching:
            tell_unused(cls, "nothing is matched", temperature=temperature, region_penalty=region_penalty)
        masks = None if mask is None else mask.reshape(-1, *mask.shape[-2:])
        if masks is not None and (empty := [str(number) for number, one in enumerate(masks, start=1) if not one.any()]):
            which = "the mask is empty" if len(masks) == 1 else f"the mask of picture {', '.join(empty)} of the batch is empty"
            tell(
                cls,
                f"{which}, so that nothing is fused there. {EMPTY_MASK}",
            )
        seen = None if vae is None else Seen(vae, moved_by(features))
        return io.NodeOutput(attach_fusion(model, features, settings, masks, seen))
