"""Another expression in a picture that is there."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..faceexpr_core import text
from ..faceexpr_core.expressions import NONE, SECOND_WEIGHT, names
from ..faceexpr_core.faces.face_choice import ALL_FACES
from ..faceexpr_core.fusion.donor_faces import moved_regions
from ..faceexpr_core.fusion.redraw_settings import DENOISE, GUIDANCE, READ, SHOWN, STEPS, STRENGTH
from .fusion_inputs import strength_input
from .host.models import require_sdxl, require_sdxl_clip
from .host.redraw import redrawing
from .host.widgets import (
    action_units_or_reason,
    advanced,
    require_choices,
    require_mask,
    require_pictures,
    shown_report,
    tell_idle_strengths,
)
from .redraw_faces import Wish, change_faces

NODE = "Change Expression"


class ChangeExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        weight = {"min": 0.0, "max": text.MAX_WEIGHT, "step": 0.05, "round": 0.001, "display_mode": io.NumberDisplay.slider}
        return io.Schema(
            node_id="FaceExprChangeExpression",
            display_name=NODE,
            category="FaceExpr",
            description="Gives a face in a picture another expression, also a neutral one. The face is found, enlarged, "
            "drawn over by fusion, and its change laid onto the picture; all else stays as it was, to the bit.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, or a batch of them. Use pictures of people who agreed."),
                io.Model.Input("model", tooltip="The SDXL MODEL, without a person's LoRA."),
                io.Clip.Input("clip", tooltip="Its CLIP; with a person's LoRA, the CLIP that came with that."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=False,
                    default="a photo of a person",
                    tooltip="Whom the picture shows, in a few words: a photo of a young man with a beard. With a person's LoRA write its "
                    "trigger word. The expression is added at {expression}, or at the end.",
                ),
                io.Combo.Input(
                    "expression",
                    options=[NONE, *names()],
                    default="happy",
                    tooltip="The expression that the face shall have. It takes the place of the one that it has: what you do not ask for "
                    "goes. 'neutral' only takes that away.",
                ),
                io.Float.Input("intensity", default=1.0, **weight, tooltip="How strong: 0 is neutral, 1 usual, above 1 exaggerates."),
                io.Combo.Input("second_expression", options=[NONE, *names()], default=NONE, tooltip="A second expression to blend in."),
                io.Float.Input(
                    "second_weight",
                    default=SECOND_WEIGHT,
                    **weight,
                    tooltip="How strong the second expression is; unused while it is 'none'.",
                ),
                strength_input(
                    "strength",
                    "How strongly the face is changed: 0 gives the picture back as it is. Lower keeps more of the person.",
                    default=STRENGTH,
                ),
                io.Int.Input(
                    "face",
                    default=ALL_FACES,
                    min=ALL_FACES,
                    max=7,
                    tooltip="Which face: -1 all of them, 0 the largest, 1 the second largest, and so on.",
                ),
                io.String.Input(
                    "action_units",
                    default="",
                    optional=True,
                    tooltip="Single facial movements by FACS number, such as AU1+AU2, L1+L2 (the person's left brow) or AU6:0.5. For these "
                    "alone set expression to none. All are multiplied by intensity.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Only faces in it are changed, and nothing outside of it; of a batch of masks each picture takes its own.",
                ),
                io.Model.Input(
                    "person_model",
                    optional=True,
                    tooltip="The MODEL with the person's LoRA. It draws the face then, which keeps the person better.",
                ),
                *advanced(
                    io.Combo.Input(
                        "shown",
                        options=list(SHOWN),
                        default=READ,
                        tooltip="The expression that the face has now. 'read': the node looks, and takes neutral where it is not sure.",
                    ),
                    io.Int.Input("steps", default=STEPS, min=1, max=10000, tooltip="Steps there and back; twice as many evaluations."),
                    io.Float.Input(
                        "cfg",
                        default=GUIDANCE,
                        min=0.0,
                        max=100.0,
                        step=0.1,
                        round=0.01,
                        tooltip="Guidance. 1 keeps most and is twice as fast; more changes more, the person too.",
                    ),
                    io.Combo.Input(
                        "scheduler",
                        options=comfy.samplers.KSampler.SCHEDULERS,
                        default="normal",
                        tooltip="How the noise levels are spaced.",
                    ),
                    io.Float.Input(
                        "denoise",
                        default=DENOISE,
                        min=0.01,
                        max=1.0,
                        step=0.01,
                        tooltip="How far into noise the face is taken. More lets its shape change more.",
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture with the new expression, at its own size."),
                io.Mask.Output(display_name="mask", tooltip="Where it may differ from the one given; everywhere else it is the same."),
                io.String.Output(display_name="report", tooltip="Which faces were found, what they showed, and what was done."),
            ],
        )

    @classmethod
    def validate_inputs(cls, action_units: str = "") -> bool | str:
        return action_units_or_reason(action_units)

    @classmethod
    def execute(
        cls,
        image: Any,
        model: Any,
        clip: Any,
        vae: Any,
        prompt: str,
        expression: str,
        intensity: float,
        second_expression: str,
        second_weight: float,
        strength: float,
        face: int,
        action_units: str = "",
        mask: Any = None,
        person_model: Any = None,
        shown: str = READ,
        steps: int = STEPS,
        cfg: float = GUIDANCE,
        scheduler: str = "normal",
        denoise: float = DENOISE,
    ) -> io.NodeOutput:
        require_choices(cls, expression=expression, second_expression=second_expression, shown=shown, scheduler=scheduler)
        require_pictures("image", [image])
        require_sdxl_clip(clip, NODE)
        for one in (model, *(() if person_model is None else (person_model,))):
            require_sdxl(one, NODE)
        require_mask(NODE, mask)
        tell_idle_strengths(cls, expression, intensity, second_expression, second_weight, action_units)
        wish = Wish(
            prompt=prompt,
            terms=text.expression_terms(expression, intensity, second_expression, second_weight, action_units),
            moved=moved_regions(expression, second_expression if second_weight > 0 else NONE, action_units),
            strength=strength,
            shown=shown,
            face=face,
        )
        how = partial(redrawing, cfg=cfg, steps=steps, scheduler=scheduler, denoise=denoise, node=NODE)
        made = change_faces(image, mask, model, person_model, clip, vae, wish, how)
        return io.NodeOutput(made.image, made.mask, made.report, ui=shown_report(made.report))
