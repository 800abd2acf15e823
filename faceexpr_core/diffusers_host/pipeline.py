"""An SDXL pipeline from Mini, a diffusers directory, or a checkpoint in a single file; never from the network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import mini
from ..errors import FaceExprError
from ..schedule import BETAS, TIMESTEPS
from ..training.libraries import leave_out_broken
from ..training.settings import PREDICTIONS, TrainSettings

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

SDXL_CONFIGS = Path(__file__).parent / "sdxl"
"""Configurations of SDXL base's parts, so that a single-file checkpoint loads without the network."""

HALVES = ("fp16", "bf16")
"""`variant`s of diffusers that are the same weights in 16 bits: what lies in a folder that was downloaded as one."""
_EDM = (
    "is no model that predicts noise or velocity on SDXL's noise schedule ({}): it was made for EDM, as Playground v2.5 and CosXL were, or "
    "for a flow. Give another SDXL model."
)
_NEEDED = "Give a complete SDXL checkpoint: SDXL base or a model made from it."
_FIRST = "model.diffusion_model.input_blocks.0.0.weight"
_LARGE = "conditioner.embedders.{}.model.ln_final.weight"
"""OpenCLIP's last norm: of SDXL's second text encoder, or of the refiner's only one."""


def load_pipeline(
    path: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", prediction: str = ""
) -> StableDiffusionXLPipeline:
    """An SDXL pipeline from `mini`, a diffusers directory, or a single-file .safetensors checkpoint. Never uses the network.

    `prediction`: epsilon or v_prediction, where the checkpoint does not say what it predicts, or says it wrongly; "" as it says.
    Raises FaceExprError when there is no such model, or it is not an SDXL base model that predicts noise or velocity on SDXL's noise
    schedule.
    """
    leave_out_broken()
    from diffusers import StableDiffusionXLPipeline
    from safetensors import SafetensorError

    location = located(path)
    known: dict[str, object] = {}
    if location.is_dir():
        _check_directory(location)
        try:
            with _quiet():
                pipe = _from_folder(location, dtype)
        except (OSError, ValueError, SafetensorError) as reason:
            raise FaceExprError(f"{location} is not a whole diffusers pipeline ({reason}). Download it again.") from reason
    else:
        config, known = _config_of(location)
        tokenizer, tokenizer_2 = _tokenizers()
        with _quiet():
            pipe = StableDiffusionXLPipeline.from_single_file(
                str(location),
                config=str(config),
                tokenizer=tokenizer,
                tokenizer_2=tokenizer_2,
                torch_dtype=dtype,
                local_files_only=True,
                add_watermarker=False,
            )
    if prediction:
        known["prediction_type"] = prediction
    if known:
        pipe.register_modules(scheduler=type(pipe.scheduler).from_config(pipe.scheduler.config, **known))
    pipe.set_progress_bar_config(disable=True)
    if torch.device(device).type != "cpu":  # where it is; diffusers warns of float16 there, though it goes to a card later
        pipe.to(device)
    elif dtype == torch.float32:  # a CPU's convolutions are faster so
        pipe.vae.to(memory_format=torch.channels_last)
    if dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)
    return pipe


def located(path: str | Path) -> Path:
    """The folder or file of a model, of `mini` too. Raises FaceExprError where there is none, and for a path that is no UTF-8."""
    location = mini.path() if str(path) == "mini" else Path(path)
    require_text(location)
    if not location.is_dir() and not (location.is_file() and location.suffix == ".safetensors"):
        raise FaceExprError(f"there is no model {path}. Give 'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors).")
    return location


def _from_folder(folder: Path, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """The pipeline, part by part: its own loader imports whatever diffusers can do without SDXL (kornia's 25 MB, where it is installed)."""
    import json

    import diffusers
    import transformers

    def model(kind: Any, name: str) -> Any:
        return load_part(kind, folder / name, dtype)

    def tokenizer(name: str) -> Any:
        return transformers.CLIPTokenizer.from_pretrained(folder / name, local_files_only=True)

    return diffusers.StableDiffusionXLPipeline(
        scheduler=_scheduler_of(folder, json.loads((folder / "model_index.json").read_text(encoding="utf-8"))),
        text_encoder=model(transformers.CLIPTextModel, "text_encoder"),
        text_encoder_2=model(transformers.CLIPTextModelWithProjection, "text_encoder_2"),
        vae=model(diffusers.AutoencoderKL, "vae"),
        unet=model(diffusers.UNet2DConditionModel, "unet"),
        tokenizer=tokenizer("tokenizer"),
        tokenizer_2=tokenizer("tokenizer_2"),
        add_watermarker=False,
    )


def load_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """The model of a class of diffusers or transformers from its folder; where its weights lie there in 16 bits alone, those. Raises as
    `from_pretrained`."""
    variants = [variant for variant in ("", *HALVES) if any((folder / name).is_file() for name in _weight_files(variant))]
    variant = {"variant": variants[0]} if variants and variants[0] else {}
    return kind.from_pretrained(folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True, **variant)


def _weight_files(variant: str) -> Iterator[str]:
    """What diffusers and transformers look for: the weights, or the list of their pieces."""
    for name in ("diffusion_pytorch_model", "model"):
        yield f"{name}.{variant}.safetensors" if variant else f"{name}.safetensors"
        yield f"{name}.safetensors.index.{variant}.json" if variant else f"{name}.safetensors.index.json"


def require_text(path: Path) -> None:
    """Raise FaceExprError for a path that is no UTF-8, of which safetensors reads nothing."""
    if str(path) != (shown := str(path).encode("utf-8", "replace").decode("utf-8")):
        raise FaceExprError(f"{shown} is no UTF-8, and .safetensors files are read of no such path. Rename the file or folder.")


def native_side(pipe: StableDiffusionXLPipeline) -> int:
    """Pixels along each side of the pictures that the model was made for: 1024 for SDXL, 192 for Mini."""
    return 8 * int(pipe.unet.config.sample_size)


def prediction_of(pipe: StableDiffusionXLPipeline) -> dict[str, Any]:
    """What the model predicts, and whether its noise schedule ends in nothing but noise, as TrainSettings has them."""
    config = pipe.scheduler.config
    kind = config.get("prediction_type", "epsilon")
    return {"prediction": kind, "zero_snr": kind == "v_prediction" and bool(config.get("rescale_betas_zero_snr", False))}


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no warning about the argument `torch_dtype`, which every supported diffusers takes."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            diffusers_logging.enable_progress_bar()
            transformers_logging.enable_progress_bar()


def _check_directory(directory: Path) -> None:
    import json

    index = directory / "model_index.json"
    if not index.is_file():
        raise FaceExprError(f"{directory} is not a diffusers pipeline: it has no model_index.json. Give the folder that holds that file.")
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
        given = parts.get("_class_name")
        scheduler = directory / "scheduler" / "scheduler_config.json"
        kind = json.loads(scheduler.read_text(encoding="utf-8")).get("prediction_type", "epsilon") if scheduler.is_file() else "epsilon"
    except ValueError as reason:
        raise FaceExprError(f"{directory} is not a whole diffusers pipeline ({reason}). Download it again.") from reason
    if given != "StableDiffusionXLPipeline":
        raise FaceExprError(f"{directory} holds a {given}; an SDXL base model (StableDiffusionXLPipeline) is needed.")
    if kind not in PREDICTIONS:
        raise FaceExprError(f"{directory} predicts {kind}; an SDXL model that predicts noise (epsilon) or velocity (v) is needed.")
    if scheduler.is_file():
        _check_noise_schedule(directory, _scheduler_of(directory, parts))


def _scheduler_of(folder: Path, parts: Mapping[str, Any]) -> Any:
    """The scheduler of a pipeline with these `parts` (model_index.json). Raises FaceExprError for a class that is no scheduler of
    diffusers: other classes may run code that lies in the folder."""
    import diffusers
    from diffusers import SchedulerMixin

    _, kind = parts.get("scheduler") or (None, "EulerDiscreteScheduler")
    found: Any = getattr(diffusers, kind, None) if isinstance(kind, str) else None
    fits = isinstance(found, type) and issubclass(found, SchedulerMixin)
    if not fits:
        raise FaceExprError(f"{folder} is drawn by {kind}, which the diffusers here does not have. Take a newer one, or another model.")
    return found.from_pretrained(folder / "scheduler", local_files_only=True)


def _check_noise_schedule(directory: Path, scheduler: Any) -> None:
    """Raise FaceExprError where the noise levels are not SDXL's, of which training and drawing make use."""
    from ..training.parts import noise_schedule

    kind, betas = type(scheduler).__name__, getattr(scheduler, "betas", None)
    if kind.startswith("EDM") or betas is None:
        raise FaceExprError(f"{directory} {_EDM.format(f'its scheduler is {kind}')}")
    settings = TrainSettings(prediction="v_prediction")
    known = [noise_schedule(replace(settings, zero_snr=zero)).betas for zero in (False, True)]
    if not any(betas.shape == one.shape and torch.allclose(betas.float(), one, rtol=1e-3, atol=1e-6) for one in known):
        config = scheduler.config
        told = ", ".join(f"{name} {config.get(name)}" for name in ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps"))
        raise FaceExprError(
            f"{directory} has another noise schedule than SDXL ({told}{', trained_betas' if config.get('trained_betas') else ''}); "
            f"a model with SDXL's (scaled_linear from {BETAS[0]} to {BETAS[1]} in {TIMESTEPS} steps) is needed."
        )


def _config_of(checkpoint: Path) -> tuple[Path, dict[str, object]]:
    """The configurations that fit a checkpoint file: SDXL's, or Mini's where the file is as narrow as Mini; and what its scheduler is.

    The latter as other tools mark it, by empty tensors: `v_pred`, and `ztsnr` for a schedule rescaled to zero SNR.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, "pt") as file:
            keys = set(file.keys())
            width, channels = _first_layer(file, _FIRST, keys)
            scaled = sorted(key for key in keys if key in ("edm_mean", "edm_std") or key.startswith("edm_vpred."))
            both_encoders, refines = _LARGE.format(1) in keys, _LARGE.format(0) in keys
    except SafetensorError as error:
        raise FaceExprError(f"{checkpoint} is not a whole .safetensors file ({error}). Download it again.") from error
    if refines:
        raise FaceExprError(f"{checkpoint} is an SDXL refiner, which finishes the pictures of a base model. {_NEEDED}")
    if not both_encoders or not width:
        raise FaceExprError(f"{checkpoint} is no SDXL checkpoint with a U-Net and both text encoders. {_NEEDED}")
    if scaled:
        raise FaceExprError(f"{checkpoint} {_EDM.format(f'it holds {scaled[0]}')}")
    if channels != 4:
        raise FaceExprError(
            f"{checkpoint} takes {channels} channels where SDXL base takes 4: it is made for inpainting, or for editing a picture. "
            f"{_NEEDED}"
        )
    known: dict[str, object] = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": "ztsnr" in keys} if "v_pred" in keys else {}
    return SDXL_CONFIGS if width == mini.FULL_WIDTH else mini.path(), known


def is_full_size(path: str | Path) -> bool:
    """Whether a model is of SDXL's own size, told without loading it; False for Mini, and where there is none."""
    import json

    from safetensors import SafetensorError, safe_open

    location = Path(path)
    try:
        if location.is_dir():
            return json.loads((location / "unet" / "config.json").read_text(encoding="utf-8"))["block_out_channels"][0] == mini.FULL_WIDTH
        if location.suffix != ".safetensors" or not location.is_file():
            return False
        with safe_open(location, "pt") as file:
            return _first_layer(file, _FIRST, set(file.keys()))[0] == mini.FULL_WIDTH
    except (OSError, ValueError, LookupError, SafetensorError):  # load_pipeline will say what is wrong with it
        return False


def _first_layer(file, key: str, keys: set[str]) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """Channels out of the U-Net's first convolution, and into it; (0, 0) where there is none."""
    return tuple(file.get_slice(key).get_shape()[:2]) if key in keys else (0, 0)


def _tokenizers() -> tuple[object, object]:
    from transformers import CLIPTokenizer

    return tuple(CLIPTokenizer.from_pretrained(mini.path() / name, local_files_only=True) for name in ("tokenizer", "tokenizer_2"))  # type: ignore[return-value]
