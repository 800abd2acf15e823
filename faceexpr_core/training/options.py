"""Every choice of a training run in one table: the node's widgets with tooltips and ranges, and the flags of `faceexpr train`.

Both doors say a row's `help`, and take its range and its choices from here; what only one of them has (the folder of photos, the MODEL)
stands there. The rows that have a widget are in the node's order, in which saved graphs hold the values: a new one goes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .settings import (
    AUTO,
    BASES,
    BOUNDS,
    EVERY,
    FILE_PRECISIONS,
    FINISHED,
    FIRST_WEIGHTS,
    KEEP,
    OPTIMIZERS,
    PRECISIONS,
    PREDICTED,
    PRESET_NAMES,
    PRESETS,
    PRIOR_IMAGES,
    PRIOR_TARGETS,
    PRIORS,
    SCHEDULES,
    TrainSettings,
)
from .settings import RESUME as RESUMES

Kind = Literal["int", "float", "choice", "switch", "text", "file"]

PRESET = "preset"
"""A list's word for: as the preset says."""
SWITCH: Mapping[str, bool | None] = {PRESET: None, "on": True, "off": False}
NO_FILE = "none"
"""What a list of files shows where none is chosen."""
RESUME = dict(zip(("continue", "continue or start anew", "start anew"), RESUMES, strict=True))

TRAINING, KEEPING, SEEING = "training", "keeping the class and its expressions", "seeing and keeping it"


@dataclass(frozen=True)
class Widget:
    """How the node shows an option. `unset`: the number that means, as the preset. `low` and `high` where they are not the option's, `note`
    what holds for the node alone. A widget of a text says what it starts with in `default`, one of a list too."""

    default: Any = None
    unset: float | None = None
    low: float | None = None
    high: float | None = None
    step: float | None = None
    round: float | None = None
    note: str = ""
    advanced: bool = True

    @property
    def start(self) -> Any:
        """What it shows at first."""
        return self.default if self.unset is None else self.unset


@dataclass(frozen=True)
class Option:
    """`name` is that of widget and flag, `setting` that of TrainSettings where it is another. `default` is the command's, None for: as the
    preset says. `choices` are what the command takes, `labels` what the node calls them. Without `flag` the command has none; without
    `widget` the node takes it in `more`, where it is a setting.
    """

    name: str
    kind: Kind
    help: str
    widget: Widget | None = None
    group: str = TRAINING
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    flag: bool = True
    setting: str = ""

    @property
    def field(self) -> str:
        """Its name in TrainSettings, where it is one of them."""
        return self.setting or self.name

    @property
    def tooltip(self) -> str:
        """The node's help, with what the number for `unset` means; of options with a widget."""
        assert self.widget is not None
        words = self.help.format(*(self.labels or self.choices))
        unset = "" if self.widget.unset is None else f" {self.widget.unset:g}: as the preset."
        return f"{words[0].upper()}{words[1:]}.{unset}{' ' if self.widget.note else ''}{self.widget.note}"

    @property
    def line_help(self) -> str:
        """The command's help, with the default, or `preset` where presets differ, in brackets."""
        plain: Any = getattr(TrainSettings, self.field, None) if self.default is None else self.default
        says = self.default is None and (plain is None or any(self.field in one.settings for one in PRESETS.values()))
        if self.kind == "file":
            return f"{self.help} ({NO_FILE})"
        shown = PRESET if says else {True: "on", False: "off"}.get(plain, plain) if isinstance(plain, bool) else plain
        return f"{self.help.format(*self.choices)} ({f'{shown:g}' if isinstance(shown, int | float) else shown})"


def _setting(name: str, kind: Kind, help: str, widget: Widget | None = None, group: str = TRAINING) -> Option:
    """A number of TrainSettings, with its range there."""
    low, high = BOUNDS[name]
    return Option(name, kind, help, widget, group, low=low, high=high)


def _presets() -> str:
    return "; ".join(f"{name}: {one.summary} ({one.resolution} px)" for name, one in PRESETS.items())


OPTIONS: tuple[Option, ...] = (
    Option(
        "preset",
        "choice",
        "where all values come from that are not given",
        Widget(
            AUTO,
            note=f"auto: what fits the card's memory; {_presets()}. The size is a preset's usual one; photos of another are taken as "
            "they are. For auto load them at 1024.",
            advanced=False,
        ),
        default=AUTO,
        choices=PRESET_NAMES,
    ),
    _setting("steps", "int", "optimiser steps; for FaceExpr Mini give 400", Widget(unset=0, advanced=False)),
    _setting(
        "learning_rate",
        "float",
        "how far each step goes; for Mini give 0.0006; too high burns the picture",
        Widget(unset=0, low=0, step=1e-6, round=1e-8, advanced=False),
    ),
    _setting("rank", "int", "size of the LoRA; more holds more detail, and the file grows with it", Widget(unset=0, advanced=False)),
    _setting(
        "seed",
        "int",
        "fixes the LoRA's first weights, the order of the photos, timesteps and noise: the same seed gives the same LoRA, "
        "another trains anew",
        Widget(0, advanced=False),
    ),
    Option(
        "resume",
        "choice",
        "when an earlier run of this name was stopped: {0} goes on with it, and refuses when its settings were others; "
        "{1} starts anew then; {2} gives it up. The LoRA of the same run, finished before, is taken, except with {2}",
        Widget("continue"),
        SEEING,
        default="strict",
        choices=RESUMES,
        labels=tuple(RESUME),
    ),
    Option(
        "prior",
        "choice",
        "keeps the model's knowledge of other people; images: the model first draws people of the class, once for each checkpoint, class "
        "word and size, and learns them too; distill: no pictures, it compares itself with the untrained model; off: neither",
        Widget(PRESET),
        KEEPING,
        choices=PRIORS,
    ),
    Option(
        "prior_images",
        "int",
        "how many pictures of the class are drawn for prior images",
        Widget(PRIOR_IMAGES, high=10_000),
        KEEPING,
        default=PRIOR_IMAGES,
        low=1,
        high=100_000,
    ),
    _setting(
        "crafting_weight",
        "float",
        "expression crafting: teaches the person to change expression as the untrained model does; 0.05 is usual, 0 turns it off",
        Widget(unset=-1, step=0.01),
        KEEPING,
    ),
    _setting("alpha", "float", "scale of the LoRA is alpha / rank; 0 means as the rank", Widget(unset=-1, step=1.0)),
    _setting("batch_size", "int", "photos at once; needs memory", Widget(unset=0)),
    _setting(
        "accumulation",
        "int",
        "batches whose gradients are averaged into one step: a larger batch without more memory",
        Widget(unset=0),
    ),
    Option("schedule", "choice", "course of the learning rate after the warm-up", Widget(PRESET), choices=SCHEDULES),
    _setting("warmup", "int", "steps over which the learning rate rises from 0", Widget(unset=-1, high=100_000)),
    _setting(
        "min_snr_gamma",
        "float",
        "holds back timesteps with little noise (min-SNR); 5 is usual, 0 turns it off",
        Widget(unset=-1, high=100.0, step=0.5),
    ),
    Option(
        "background_weight",
        "float",
        "how much the picture outside the face counts: 1 treats all alike, 0 the face alone",
        Widget(unset=-1, step=0.05),
        low=0.0,
        high=1.0,
    ),
    _setting(
        "ema",
        "float",
        "save a moving average of the weights, which is steadier than the last step: its decay, after n steps at most (n + 1) / (n + 10); "
        "0 turns it off",
        Widget(unset=-1, step=0.001, round=1e-5),
    ),
    Option(
        "precision",
        "choice",
        "arithmetic of the U-Net; auto: float32 on the CPU, bfloat16 on a GPU that has it, else float16",
        Widget(PRESET),
        choices=PRECISIONS,
    ),
    Option(
        "gradient_checkpointing",
        "switch",
        "much less memory, but slower; unless it is given, on with a GPU (the preset auto: off where there is room)",
        Widget(PRESET),
    ),
    Option(
        "preview_every",
        "int",
        "draw the person with four expressions every so many steps; 0 draws none",
        Widget(100, high=100_000, note="They are shown here, and kept in output/faceexpr/previews."),
        SEEING,
        default=0,
        low=0,
    ),
    Option(
        "state_every",
        "int",
        "save the run every so many steps, so that a crash or power cut loses about these; while the loss is not well a state waits",
        Widget(EVERY, low=0, high=100_000, note="0 saves nothing."),
        SEEING,
        default=EVERY,
        low=1,
    ),
    Option(
        "file_precision",
        "choice",
        "numbers in the file; fp32 doubles its size",
        Widget("fp16"),
        SEEING,
        default="fp16",
        choices=FILE_PRECISIONS,
    ),
    Option(
        "more",
        "text",
        "any other setting, as name=value with commas: convolutions=off (smaller file), noise_offset=0.05, caption_dropout=0.1, "
        "blocks=up,middle, optimizer=adamw, flip=on, prior_weight=0.5, crafting_mask=on, weight_decay=0.01 ..",
        Widget(""),
        flag=False,
    ),
    Option(
        "train_text_encoder",
        "switch",
        "also learn how the prompt is read, so that the trigger word is told from the class word, which the prior needs; takes memory and "
        "time, and the LoRA is then for MODEL and CLIP",
        Widget(PRESET, note="Its rate is set in more: text_encoder_learning_rate=5e-5 (0: as learning_rate), for Mini 3e-4."),
        setting="text_encoder",
    ),
    Option(
        "base",
        "choice",
        "numbers of the base model while the LoRA learns, for cards with little memory: nf4 takes 3 GB less of SDXL, int8 2 GB; "
        "both need bitsandbytes, and the LoRA is for the same checkpoint as ever",
        Widget(PRESET),
        choices=BASES,
    ),
    Option(
        "init_lora_weights",
        "choice",
        "how the first weights are drawn: {0}, as kohya's trainer has them, or {1}, as diffusers' scripts do: a multiple of it, so that "
        "the same learning rate changes more",
        choices=FIRST_WEIGHTS,
    ),
    Option(
        "finished_state",
        "choice",
        "the state of a finished run: {0} it, or {1} the last one (300 MB to 1 GB for SDXL), so that the run can be given more steps later",
        Widget("delete"),
        SEEING,
        default="delete",
        choices=FINISHED,
    ),
    Option(
        "start_from",
        "file",
        "a LoRA whose weights the run starts from, in place of new ones; its rank must not be more than this run's",
        Widget(NO_FILE, note="A file of the loras folder. LoRAs on the MODEL are another thing: they are taken as part of it."),
    ),
    Option(
        "model_predicts",
        "choice",
        "what the MODEL was made to predict, for checkpoints that do not say it themselves; {0}: read from the MODEL, "
        "ModelSamplingDiscrete included",
        Widget(next(iter(PREDICTED))),
        choices=tuple(PREDICTED),
        flag=False,
    ),
    Option("blocks", "text", "parts of the U-Net that learn: all, or some of down, middle, up, down.1 ... with commas"),
    Option("convolutions", "switch", "also learn on the ResNet blocks' convolutions; a larger file"),
    _setting("text_encoder_learning_rate", "float", "how far each step of the text encoders goes; 0: as learning_rate; 3e-4 for Mini"),
    _setting("text_encoder_weight_decay", "float", "weight decay of the text encoders"),
    Option("optimizer", "choice", "adamw8bit needs bitsandbytes and an NVIDIA GPU, else it is adamw", choices=OPTIMIZERS),
    _setting("weight_decay", "float", "weight decay"),
    _setting("max_grad_norm", "float", "longest gradient; 0 is any"),
    _setting("noise_offset", "float", "noise that is the same all over the picture; for very dark and bright photos"),
    Option("captions", "switch", "learn each photo with its own caption"),
    _setting("caption_dropout", "float", "share of photos learned without a caption"),
    Option("flip", "switch", "also learn the photos mirrored; faces are not symmetric", group="photos"),
    _setting("prior_weight", "float", "weight of the prior", group=KEEPING),
    Option(
        "prior_target",
        "choice",
        "what the pictures of the class teach: {1}, what the untrained model predicts there, or {0}, their own noise, as DreamBooth has it",
        group=KEEPING,
        choices=PRIOR_TARGETS,
    ),
    _setting(
        "prior_dropout",
        "float",
        "share of the class's pictures learned without words, so that guidance stays the same",
        group=KEEPING,
    ),
    _setting("crafting_every", "int", "crafting on each so many-th step", group=KEEPING),
    _setting("crafting_ramp", "float", "share of the run over which the weight of crafting rises", group=KEEPING),
    Option("crafting_mask", "switch", "crafting only where the expression moves the face", group=KEEPING),
    Option("state_keep", "int", "saved states that are kept while the run lasts", group=SEEING, default=KEEP, low=1),
)

BY_NAME: Mapping[str, Option] = {one.name: one for one in OPTIONS}
