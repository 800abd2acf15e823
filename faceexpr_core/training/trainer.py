"""One run of the training loop, step by step: the batches, the parts of the loss, the update, and the state to go on from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import FaceExprError
from .adapter import add_lora, without_lora
from .crafting import CraftingSet
from .data import TrainingSet, digest_of
from .losses import crafting_loss, distillation_loss, min_snr_weight, prior_loss, weighted_epsilon_loss
from .optimizers import build_optimizer, join_state, split_state
from .settings import TrainSettings
from .state import RunState
from .text_encoders import Layers, TextEncoders, add_text_lora, embed_tokens, enable_checkpointing, text_digest

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TIMESTEPS = 1000
CRAFTING_TIMESTEPS = (300, 700)
PHOTO_BATCHES_PER_CRAFTING = 3
"""L_ec takes one batch for so many batches of photos: it costs about two of them."""


class Diverged(FaceExprError):
    """The loss is no longer a number, or far above where it began."""


@dataclass
class _Draws:
    """Where the random draws stand: generator states, and the pictures that are left of each epoch."""

    generators: dict[str, Tensor]
    queues: dict[str, list[int]]


class Trainer:
    """The state of a run: adapter, optimiser, learning rate, moving average, random draws."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        data: TrainingSet,
        settings: TrainSettings,
        device: torch.device,
        class_images: TrainingSet | None = None,
        crafting: CraftingSet | None = None,
        encoders: TextEncoders | None = None,
    ) -> None:
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel, compute_snr

        check_fit(unet, data)
        _check_parts(unet, data, settings, class_images, crafting)
        self.encoders = _check_encoders(settings, encoders, data, class_images, crafting)
        self.unet, self.settings, self.device = unet, settings, device
        self.rank, self.ranks = _processes()
        self.generators = {
            name: torch.Generator().manual_seed((settings.seed + number * 0x9E3779B97F4A7C15) % 2**64)
            for number, name in enumerate(("photos", "prior", "crafting"))
        }
        self.dtype = compute_dtype(settings.precision, device)
        self.run = run_of(unet, data, settings, class_images, crafting, self.ranks, self.encoders)
        unet.requires_grad_(False)
        torch.nn.Module.to(unet, device, self.dtype)  # diffusers' own `to` warns about an empty list of float32 modules
        self.layers = add_lora(
            unet, settings.rank, settings.effective_alpha, self.generators["photos"], settings.block_names, settings.convolutions
        )
        checkpointing = settings.gradient_checkpointing if settings.gradient_checkpointing is not None else device.type != "cpu"
        if checkpointing:
            unet.enable_gradient_checkpointing()
        unet.train()
        self.text_layers = self._ready_encoders(checkpointing)
        learning = [weight for pair in self.layers.values() for weight in pair]
        reading = [weight for pair in self.text_layers.values() for weight in pair]
        self.parameters = learning + reading

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype).clone()

        self.data = data.map(moved)
        self.class_images = class_images.map(moved) if class_images is not None and settings.prior == "images" else None
        self.crafting = crafting.map(moved) if crafting is not None else None
        self.queues: dict[str, list[int]] = {"photos": [], "prior": []}
        self.schedule = noise_schedule(settings)
        snr = compute_snr(self.schedule, torch.arange(TIMESTEPS))
        self.velocity = settings.prediction == "v_prediction"
        self.snr_weights = min_snr_weight(snr, settings.min_snr_gamma, self.velocity).to(device)
        self.optimizer, note = build_optimizer(learning, settings, device)
        if reading:
            rate = settings.text_encoder_learning_rate or settings.learning_rate
            self.optimizer.add_param_group({"params": reading, "lr": rate, "weight_decay": settings.text_encoder_weight_decay})
        self.notes = tuple(filter(None, [note, _precision_note(settings.precision, device)]))
        self.rates = get_scheduler(
            "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            self.optimizer,
            num_warmup_steps=settings.warmup,
            num_training_steps=settings.steps,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.average = EMAModel(self.parameters, decay=settings.ema, foreach=True) if settings.ema else None
        self.steps_done = 0
        self.totals: list[float] = []
        self.curves: dict[str, list[float]] = {name: [] for name in self._parts()}
        self.last_good = [weight.detach().clone() for weight in self.deliverable]
        self.last_good_steps = 0
        self._before = self._draws()
        self._updating = False

    @property
    def learning_rate(self) -> float:
        return self.rates.get_last_lr()[0]

    @property
    def deliverable(self) -> list[Tensor]:
        """The weights that leave the run: the moving average, or the trained ones without it."""
        return self.average.shadow_params if self.average is not None else list(self.parameters)

    @property
    def healthy(self) -> bool:
        """The loss is about where it was, or better."""
        return _excess(self.curves["identity"]) <= 1.5

    def step(self) -> dict[str, float]:
        """One optimiser step over `accumulation` batches a process. Returns the parts of the loss.

        Raises Diverged when loss or gradient is not finite, or the mean of ten losses is above 1 (predicting nothing gives about 1) and
        three times the first ones, with the last weights that gave a good loss put back.
        """
        settings, number = self.settings, self.steps_done + 1
        batches = settings.accumulation * self.ranks
        sums = {name: torch.zeros((), device=self.device) for name in self.curves}
        for index in range(batches):
            # every process draws for all, so that the draws do not depend on how many there are
            draws: list[tuple[str, float, Callable[[], Tensor]]] = [("identity", 1.0, self._identity_batch())]
            if settings.prior != "off":
                draws.append(("prior", settings.prior_weight, self._prior_batch()))
            if index % self.ranks == self.rank:
                for name, weight, loss_of in draws:
                    loss = loss_of() / batches
                    self.scaler.scale(weight * loss).backward()
                    sums[name] += loss.detach()
        weight = self._crafting_weight(number)
        counted = torch.zeros((), device=self.device)
        if weight:
            times = -(-batches // PHOTO_BATCHES_PER_CRAFTING)
            for index in range(times):
                pairs = self._crafting_batch()
                if index % self.ranks == self.rank:
                    losses, used = pairs()
                    self.scaler.scale(weight * losses.mean() / times).backward()
                    sums["crafting"] += losses.detach().mean() / times
                    counted += used.float().mean() / times
        self._share(sums, counted)
        return self._update(self._measured(sums, counted, weight), self._clipped_norm())

    def lora(self) -> dict[str, Tensor]:
        """The LoRA as it stands: kohya keys, float32 on the CPU."""
        from ..lora.files import to_kohya

        weights = iter(self.deliverable)
        layers = {name: (next(weights), next(weights)) for name in (*self.layers, *self.text_layers)}
        return to_kohya(layers, self.settings.effective_alpha)

    @torch.no_grad()
    def embed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N, 2, K, 77] -> H [N, 77 K, C] and pooled [N, P] with the LoRA as it is now; only where the text encoders learn."""
        return self._embed(tokens.to(self.device))

    def state(self) -> RunState:
        """All that `load` needs to go on to the bit."""
        moments, others = split_state(self.optimizer)
        tensors: dict[str, Tensor] = {f"weight.{index}": weight for index, weight in enumerate(self.parameters)}
        tensors |= {f"optimizer.{path}": tensor for path, tensor in moments.items()}
        if self.average is not None:
            tensors |= {f"average.{index}": weight for index, weight in enumerate(self.average.shadow_params)}
        draws = self._draws()
        tensors |= {f"generator.{name}": state for name, state in draws.generators.items()}
        tensors |= {f"curve.{name}": torch.tensor(values, dtype=torch.float64) for name, values in self.curves.items()}
        tensors["totals"] = torch.tensor(self.totals, dtype=torch.float64)
        values = {
            "optimizer": others,
            "rates": [group["lr"] for group in self.optimizer.param_groups],
            "schedule": {name: value for name, value in self.rates.state_dict().items() if name != "lr_lambdas"},
            "scaler": self.scaler.state_dict(),
            "average_steps": 0 if self.average is None else self.average.optimization_step,
            "queues": draws.queues,
        }
        return RunState(self.steps_done, self.run, values, tensors)

    def load(self, state: RunState) -> None:
        """Go on from `state`, which must be of a run made as this one."""
        with torch.no_grad():
            for index, weight in enumerate(self.parameters):
                weight.copy_(state.tensors[f"weight.{index}"])
            if self.average is not None:
                for index, weight in enumerate(self.average.shadow_params):
                    weight.copy_(state.tensors[f"average.{index}"])
                self.average.optimization_step = state.values["average_steps"]
        moments = {key.removeprefix("optimizer."): tensor for key, tensor in state.tensors.items() if key.startswith("optimizer.")}
        entries = join_state(moments, state.values["optimizer"])
        groups = self.optimizer.state_dict()["param_groups"]
        for group, rate in zip(groups, state.values["rates"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict({"state": entries, "param_groups": groups})
        self.rates.load_state_dict({**state.values["schedule"], "lr_lambdas": self.rates.state_dict()["lr_lambdas"]})
        self.scaler.load_state_dict(state.values["scaler"])
        self._before = _Draws({name: state.tensors[f"generator.{name}"] for name in self.generators}, state.values["queues"])
        self.rewind()
        self.totals = state.tensors["totals"].tolist()
        self.curves = {name: state.tensors[f"curve.{name}"].tolist() for name in self.curves}
        self.steps_done = self.last_good_steps = state.step
        self._keep_as_good()

    def rewind(self) -> bool:
        """Undo the draws of a step that was broken off. False when it was broken off while the weights changed: then nothing helps."""
        if self._updating:
            return False
        for name, state in self._before.generators.items():
            self.generators[name].set_state(state)
        self.queues = {name: list(queue) for name, queue in self._before.queues.items()}
        self.optimizer.zero_grad(set_to_none=True)
        return True

    def _ready_encoders(self, checkpointing: bool) -> Layers:
        """The LoRA on the text encoders, {} where they do not learn; they are moved and cast as the U-Net is."""
        if self.encoders is None:
            return {}
        for encoder in self.encoders.parts.values():
            encoder.requires_grad_(False)
            torch.nn.Module.to(encoder, self.device, self.dtype)
            encoder.train()
        if checkpointing:
            enable_checkpointing(self.encoders)
        # a generator of their own, so that the photos' draws stay as they are without them
        generator = torch.Generator().manual_seed((self.settings.seed + len(self.generators) * 0x9E3779B97F4A7C15) % 2**64)
        return add_text_lora(self.encoders, self.settings.rank, self.settings.effective_alpha, generator)

    def _words(self, embeds: Tensor, pooled: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        """The base's embeddings, or where the text encoders learn, those that the tokens have now."""
        if self.encoders is None:
            return embeds, pooled
        assert tokens is not None
        return self._embed(tokens)

    def _embed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        assert self.encoders is not None
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            hidden, pooled = embed_tokens(self.encoders, tokens)
        return hidden.float(), pooled.float()

    def _parts(self) -> list[str]:
        settings = self.settings
        return ["identity", *(["prior"] if settings.prior != "off" else []), *(["crafting"] if settings.crafting_weight else [])]

    def _draws(self) -> _Draws:
        return _Draws(
            {name: generator.get_state() for name, generator in self.generators.items()},
            {name: list(queue) for name, queue in self.queues.items()},
        )

    # The parts of the loss: each draws now and computes when called

    def _identity_batch(self) -> Callable[[], Tensor]:
        settings, generator = self.settings, self.generators["photos"]
        positions = self._next("photos", len(self.data))
        timesteps, noise = self._timesteps_and_noise("photos", self.data)
        if settings.noise_offset:
            noise += settings.noise_offset * torch.randn(*noise.shape[:2], 1, 1, generator=generator)
        dropped = torch.rand(len(positions), generator=generator) < settings.caption_dropout if settings.caption_dropout else None

        def loss() -> Tensor:
            photos = self.data.select(positions)
            if dropped is not None:
                photos = photos.without_captions(dropped.to(self.device))
            target, predicted = self._denoise(photos, timesteps.to(self.device), noise.to(self.device))
            return weighted_epsilon_loss(target, predicted, photos.weights, self.snr_weights[timesteps.to(self.device)]).mean()

        return loss

    def _prior_batch(self) -> Callable[[], Tensor]:
        if self.class_images is None:
            return self._distillation_batch()
        images = self.class_images
        positions = self._next("prior", len(images))
        timesteps, noise = self._timesteps_and_noise("prior", images)

        def loss() -> Tensor:
            target, predicted = self._denoise(images.select(positions), timesteps.to(self.device), noise.to(self.device))
            return prior_loss(target, predicted, self.snr_weights[timesteps.to(self.device)]).mean()

        return loss

    def _distillation_batch(self) -> Callable[[], Tensor]:
        """The photos' own latents under the class's prompts, neutral as often as each expression."""
        assert self.crafting is not None
        pairs, generator = self.crafting, self.generators["prior"]
        positions = self._next("prior", len(self.data))
        timesteps, noise = self._timesteps_and_noise("prior", self.data)
        chosen = torch.randint(len(pairs) + 1, (len(positions),), generator=generator)

        def loss() -> Tensor:
            photos, t = self.data.select(positions), timesteps.to(self.device)
            expression, which = (chosen % len(pairs)).to(self.device), (chosen < len(pairs)).long().to(self.device)
            prompt = pairs.base[expression, which], pairs.base_pooled[expression, which]
            tokens = None if pairs.base_tokens is None else pairs.base_tokens[expression, which]
            noisy = self.schedule.add_noise(photos.latents, noise.to(self.device), t)
            with torch.no_grad(), without_lora(self.unet, self.layers):
                base = self._predict(noisy, t, *prompt, photos.time_ids)
            return distillation_loss(self._predict(noisy, t, *self._words(*prompt, tokens), photos.time_ids), base).mean()

        return loss

    def _crafting_batch(self) -> Callable[[], tuple[Tensor, Tensor]]:
        assert self.crafting is not None
        pairs, generator = self.crafting, self.generators["crafting"]
        batch = self.settings.batch_size
        positions = torch.randint(len(self.data), (batch,), generator=generator)
        chosen = torch.randint(len(pairs), (batch,), generator=generator)
        low, high = CRAFTING_TIMESTEPS
        timesteps = torch.randint(low, high + 1, (batch,), generator=generator)
        noise = torch.randn(batch, *self.data.latents.shape[1:], generator=generator)

        def loss() -> tuple[Tensor, Tensor]:
            photos, t, e = self.data.select(positions.tolist()), timesteps.to(self.device), chosen.to(self.device)
            noisy = self.schedule.add_noise(photos.latents, noise.to(self.device), t)

            def of_class(which: int) -> Tensor:
                return self._predict(noisy, t, pairs.base[e, which], pairs.base_pooled[e, which], photos.time_ids)

            def of_person(which: int) -> Tensor:
                tokens = None if pairs.person_tokens is None else pairs.person_tokens[e, which]
                words = self._words(pairs.person[e, which], pairs.person_pooled[e, which], tokens)
                return self._predict(noisy, t, *words, photos.time_ids)

            with torch.no_grad():
                with without_lora(self.unet, self.layers):
                    wanted = of_class(1) - of_class(0)
                neutral = of_person(0)
            change = of_person(1) - neutral
            return crafting_loss(change, wanted, None if pairs.areas is None else pairs.areas[positions.to(self.device), e])

        return loss

    def _crafting_weight(self, number: int) -> float:
        """lambda_ec at step `number`, 0 where the step takes no L_ec."""
        settings = self.settings
        if number % settings.crafting_every:
            return 0.0
        ramp = settings.crafting_ramp * settings.steps
        return settings.crafting_weight * (min(1.0, number / ramp) if ramp else 1.0)

    def _next(self, kind: str, length: int) -> list[int]:
        """The next batch of positions: every picture once an epoch, each epoch in a new order."""
        count, queue = self.settings.batch_size, self.queues[kind]
        while len(queue) < count:
            queue += torch.randperm(length, generator=self.generators[kind]).tolist()
        batch, self.queues[kind] = queue[:count], queue[count:]
        return batch

    def _timesteps_and_noise(self, kind: str, images: TrainingSet) -> tuple[Tensor, Tensor]:
        generator, batch = self.generators[kind], self.settings.batch_size
        timesteps = torch.randint(TIMESTEPS, (batch,), generator=generator)
        return timesteps, torch.randn(batch, *images.latents.shape[1:], generator=generator)

    def _denoise(self, images: TrainingSet, timesteps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What the U-Net should predict (the noise, or v) and what it does."""
        noisy = self.schedule.add_noise(images.latents, noise, timesteps)
        target = self.schedule.get_velocity(images.latents, noise, timesteps) if self.velocity else noise
        words = self._words(images.prompt_embeds, images.pooled, images.tokens)
        return target, self._predict(noisy, timesteps, *words, images.time_ids)

    def _predict(self, noisy: Tensor, timesteps: Tensor, embeds: Tensor, pooled: Tensor, time_ids: Tensor) -> Tensor:
        # a context of its own for each call: autocast keeps the LoRA's cast weights, those cast without gradient too
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.unet(noisy, timesteps, embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}).sample.float()

    # One step's end

    def _share(self, sums: dict[str, Tensor], counted: Tensor) -> None:
        """Add up losses and gradients over the processes."""
        if self.ranks == 1:
            return
        gradients = [weight.grad for weight in self.parameters if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients] + [value[None] for value in (*sums.values(), counted)])
        torch.distributed.all_reduce(flat)
        *pieces, rest = flat.split([gradient.numel() for gradient in gradients] + [len(sums) + 1])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))
        for value, piece in zip((*sums.values(), counted), rest, strict=True):
            value.copy_(piece)

    def _measured(self, sums: Mapping[str, Tensor], counted: Tensor, crafting_weight: float) -> tuple[float, dict[str, float]]:
        """The whole loss and its parts as numbers."""
        *values, share = torch.stack([*sums.values(), counted]).tolist()
        losses = dict(zip(sums, values, strict=True))
        weights = {"identity": 1.0, "prior": self.settings.prior_weight, "crafting": crafting_weight}
        total = sum(weights[name] * value for name, value in losses.items())
        if "crafting" in losses:
            losses["crafting"] = losses["crafting"] / share if share else math.nan
        return total, losses

    def _clipped_norm(self) -> float:
        self.scaler.unscale_(self.optimizer)
        return torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm or math.inf).item()

    def _update(self, measured: tuple[float, dict[str, float]], norm: float) -> dict[str, float]:
        total, losses = measured
        excess = _excess([*self.curves["identity"], losses["identity"]])
        # float16 overflows now and then: its scaler skips such a step and goes on.
        if not math.isfinite(total) or not (math.isfinite(norm) or self.scaler.is_enabled()) or excess > 2:
            raise self._diverged(total, norm)
        if excess <= 1.5:
            self.last_good_steps = self.steps_done
            self._keep_as_good()
        self._updating = True
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step(self.parameters)
        self.steps_done += 1
        self.totals.append(total)
        for name, value in losses.items():
            self.curves[name].append(value)
        self._before = self._draws()
        self._updating = False
        return losses

    def _keep_as_good(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.last_good, self.deliverable)

    def _diverged(self, loss: float, norm: float) -> Diverged:
        failed = self.steps_done + 1
        with torch.no_grad():
            torch._foreach_copy_(self.deliverable, self.last_good)
        self.steps_done = self.last_good_steps
        return Diverged(
            f"The training diverged: at step {failed} of {self.settings.steps} the loss is {loss:g}, the gradient norm {norm:g}. "
            f"The LoRA of step {self.steps_done} is kept. Lower the learning rate ({self.settings.learning_rate:g}), "
            "or use precision fp32 or bf16."
        )


def noise_schedule(settings: TrainSettings) -> Any:
    """SDXL's scaled-linear schedule as diffusers' DDPMScheduler, rescaled to zero SNR where the checkpoint was trained so."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=settings.prediction,
        rescale_betas_zero_snr=settings.zero_snr,
    )


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the U-Net's matrix products; the LoRA itself always stays float32. fp16 means float32 on the CPU."""
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp16" and device.type == "cpu":
        return torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def run_of(
    unet: UNet2DConditionModel,
    data: TrainingSet,
    settings: TrainSettings,
    class_images: TrainingSet | None,
    crafting: CraftingSet | None,
    processes: int = 1,
    encoders: TextEncoders | None = None,
) -> dict[str, Any]:
    """What decides a run's outcome, as JSON can hold it: two runs of which this is equal end with the same LoRA."""
    made = settings.used()
    made.pop("gradient_checkpointing")  # memory for time; a run that ran out of memory may go on with it
    made["accumulation"] = settings.accumulation * processes
    made["photos"] = data.digest()
    made["model"] = model_digest(unet)
    if encoders is not None:
        made["text_encoders"] = text_digest(encoders)
    if settings.prior == "images" and class_images is not None:
        made["class_images"] = class_images.digest()
    if _needs_prompts(settings) and crafting is not None:
        made["prompts"] = crafting.digest()
    return made


def model_digest(unet: UNet2DConditionModel) -> str:
    """A digest of the weights' names, shapes and a sample of each weight's numbers."""
    parts: list[bytes | Tensor] = []
    for name, weight in unet.state_dict().items():
        flat = weight.flatten()
        parts += [f"{name} {tuple(weight.shape)}".encode(), flat[:: max(1, len(flat) // 64)]]
    return digest_of(*parts)


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


def _check_parts(
    unet: UNet2DConditionModel, data: TrainingSet, settings: TrainSettings, class_images: TrainingSet | None, crafting: CraftingSet | None
) -> None:
    if settings.prior == "images":
        if class_images is None or not len(class_images):
            raise FaceExprError("prior is images, but there are no pictures of the class; give some, or take prior distill or off.")
        check_fit(unet, class_images)
    if _needs_prompts(settings) and crafting is None:
        raise FaceExprError("prior distill and crafting need the prompts of the class; none were encoded. Switch both off, or encode them.")
    if settings.crafting_mask and settings.crafting_weight and (crafting is None or crafting.areas is None):
        raise FaceExprError("crafting_mask is on, but the action units' areas were not made; make them, or switch it off.")
    if settings.caption_dropout:
        data.select([0]).without_captions(torch.tensor([True], device=data.latents.device))


def _check_encoders(
    settings: TrainSettings,
    encoders: TextEncoders | None,
    data: TrainingSet,
    class_images: TrainingSet | None,
    crafting: CraftingSet | None,
) -> TextEncoders | None:
    """The text encoders if they learn. Raises FaceExprError when they, or tokens for them, are not there."""
    if not settings.text_encoder:
        return None
    kept = [data.tokens]
    if settings.caption_dropout:
        kept.append(data.empty_tokens)
    if settings.prior == "images" and class_images is not None:
        kept.append(class_images.tokens)
    if _needs_prompts(settings) and crafting is not None:
        kept += [crafting.person_tokens, crafting.base_tokens]
    if encoders is None or any(tokens is None for tokens in kept):
        what = "text encoders" if encoders is None else "tokens of the prompts"
        raise FaceExprError(f"text_encoder is on, but there are no {what}; give them, or switch it off.")
    return encoders


def _needs_prompts(settings: TrainSettings) -> bool:
    return settings.prior == "distill" or settings.crafting_weight > 0


def _processes() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _excess(losses: Sequence[float], window: int = 10) -> float:
    """The mean of the last losses in multiples of what is still well: 0.5 (predicting nothing gives about 1), or 1.5 times the first."""
    if not losses:
        return 0.0
    return statistics.fmean(losses[-window:]) / max(0.5, 1.5 * statistics.median(losses[:window]))


def _precision_note(precision: str, device: torch.device) -> str | None:
    return "fp16 is for GPUs; the CPU computes in float32." if precision == "fp16" and device.type == "cpu" else None
