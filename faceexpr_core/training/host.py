"""Where a training run takes place: what it needs of ComfyUI or of diffusers, and of the page or the terminal that it is watched on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .result import Step

if TYPE_CHECKING:
    import numpy as np
    from diffusers import UNet2DConditionModel
    from numpy.typing import NDArray

    from .text_encoders import TextEncoders

    Picture = NDArray[np.uint8]


class Host(Protocol):
    """The base model: U-Net, text encoders and VAE, each on the device when it is needed.

    A picture is uint8 [H, W, 3]; latents are float32 [N, 4, H/8, W/8] in the scale that the U-Net is trained on.
    """

    device: torch.device
    interrupts: tuple[type[BaseException], ...]
    """What the host raises when the user stops it; all other errors of a preview are survived."""

    full_size: bool
    """Whether the model is of SDXL's own size, for which `plan` has figures; FaceExpr Mini is not."""

    draws_whole: bool
    """Whether it draws with the whole U-Net on the card, or leaves on the host what has no room there."""

    def room(self) -> int | None:
        """Bytes of the card for the training once all else of the host has left it, the last of them kept free; None without a card."""
        ...

    def prediction(self) -> dict[str, Any]:
        """`prediction` and `zero_snr` as TrainSettings has them, {} for its defaults."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """H float32 [N, T, C] and pooled float32 [N, P], fit for autograd."""
        ...

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """int64 [N, 2, K, 77], as the two text encoders read them."""
        ...

    def count_tokens(self, text: str) -> tuple[int, ...]:
        """How many tokens a text has in each text encoder."""
        ...

    def encode_images(self, images: Tensor) -> Tensor:
        """float [N, H, W, 3] in 0..1 -> latents, fit for autograd."""
        ...

    def decode(self, latents: Tensor) -> Picture:
        """One latent [1, 4, h, w] -> its picture, with as little memory as can be: the U-Net is on the device and learns."""
        ...

    def text_encoders(self, dtype: torch.dtype) -> TextEncoders:
        """Private, LoRAs included, not learning yet."""
        ...

    def unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        """Private, LoRAs included, on the CPU."""
        ...

    def draw(self, prompt: str, seed: int, side: int) -> Picture:
        """The base model's picture of a prompt."""
        ...

    def parts(self) -> dict[str, str]:
        """Digests of the text encoders and the VAE, LoRAs on them included (`fingerprint.weights_digest`): `text_encoders`, `vae`."""
        ...

    def recipe(self, side: int) -> dict[str, Any]:
        """All that decides what `draw` gives but model, its parts, prediction and prompt, as JSON can hold it."""
        ...

    def release(self, decode: bool) -> None:
        """Leave the device to the private U-Net; nothing but `decode`, where that is asked, is called after this."""
        ...


class Watcher(Protocol):
    """The page or terminal."""

    def say(self, text: str) -> None:
        """What the run is at, or what its settings mean: the next line may take its place."""
        ...

    def warn(self, text: str) -> None:
        """A line that the user should still see when the run is over."""
        ...

    def drawing(self, number: int, of: int, prompt: str) -> None:
        """A picture of the class, counted from 1, is about to be drawn. What it raises stops the run."""
        ...

    def ready(self) -> None:
        """All is there for the first step. What it raises stops the run, and nothing of it is saved."""
        ...

    def step(self, step: Step, sheet: Picture | None) -> None:
        """After each step, with the preview where there is one. What it raises stops the run, whose LoRA so far is saved."""
        ...
