"""A person's LoRA, trained inside the graph."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.sd
import folder_paths
import torch
from comfy_api.latest import io, ui

from ..faceexpr_core.files import replace_file
from ..faceexpr_core.lora import files as lora
from ..faceexpr_core.lora import kohya
from ..faceexpr_core.training import prior
from ..faceexpr_core.training import result as training
from ..faceexpr_core.training.adapter import lora_parameters
from ..faceexpr_core.training.crafting import CraftingSet, build_crafting_set
from ..faceexpr_core.training.data import Tokenizer, TrainingSet, build_training_set, class_prompt
from ..faceexpr_core.training.fingerprint import model_digest
from ..faceexpr_core.training.loss_plot import loss_picture
from ..faceexpr_core.training.precision import compute_dtype
from ..faceexpr_core.training.preview import PREVIEW_EXPRESSIONS, contact_sheet, preview_latents
from ..faceexpr_core.training.progress import progress_text
from ..faceexpr_core.training.run import train_lora
from ..faceexpr_core.training.settings import (
    FILE_PRECISIONS,
    PRECISIONS,
    PRESETS,
    PRIOR_IMAGES,
    PRIORS,
    SCHEDULES,
    TrainSettings,
    parse_settings,
    preset,
    preset_settings,
    require_used,
)
from ..faceexpr_core.training.state import EVERY, StateFolder
from ..faceexpr_core.training.text_encoders import text_lora_parameters
from .host import text_encoders
from .host.conditioning import count_tokens, encode_conditioning
from .host.encoding import decode_latents, encode_images, encode_text
from .host.folders import file_in, loras_folder
from .host.models import require_sdxl, require_sdxl_clip
from .host.progress import Progress
from .host.sampling import sample
from .host.weights import export_unet
from .host.widgets import advanced, require_choices

NODE = "Train FaceExpr LoRA"
PRESET = "preset"
"""Stands in a list for: as the preset says."""
SWITCH = {PRESET: None, "on": True, "off": False}
RESUME = {"continue": "strict", "continue or start anew": "auto", "start anew": "off"}
CLASS_IMAGE_STEPS = 20
CLASS_IMAGE_CFG = 5.0
OUTPUT = "faceexpr"


class TrainLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        presets = "; ".join(f"{name}: {one.summary} ({one.resolution} px)" for name, one in PRESETS.items())
        return io.Schema(
            node_id="FaceExprTrainLoRA",
            display_name=NODE,
            category="FaceExpr",
            description="Learns a person from a few photos (DreamBooth on a LoRA), saves the LoRA in the loras folder and gives the MODEL "
            "with it applied. Cancelling saves what was learned so far, and the next run goes on from there. "
            "The MODEL that comes in stays as it is.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
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
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="default",
                    tooltip=f"What all other values are taken from where they say preset, -1 or 0. {presets}. "
                    "Load the photos at that size.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Optimiser steps; 0 as the preset. 800 for SDXL, 700 for FaceExpr Mini.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=1e-6,
                    round=1e-8,
                    tooltip="How far each step goes; 0 as the preset. 0.0001 for SDXL, 0.0006 for Mini. Too high burns the picture.",
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Size of the LoRA; 0 as the preset. More holds more detail; the file grows with it.",
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
                *advanced(
                    io.Combo.Input(
                        "resume",
                        options=list(RESUME),
                        default="continue",
                        tooltip="When an earlier run of this lora_name was stopped: continue goes on with it, and refuses when its "
                        "settings were others; start anew gives it up.",
                    ),
                    io.Combo.Input(
                        "prior",
                        options=[PRESET, *PRIORS],
                        default=PRESET,
                        tooltip="Keeps the model's knowledge of other people. images: the model first draws people of the class, once for "
                        "each checkpoint; distill: no pictures, it compares itself with the untrained model; off: neither.",
                    ),
                    io.Int.Input(
                        "prior_images",
                        default=PRIOR_IMAGES,
                        min=1,
                        max=10_000,
                        tooltip="How many pictures of the class are drawn for prior images.",
                    ),
                    io.Float.Input(
                        "crafting_weight",
                        default=-1.0,
                        min=-1.0,
                        max=100.0,
                        step=0.01,
                        tooltip="Expression crafting: teaches the person to change expression as the untrained model does. 0.05 is usual, "
                        "0 turns it off, -1 as the preset.",
                    ),
                    io.Float.Input(
                        "alpha",
                        default=-1.0,
                        min=-1.0,
                        max=4096.0,
                        step=1.0,
                        tooltip="Scale of the LoRA is alpha / rank; 0 means as the rank, -1 as the preset.",
                    ),
                    io.Int.Input("batch_size", default=0, min=0, max=256, tooltip="Photos at once; needs memory. 0 as the preset."),
                    io.Int.Input(
                        "accumulation",
                        default=0,
                        min=0,
                        max=256,
                        tooltip="Batches whose gradients are averaged into one step: a larger batch without more memory. 0 as the preset.",
                    ),
                    io.Combo.Input(
                        "schedule", options=[PRESET, *SCHEDULES], default=PRESET, tooltip="Course of the learning rate after the warm-up."
                    ),
                    io.Int.Input(
                        "warmup",
                        default=-1,
                        min=-1,
                        max=100_000,
                        tooltip="Steps over which the learning rate rises from 0; -1 as the preset.",
                    ),
                    io.Float.Input(
                        "min_snr_gamma",
                        default=-1.0,
                        min=-1.0,
                        max=100.0,
                        step=0.5,
                        tooltip="Holds back timesteps with little noise (min-SNR). 5 is usual, 0 turns it off, -1 as the preset.",
                    ),
                    io.Float.Input(
                        "background_weight",
                        default=-1.0,
                        min=-1.0,
                        max=1.0,
                        step=0.05,
                        tooltip="How much the picture outside the face counts. 1 treats all alike, 0 the face alone, -1 as the preset.",
                    ),
                    io.Float.Input(
                        "ema",
                        default=-1.0,
                        min=-1.0,
                        max=0.99999,
                        step=0.001,
                        round=1e-5,
                        tooltip="Save a moving average of the weights (its decay); steadier than the last step. 0 turns it off, -1 as the "
                        "preset.",
                    ),
                    io.Combo.Input(
                        "precision",
                        options=[PRESET, *PRECISIONS],
                        default=PRESET,
                        tooltip="Arithmetic of the U-Net. auto: float32 on the CPU, bfloat16 on a GPU that has it, else float16.",
                    ),
                    io.Combo.Input(
                        "gradient_checkpointing",
                        options=list(SWITCH),
                        default=PRESET,
                        tooltip="Much less memory, but slower. Every preset: on with a GPU.",
                    ),
                    io.Int.Input(
                        "preview_every",
                        default=100,
                        min=0,
                        max=100_000,
                        tooltip="Draw the person neutral and with three expressions every so many steps, here and in output/faceexpr; "
                        "0 draws none.",
                    ),
                    io.Int.Input(
                        "state_every",
                        default=EVERY,
                        min=0,
                        max=100_000,
                        tooltip="Save the run every so many steps, so that a crash or power cut loses no more than these; 0 saves nothing.",
                    ),
                    io.Combo.Input(
                        "file_precision",
                        options=list(FILE_PRECISIONS),
                        default="fp16",
                        tooltip="Numbers in the file. fp32 doubles its size.",
                    ),
                    io.String.Input(
                        "more",
                        default="",
                        tooltip="Any other setting, as name=value with commas: convolutions=off (smaller file), "
                        "noise_offset=0.05, caption_dropout=0.1, blocks=up,middle, optimizer=adamw, flip=on, prior_weight=0.5, "
                        "crafting_mask=on, weight_decay=0.01 ...",
                    ),
                    io.Combo.Input(
                        "train_text_encoder",
                        options=list(SWITCH),
                        default=PRESET,
                        tooltip="Also learns how the prompt is read, so that the trigger word is told from the class word, which the prior "
                        "needs; takes memory and time. default: on. Its rate is set in more: text_encoder_learning_rate=5e-5 (0: as "
                        "learning_rate), for Mini 1e-3. The LoRA is then for MODEL and CLIP.",
                    ),
                ),
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
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        subject: Any,
        lora_name: str,
        preset: str = "default",
        resume: str = "continue",
        prior_images: int = PRIOR_IMAGES,
        background_weight: float = -1.0,
        gradient_checkpointing: str = PRESET,
        preview_every: int = 100,
        state_every: int = EVERY,
        file_precision: str = "fp16",
        more: str = "",
        train_text_encoder: str = PRESET,
        **values: Any,
    ) -> io.NodeOutput:
        require_choices(
            cls,
            preset=preset,
            resume=resume,
            gradient_checkpointing=gradient_checkpointing,
            file_precision=file_precision,
            train_text_encoder=train_text_encoder,
            **values,
        )
        kind = prediction_of(model)
        require_sdxl_clip(clip, NODE)
        given = {**values, "gradient_checkpointing": SWITCH[gradient_checkpointing], "text_encoder": SWITCH[train_text_encoder]}
        settings, background = settings_of(preset, background_weight, {**given, **kind}, more)
        path = file_in(loras_folder(), lora_name, ".safetensors", "lora_name")
        home = Path(folder_paths.get_output_directory()) / OUTPUT
        name = path.relative_to(loras_folder().resolve()).with_suffix("")
        states = StateFolder(home / "training" / name, every=state_every, resume=RESUME[resume]) if state_every else None
        hidden = getattr(cls, "hidden", None)
        run = Run(
            model,
            clip,
            vae,
            subject,
            settings,
            background,
            prior_images,
            preview_every,
            home,
            name.name,
            getattr(hidden, "unique_id", None),
        )
        result, base_hash = train(run, path, file_precision, states)
        outside = (Path(folder_paths.get_output_directory()), Path(folder_paths.get_temp_directory()))
        saved = kohya.save_result(
            path,
            result,
            settings,
            subject,
            background_weight=background,
            precision=file_precision,
            fallbacks=outside,
            preset=preset,
            base_hash=base_hash,
        )
        for note in result.notes:
            logging.info("%s: %s", NODE, note)
        if result.stopped_by is not None:
            logging.warning("%s: stopped after %d of %d steps; the LoRA so far is saved as %s", NODE, result.steps, settings.steps, saved)
            raise result.stopped_by
        if states is not None:
            states.clear()
        state, _ = lora.read_lora(saved)
        trained, trained_clip = comfy.sd.load_lora_for_models(model, clip if settings.text_encoder else None, state, 1.0, 1.0)
        curve = torch.from_numpy(loss_picture(result.curves)).float()[None] / 255
        return io.NodeOutput(
            trained, str(saved), curve, trained_clip if settings.text_encoder else clip, ui=ui.PreviewImage(curve, cls=cls)
        )


@dataclass(frozen=True)
class Run:
    """What the node was given, its settings worked out; `home` is the folder in ComfyUI's output."""

    model: Any
    clip: Any
    vae: Any
    subject: Any
    settings: TrainSettings
    background_weight: float
    prior_images: int
    preview_every: int
    home: Path
    name: str
    node_id: str | None

    def say(self, text: str) -> None:
        """Show `text` on the node, where there is a page."""
        server = getattr(sys.modules.get("server"), "PromptServer", None)
        instance = getattr(server, "instance", None)
        if instance is not None and self.node_id is not None:
            instance.send_progress_text(text, self.node_id)


def settings_of(preset_name: str, background_weight: float, given: dict[str, Any], more: str) -> tuple[TrainSettings, float]:
    """The run's settings and background weight: the preset's, those widgets that say something else, then the text of `more`."""
    needed = ("steps", "learning_rate", "rank", "batch_size", "accumulation")  # of which 0 has no other meaning
    chosen = {
        name: value for name, value in given.items() if value not in (None, PRESET) and value != -1 and not (name in needed and value == 0)
    }
    last = parse_settings(more)
    settings = preset_settings(preset_name, **{**chosen, **last})
    require_used(settings, last)
    return settings, preset(preset_name).background_weight if background_weight == -1 else background_weight


def prediction_of(model: Any) -> dict[str, Any]:
    """What an SDXL MODEL predicts, as TrainSettings has it. Raises FaceExprError for another kind of model."""
    require_sdxl(model, NODE)
    if model.model.model_type == comfy.model_base.ModelType.V_PREDICTION:
        return {"prediction": "v_prediction", "zero_snr": bool(getattr(model.model.model_sampling, "zsnr", False))}
    require_sdxl(model, NODE, epsilon=True)
    return {}


def train(run: Run, path: Path, file_precision: str, states: StateFolder | None) -> tuple[training.TrainResult, str]:
    """Encode with ComfyUI, train on a private U-Net with ComfyUI's models out of the way; also the base model's hash."""
    settings, model = run.settings, run.model
    device = comfy.model_management.get_torch_device()
    dtype = compute_dtype(settings.precision, device)
    progress = Progress(settings.steps)
    progress.update(0)
    data = build_training_set(
        run.subject,
        lambda prompts: encode_text(run.clip, prompts),
        lambda images: encode_images(model, run.vae, images),
        run.background_weight,
        settings.captions,
        settings.flip,
        _tokenizer(run),
    )
    crafting = _crafting(run, data)
    words = [*_preview_prompts(run.subject), ""]
    asked = encode_text(run.clip, words)
    encoders = text_encoders.export_text_encoders(run.clip, dtype, NODE) if settings.text_encoder else None
    comfy.model_management.unload_all_models()
    unet = export_unet(model, dtype)
    numbers = lora_parameters(unet, settings.rank, settings.block_names, settings.convolutions)
    if encoders is not None:
        numbers += text_lora_parameters(encoders, settings.rank)
    lora.require_space(path.parent, numbers * lora.SAVE_DTYPES[file_precision].itemsize)
    class_images = _class_images(run, model_digest(unet)) if settings.prior == "images" else None
    comfy.model_management.unload_all_models()
    base_hash = kohya.base_model_hash(unet)
    told = 0.0

    def on_step(step: training.Step) -> None:
        nonlocal told
        preview = None
        if run.preview_every and step.number % run.preview_every == 0:
            now = asked if step.embed is None else step.embed(text_encoders.tokenize(run.clip, words, NODE))
            preview = _preview(run, step, *now, size=8 * data.latents.shape[-1])
        if time.monotonic() - told > 1 or step.number == step.total:
            told = time.monotonic()
            run.say(progress_text(step))
        progress.update(step.number, preview)

    try:
        result = train_lora(
            unet, data, settings, on_step, device, class_images=class_images, crafting=crafting, states=states, encoders=encoders
        )
        return result, base_hash
    finally:
        del unet, encoders
        comfy.model_management.soft_empty_cache()


def _tokenizer(run: Run) -> Tokenizer | None:
    """For text encoders that learn, else None."""
    return (lambda prompts: text_encoders.tokenize(run.clip, prompts, NODE)) if run.settings.text_encoder else None


def _crafting(run: Run, data: TrainingSet) -> CraftingSet | None:
    settings = run.settings
    if settings.prior != "distill" and not settings.crafting_weight:
        return None
    height, width = data.latents.shape[-2:]
    return build_crafting_set(
        run.subject,
        lambda prompts: encode_text(run.clip, prompts),
        lambda text: count_tokens(run.clip, text),
        (height, width) if settings.crafting_mask else None,
        settings.flip,
        _tokenizer(run),
    )


def _class_images(run: Run, digest: str) -> TrainingSet:
    """Pictures of the class, drawn by the MODEL that came in and kept in the output folder, encoded."""
    side = run.subject.resolution
    negative = encode_conditioning(run.clip, "")
    how: dict[str, Any] = {"steps": CLASS_IMAGE_STEPS, "cfg": CLASS_IMAGE_CFG, "sampler": "euler", "scheduler": "normal"}

    def draw(prompt: str, seed: int) -> Any:
        run.say(f"picture {seed + 1} of {run.prior_images} of the class: {prompt}")
        positive = encode_conditioning(run.clip, prompt)
        empty = {"samples": torch.zeros(1, 4, side // 8, side // 8)}
        drawn = sample(run.model, positive, negative, empty, seed=seed, denoise=1.0, **how)
        return _pixels(run.vae.decode(drawn["samples"]))

    prompt = class_prompt(run.subject)
    made = {"model": digest, "prompt": prompt, "side": side, "host": "comfyui", **how}
    images = prior.prior_images(run.home / "class_images", prior.prior_prompts(prompt, run.prior_images), draw, made)
    return prior.build_class_set(
        images,
        lambda prompts: encode_text(run.clip, prompts),
        lambda pictures: encode_images(run.model, run.vae, pictures),
        _tokenizer(run),
    )


def _preview_prompts(subject: Any) -> list[str]:
    from ..faceexpr_core.photos.subject import caption_for

    return [caption_for(name, subject.trigger, subject.class_word) for name in PREVIEW_EXPRESSIONS]


def _preview(run: Run, step: training.Step, prompt_embeds: torch.Tensor, pooled: torch.Tensor, size: int) -> Any:
    """The sheet, also kept in the output folder; None when the device has no memory for it."""
    from PIL import Image

    settings, pictures = run.settings, []
    try:
        for row in range(len(prompt_embeds) - 1):
            pair = [row, len(prompt_embeds) - 1]
            latents = preview_latents(
                step.unet,
                prompt_embeds[pair],
                pooled[pair],
                size,
                size,
                prediction=settings.prediction,
                zero_snr=settings.zero_snr,
            )
            pictures.append(_pixels(decode_latents(run.model, run.vae, latents)))
    except comfy.model_management.OOM_EXCEPTION:  # a picture is not worth the run
        return None
    sheet = contact_sheet(pictures)
    try:
        replace_file(run.home / "previews" / f"{run.name}_step{step.number:06}.png", prior.png(sheet))
    except OSError as reason:
        logging.warning("%s: the preview could not be saved: %s", NODE, reason)
    return Image.fromarray(sheet)


def _pixels(images: torch.Tensor) -> Any:
    return (images[0].clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
