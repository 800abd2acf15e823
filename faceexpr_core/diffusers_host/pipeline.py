"""The diffusers twin of nodes/host.py: load an SDXL pipeline, embed prompts and pictures, draw.

Everything is done as ComfyUI does it (chunks of 77 tokens, size ids, noise levels, noise), so that both hosts draw the same picture.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import mini, text
from ..errors import FaceExprError
from ..fusion.bank import FeatureBank
from ..fusion.donors import same_place
from ..fusion.settings import FusionSettings
from ..training.settings import PREDICTIONS
from ..training.text_encoders import stack_tokens
from .fusion import Fusion, Rows, apply_fusion

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

SDXL_CONFIGS = Path(__file__).parent / "sdxl"
"""Configurations of SDXL base's parts, so that a single-file checkpoint loads without the network."""

ZERO_SNR = 4.8973451890853435e-08
"""What ComfyUI takes for abar = 0, where sigma has no end."""

_CHUNK = 75


def best_device() -> str:
    """`cuda` or `mps` where there is one, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def chosen_device(asked: str) -> torch.device:
    """The device called `asked`, "" for the best there is. Raises FaceExprError when it cannot be used here."""
    try:
        device = torch.device(asked or best_device())
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as reason:  # a PyTorch without CUDA asserts that it has it
        raise FaceExprError(f"The device {asked} cannot be used here; give cpu, or leave it out for the best there is.") from reason
    return device


def load_pipeline(
    path: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", prediction: str = ""
) -> StableDiffusionXLPipeline:
    """An SDXL pipeline from `mini`, a diffusers directory, or a single-file .safetensors checkpoint. Never uses the network.

    `prediction`: epsilon or v_prediction, where the checkpoint does not say what it predicts, or says it wrongly; "" as it says.
    Raises FaceExprError when there is no such model, or it is not an SDXL base model that predicts noise or velocity.
    """
    from diffusers import StableDiffusionXLPipeline
    from safetensors import SafetensorError

    location = mini.path() if str(path) == "mini" else Path(path)
    known: dict[str, object] = {}
    if location.is_dir():
        _check_directory(location)
        try:
            with _quiet():
                pipe = _from_folder(location, dtype)
        except (OSError, ValueError, SafetensorError) as reason:
            raise FaceExprError(f"{location} is not a whole diffusers pipeline ({reason}). Download it again.") from reason
    elif location.is_file() and location.suffix == ".safetensors":
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
    else:
        raise FaceExprError(f"there is no model {path}. Give 'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors).")
    if prediction:
        known["prediction_type"] = prediction
    if known:
        pipe.register_modules(scheduler=type(pipe.scheduler).from_config(pipe.scheduler.config, **known))
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    if dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)
    return pipe


def _from_folder(folder: Path, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """The pipeline, part by part: its own loader imports whatever diffusers can do without SDXL (kornia's 25 MB, where it is installed)."""
    import json

    import diffusers
    import transformers

    def model(kind: Any, name: str) -> Any:
        return kind.from_pretrained(folder / name, torch_dtype=dtype, local_files_only=True, use_safetensors=True)

    def tokenizer(name: str) -> Any:
        return transformers.CLIPTokenizer.from_pretrained(folder / name, local_files_only=True)

    _, schedule = json.loads((folder / "model_index.json").read_text()).get("scheduler") or (None, "EulerDiscreteScheduler")
    return diffusers.StableDiffusionXLPipeline(
        scheduler=getattr(diffusers, schedule).from_pretrained(folder / "scheduler", local_files_only=True),
        text_encoder=model(transformers.CLIPTextModel, "text_encoder"),
        text_encoder_2=model(transformers.CLIPTextModelWithProjection, "text_encoder_2"),
        vae=model(diffusers.AutoencoderKL, "vae"),
        unet=model(diffusers.UNet2DConditionModel, "unet"),
        tokenizer=tokenizer("tokenizer"),
        tokenizer_2=tokenizer("tokenizer_2"),
        add_watermarker=False,
    )


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
        given = json.loads(index.read_text()).get("_class_name")
        scheduler = directory / "scheduler" / "scheduler_config.json"
        kind = json.loads(scheduler.read_text()).get("prediction_type", "epsilon") if scheduler.is_file() else "epsilon"
    except ValueError as reason:
        raise FaceExprError(f"{directory} is not a whole diffusers pipeline ({reason}). Download it again.") from reason
    if given != "StableDiffusionXLPipeline":
        raise FaceExprError(f"{directory} holds a {given}; an SDXL base model (StableDiffusionXLPipeline) is needed.")
    if kind not in PREDICTIONS:
        raise FaceExprError(f"{directory} predicts {kind}; an SDXL model that predicts noise (epsilon) or velocity (v) is needed.")


def _config_of(checkpoint: Path) -> tuple[Path, dict[str, object]]:
    """The configurations that fit a checkpoint file: SDXL's, or Mini's where the file is as narrow as Mini; and what its scheduler is.

    The latter as other tools mark it, by empty tensors: `v_pred`, and `ztsnr` for a schedule rescaled to zero SNR.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, "pt") as file:
            keys = set(file.keys())
            width = _width(file, "model.diffusion_model.input_blocks.0.0.weight", keys)
            both_encoders = "conditioner.embedders.1.model.ln_final.weight" in keys
    except SafetensorError as error:
        raise FaceExprError(f"{checkpoint} is not a whole .safetensors file ({error}). Download it again.") from error
    if not both_encoders or width is None:
        raise FaceExprError(f"{checkpoint} is not an SDXL base checkpoint with its U-Net and both text encoders. Give such a file.")
    known: dict[str, object] = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": "ztsnr" in keys} if "v_pred" in keys else {}
    return SDXL_CONFIGS if width == 320 else mini.path(), known


def _width(file, key: str, keys: set[str]) -> int | None:  # type: ignore[no-untyped-def]
    return file.get_slice(key).get_shape()[0] if key in keys else None


def _tokenizers() -> tuple[object, object]:
    from transformers import CLIPTokenizer

    return tuple(CLIPTokenizer.from_pretrained(mini.path() / name, local_files_only=True) for name in ("tokenizer", "tokenizer_2"))  # type: ignore[return-value]


def count_tokens(pipe: StableDiffusionXLPipeline, words: str) -> tuple[int]:
    """Tokens of a text, start, end and padding not counted; the same in both text encoders."""
    return (len(_ids(pipe, words)),)


@torch.no_grad()
def encode_prompts(pipe: StableDiffusionXLPipeline, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Embed prompts: H float32 [B, T, C] and pooled float32 [B, P], on the pipeline's device.

    T is 77, or 77 n for longer prompts: chunks of 75 tokens, as ComfyUI cuts them; shorter prompts are then repeated to the common length,
    which cross-attention does not notice. ComfyUI's weighting syntax is not read: parentheses are text here.
    """
    encoded = [_encode_prompt(pipe, prompt) for prompt in prompts]
    return stack_texts([hidden for hidden, _ in encoded]), torch.cat([pooled for _, pooled in encoded])


def tokenize_prompts(pipe: StableDiffusionXLPipeline, prompts: Sequence[str]) -> Tensor:
    """What `encode_prompts` gives the text encoders, int64 [B, 2, K, 77] on the CPU: K chunks for the first and for the second."""
    paddings = (pipe.tokenizer.pad_token_id, pipe.tokenizer_2.pad_token_id)
    return stack_tokens([torch.stack([_chunks(pipe, prompt, padding) for padding in paddings]) for prompt in prompts])


def stack_texts(hidden: Sequence[Tensor]) -> Tensor:
    """Embeddings [B, T, C] of any lengths in one batch, each repeated to the common length."""
    length = math.lcm(*(tensor.shape[1] for tensor in hidden))
    return torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in hidden])


def _encode_prompt(pipe: StableDiffusionXLPipeline, prompt: str) -> tuple[Tensor, Tensor]:
    device = pipe.text_encoder.device
    first = pipe.text_encoder(_chunks(pipe, prompt, pipe.tokenizer.pad_token_id).to(device), output_hidden_states=True)
    second = pipe.text_encoder_2(_chunks(pipe, prompt, pipe.tokenizer_2.pad_token_id).to(device), output_hidden_states=True)
    # penultimate layers (SDXL, Podell et al. 2307.01952), chunks laid end to end
    hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    return hidden.flatten(0, 1)[None].float(), second.text_embeds[:1].float()


def _chunks(pipe: StableDiffusionXLPipeline, prompt: str, padding: int) -> Tensor:
    ids = _ids(pipe, prompt)
    rows = [ids[start : start + _CHUNK] for start in range(0, max(len(ids), 1), _CHUNK)]
    start, end = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id
    return torch.tensor([[start, *row, end] + [padding] * (_CHUNK - len(row)) for row in rows])


def _ids(pipe: StableDiffusionXLPipeline, words: str) -> list[int]:
    # for both encoders: the second tokenizer, padded with `!`, would read an exclamation mark as padding, which ComfyUI does not
    return pipe.tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]


@torch.no_grad()
def encode_images(pipe: StableDiffusionXLPipeline, images: Tensor) -> Tensor:
    """Pictures [N, H, W, 3], uint8 or float in 0..1, H and W multiples of 8 -> latents float32 [N, 4, H/8, W/8] in the U-Net's scale.

    The mode of the VAE's distribution, as in ComfyUI.
    """
    vae = pipe.vae
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    batches = (pixels[i : i + 1].movedim(-1, 1).to(vae.device, vae.dtype) * 2 - 1 for i in range(len(pixels)))
    latents = torch.cat([vae.encode(batch).latent_dist.mode() for batch in batches]).float()
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(pipe: StableDiffusionXLPipeline, latents: Tensor) -> Tensor:
    """Latents [N, 4, h, w] in the U-Net's scale -> pictures uint8 [N, 8h, 8w, 3]."""
    vae = pipe.vae
    unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    pixels = torch.cat([vae.decode(row[None].to(vae.device, vae.dtype)).sample for row in unscaled]).float()
    return ((pixels.movedim(1, -1) / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).cpu()


def model_sigmas(pipe: StableDiffusionXLPipeline) -> Tensor:
    """Noise level of each training step, float32 [1000], rising: sigma = sqrt((1 - abar) / abar), the last of zero SNR as in ComfyUI."""
    kept = (1 - pipe.scheduler.betas.double()).cumprod(0)  # in single precision the lowest levels are off by 1e-4
    kept[-1].clamp_(min=ZERO_SNR)
    return ((1 - kept) / kept).sqrt().float()


def normal_schedule(pipe: StableDiffusionXLPipeline, steps: int) -> Tensor:
    """ComfyUI's `normal` schedule: sigmas float32 [steps + 1], falling to 0, evenly spaced in the training step, log-linear between."""
    logs = model_sigmas(pipe).log()
    positions = torch.linspace(len(logs) - 1, 0, steps)
    low, high = positions.floor().long(), positions.ceil().long()
    return torch.cat([torch.lerp(logs[low], logs[high], positions.frac()).exp(), torch.zeros(1)])


@torch.no_grad()
def predict_epsilon(pipe: StableDiffusionXLPipeline, x: Tensor, sigma: float, hidden: Tensor, pooled: Tensor) -> Tensor:
    """The U-Net's noise for x = z + sigma eps, float32 [B, 4, h, w]; hidden [B, T, C], pooled [B, P].

    A model of velocity says v = (eps - sigma z) / s with s = sqrt(sigma^2 + 1); eps = v / s + sigma x / s^2.
    Size ids are those ComfyUI uses when none are given: the picture's own size as original and target size, no crop.
    """
    unet = pipe.unet
    step = (model_sigmas(pipe).log() - math.log(sigma)).abs().argmin()
    height, width = 8 * x.shape[2], 8 * x.shape[3]
    sizes = torch.tensor([[height, width, 0, 0, height, width]]).repeat(len(x), 1)
    added = {"text_embeds": pooled.to(unet.device, unet.dtype), "time_ids": sizes.to(unet.device, unet.dtype)}
    scale = math.sqrt(sigma**2 + 1)
    scaled = (x / scale).to(unet.device, unet.dtype)
    predicted = unet(scaled, step.to(unet.device), hidden.to(unet.device, unet.dtype), added_cond_kwargs=added).sample.float()
    if prediction_of(pipe)["prediction"] == "v_prediction":
        return predicted / scale + x.to(predicted.device) * (sigma / scale**2)
    return predicted


def generate(
    pipe: StableDiffusionXLPipeline,
    prompt: text.ExpressionPrompt,
    *,
    negative: str = "",
    seed: int = 0,
    count: int = 1,
    steps: int = 20,
    cfg: float = 5.0,
    width: int = 1024,
    height: int = 1024,
    expression_scale: float | None = None,
    sigmas: Tensor | None = None,
    fusion: tuple[FeatureBank, FusionSettings] | list[Fusion] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Tensor:
    """Draw `count` pictures, uint8 [count, height, width, 3], with Euler on ComfyUI's `normal` schedule (or on `sigmas`).

    `expression_scale` a: the epsilon mode, eps = eps_u + w (eps_n - eps_u) + w a (eps_e - eps_n), instead of plain guidance.
    `fusion`: expression features to fuse into the expression's rows (method section 4): a bank with settings, whose mask and regions
    are used where they hold for this picture (`fusions_of`), or any number of `Fusion`s.
    `on_step(done, all)` is called after every step, `on_note` with what fusion has to tell. Raises FaceExprError unless width and height
    are multiples of 8.
    """
    check_size(width, height)
    conditional = embed_expression(pipe, prompt)[0 if expression_scale is not None else 1 :]
    hidden, pooled = zip(encode_prompts(pipe, [negative]), *conditional, strict=True)
    rows = len(hidden)
    stacked, pooled_rows = stack_texts(hidden).repeat_interleave(count, 0), torch.cat(pooled).repeat_interleave(count, 0)

    schedule = normal_schedule(pipe, steps) if sigmas is None else sigmas
    x = first_latents(seed, count, width, height, float(schedule[0])).to(stacked.device)
    expressive = tuple(range((rows - 1) * count, rows * count))
    call = Rows(expressive, tuple(range(count)), cfg, tuple(schedule.tolist()))
    if isinstance(fusion, tuple):
        bank, settings = fusion
        fusion = fusions_of(bank, settings, seed, count, width, height)
    with ExitStack() as stack:
        told = [
            stack.enter_context(
                apply_fusion(pipe.unet, one.bank, one.settings, call, mask=one.mask, regions=one.regions, picture=one.picture)
            )
            for one in fusion or ()
        ]
        for done, (sigma, following) in enumerate(zip(schedule.tolist(), schedule[1:].tolist(), strict=False), start=1):
            call.sigma = sigma
            predictions = predict_epsilon(pipe, x.repeat(rows, 1, 1, 1), sigma, stacked, pooled_rows).chunk(rows)
            x = x + _guide(predictions, cfg, expression_scale) * (following - sigma)
            if on_step is not None:
                on_step(done, len(schedule) - 1)
    if on_note is not None:
        for note in sorted(set[str]().union(*told)):
            on_note(note)
    return decode_latents(pipe, x)


def first_latents(seed: int, count: int, width: int, height: int, sigma: float) -> Tensor:
    """What `generate` starts from: noise of the first sigma, float32 [count, 4, height / 8, width / 8] on the CPU, as ComfyUI makes it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, height // 8, width // 8, generator=generator) * math.sqrt(1 + sigma**2)


def fusions_of(bank: FeatureBank, settings: FusionSettings, seed: int, count: int, width: int, height: int) -> list[Fusion]:
    """A bank for `count` pictures. Its mask and regions hold for the first of them when the bank is of the same noise and size
    (`donors.same_place`); the others are matched everywhere."""
    placed = Fusion(bank, settings, bank.mask, bank.regions, 0)
    if not same_place(bank, seed, width, height):
        return [Fusion(bank, settings)]
    return [placed, *(Fusion(bank, settings, picture=picture) for picture in range(1, count))]


def check_size(width: int, height: int) -> None:
    """Raise FaceExprError unless both are multiples of 8."""
    if width % 8 or height % 8 or min(width, height) < 8:
        raise FaceExprError(f"a picture of {width} x {height} pixels cannot be drawn; width and height must be multiples of 8.")


def embed_expression(pipe: StableDiffusionXLPipeline, prompt: text.ExpressionPrompt) -> list[tuple[Tensor, Tensor]]:
    """Embeddings (H [1, T, C], pooled [1, P]) of the neutral prompt, and of the expression in its strength."""
    neutral = encode_prompts(pipe, [prompt.neutral])
    hidden, pooled = zip(*(encode_prompts(pipe, [words]) for words in prompt.expressions), strict=True)
    return [neutral, (text.mix(neutral[0], hidden, prompt.weights), text.mix_pooled(neutral[1], pooled, prompt.weights))]


def _guide(predictions: Sequence[Tensor], cfg: float, expression_scale: float | None) -> Tensor:
    if expression_scale is None:
        unconditional, expression = predictions
        return unconditional + cfg * (expression - unconditional)
    unconditional, neutral, expression = predictions
    return text.epsilon_mix(unconditional, neutral, expression, cfg, expression_scale)
