"""A person's LoRA, trained inside the graph."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import folder_paths
import torch
from comfy_api.latest import io, ui

from ..faceexpr_core import lora, training
from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.loss_plot import loss_picture
from ..faceexpr_core.preview import preview_latents
from ..faceexpr_core.train_settings import BACKGROUND_WEIGHT, FILE_PRECISIONS, PRECISIONS, SCHEDULES, TrainSettings
from ..faceexpr_core.training_set import build_training_set
from . import host

NODE = "Train FaceExpr LoRA"
CHECKPOINTING = {"auto": None, "on": True, "off": False}


def _advanced(*widgets: Any) -> tuple[Any, ...]:
    for widget in widgets:
        widget.optional = True
        widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widgets


class TrainLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        default = TrainSettings()
        return io.Schema(
            node_id="FaceExprTrainLoRA",
            display_name=NODE,
            category="FaceExpr",
            description="Learns a person from a few photos (DreamBooth on a LoRA), saves the LoRA in the loras folder and gives the MODEL "
            "with it applied. Cancelling saves what was learned so far. The MODEL that comes in stays as it is.",
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
                io.Int.Input(
                    "steps", default=default.steps, min=1, max=1_000_000, tooltip="Optimiser steps. 800 for SDXL, 350 for FaceExpr Mini."
                ),
                io.Float.Input(
                    "learning_rate",
                    default=default.learning_rate,
                    min=1e-8,
                    max=1.0,
                    step=1e-6,
                    round=1e-8,
                    tooltip="How far each step goes. 0.0001 for SDXL, 0.0006 for FaceExpr Mini. Too high burns the picture.",
                ),
                io.Int.Input(
                    "rank",
                    default=default.rank,
                    min=1,
                    max=1024,
                    tooltip="Size of the LoRA. More holds more detail; the file grows with it.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Fixes the LoRA's first weights, the order of the photos, timesteps and noise. The same seed gives the same "
                    "LoRA, another trains anew.",
                ),
                *_advanced(
                    io.Float.Input(
                        "alpha",
                        default=0.0,
                        min=0.0,
                        max=4096.0,
                        step=1.0,
                        tooltip="Scale of the LoRA is alpha / rank; 0 means as the rank.",
                    ),
                    io.Int.Input("batch_size", default=default.batch_size, min=1, max=256, tooltip="Photos at once; needs memory."),
                    io.Int.Input(
                        "accumulation",
                        default=default.accumulation,
                        min=1,
                        max=256,
                        tooltip="Batches whose gradients are averaged into one step: a larger batch without more memory.",
                    ),
                    io.Combo.Input(
                        "schedule", options=list(SCHEDULES), default=default.schedule, tooltip="Learning rate after the warm-up."
                    ),
                    io.Int.Input(
                        "warmup", default=default.warmup, min=0, max=100_000, tooltip="Steps over which the learning rate rises from 0."
                    ),
                    io.Float.Input(
                        "min_snr_gamma",
                        default=default.min_snr_gamma,
                        min=0.0,
                        max=100.0,
                        step=0.5,
                        tooltip="Holds back timesteps with little noise (min-SNR). 5 is usual, 0 turns it off.",
                    ),
                    io.Float.Input(
                        "background_weight",
                        default=BACKGROUND_WEIGHT,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        tooltip="How much the picture outside the face counts. 1 treats all alike, 0 learns the face alone.",
                    ),
                    io.Float.Input(
                        "ema",
                        default=default.ema,
                        min=0.0,
                        max=0.99999,
                        step=0.001,
                        round=1e-5,
                        tooltip="Save a moving average of the weights (its decay); steadier than the last step. 0 turns it off.",
                    ),
                    io.Combo.Input(
                        "precision",
                        options=list(PRECISIONS),
                        default=default.precision,
                        tooltip="Arithmetic of the U-Net. auto: float32 on the CPU, bfloat16 on a GPU that has it, else float16.",
                    ),
                    io.Combo.Input(
                        "gradient_checkpointing",
                        options=list(CHECKPOINTING),
                        default="auto",
                        tooltip="Much less memory for about a third more time. auto: on with a GPU, off on the CPU.",
                    ),
                    io.Int.Input(
                        "preview_every", default=100, min=0, max=100_000, tooltip="Draw a preview every so many steps; 0 draws none."
                    ),
                    io.Combo.Input(
                        "file_precision",
                        options=list(FILE_PRECISIONS),
                        default="fp16",
                        tooltip="Numbers in the file. fp32 doubles its size.",
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL with the new LoRA applied at strength 1."),
                io.String.Output(display_name="lora_path", tooltip="Where the LoRA file lies."),
                io.Image.Output(display_name="loss_curve", tooltip="The loss over the steps, as a picture."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        subject: Any,
        lora_name: str,
        background_weight: float = BACKGROUND_WEIGHT,
        gradient_checkpointing: str = "auto",
        preview_every: int = 100,
        file_precision: str = "fp16",
        **settings: Any,
    ) -> io.NodeOutput:
        host.require_sdxl(model, NODE, epsilon=True)
        host.require_sdxl_clip(clip, NODE)
        chosen = TrainSettings(gradient_checkpointing=CHECKPOINTING[gradient_checkpointing], **settings)
        path = lora_path(lora_name)
        result = train(model, clip, vae, subject, chosen, background_weight, preview_every, path, file_precision)
        outside = (Path(folder_paths.get_output_directory()), Path(folder_paths.get_temp_directory()))
        saved = lora.save_result(
            path, result, chosen, subject, background_weight=background_weight, precision=file_precision, fallbacks=outside
        )
        if result.stopped_by is not None:
            logging.warning("%s: stopped after %d of %d steps; the LoRA so far is saved as %s", NODE, result.steps, chosen.steps, saved)
            raise result.stopped_by
        state, _ = lora.read_lora(saved)
        trained, _ = comfy.sd.load_lora_for_models(model, None, state, 1.0, 0.0)
        curve = torch.from_numpy(loss_picture({"identity": result.losses})).float()[None] / 255
        return io.NodeOutput(trained, str(saved), curve, ui=ui.PreviewImage(curve, cls=cls))


def train(
    model: Any,
    clip: Any,
    vae: Any,
    subject: Any,
    settings: TrainSettings,
    background_weight: float,
    preview_every: int,
    path: Path,
    file_precision: str,
) -> training.TrainResult:
    """Encode with ComfyUI, train on a private U-Net with ComfyUI's models out of the way."""
    from ..faceexpr_core.subject import caption_for

    device = comfy.model_management.get_torch_device()
    progress = host.progress(settings.steps)
    progress.update(0)
    data = build_training_set(
        subject, lambda prompts: host.encode_text(clip, prompts), lambda images: host.encode_images(model, vae, images), background_weight
    )
    asked = host.encode_text(clip, [caption_for("happy", subject.trigger, subject.class_word), ""])
    comfy.model_management.unload_all_models()
    unet = host.export_unet(model, training.compute_dtype(settings.precision, device))
    lora.require_space(path.parent, training.lora_parameters(unet, settings.rank) * lora.SAVE_DTYPES[file_precision].itemsize)
    comfy.model_management.unload_all_models()

    def on_step(step: training.Step) -> None:
        preview = None
        if preview_every and step.number % preview_every == 0:
            preview = _preview(model, vae, step.unet, *asked, size=8 * data.latents.shape[-1])
        progress.update(step.number, preview)

    try:
        return training.train_lora(unet, data, settings, on_step, device)
    finally:
        del unet
        comfy.model_management.soft_empty_cache()


def lora_path(name: str) -> Path:
    """The file in ComfyUI's loras folder that `name` means. Raises FaceExprError for a name that is empty or leads elsewhere."""
    folder = host.loras_folder().resolve()
    cleaned = name.strip().removesuffix(".safetensors").replace("\\", "/")
    if not Path(cleaned).name or re.search(r'[<>:"|?*\x00-\x1f]', cleaned) or cleaned.endswith(("/", ".")):
        raise FaceExprError(f"lora_name {name!r} is no file name; give one such as faceexpr/anna.")
    path = Path(os.path.realpath(folder / f"{cleaned}.safetensors"))
    if not path.is_relative_to(folder):
        raise FaceExprError(f"lora_name {name!r} leads out of the loras folder; give a name inside it, such as faceexpr/anna.")
    return path


def _preview(model: Any, vae: Any, unet: Any, prompt_embeds: torch.Tensor, pooled: torch.Tensor, size: int) -> Any:
    from PIL import Image

    try:
        latents = preview_latents(unet, prompt_embeds, pooled, size, size)
        pixels = host.decode_latents(model, vae, latents)
    except comfy.model_management.OOM_EXCEPTION:  # a picture is not worth the run
        return None
    return Image.fromarray((pixels[0].clamp(0, 1) * 255).to(torch.uint8).cpu().numpy())
