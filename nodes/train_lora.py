"""A person's LoRA, trained inside the graph."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
from comfy_api.latest import io, ui

from ..faceexpr_core.training.options import NO_FILE, OPTIONS
from .host.folders import file_in, loras_folder, stamp_of_lora
from .host.widgets import name_within, require_choices, shown_report, tell_unused, widget_of

NODE = "Train FaceExpr LoRA"
DEFAULTS = {one.name: one.widget.start for one in OPTIONS if one.widget is not None}
"""What a graph that does not name a widget asks for."""


class TrainLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprTrainLoRA",
            display_name=NODE,
            category="FaceExpr",
            description="Learns a person from a few photos (DreamBooth on a LoRA), saves the LoRA in the loras folder and gives the MODEL "
            "with it applied. Cancelling saves what was learned so far, and the next run goes on from there. "
            "The MODEL that comes in stays as it is.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The SDXL MODEL to learn on. LoRAs already applied to it are taken as part of it."),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint; it embeds the captions."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint; it encodes the photos."),
                io.Custom("FACEEXPR_SUBJECT").Input("subject", tooltip="The photos and captions, from Load Subject Images."),
                io.String.Input(
                    "lora_name",
                    default="faceexpr/person",
                    tooltip="File name in the loras folder, without .safetensors; a / makes a subfolder. "
                    "An existing file is never overwritten: the next free number is added.",
                ),
                *(widget_of(option) for option in OPTIONS if option.widget is not None),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL with the new LoRA applied at strength 1."),
                io.String.Output(display_name="lora_path", tooltip="Where the LoRA file lies."),
                io.Image.Output(display_name="loss_curve", tooltip="Each part of the loss over the steps, as a picture."),
                io.Clip.Output(
                    display_name="clip", tooltip="The CLIP with what train_text_encoder learned at strength 1; off, the CLIP that came in."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, start_from: str | None = NO_FILE, **_: Any) -> tuple[int, ...]:
        return () if start_from == NO_FILE else stamp_of_lora(start_from)

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any, subject: Any, lora_name: str, **values: Any) -> io.NodeOutput:
        # late: ComfyUI shows every user how long a pack takes to import
        from ..faceexpr_core.lora import files as lora
        from ..faceexpr_core.lora.reserve import reserve
        from ..faceexpr_core.training.loss_plot import loss_picture
        from ..faceexpr_core.training.run import run
        from .host.pixels import to_image
        from .host.predictions import told_prediction
        from .host.training import Page, TrainingHost, give_back
        from .training_job import job_of, settle_for

        values = {**DEFAULTS, **values}
        require_choices(cls, **values)
        model = told_prediction(model, values["model_predicts"])
        host = TrainingHost(model, clip, vae, NODE)
        path = file_in(loras_folder(), lora_name, ".safetensors", "lora_name")
        settled = settle_for(host, subject, path, values)
        job, settings = job_of(subject, settled, path, values), settled.settings
        if not settings.draws_class:
            tell_unused(cls, f"prior is {settings.prior}, which draws no pictures", prior_images=values["prior_images"])
        if not values["state_every"]:
            tell_unused(cls, "state_every is 0, so that no state is saved", finished_state=values["finished_state"])
        page = Page(settings.steps, NODE)
        outside = (Path(folder_paths.get_output_directory()), Path(folder_paths.get_temp_directory()))
        save = partial(reserve, paths=(path,), precision=values["file_precision"], fallbacks=outside)
        if settled.told:
            page.warn(settled.told)
        try:
            finished = run(host, page, job, save)
        finally:
            give_back()
        if finished.result.stopped_by is not None:
            raise finished.result.stopped_by
        state, _ = lora.read_lora(finished.paths[0])
        trained, trained_clip = comfy.sd.load_lora_for_models(model, clip if settings.text_encoder else None, state, 1.0, 1.0)
        curve = to_image(loss_picture(finished.result.curves))
        name = shown_report(name_within(finished.paths[0], loras_folder()).as_posix())
        shown = {**ui.PreviewImage(curve, cls=cls).as_dict(), **name.as_dict()}
        return io.NodeOutput(trained, str(finished.paths[0]), curve, trained_clip if settings.text_encoder else clip, ui=shown)
