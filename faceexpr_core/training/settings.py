"""What a training run is made of, and the presets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from ..errors import FaceExprError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
BASES = ("full", "nf4", "int8")
SCHEDULES = ("constant", "linear", "cosine", "cosine_with_restarts", "polynomial")
OPTIMIZERS = ("adamw8bit", "adamw")
PRIORS = ("off", "images", "distill")
PRIOR_TARGETS = ("noise", "model")
FIRST_WEIGHTS = ("kaiming", "gaussian")
PREDICTIONS = ("epsilon", "v_prediction")
PREDICTED: Mapping[str, Mapping[str, Any]] = {
    "as the MODEL says": {},
    "epsilon": {"prediction": "epsilon", "zero_snr": False},
    "v_prediction": {"prediction": "v_prediction", "zero_snr": False},
    "v_prediction, zero SNR": {"prediction": "v_prediction", "zero_snr": True},
}
"""What the node can be told that the MODEL predicts."""
FILE_PRECISIONS = ("fp16", "fp32")
BACKGROUND_WEIGHT = 0.3
"""What the loss weighs outside the face, where the face weighs 1."""
PRIOR_IMAGES = 64
"""How many pictures of the class the base model draws for the prior."""

RESUME = ("strict", "auto", "off")
"""What to do with the state of an earlier run: `strict` goes on with it, and refuses when its settings are others; `auto` goes on with it,
and starts anew when they are others; `off` starts anew."""
FINISHED = ("delete", "keep")
"""What is done with the last state of a finished run."""
EVERY, KEEP = 50, 2
"""A state every so many steps, and so many of them kept."""

BOUNDS: Mapping[str, tuple[float, float]] = {
    "rank": (1, 1024),
    "alpha": (0, 4096),
    "steps": (1, 1_000_000),
    "batch_size": (1, 256),
    "accumulation": (1, 256),
    "learning_rate": (1e-8, 1.0),
    "warmup": (0, 1_000_000),
    "min_snr_gamma": (0, 1000),
    "max_grad_norm": (0, 1000),
    "weight_decay": (0, 1),
    "ema": (0, 0.99999),
    "noise_offset": (0, 1),
    "caption_dropout": (0, 1),
    "prior_weight": (0, 100),
    "prior_dropout": (0, 1),
    "crafting_weight": (0, 100),
    "crafting_every": (1, 1000),
    "crafting_ramp": (0, 1),
    "text_encoder_learning_rate": (0, 1.0),
    "text_encoder_weight_decay": (0, 1),
    "seed": (0, 2**64 - 1),
}
"""Least and most of every number of TrainSettings; a warm-up is no longer than the run either."""

ADDED_LATER: Mapping[str, Any] = {"base": "full", "init_lora_weights": "kaiming", "prior_target": "noise", "prior_dropout": 0.0}
"""Settings that earlier versions did not have, and what they did: a run that does so is theirs."""

_BLOCK = re.compile(r"(down|up)(\.\d+)?|middle")
_READING = {"text_encoder", "text_encoder_learning_rate", "text_encoder_weight_decay"}
_OF_PICTURES = {"prior_target", "prior_dropout"}
_OF_THE_CHECKPOINT = ("prediction", "zero_snr")


class BadSetting(FaceExprError):
    """A value out of range: `name` of the setting, and what is `told` of it."""

    def __init__(self, name: str, told: str) -> None:
        super().__init__(f"{name} {told}")
        self.name = name
        self.told = told


@dataclass(frozen=True)
class TrainSettings:
    """What a training run is made of; the defaults are for SDXL at 1024 px, with L_id alone. `preset_settings` gives the presets.

    `alpha` 0 means the rank (scale 1). `blocks` names the parts of the U-Net that learn: `all`, or some of `down`, `middle`, `up`,
    `down.1`, `up.0` ... with commas; `convolutions` adds the ResNet blocks' 3 x 3 convolutions to the attention projections. `schedule` is
    one of diffusers' `get_scheduler`; `warmup` counts steps. `optimizer` adamw8bit is bitsandbytes' on CUDA and plain AdamW elsewhere.
    `min_snr_gamma`, `ema`, `max_grad_norm`, `noise_offset` and `caption_dropout` are off at 0. `captions` False: every photo is learned
    with the same words; `flip`: each photo mirrored too (off: faces are not symmetric). `precision` auto is what the device computes
    best in (`precision.best_dtype`), float32 on the CPU. `gradient_checkpointing` None is on wherever there is a GPU. `prior` off,
    images (L_prior on pictures of the class) or distill (without pictures), times `prior_weight` lambda_pr; of pictures `prior_target` says
    what is learned: their noise, as DreamBooth does, or what the model without the LoRA predicts; `prior_dropout` is the share that is
    learned without words, which is what guidance draws away from. `crafting_weight` is
    lambda_ec, 0 is off; L_ec is taken on every `crafting_every`-th step, its weight rising over the first `crafting_ramp` of the run,
    with the action units' area only if `crafting_mask`. `text_encoder`: the attention projections of both text encoders learn too, with
    a LoRA of the same rank and alpha, at `text_encoder_learning_rate` (0: as `learning_rate`) and with `text_encoder_weight_decay`; its
    default of half the U-Net's rate is what kohya's users take, diffusers' `--text_encoder_lr` has 5e-6. `prediction` and `zero_snr`
    (noise schedule rescaled to zero SNR) are the checkpoint's. `base` keeps the U-Net's frozen linear layers in nf4 or int8 (see
    `base`). `init_lora_weights` is how the LoRA's first weights are drawn (`adapter.add_lora`). Raises BadSetting for a value out of range.
    """

    rank: int = 32
    alpha: float = 0.0
    blocks: str = "all"
    convolutions: bool = False
    steps: int = 800
    batch_size: int = 1
    accumulation: int = 3
    learning_rate: float = 1e-4
    schedule: str = "constant"
    warmup: int = 0
    optimizer: str = "adamw8bit"
    min_snr_gamma: float = 5.0
    max_grad_norm: float = 1.0
    weight_decay: float = 1e-2
    ema: float = 0.99
    noise_offset: float = 0.0
    captions: bool = True
    caption_dropout: float = 0.0
    flip: bool = False
    precision: str = "auto"
    gradient_checkpointing: bool | None = None
    prior: str = "off"
    prior_weight: float = 1.0
    crafting_weight: float = 0.0
    crafting_every: int = 2
    crafting_ramp: float = 0.2
    crafting_mask: bool = False
    text_encoder: bool = False
    text_encoder_learning_rate: float = 5e-5
    text_encoder_weight_decay: float = 1e-3
    prediction: str = "epsilon"
    zero_snr: bool = False
    seed: int = 0
    base: str = "full"
    init_lora_weights: str = "kaiming"
    prior_target: str = "noise"
    prior_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in {**BOUNDS, "warmup": (0, self.steps)}.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadSetting(name, f"is {value}; give a value from {low} to {high}.")
        if self.schedule == "polynomial" and self.warmup == self.steps:
            raise BadSetting("warmup", f"is {self.warmup}, all of the run, after which a polynomial schedule has no step; give fewer.")
        choices = {
            "schedule": SCHEDULES,
            "optimizer": OPTIMIZERS,
            "precision": PRECISIONS,
            "base": BASES,
            "prior": PRIORS,
            "prior_target": PRIOR_TARGETS,
            "prediction": PREDICTIONS,
            "init_lora_weights": FIRST_WEIGHTS,
        }
        for name, options in choices.items():
            if getattr(self, name) not in options:
                raise BadSetting(name, f"is {getattr(self, name)!r}; choose one of {', '.join(options)}.")
        if self.blocks != "all" and not all(_BLOCK.fullmatch(part) for part in self.block_names):
            raise BadSetting("blocks", f"is {self.blocks!r}; give all, or some of down, middle, up, down.1, up.0 ... with commas.")
        if self.zero_snr and self.prediction == "epsilon":
            raise FaceExprError("zero_snr is on with prediction epsilon, which says nothing where there is only noise; take v_prediction.")

    @property
    def effective_alpha(self) -> float:
        return self.alpha or float(self.rank)

    def used(self) -> dict[str, Any]:
        """The settings by name, without the text encoders' where these do not learn, without what pictures of the class teach where there
        are none, and without ADDED_LATER that are as before."""
        left_out = {name for name, before in ADDED_LATER.items() if getattr(self, name) == before}
        left_out |= set() if self.text_encoder else _READING
        left_out |= set() if self.draws_class else _OF_PICTURES
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @property
    def draws_class(self) -> bool:
        """Whether the prior needs pictures of the class."""
        return self.prior == "images"

    @property
    def block_names(self) -> tuple[str, ...]:
        """The parts that `blocks` names, () for all."""
        return () if self.blocks == "all" else tuple(part.strip() for part in self.blocks.split(","))


@dataclass(frozen=True)
class Preset:
    """A named set of settings, with what belongs to the photos: their `resolution` and the loss's `background_weight`."""

    settings: Mapping[str, Any] = field(hash=False)
    resolution: int
    background_weight: float
    summary: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "default": Preset(
            MappingProxyType(
                {
                    "convolutions": True,
                    "prior": "images",
                    "prior_target": "model",
                    "prior_dropout": 0.2,
                    "crafting_weight": 0.05,
                    "text_encoder": True,
                }
            ),
            1024,
            BACKGROUND_WEIGHT,
            "the whole method, for cards with 12 GB and more, or 8 GB with base nf4",
        ),
        "paper": Preset(
            MappingProxyType(
                {
                    "rank": 4,
                    "init_lora_weights": "gaussian",
                    "steps": 400,
                    "precision": "fp16",
                    "ema": 0.0,
                    "captions": False,
                }
            ),
            512,
            1.0,
            "the command that the paper's authors published",
        ),
        "low-vram": Preset(
            MappingProxyType(
                {"rank": 16, "prior": "distill", "crafting_weight": 0.05, "gradient_checkpointing": True, "optimizer": "adamw8bit"}
            ),
            768,
            BACKGROUND_WEIGHT,
            "the whole method without pictures of the class, smaller and with checkpointing",
        ),
    }
)
"""Name -> preset; `auto` (AUTO) is one of them. `paper` is the published command (400 steps of 3 accumulated photos, rank 4 with
gaussian first weights, fp16, 8-bit Adam, SNR gamma 5, no prior, one caption); the others are ours."""

AUTO, PLAIN = "auto", "default"
"""The preset that chooses among PRESETS by the card's memory (see `auto.settle`), and what it is where there is no card to fit."""
PRESET_NAMES = (AUTO, *PRESETS)


def preset(name: str) -> Preset:
    """`auto` is PLAIN here. Raises FaceExprError for a name that is none of PRESET_NAMES."""
    if name not in PRESET_NAMES:
        raise FaceExprError(f"There is no preset {name!r}; choose one of {', '.join(PRESET_NAMES)}.")
    return PRESETS[PLAIN if name == AUTO else name]


def background_of(name: str, asked: float | None) -> float:
    """What the loss weighs outside the face: what was `asked` for, None for what the preset says, or BACKGROUND_WEIGHT where the name of
    one is ""."""
    if asked is not None:
        return asked
    return preset(name).background_weight if name else BACKGROUND_WEIGHT


def preset_settings(name: str, **overrides: Any) -> TrainSettings:
    """The settings of a preset; each of `overrides` that is not None takes the place of the preset's value.

    Raises FaceExprError for an unknown preset and for a value out of range.
    """
    return TrainSettings(**{**preset(name).settings, **{key: value for key, value in overrides.items() if value is not None}})


def require_used(settings: TrainSettings, given: Iterable[str]) -> None:
    """Raise FaceExprError for a setting `given` by name that changes nothing, because what it is a part of is off."""
    parts = {
        "prior": (settings.prior != "off", ("prior_weight",)),
        "prior images": (settings.draws_class, tuple(_OF_PICTURES)),
        "crafting_weight": (settings.crafting_weight > 0, ("crafting_every", "crafting_ramp", "crafting_mask")),
        "train_text_encoder": (settings.text_encoder, ("text_encoder_learning_rate", "text_encoder_weight_decay")),
    }
    names = set(given)
    for whole, (on, own) in parts.items():
        for name in own:
            if not on and name in names and getattr(settings, name) != getattr(TrainSettings, name):
                raise FaceExprError(f"{name} was given, but {whole} is off; switch that on, or leave {name} out.")


def parse_settings(text: str) -> dict[str, Any]:
    """Settings written as `noise_offset=0.05, blocks=up,middle`, on one line or several: name -> value of its type.

    Raises FaceExprError for a name that is none of TrainSettings', is the checkpoint's to say or comes twice, and for a value that is
    none of its kind.
    """
    kinds = {one.name: str(one.type) for one in fields(TrainSettings) if one.name not in _OF_THE_CHECKPOINT}
    found: dict[str, Any] = {}
    for part in re.split(r"[;\n]|,(?=\s*\w+\s*=)", text):
        if not part.strip():
            continue
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in kinds:
            raise FaceExprError(f"{part.strip()!r} is no setting; write name=value, the name one of {', '.join(kinds)}.")
        if name in found:
            raise FaceExprError(f"{name} is given twice; leave one of them out.")
        found[name] = _value(name, kinds[name], value)
    return found


def _value(name: str, kind: str, text: str) -> Any:
    if kind.startswith("bool"):
        known = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
        if text.lower() not in known:
            raise FaceExprError(f"{name} is {text!r}; give on or off.")
        return known[text.lower()]
    if kind == "str":
        return text
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        raise FaceExprError(f"{name} is {text!r}; give a {'whole number' if kind == 'int' else 'number'}.") from None
