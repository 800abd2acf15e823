"""What a training run is made of."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import FaceExprError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SCHEDULES = ("constant", "cosine")
FILE_PRECISIONS = ("fp16", "fp32")
BACKGROUND_WEIGHT = 0.3
"""What the loss weighs outside the face, where the face weighs 1."""


@dataclass(frozen=True)
class TrainSettings:
    """What a training run is made of; the defaults are for SDXL at 1024 px.

    `alpha` 0 means the rank (scale 1). `min_snr_gamma`, `ema` and `max_grad_norm` are off at 0. `warmup` counts steps.
    `precision` auto is float32 on the CPU and bfloat16 (float16 on cards without it) on CUDA. `gradient_checkpointing` None is on
    wherever there is a GPU. Raises FaceExprError for a value out of range.
    """

    rank: int = 32
    alpha: float = 0.0
    steps: int = 800
    batch_size: int = 1
    accumulation: int = 3
    learning_rate: float = 1e-4
    schedule: str = "constant"
    warmup: int = 0
    min_snr_gamma: float = 5.0
    max_grad_norm: float = 1.0
    weight_decay: float = 1e-2
    ema: float = 0.99
    precision: str = "auto"
    gradient_checkpointing: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "rank": (1, 1024),
            "alpha": (0, 4096),
            "steps": (1, 1_000_000),
            "batch_size": (1, 256),
            "accumulation": (1, 256),
            "learning_rate": (1e-8, 1.0),
            "warmup": (0, self.steps),
            "min_snr_gamma": (0, 1000),
            "max_grad_norm": (0, 1000),
            "weight_decay": (0, 1),
            "ema": (0, 0.99999),
            "seed": (0, 2**64 - 1),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise FaceExprError(f"{name} is {value}; give a value from {low} to {high}.")
        for name, choices in {"schedule": SCHEDULES, "precision": PRECISIONS}.items():
            if getattr(self, name) not in choices:
                raise FaceExprError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}.")

    @property
    def effective_alpha(self) -> float:
        return self.alpha or float(self.rank)
