"""ComfyUI as a `donors.Host`: twins run inside one of ComfyUI's own sampling sessions, so that ControlNet, hooks, previews, cancelling
and memory management work as in any KSampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ...faceexpr_core.fusion.donor_faces import Picture
from ...faceexpr_core.fusion.donors import Which
from ...faceexpr_core.fusion.recorder import Recorder
from .capture import record_context
from .conditioning import Conditioning
from .encoding import decode_latents, encode_images
from .loading import bring_back
from .pixels import to_bytes, to_image
from .run import RECORD, Record
from .sampling import first_latent

Work = Callable[["DonorHost"], Any]
Recording = tuple[Recorder, Sequence[str]]
"""Where features go, and of which places."""


class TwinGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance by the neutral or by the expression's conditioning, whichever `which` says."""

    def __init__(self, model: Any, expression: Conditioning, neutral: Conditioning, negative: Conditioning, cfg: float) -> None:
        super().__init__(model)
        self.faceexpr_conditional = ("positive", "neutral")
        # ComfyUI gives the ControlNet of `positive` to every other conditioning that has none
        self.inner_set_conds({"positive": expression, "negative": negative, "neutral": neutral})
        self.set_cfg(cfg)
        self.which = "n"
        self.alone = False

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None) -> Tensor:
        wanted = self.conds["positive" if self.which == "e" else "neutral"]
        cfg = 1.0 if self.alone else self.cfg
        options = {} if model_options is None else model_options
        return comfy.samplers.sampling_function(self.inner_model, x, timestep, self.conds["negative"], wanted, cfg, options, seed)


class DonorHost:
    """`donors.Host` over a sampling session. `start` is the sampler's own first latent, `sigmas` its schedule."""

    def __init__(
        self, guider: TwinGuider, model_k: Any, start: Tensor, extra_args: dict[str, Any], vae: Any, on_step: Any, recording: Recording
    ) -> None:
        self.guider, self.start, self._recording = guider, start, recording
        self._model_k, self._extra_args, self._vae, self._on_step = model_k, extra_args, vae, on_step
        self._vae_loaded = False
        self._evaluations = 0

    def predict(self, x: Tensor, sigma: float, which: Which, record: int | None = None) -> Tensor:
        """The guided noise in x; with `record`, the features are kept under that index."""
        return self._evaluate(x, sigma, which, record, alone=False)

    def observe(self, x: Tensor, sigma: float, which: Which, record: int) -> None:
        """Record the conditional row alone."""
        self._evaluate(x, sigma, which, record, alone=True)

    def record_contexts(self) -> None:
        """Keys and values, which depend on the texts alone."""
        for which, name in (("n", "neutral"), ("e", "positive")):
            record_context(self.guider, self.guider.conds[name], which, *self._recording, self._extra_args["model_options"])

    def encode(self, picture: Picture) -> Tensor:
        self._vae_loaded = True
        return encode_images(self.guider.model_patcher, self._vae, to_image(picture)).to(self.start)

    def decode(self, latent: Tensor) -> Picture:
        """The picture [8h, 8w, 3]; grey where there is no VAE."""
        if self._vae is None:
            return torch.full((8 * latent.shape[2], 8 * latent.shape[3], 3), 127, dtype=torch.uint8).numpy()
        self._vae_loaded = True
        return to_bytes(decode_latents(self.guider.model_patcher, self._vae, latent)[0])

    def _evaluate(self, x: Tensor, sigma: float, which: Which, record: int | None, alone: bool) -> Tensor:
        if self._vae_loaded:  # which may have put the U-Net off the device
            bring_back(self.guider, x.shape)
            self._vae_loaded = False
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.guider.which, self.guider.alone = which, alone
        options = self._extra_args["model_options"]
        if record is not None:
            options = {**options, "transformer_options": {**options["transformer_options"], RECORD: Record(record, which)}}
        level = torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device)
        denoised = self._model_k(x, level, **{**self._extra_args, "model_options": options})
        self._evaluations += 1
        self._on_step(self._evaluations, denoised, x)
        return (x - denoised) / sigma


class _Session(comfy.samplers.Sampler):
    """A `Sampler` that does the work of a donor instead of sampling."""

    makes_its_noise = True
    """A run that is given none is none that goes on with another one's (`note_sampler`)."""

    def __init__(self, work: Work, vae: Any, total: int, recording: Recording, before: int = 0) -> None:
        self._work, self._vae, self._total, self._recording, self._before = work, vae, total, recording, before

    def sample(
        self,
        model_wrap: TwinGuider,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        sampling = model_wrap.inner_model.model_sampling
        model_k = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)
        model_k.latent_image, model_k.noise = latent_image, noise
        start = sampling.noise_scaling(sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas))

        def on_step(done: int, denoised: Tensor, x: Tensor) -> None:
            if callback is not None:
                callback(min(done + self._before, self._total) - 1, denoised, x, self._total)

        arguments = {**extra_args, "denoise_mask": denoise_mask}
        self._work(DonorHost(model_wrap, model_k, start, arguments, self._vae, on_step, self._recording))
        return start


def run_session(
    guider: TwinGuider,
    latent: dict[str, Any],
    noise: Tensor,
    sigmas: Tensor,
    vae: Any,
    total: int,
    recording: Recording,
    work: Work,
    before: int = 0,
) -> None:
    """Do `work` inside a sampling session of `guider` on the first latent of the batch; `total` evaluations are shown as progress, of
    which earlier sessions did `before`."""
    samples = first_latent(guider.model_patcher, latent)[:1]
    mask = latent.get("noise_mask")
    callback = latent_preview.prepare_callback(guider.model_patcher, max(total, 1))
    session = _Session(work, vae, max(total, 1), recording, before)
    if mask is not None:
        mask = mask.reshape(-1, 1, *mask.shape[-2:])[:1]
    guider.sample(noise, samples, session, sigmas, mask, callback, not comfy.utils.PROGRESS_BAR_ENABLED, 0)


def schedule_of(model: Any, steps: int, sampler: str, scheduler: str, denoise: float) -> Tensor:
    """The noise levels KSampler would visit, falling, with the last one's 0."""
    made = comfy.samplers.KSampler(
        model, steps, model.load_device, sampler=sampler, scheduler=scheduler, denoise=denoise, model_options=model.model_options
    )
    return made.sigmas


def first_noise(model: Any, latent: dict[str, Any], seed: int) -> Tensor:
    """The noise [1, 4, h, w] that KSampler gives the first latent of the batch."""
    samples = first_latent(model, latent)
    return comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))[:1]
