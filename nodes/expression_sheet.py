"""Many expressions from one noise: a labelled sheet, or the frames from one expression to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import comfy.samplers
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..faceexpr_core import sheet
from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.fusion.run import GUIDANCE, STEPS
from ..faceexpr_core.fusion.settings import FusionSettings, words_settings
from . import extraction
from .drawing import Drawing, Texts
from .expression_text_encode import encode
from .fusion_inputs import strength_input
from .host.folders import missing_models
from .host.fusion import Seen
from .host.models import require_sdxl, require_sdxl_clip
from .host.pixels import to_bytes
from .host.progress import PREVIEW_SIDE, say_or_stop, show
from .host.sampling import Span
from .host.widgets import require_choices, tell, tell_unused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NODE = "Expression Sheet"


class ExpressionSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        samplers = comfy.samplers.KSampler
        return io.Schema(
            node_id="FaceExprExpressionSheet",
            display_name=NODE,
            category="FaceExpr",
            description="Draws chosen expressions at chosen intensities from one noise, as a labelled sheet and as a batch; or, with "
            "frames, the pictures between each expression and the next, for a video. Each picture is what FaceExpr Sampler draws of it.",
            inputs=[
                io.Model.Input("model", tooltip="The SDXL MODEL that draws, with the person's LoRA if there is one."),
                io.Clip.Input("clip", tooltip="The CLIP that belongs to it."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
                io.Conditioning.Input("negative", tooltip="What to avoid."),
                io.Latent.Input("latent_image", tooltip="The latent that every picture starts from: one, not a batch."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=False,
                    default="a photo of a woman, {expression}",
                    tooltip="What to draw. The expression is put where {expression} stands, or at the end, which works best.",
                ),
                io.String.Input(
                    "expressions",
                    multiline=True,
                    dynamic_prompts=False,
                    default=sheet.ALL,
                    tooltip="Which, with commas between them: names such as happy, sadly angry, action units such as AU1+AU2; 'all' for "
                    "the basic ones.",
                ),
                io.String.Input(
                    "intensities",
                    default="1.0",
                    tooltip="How strong, with commas between several: 0.5, 1.0, 1.5. Each becomes a column of the sheet. Frames take the "
                    "first.",
                ),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=sheet.MAX_PICTURES,
                    tooltip="0: a sheet. 2 or more: so many pictures from each expression to the next, both included.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the noise, the same for every picture.",
                ),
                io.Int.Input("steps", default=STEPS, min=1, max=10000, tooltip="How many denoising steps."),
                io.Float.Input(
                    "cfg", default=GUIDANCE, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="How closely to follow the prompt."
                ),
                io.Combo.Input("sampler_name", options=samplers.SAMPLERS, default="euler", tooltip="The sampling method."),
                io.Combo.Input("scheduler", options=samplers.SCHEDULERS, default="normal", tooltip="How the noise levels are spaced."),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="1 draws anew, less keeps more of the latent given."
                ),
                io.Model.Input(
                    "base_model",
                    optional=True,
                    tooltip="The MODEL without the person's LoRA, to bring the expressions in by fusion, as in FaceExpr Sampler.",
                ),
                strength_input("fusion_strength", "How strong the fusion is: 0 is off. Needs 'base_model'.", optional=True),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="All pictures with their names, as one."),
                io.Image.Output(display_name="images", tooltip="The pictures as a batch, in the sheet's order; frames in theirs."),
                io.String.Output(display_name="labels", tooltip="What each picture of the batch shows, a line each."),
            ],
        )

    @classmethod
    def validate_inputs(cls, expressions: str | None = None, intensities: str | None = None) -> bool | str:
        try:  # None: it comes by a link, and is not known yet
            sheet.parse_entries(sheet.ALL if expressions is None else expressions)
            sheet.parse_intensities("1" if intensities is None else intensities)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> str:
        return missing_models()

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        negative: Any,
        latent_image: dict[str, Any],
        prompt: str,
        expressions: str,
        intensities: str,
        frames: int,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        base_model: Any = None,
        fusion_strength: float = FusionSettings.strength,
    ) -> io.NodeOutput:
        require_choices(cls, sampler_name=sampler_name, scheduler=scheduler)
        require_sdxl(model, NODE)
        require_sdxl_clip(clip, NODE)
        if (count := len(latent_image["samples"])) != 1:
            raise FaceExprError(f"{NODE} got a batch of {count} latents; it draws every picture from one. Set the batch size to 1.")
        entries, strengths = sheet.parse_entries(expressions), sheet.parse_intensities(intensities)
        asked = sheet.strip(entries, strengths[0], frames) if frames else sheet.grid_of_expressions(entries, strengths)
        if base_model is None and fusion_strength > 0:
            tell_unused(cls, "no base_model is connected", fusion_strength=fusion_strength)
        if frames and len(strengths) > 1:
            tell(cls, f"frames take the first of the intensities, {strengths[0]:g}; the others are not drawn")
        seen = None if base_model is None else Seen(vae)
        drawing = Drawing(steps, cfg, sampler_name, scheduler, base_model=base_model, fusion_strength=fusion_strength, seen=seen)
        labels = [one.label for one in asked]
        columns = sheet.sheet_columns(len(entries), len(strengths)) if not frames else min(frames, len(asked))

        def said(one: sheet.Asked) -> tuple[Any, Any]:
            words = (one.expression, one.intensity, one.second, one.second_weight, one.action_units)
            return encode(clip, prompt, *words)

        def drawn() -> Iterator[Tensor]:
            for first in range(0, len(asked), extraction.KEPT_TEXTS):
                some = asked[first : first + extraction.KEPT_TEXTS]
                say_or_stop(f"reading the words of {len(some)} pictures")
                texts = [said(one) for one in some]
                if base_model is not None and fusion_strength > 0 and denoise > 0:
                    require_sdxl(base_model, NODE)
                    extraction.read_contexts(base_model, texts, words_settings(fusion_strength), 1)
                for number, (one, (positive, neutral)) in enumerate(zip(some, texts, strict=True), start=first):
                    say_or_stop(f"picture {number + 1} of {len(asked)}: {one.label}")
                    span = Span(number * steps, len(asked) * steps)
                    spoken = Texts(positive, negative, neutral)
                    latent = replace(drawing, span=span).draw(model, spoken, latent_image, seed, denoise)
                    yield vae.decode(latent["samples"])[0, ..., :3].float().cpu()

        batch, page = _collect(drawn(), labels, columns)
        shown = torch.from_numpy(page.copy())[None].float().div_(255)  # the copy may be written to, as PyTorch wants it
        return io.NodeOutput(shown, batch, "\n".join(labels), ui=ui.PreviewImage(shown, cls=cls))


def _collect(pictures: Iterator[Tensor], labels: Sequence[str], columns: int) -> tuple[Tensor, NDArray[np.uint8]]:
    """Pictures, float [H, W, 3], as a batch and as a sheet that is shown while it fills; both have their room from the first on."""
    first = next(pictures)
    height, width = first.shape[:2]
    batch = first.new_empty((len(labels), *first.shape))
    page = sheet.SheetPage(height, width, len(labels), columns, PREVIEW_SIDE)
    for number, picture in enumerate(chain([first], pictures)):
        batch[number] = picture
        page.add(to_bytes(picture), labels[number])
        show(page.small())
    return batch, page.pixels()
