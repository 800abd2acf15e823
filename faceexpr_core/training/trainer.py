"""One run of the training loop, step by step: its draws, the parts of its loss, the update."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..schedule import TIMESTEPS
from .adapter import add_lora
from .base import check_base, quantise
from .checks import check_class, check_materials
from .data import TrainingSet
from .draws import Batch, Draws, crafting_batches, seeded, uploaded
from .fingerprint import run_of
from .health import DIVERGED, TOO_FAR, Health
from .losses import min_snr_weight
from .materials import Materials
from .parts import Parts, noise_schedule
from .precision import compute_dtype, precision_note
from .processes import hear, is_told, rank, tell
from .result import Layers
from .settings import TrainSettings
from .start import Pairs, Start, begin_from, without_unread
from .text_encoders import TextEncoders, add_text_lora, enable_checkpointing
from .update import Diverged, Update, add_up


class Trainer:
    """The state of a run: adapter, draws, losses so far, and the update. `resume` writes it down and takes it up."""

    def __init__(self, materials: Materials, settings: TrainSettings, device: torch.device) -> None:
        """Moves, casts and adapts the models of `materials`. Raises FaceExprError where they do not fit each other or the settings."""
        materials = materials.used(settings)
        check_materials(materials, settings)
        check_class(materials, settings)
        check_base(settings.base, device)
        self.unet, self.settings, self.device = materials.unet, settings, device
        self.rank, self.ranks = rank()
        self.run = run_of(materials, settings, self.ranks)
        self.draws = _draws(materials, settings)
        dtype = compute_dtype(settings.precision, device)
        self.layers = self._adapt_unet(dtype)
        self.text_layers = {} if materials.encoders is None else self._adapt(materials.encoders, dtype)
        left_out = None if materials.start is None else self._begin(materials.start, materials.encoders)
        self.parts = self._parts(materials, dtype)
        self.update = Update(_weights(self.layers), _weights(self.text_layers), settings, device, dtype)
        self.notes = tuple(filter(None, [self.update.note, precision_note(settings.precision, device), left_out]))
        names = ["identity", *(["prior"] if settings.prior != "off" else []), *(["crafting"] if settings.crafting_weight else [])]
        self.curves: dict[str, list[float]] = {name: [] for name in names}
        self.health = Health(self.curves)
        self.totals: list[float] = []
        self.steps_done = self.last_good_steps = 0
        self.before = self.draws.standing()

    @property
    def learning_rate(self) -> float:
        return self.update.rates.get_last_lr()[0]

    @property
    def healthy(self) -> bool:
        """Every part of the loss is about where it was, or better."""
        return self.health.worst[1] <= TOO_FAR

    def step(self) -> dict[str, float]:
        """One optimiser step over `accumulation` batches a process. Returns the parts of the loss.

        Raises Diverged when loss or gradient is not finite, or ten values of a part of the loss are on average at a multiple of
        where they began (see `health`), with the last weights that gave a good loss put back.
        """
        batches = self.settings.accumulation * self.ranks
        weights = {"identity": 1.0, "prior": self.settings.prior_weight, "crafting": self._crafting_weight(self.steps_done + 1)}
        # every process draws for all, so that the draws do not depend on how many there are
        drawn = self.draws.step(batches, weights["crafting"] > 0)
        mine = [batch for index, group in enumerate(drawn) if _turn(index, batches) % self.ranks == self.rank for batch in group]
        sums = {name: torch.zeros((), device=self.device) for name in self.curves}
        counted, failed = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        try:
            for batch in uploaded(mine, self.device):
                loss, share, used = self._loss(batch, weights[batch.part], batches)
                self.update.scaler.scale(loss).backward()
                sums[batch.part] += share
                counted += used
        except Exception as reason:
            self.fail(reason)
            raise
        if self.ranks > 1:
            add_up(self.update.parameters, [*sums.values(), counted, failed])
        told = torch.stack([*sums.values(), counted, failed, self.update.clipped_norm()])
        *values, taken, ended, norm = told.tolist()  # one wait for all
        if ended and self.ranks > 1:
            hear("training")
        losses = dict(zip(sums, values, strict=True))
        total = sum(weights[name] * value for name, value in losses.items())
        if "crafting" in losses:
            losses["crafting"] = losses["crafting"] / taken if taken else math.nan
        self._finish(total, losses, norm)
        return losses

    def lora_layers(self) -> Layers:
        """The LoRA as it stands, float32 on the CPU."""
        weights = iter(self.update.deliverable)
        names = [*(f"unet.{name}" for name in self.layers), *self.text_layers]
        return {name: (_copied(next(weights)), _copied(next(weights))) for name in names}

    @torch.no_grad()
    def embed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N, 2, K, 77] -> H [N, 77 K, C] and pooled [N, P] with the LoRA as it is now; only where the text encoders learn."""
        return self.parts.embed(tokens.to(self.device))

    def fail(self, reason: Exception) -> None:
        """Tell the other processes, which wait in the sum of the step that this one cannot take, that it ends and why."""
        if self.ranks == 1 or is_told(reason):
            return
        try:
            self.update.forget_gradients()
            empty = [torch.zeros((), device=self.device) for _ in range(len(self.curves) + 1)]
            add_up(self.update.parameters, [*empty, torch.ones((), device=self.device)])
            tell(reason)
            self.update.forget_gradients()
        except Exception as second:  # a device that answers nothing more: the others run into their timeout
            reason.add_note(f"The other processes could not be told ({type(second).__name__}: {second}).")

    def rewind(self) -> bool:
        """Undo the draws of a step that was broken off. False when it was broken off while the weights changed: then nothing helps."""
        if self.update.changing:
            return False
        self.draws.put_back(self.before)
        self.update.forget_gradients()
        return True

    @property
    def checkpoints(self) -> bool:
        """Whether activations are computed again instead of kept."""
        asked = self.settings.gradient_checkpointing
        return asked if asked is not None else self.device.type != "cpu"

    def _adapt_unet(self, dtype: torch.dtype) -> Pairs:
        """The U-Net moved, cast, packed and with a LoRA, whose pairs these are."""
        unet, settings, generator = self.unet, self.settings, self.draws.generators["photos"]
        unet.requires_grad_(False)
        quantise(unet, settings.base, self.device, dtype)
        torch.nn.Module.to(unet, self.device, dtype)  # diffusers' own `to` warns about an empty list of float32 modules
        scaled, where = (settings.rank, settings.effective_alpha, generator), (settings.block_names, settings.convolutions)
        layers = add_lora(unet, *scaled, *where, settings.init_lora_weights)
        if self.checkpoints:
            unet.enable_gradient_checkpointing()
        unet.train()
        return layers

    def _adapt(self, encoders: TextEncoders, dtype: torch.dtype) -> Pairs:
        """The same of text encoders that learn."""
        for encoder in encoders.parts.values():
            encoder.requires_grad_(False)
            torch.nn.Module.to(encoder, self.device, dtype)
            encoder.train()
        if self.checkpoints:
            enable_checkpointing(encoders)
        # a generator of their own, so that the photos' draws stay as they are without them
        generator = seeded(self.settings.seed, len(self.draws.generators))
        return add_text_lora(encoders, self.settings.rank, self.settings.effective_alpha, generator, self.settings.init_lora_weights)

    def _begin(self, start: Start, encoders: TextEncoders | None) -> str | None:
        """Give the LoRA the weights that the run starts from; returns what is left out of them."""
        start, left_out = without_unread(start, encoders)
        pairs = {**{f"unet.{name}": pair for name, pair in self.layers.items()}, **self.text_layers}
        begin_from(start, pairs, self.settings.effective_alpha)
        return left_out

    def _parts(self, materials: Materials, dtype: torch.dtype) -> Parts:
        """The models, with copies of the sets on the device in float32."""
        from diffusers.training_utils import compute_snr

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, torch.float32 if tensor.is_floating_point() else tensor.dtype).clone()

        settings, schedule = self.settings, noise_schedule(self.settings)
        snr = compute_snr(schedule, torch.arange(TIMESTEPS))
        return Parts(
            self.unet,
            tuple(self.layers),
            materials.encoders,
            materials.data.map(moved),
            None if materials.class_images is None else materials.class_images.map(moved),
            None if materials.crafting is None else materials.crafting.map(moved),
            schedule,
            min_snr_weight(snr, settings.min_snr_gamma, settings.prediction == "v_prediction").to(self.device),
            dtype,
            settings.prior_target,
        )

    def _crafting_weight(self, number: int) -> float:
        """lambda_ec at step `number`, 0 where the step takes no L_ec."""
        settings = self.settings
        if number % settings.crafting_every:
            return 0.0
        ramp = settings.crafting_ramp * settings.steps
        return settings.crafting_weight * (min(1.0, number / ramp) if ramp else 1.0)

    def _loss(self, batch: Batch, weight: float, batches: int) -> tuple[Tensor, Tensor, Tensor | float]:
        """What to minimise, the batch's share of its part of the loss, and of the crafting that counts."""
        if batch.part != "crafting":
            loss = (self.parts.identity(batch) if batch.part == "identity" else self.parts.prior(batch)) / batches
            return weight * loss, loss.detach(), 0.0
        losses, used = self.parts.expression(batch)
        times = crafting_batches(batches)
        return weight * losses.mean() / times, losses.detach().mean() / times, used.float().mean() / times

    def _finish(self, total: float, losses: Mapping[str, float], norm: float) -> None:
        self.health.add(losses)
        part, above = self.health.worst
        if not math.isfinite(total) or not (math.isfinite(norm) or self.update.scaler.is_enabled()):
            raise self._diverged(f"the loss is {total:g}, the gradient norm {norm:g}")
        if above > DIVERGED:
            raise self._diverged(f"{part}, a part of the loss, ran away from where it began, it is {self.health.newest(part):g} now")
        if self.health.good:
            self.last_good_steps = self.steps_done
            self.update.keep_as_good()
        self.update.changing = True
        self.update.step()
        self.steps_done += 1
        self.totals.append(total)
        for name, value in losses.items():
            self.curves[name].append(value)
        self.before = self.draws.standing()
        self.update.changing = False

    def _diverged(self, what: str) -> Diverged:
        failed, settings = self.steps_done + 1, self.settings
        self.update.back_to_good()
        self.steps_done = self.last_good_steps
        rates = f"{settings.learning_rate:g}"
        if self.text_layers:
            rates += f"; text_encoder_learning_rate, {settings.text_encoder_learning_rate or settings.learning_rate:g}"
        return Diverged(
            f"The training diverged: at step {failed} of {settings.steps} {what}. "
            f"The LoRA of step {self.steps_done} is kept. Lower the learning rate ({rates}), or use precision fp32 or bf16."
        )


def _draws(materials: Materials, settings: TrainSettings) -> Draws:
    images, pairs = materials.class_images, materials.crafting
    drawn = None if images is None else _counted(images)
    return Draws(settings, _counted(materials.data), drawn, 0 if pairs is None else len(pairs))


def _weights(layers: Pairs) -> list[torch.nn.Parameter]:
    return [weight for pair in layers.values() for weight in pair]


def _turn(index: int, batches: int) -> int:
    """Which process takes a group of batches: those of crafting are counted anew."""
    return index if index < batches else index - batches


def _counted(pictures: TrainingSet) -> tuple[int, torch.Size]:
    return len(pictures), pictures.latents.shape[1:]


def _copied(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float32, copy=True)
