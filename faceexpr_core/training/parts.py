"""The parts of a step's loss: the U-Net's prediction for a batch, and the formula of `losses` on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..schedule import BETAS, TIMESTEPS
from .adapter import without_lora
from .crafting import CraftingSet
from .data import TrainingSet
from .draws import Batch
from .losses import CRAFTING_FLOOR, CRAFTING_FLOOR_BF16, crafting_loss, distillation_loss, prior_loss, weighted_epsilon_loss
from .precision import autocast
from .settings import TrainSettings
from .text_encoders import TextEncoders, embed_tokens

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True, eq=False)
class Parts:
    """The models and sets of a run, all on one device, and what it predicts with them.

    `layers` are the U-Net's modules with a LoRA; `encoders` None where they do not learn; `snr_weights` float32 [1000] is w(t).
    `prior_target` is TrainSettings' own.
    """

    unet: UNet2DConditionModel
    layers: tuple[str, ...]
    encoders: TextEncoders | None
    data: TrainingSet
    class_images: TrainingSet | None
    crafting: CraftingSet | None
    schedule: Any
    snr_weights: Tensor
    dtype: torch.dtype
    prior_target: str

    def identity(self, batch: Batch) -> Tensor:
        """L_id of a batch of photos: a scalar."""
        photos = self.data.select(batch.positions)
        if batch.dropped is not None:
            photos = photos.without_captions(batch.dropped)
        target, predicted = self._denoise(photos, batch)
        return weighted_epsilon_loss(target, predicted, photos.weights, self.snr_weights[batch.timesteps]).mean()

    def prior(self, batch: Batch) -> Tensor:
        """L_prior of a batch of class pictures, or without them by distillation: a scalar."""
        if self.class_images is None:
            return self._distillation(batch)
        images = self.class_images.select(batch.positions)
        if batch.dropped is not None:
            images = images.without_captions(batch.dropped)
        target, predicted = self._denoise(images, batch, self.prior_target == "model")
        return prior_loss(target, predicted, self.snr_weights[batch.timesteps]).mean()

    def expression(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """L_ec of a batch of photos, and where it counts: float32 [B], bool [B].

        Of each pair of prompts one side has a gradient, the neutral one as often as the expression. Were it always the expression, the
        gradient would move what both have in common, whenever they differ otherwise than wanted, and nothing would move it back.
        """
        assert self.crafting is not None and batch.chosen is not None and batch.learning is not None
        pairs, e, t, learning = self.crafting, batch.chosen, batch.timesteps, batch.learning
        photos = self.data.select(batch.positions)
        noisy = self.schedule.add_noise(photos.latents, batch.noise, t)

        def of_class(which: int) -> Tensor:
            return self.predict(noisy, t, pairs.base[e, which], pairs.base_pooled[e, which], photos.time_ids)

        def of_person(which: Tensor) -> Tensor:
            tokens = None if pairs.person_tokens is None else pairs.person_tokens[e, which]
            words = self._words(pairs.person[e, which], pairs.person_pooled[e, which], tokens)
            return self.predict(noisy, t, *words, photos.time_ids)

        with torch.no_grad():
            with without_lora(self.unet, self.layers):
                wanted = of_class(1) - of_class(0)
            still = of_person(1 - learning)
        change = (of_person(learning) - still) * (2 * learning - 1).view(-1, 1, 1, 1)
        floor = CRAFTING_FLOOR_BF16 if self.dtype == torch.bfloat16 else CRAFTING_FLOOR
        return crafting_loss(change, wanted, None if pairs.areas is None else pairs.areas[batch.positions, e], floor)

    def predict(self, noisy: Tensor, timesteps: Tensor, embeds: Tensor, pooled: Tensor, time_ids: Tensor) -> Tensor:
        """What the U-Net predicts (the noise, or v), float32 [B, 4, h, w], of latents `noisy` of that size at `timesteps` int64 [B], with
        `embeds` [B, T, C] and `pooled` [B, P] of the texts and SDXL's size ids `time_ids` [B, 6]."""
        # a context of its own for each call: autocast keeps the LoRA's cast weights, those cast without gradient too
        with autocast(noisy.device, self.dtype):
            return self.unet(noisy, timesteps, embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}).sample.float()

    def embed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N, 2, K, 77] -> H [N, 77 K, C] and pooled [N, P] with the LoRA as it is now; only where the text encoders learn."""
        assert self.encoders is not None
        with autocast(tokens.device, self.dtype):
            hidden, pooled = embed_tokens(self.encoders, tokens)
        return hidden.float(), pooled.float()

    def _distillation(self, batch: Batch) -> Tensor:
        """The photos' own latents under the class's prompts."""
        assert self.crafting is not None and batch.chosen is not None
        pairs, t = self.crafting, batch.timesteps
        photos = self.data.select(batch.positions)
        expression, which = batch.chosen % len(pairs), (batch.chosen < len(pairs)).long()
        prompt = pairs.base[expression, which], pairs.base_pooled[expression, which]
        tokens = None if pairs.base_tokens is None else pairs.base_tokens[expression, which]
        noisy = self.schedule.add_noise(photos.latents, batch.noise, t)
        with torch.no_grad(), without_lora(self.unet, self.layers):
            base = self.predict(noisy, t, *prompt, photos.time_ids)
        return distillation_loss(self.predict(noisy, t, *self._words(*prompt, tokens), photos.time_ids), base).mean()

    def _denoise(self, images: TrainingSet, batch: Batch, as_before: bool = False) -> tuple[Tensor, Tensor]:
        """What the U-Net should predict (the noise, or v; or `as_before`, what it predicts without the LoRA) and what it does."""
        noise, t = batch.noise, batch.timesteps
        noisy = self.schedule.add_noise(images.latents, noise, t)
        velocity = self.schedule.config.prediction_type == "v_prediction"
        if as_before:
            with torch.no_grad(), without_lora(self.unet, self.layers):
                target = self.predict(noisy, t, images.prompt_embeds, images.pooled, images.time_ids)
        else:
            target = self.schedule.get_velocity(images.latents, noise, t) if velocity else noise
        words = self._words(images.prompt_embeds, images.pooled, images.tokens)
        return target, self.predict(noisy, t, *words, images.time_ids)

    def _words(self, embeds: Tensor, pooled: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        """The base's embeddings, or where the text encoders learn, those that the tokens have now."""
        if self.encoders is None:
            return embeds, pooled
        assert tokens is not None
        return self.embed(tokens)


def noise_schedule(settings: TrainSettings) -> Any:
    """SDXL's scaled-linear schedule as diffusers' DDPMScheduler, rescaled to zero SNR where the checkpoint was trained so."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="scaled_linear",
        prediction_type=settings.prediction,
        rescale_betas_zero_snr=settings.zero_snr,
    )
