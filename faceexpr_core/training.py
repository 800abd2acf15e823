"""The training loop: a private U-Net and encoded photos in, a LoRA out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import FaceExprError
from .losses import min_snr_weight, weighted_epsilon_loss
from .train_settings import TrainSettings
from .training_set import TrainingSet

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
TIMESTEPS = 1000


@dataclass(frozen=True)
class Step:
    """What `on_step` is told after each optimiser step; `number` counts from 1, `unet` carries the LoRA as it is now."""

    number: int
    total: int
    loss: float
    learning_rate: float
    unet: UNet2DConditionModel


@dataclass(frozen=True)
class TrainResult:
    """`lora`: kohya keys, float32 on the CPU, after `steps` optimiser steps. `losses`: one value a step taken.

    `stopped_by` is what ended the run early (the host's interrupt, a loss that is not a number, memory): save the LoRA first, then
    raise it. None after a full run.
    """

    lora: dict[str, Tensor]
    losses: tuple[float, ...]
    steps: int
    stopped_by: BaseException | None = None

    @property
    def interrupted(self) -> bool:
        return self.stopped_by is not None


def train_lora(
    unet: UNet2DConditionModel,
    data: TrainingSet,
    settings: TrainSettings,
    on_step: Callable[[Step], None] | None = None,
    device: torch.device | str | None = None,
) -> TrainResult:
    """Learn a LoRA on the attention projections (to_q, to_k, to_v, to_out) of every transformer.

    Minimises L_id = w(t) <M (eps - eps_theta(z_t, c))^2> over photos in shuffled epochs and t ~ U{0..999} of SDXL's scaled-linear
    schedule. All randomness comes from one CPU generator with `settings.seed`, so the losses do not depend on the host.

    `unet` must be a copy that nobody else uses: it is moved to `device` (default: where it is), cast, and keeps the adapter.
    Whatever stops the run after the first step, an exception of `on_step` included, is handed back in `TrainResult.stopped_by`
    beside the LoRA learned so far; before that it is raised. Raises FaceExprError when `data` does not fit `unet`.
    """
    with torch.inference_mode(False), torch.enable_grad():
        trainer = Trainer(unet, data, settings, torch.device(device) if device is not None else unet.device)
        losses: list[float] = []
        stopped_by: BaseException | None = None
        try:
            for number in range(1, settings.steps + 1):
                losses.append(trainer.step())
                if on_step is not None:
                    on_step(Step(number, settings.steps, losses[-1], trainer.learning_rate, unet))
        except BaseException as reason:
            stopped_by = _out_of_memory(reason, settings) if isinstance(reason, torch.cuda.OutOfMemoryError) else reason
            if trainer.steps_done == 0:
                if stopped_by is reason:
                    raise
                raise stopped_by from reason
        return TrainResult(trainer.lora(), tuple(losses), trainer.steps_done, stopped_by)


class Trainer:
    """The state of a run: adapter, optimiser, learning rate, moving average, random draws."""

    def __init__(self, unet: UNet2DConditionModel, data: TrainingSet, settings: TrainSettings, device: torch.device) -> None:
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel, compute_snr

        check_fit(unet, data)
        self.unet, self.settings, self.device = unet, settings, device
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.dtype = compute_dtype(settings.precision, device)
        unet.requires_grad_(False)
        torch.nn.Module.to(unet, device, self.dtype)  # diffusers' own `to` warns about an empty list of float32 modules
        self.layers = add_lora(unet, settings.rank, settings.effective_alpha, self.generator)
        self.parameters = [weight for pair in self.layers.values() for weight in pair]
        if settings.gradient_checkpointing if settings.gradient_checkpointing is not None else device.type != "cpu":
            unet.enable_gradient_checkpointing()
        unet.train()
        self.data = data.map(lambda tensor: tensor.to(device, torch.float32).clone())
        self.queue: list[int] = []
        self.schedule = DDPMScheduler(num_train_timesteps=TIMESTEPS, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        self.snr_weights = min_snr_weight(compute_snr(self.schedule, torch.arange(TIMESTEPS)), settings.min_snr_gamma).to(device)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=device.type in ("cpu", "cuda")
        )
        self.rates = get_scheduler(
            "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            self.optimizer,
            num_warmup_steps=settings.warmup,
            num_training_steps=settings.steps,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.average = EMAModel(self.parameters, decay=settings.ema, foreach=True) if settings.ema else None
        self.steps_done = 0
        self.last_good = [weight.detach().clone() for weight in self.deliverable]
        self.last_good_steps = 0

    @property
    def learning_rate(self) -> float:
        return self.rates.get_last_lr()[0]

    @property
    def deliverable(self) -> list[Tensor]:
        """The weights that leave the run: the moving average, or the trained ones without it."""
        return self.average.shadow_params if self.average is not None else list(self.parameters)

    def step(self) -> float:
        """One optimiser step over `accumulation` batches. Returns their mean loss.

        Raises FaceExprError when loss or gradient is not finite, with the last weights that gave a finite loss put back.
        """
        accumulation = self.settings.accumulation
        total = torch.zeros((), device=self.device)
        for _ in range(accumulation):
            loss = self._batch_loss() / accumulation
            self.scaler.scale(loss).backward()
            total += loss.detach()
        loss_value = total.item()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm or math.inf).item()
        # float16 overflows now and then: its scaler skips such a step and goes on.
        if not math.isfinite(loss_value) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            failed = self.steps_done + 1
            self._restore_last_good()
            raise FaceExprError(
                f"The training diverged: at step {failed} of {self.settings.steps} the loss is {loss_value:g}, the gradient norm {norm:g}. "
                f"The LoRA of step {self.steps_done} is kept. Lower the learning rate ({self.settings.learning_rate:g}), "
                "or use precision fp32 or bf16."
            )
        with torch.no_grad():
            torch._foreach_copy_(self.last_good, self.deliverable)
        self.last_good_steps = self.steps_done
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step(self.parameters)
        self.steps_done += 1
        return loss_value

    def lora(self) -> dict[str, Tensor]:
        """The LoRA as it stands: kohya keys, float32 on the CPU."""
        from .lora import to_kohya

        weights = iter(self.deliverable)
        return to_kohya({name: (next(weights), next(weights)) for name in self.layers}, self.settings.effective_alpha)

    def _batch_loss(self) -> Tensor:
        photos = self.data.select(self._next_photos())
        timesteps = torch.randint(TIMESTEPS, (len(photos),), generator=self.generator).to(self.device)
        noise = torch.randn(photos.latents.shape, generator=self.generator).to(self.device)
        noisy = self.schedule.add_noise(photos.latents, noise, timesteps)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            predicted = self.unet(
                noisy,
                timesteps,
                photos.prompt_embeds,
                added_cond_kwargs={"text_embeds": photos.pooled, "time_ids": photos.time_ids},
            ).sample
        return weighted_epsilon_loss(noise, predicted, photos.weights, self.snr_weights[timesteps]).mean()

    def _next_photos(self) -> list[int]:
        """The next batch of positions: every photo once an epoch, each epoch in a new order."""
        count = self.settings.batch_size
        while len(self.queue) < count:
            self.queue += torch.randperm(len(self.data), generator=self.generator).tolist()
        batch, self.queue = self.queue[:count], self.queue[count:]
        return batch

    def _restore_last_good(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.deliverable, self.last_good)
        self.steps_done = self.last_good_steps


def add_lora(
    unet: UNet2DConditionModel, rank: int, alpha: float, generator: torch.Generator
) -> dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """Put a trainable LoRA (Hu et al. 2106.09685) on every attention projection: name of the projection -> (down [r, in], up [out, r]).

    Down is drawn as in the paper's code, kaiming-uniform with a = sqrt 5, from `generator`; up is 0. float32, whatever the U-Net's dtype.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    # peft draws its own initial weights from the global generator: give it back untouched.
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS)), unet)
    layers = {}
    for name, module in unet.named_modules():
        if isinstance(module, LoraLayer):
            down, up = module.lora_A["default"], module.lora_B["default"]
            device = down.weight.device
            initial = torch.empty(down.weight.shape)
            torch.nn.init.kaiming_uniform_(initial, a=math.sqrt(5), generator=generator)
            down.weight = torch.nn.Parameter(initial.to(device))
            up.weight = torch.nn.Parameter(torch.zeros(up.weight.shape, device=device))
            layers[name] = (down.weight, up.weight)
    return layers


def lora_parameters(unet: UNet2DConditionModel, rank: int) -> int:
    """How many numbers a LoRA of this rank on `unet` holds, alphas included."""
    modules = (module for name, module in unet.named_modules() if name.endswith(TARGETS))
    return sum((module.in_features + module.out_features) * rank + 1 for module in modules)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the U-Net's matrix products; the LoRA itself always stays float32."""
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def check_fit(unet: UNet2DConditionModel, data: TrainingSet) -> None:
    """Raise FaceExprError when the photos were encoded for another kind of model than `unet`."""
    config = unet.config
    if getattr(config, "addition_embed_type", None) != "text_time":
        raise FaceExprError("The MODEL is not an SDXL U-Net (it takes no size ids); load an SDXL checkpoint.")
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    for what, given, needed in (
        ("latents with {} channels", data.latents.shape[1], config.in_channels),
        ("text embeddings of width {}", data.prompt_embeds.shape[-1], config.cross_attention_dim),
        ("pooled text embeddings of width {}", data.pooled.shape[-1], pooled),
    ):
        if given != needed:
            raise FaceExprError(
                f"The photos were encoded to {what.format(given)}, the U-Net needs {needed}: "
                "take MODEL, CLIP and VAE from the same SDXL checkpoint."
            )
    depth = 2 ** (len(config.block_out_channels) - 1)
    height, width = data.latents.shape[-2:]
    if height % depth or width % depth:
        raise FaceExprError(
            f"The photos are {width * 8} x {height * 8} pixels; the U-Net needs sides that are multiples of {8 * depth}. "
            "Choose such a resolution where the photos are loaded."
        )


def _out_of_memory(reason: BaseException, settings: TrainSettings) -> FaceExprError:
    return FaceExprError(
        f"The device ran out of memory while training (batch size {settings.batch_size}, rank {settings.rank}): {reason}. "
        "Take batch size 1 with more accumulation, switch gradient checkpointing on, lower the rank, "
        "or load the photos at a smaller resolution."
    )
