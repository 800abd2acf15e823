"""A prompt with an expression at a chosen strength, as CONDITIONING."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..faceexpr_core import text
from ..faceexpr_core.expressions import NONE, SECOND_WEIGHT, names
from ..faceexpr_core.fusion.donor_faces import held_regions
from .host.conditioning import Conditioning, count_tokens, encode_conditioning, encode_expression
from .host.models import require_sdxl_clip
from .host.texts import HELD
from .host.widgets import action_units_or_reason, require_choices, tell_idle_strengths


class ExpressionTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        strength = {"min": 0.0, "max": text.MAX_WEIGHT, "step": 0.05, "round": 0.001, "display_mode": io.NumberDisplay.slider}
        return io.Schema(
            node_id="FaceExprExpressionTextEncode",
            display_name="Expression Text Encode",
            category="FaceExpr",
            description="Encodes a prompt together with a facial expression, from none to exaggerated; "
            "also gives the same prompt with a neutral face.",
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of an SDXL checkpoint, of FaceExpr Mini or of Train FaceExpr LoRA."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    # with it the web page would resolve {expression} itself
                    dynamic_prompts=False,
                    default="a photo of a woman, {expression}",
                    tooltip="What to draw. The expression is put where {expression} stands, or at the end, which works best. "
                    "Weights such as (smile:1.2), embeddings and other braces are kept.",
                ),
                io.Combo.Input(
                    "expression",
                    options=[NONE, *names()],
                    default="happy",
                    tooltip="The expression. 'none' adds nothing to the prompt; compounds blend two.",
                ),
                io.Float.Input(
                    "intensity",
                    default=1.0,
                    **strength,
                    tooltip="How strong: 0 is neutral, 1 is what the words alone give, above 1 exaggerates.",
                ),
                io.Combo.Input("second_expression", options=[NONE, *names()], default=NONE, tooltip="A second expression to blend in."),
                io.Float.Input(
                    "second_weight",
                    default=SECOND_WEIGHT,
                    **strength,
                    tooltip="How strong the second expression is; unused while it is 'none'.",
                ),
                io.String.Input(
                    "action_units",
                    default="",
                    optional=True,
                    tooltip="Single facial movements by FACS number: AU1+AU2 raises both brows, L1+L2 the left one, R12 pulls up the right "
                    "corner of the mouth (L and R: the person's own left and right). For these alone set expression to none. A strength up "
                    "to 1 may follow: AU6:0.5+AU12. All are multiplied by intensity.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="The prompt with the expression."),
                io.Conditioning.Output(display_name="neutral", tooltip="The same prompt with a neutral face, for FaceExpr Sampler."),
            ],
        )

    @classmethod
    def validate_inputs(cls, action_units: str = "") -> bool | str:
        return action_units_or_reason(action_units)

    @classmethod
    def execute(
        cls, clip: Any, prompt: str, expression: str, intensity: float, second_expression: str, second_weight: float, action_units: str = ""
    ) -> io.NodeOutput:
        require_choices(cls, expression=expression, second_expression=second_expression)
        require_sdxl_clip(clip, "Expression Text Encode")
        tell_idle_strengths(cls, expression, intensity, second_expression, second_weight, action_units)
        return io.NodeOutput(*encode(clip, prompt, expression, intensity, second_expression, second_weight, action_units))


def encode(
    clip: Any, prompt: str, expression: str, intensity: float, second_expression: str, second_weight: float, action_units: str = ""
) -> tuple[Conditioning, Conditioning]:
    """The prompt with the expression, marked with what it is held to (`texts.held_to`), and the same with a neutral face."""
    terms = text.expression_terms(expression, intensity, second_expression, second_weight, action_units)
    prompts = text.build_prompts(prompt, terms, partial(count_tokens, clip))
    neutral = encode_conditioning(clip, prompts.neutral)
    mixed = encode_expression(clip, prompts, neutral)
    if held := held_regions(expression, second_expression if second_weight > 0 else NONE, action_units):
        mixed = [[hidden, {**extra, HELD: held}] for hidden, extra in mixed]
    return mixed, neutral
