"""Pictures of a person sorted by how well they show the expression asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.expressions import NONE, names
from ..faceexpr_core.text import MAX_WEIGHT
from .host.folders import model_folders
from .host.pixels import to_bytes
from .host.progress import Progress, say_or_stop
from .host.widgets import action_units_or_reason, one_value, require_choices, require_pictures, shown_report


class Score(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprScore",
            display_name="FaceExpr Score",
            category="FaceExpr",
            description="Measures pictures of a person: which expression two judges read, how strong it is, how alike the face is to the "
            "photos. Sorts them and gives the best.",
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="Pictures to compare, as a batch or a list; they may be of different size."),
                io.Custom("FACEEXPR_SUBJECT").Input("subject", tooltip="The person, from Load Subject Images."),
                io.Combo.Input(
                    "expression",
                    options=[NONE, *names()],
                    default="happy",
                    tooltip="The expression that was asked. 'none' where only action_units were.",
                ),
                io.Float.Input(
                    "intensity",
                    default=1.0,
                    min=0.0,
                    max=MAX_WEIGHT,
                    step=0.05,
                    round=0.001,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How strongly it was asked: 0 neutral, 1 the usual full expression.",
                ),
                io.Int.Input("best_k", default=1, min=1, max=4096, tooltip="How many of the best pictures to give."),
                io.Image.Input(
                    "neutral",
                    optional=True,
                    tooltip="The same pictures without the expression, from the same seed: one for all, or one each. With it the change "
                    "is measured, and what else changed; without it the person's resting face is guessed from the photos.",
                ),
                io.String.Input(
                    "action_units", default="", optional=True, tooltip="Action units that were asked, such as AU1+AU2 or AU6:0.5+AU12."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="best",
                    tooltip="The best_k best pictures, best first; a batch where all are of one size.",
                    is_output_list=True,
                ),
                io.Image.Output(display_name="sorted", tooltip="All pictures, best first.", is_output_list=True),
                io.String.Output(display_name="report", tooltip="A line a picture, best first; also shown on the node."),
                io.String.Output(display_name="data", tooltip="All measures of each picture as JSON, in the order given."),
                io.Float.Output(display_name="best_score", tooltip="The best picture's score, 0 to 1."),
            ],
        )

    @classmethod
    def validate_inputs(cls, action_units: Any = "") -> bool | str:
        values = action_units if isinstance(action_units, (list, tuple)) else [action_units]
        return next((told for one in values if (told := action_units_or_reason(one)) is not True), True)

    @classmethod
    def execute(
        cls,
        images: list[Tensor],
        subject: list[Any],
        expression: list[str],
        intensity: list[float],
        best_k: list[int],
        neutral: list[Tensor] | None = None,
        action_units: list[str] | None = None,
    ) -> io.NodeOutput:
        from PIL import Image

        from ..faceexpr_core.measure.judges import Judges
        from ..faceexpr_core.measure.picture_score import Asked, best_first, require_neutral_face, score_picture, told

        for name in expression:
            require_choices(cls, expression=name)
        require_pictures("images", images)
        require_pictures("neutral", neutral)
        pictures = [picture for batch in images for picture in batch]
        given: dict[str, list[Any]] = {"expression": expression, "intensity": intensity, "action_units": action_units or [""]}
        each = (_each(name, values, images) for name, values in given.items())
        asked = [Asked(*values) for values in zip(*each, strict=True)]
        resting = [picture for batch in neutral or () for picture in batch]
        if len(resting) not in (0, 1, len(pictures)):
            raise FaceExprError(f"{len(resting)} neutral pictures came with {len(pictures)}; connect one for all, or one for each.")
        for number, picture in enumerate(pictures):
            _require_size(number, picture, resting)
        if (many := _one("best_k", best_k)) < 1:
            raise FaceExprError(f"best_k is {many}; it must be 1 or more.")
        progress, scores = Progress(len(pictures)), []
        with Judges(model_folders()) as judges:
            photos = _one("subject", subject).photos
            person = judges.looks([photo.image for photo in photos], [photo.face for photo in photos])
            calm = [require_neutral_face(judges.see(to_bytes(one)), f"{number}") for number, one in enumerate(resting, start=1)]
            for number, picture in enumerate(pictures):
                say_or_stop(f"measuring picture {number + 1} of {len(pictures)}")
                seen = judges.see(to_bytes(picture))
                scores.append(score_picture(seen, asked[number], person, calm[number % len(calm)] if calm else None))
                progress.update(number + 1, Image.fromarray(to_bytes(picture)))
        order = best_first(scores)
        report = told(scores, [f"picture {number + 1}" for number in range(len(pictures))])
        data = json.dumps([{"picture": number, **asdict(one)} for number, one in enumerate(scores, start=1)], indent=1)
        every = [pictures[number] for number in order]
        best = every[:many]
        return io.NodeOutput(_batched(best), _batched(every), report, data, scores[order[0]].score, ui=shown_report(report))


def _one(name: str, values: Any) -> Any:
    return one_value(name, values, "Score compares all pictures by one.")


def _each(name: str, values: list[Any], images: list[Tensor]) -> list[Any]:
    """A value for each picture: one for all, one for each picture, or one for each entry of the list of images, as ComfyUI maps lists."""
    sizes = [len(batch) for batch in images]
    if len(values) == 1:
        return values * sum(sizes)
    if len(values) == len(sizes):
        return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]
    if len(values) == sum(sizes):
        return values
    raise FaceExprError(f"{len(values)} values of '{name}' came with {sum(sizes)} pictures; give one for all, or one for each.")


def _require_size(number: int, picture: Tensor, resting: Sequence[Tensor]) -> None:
    neutral = resting[number % len(resting)] if resting else picture
    if picture.shape[:2] != neutral.shape[:2]:
        (height, width), (calm_height, calm_width) = picture.shape[:2], neutral.shape[:2]
        raise FaceExprError(
            f"picture {number + 1} has {width} x {height} pixels and its neutral one {calm_width} x {calm_height}; draw both from the same "
            "noise, in one size."
        )


def _batched(pictures: list[Tensor]) -> list[Tensor]:
    """One batch where all are of one size, else each alone; where they came on several devices or in several types, as the first did."""
    pictures = [one.to(pictures[0]) for one in pictures]
    return [torch.stack(pictures)] if len({one.shape for one in pictures}) == 1 else [one[None] for one in pictures]
