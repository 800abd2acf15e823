"""LoRA files as four programs write them (kohya, diffusers, PEFT, ComfyUI), brought to one table and written from it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FaceExprError
from ..files import one_line
from . import embeddings, kinds
from .files import read_lora
from .given import PEFT_CONFIG, adapter_weights, whole_of
from .names import PARTS, TEXT_WIDTHS, comfyui_module, kernel_of, kohya_module, module_of, sd_scripts_module
from .peft_config import adapter_config, alpha_in, read_json, scaled_product

FORMATS = ("kohya", "diffusers", "peft", "comfyui")
WRITTEN = (*FORMATS, "sd-scripts")
"""`sd-scripts` is kohya's format with SDXL's blocks as Stability names them, without which kohya's merging and older scripts pass over the
U-Net (`names.sd_scripts_module`)."""
ADAPTER_METADATA = "lora_adapter_metadata"
"""Where diffusers keeps rank and alpha: PEFT's LoraConfig as JSON, its keys prefixed with the part's name."""

_LOW_RANK = re.compile(r"(?P<module>.+?)(?:\.lora_linear_layer\.|\.lora\.|_lora\.|\.lora_)(?P<side>down|up|A|B)(?:\.default)?(?:\.weight)?")
_MAGNITUDE = re.compile(r"(?P<module>.+?)\.lora_magnitude_vector(?:\.default)?(?:\.weight)?")
_OTHER = re.compile(rf"(?P<module>.+?)\.(?P<what>{kinds.ENDINGS})(?:\.default)?")
_SIDES = {"down": "down", "A": "down", "up": "up", "B": "up"}
_BESIDE = frozenset({"diff", "diff_b", "w_norm", "b_norm"})
"""What stands beside a low-rank pair; anything else changes what the pair means."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A low-rank change of one module: (alpha / rank) up @ down, with `down` [rank, in, ...] and `up` [out, rank, ...] as in the file."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.down)

    def norm(self) -> float:
        """Frobenius norm of the change, from two rank x rank products: |U D|^2 = tr(D D^T U^T U)."""
        down, up = self.down.flatten(1).double(), self.up.flatten(1).double()
        return abs(self.alpha) / self.rank * math.sqrt(max(0.0, float(((down @ down.T) * (up.T @ up)).sum())))

    def fits(self, weight: torch.Size, core: Tensor | None = None) -> bool:
        """Whether the change, with a Tucker `core` [rank, rank, k, k] between down and up, has the size of a module's weight."""
        if core is not None and core.shape != (self.rank, self.rank, *weight[2:]):
            return False
        columns = self.down[0].numel() * (1 if core is None else core[0, 0].numel())
        return len(self.up) == weight[0] and columns == weight[1:].numel()


@dataclass(frozen=True, eq=False)
class Lora:
    """What a LoRA file holds, by module as `lora.names` spells it.

    `others`: what is not a low-rank pair (diff, diff_b, dora_scale, hada_w1_a ...), by module and kohya's ending. `unknown`: what names
    no module of Stable Diffusion, is half a pair or no change that is known, by the file's key. `spelling`: one of FORMATS, or "" where
    nothing was known. `notes`: what had to be assumed. `embeddings`: those in the file (see `embeddings`), tensors by text encoder.
    """

    layers: Mapping[str, Layer]
    others: Mapping[str, Mapping[str, Tensor]]
    unknown: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    spelling: str
    notes: tuple[str, ...] = ()
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.layers, *self.others)))

    def kind(self, module: str) -> str:
        """What the file does to a module: one of the names in `kinds`."""
        return kinds.kind_of(self.others.get(module, {}), module in self.layers)

    def unread(self) -> dict[str, list[str]]:
        """The keys of `unknown` by what is wrong with them, said of several."""
        found: dict[str, list[str]] = {}
        for key in self.unknown:
            ours = any(module_of(key[: match.start()]) is not None for match in re.finditer(r"\.", key))
            why = "are half a pair, or no change that is known" if ours else "name no module of Stable Diffusion"
            found.setdefault(why, []).append(key)
        return found

    def text_width(self) -> int | None:
        """Width of the text that the U-Net takes for which the file was made, or None where no layer tells."""
        readers = [name for name in self.modules if name.endswith((".attn2.to_k", ".attn2.to_v"))]
        for name in readers:
            if name in self.layers:
                return len(self.layers[name].down[0])
        return next(filter(None, (kinds.columns(self.kind(name), self.others[name]) for name in readers)), None)

    def family(self) -> str:
        """The kind of model that the file was made for, in words."""
        width = self.text_width()
        if width is None:
            return "no known U-Net" if not self.modules else "a model that its layers do not tell"
        return TEXT_WIDTHS.get(width, f"a U-Net with text of width {width}")


@dataclass(frozen=True, eq=False)
class Encoded:
    """A LoRA in one format: tensors and metadata of its file. `lost` says what the format cannot hold.

    For PEFT the keys start with their part, whose `configs` entry is its adapter_config: each part is an adapter of its own.
    """

    state: dict[str, Tensor]
    metadata: dict[str, str]
    lost: tuple[str, ...]
    configs: Mapping[str, dict[str, Any]]


def load(path: Path) -> Lora:
    """Read a LoRA file, or the folder of a PEFT adapter. Raises FaceExprError when it is missing, not whole, or has a broken config."""
    if path.is_dir():
        return _load_adapter_folder(path)
    state, metadata = read_lora(path)
    beside = path.with_name(PEFT_CONFIG)
    config = read_json(beside.read_bytes(), str(beside)) if beside.is_file() else {}
    return decode(state, metadata, config, "text_encoder_2" if path.parent.name == "text_encoder_2" else "text_encoder")


def load_whole(path: Path) -> Lora:
    """`load` for a file that was given by name: that of a PEFT adapter's weights stands for its folder, where the text encoders' lie too.
    Raises as `load`."""
    return load(whole_of(path))


def _load_adapter_folder(folder: Path) -> Lora:
    whole, *rest = [load(file) for file in adapter_weights(folder)]
    for more in rest:
        whole = replace(
            whole,
            layers={**whole.layers, **more.layers},
            others={**whole.others, **more.others},
            unknown={**whole.unknown, **more.unknown},
            notes=(*whole.notes, *more.notes),
        )
    return whole


def decode(state: Mapping[str, Tensor], metadata: Mapping[str, str], config: Mapping[str, Any], text_part: str = "text_encoder") -> Lora:
    """Tensors by key -> table. `config`: PEFT's adapter_config or {}; `text_part`: the encoder meant by keys that do not say which.

    Where a file names no alpha it is the rank (scale 1), as ComfyUI and diffusers take it.
    """
    sides: dict[str, dict[str, str]] = {}
    others: dict[str, dict[str, Tensor]] = {}
    bundled: dict[str, dict[str, Tensor]] = {}
    unknown: dict[str, Tensor] = {}
    spellings: Counter[str] = Counter()
    names: dict[tuple[str, str], str] = {}
    for key, value in state.items():
        if (part := embeddings.read_key(key)) is not None:
            bundled.setdefault(part[0], {})[part[1]] = value
            continue
        read = _read_key(key, text_part)
        if read is None:
            unknown[key] = value
            continue
        spelling, module, what = read
        spellings[spelling] += 1
        names[module, what] = key
        if what in ("down", "up"):
            sides.setdefault(module, {})[what] = key
        else:
            others.setdefault(module, {})[what] = value

    spelling = spellings.most_common(1)[0][0] if spellings else ""
    adapter = config if spelling == "peft" else read_json(metadata.get(ADAPTER_METADATA, "{}"), ADAPTER_METADATA)
    layers: dict[str, Layer] = {}
    without = 0
    for module, keys in sides.items():
        pair = {side: state[key] for side, key in keys.items()}
        if not _is_pair(pair):
            unknown.update({key: state[key] for key in keys.values()})
            continue
        down, up = _as_convolution(module, pair["down"], pair["up"])
        given = others.get(module, {}).pop("alpha", None)
        if given is not None and given.numel() == 1:
            alpha = float(given)
        elif (told := alpha_in(adapter, module, len(down), prefixed=spelling != "peft")) is not None:
            alpha = told
        else:
            alpha, without = float(len(down)), without + 1
        layers[module] = Layer(down, up, alpha)
        magnitude = others.get(module, {}).get("dora_scale")
        if magnitude is not None and (magnitude.ndim == 1 or _MAGNITUDE.fullmatch(names[module, "dora_scale"])):  # PEFT's [1, out, 1, 1]
            others[module]["dora_scale"] = magnitude.reshape(-1, *[1] * (down.ndim - 1))
    for module, extra in list(others.items()):
        if module in layers:
            continue
        if kinds.is_meaningless(extra):
            unknown.update({names[module, what]: value for what, value in extra.items()})
            extra.clear()
        elif spelling == "peft":
            others[module] = scaled_product(config, module, extra)
    notes = (f"{without} of {len(layers)} layers name no alpha: taken as the rank, scale 1",) if without else ()
    return Lora(layers, {module: extra for module, extra in others.items() if extra}, unknown, metadata, spelling, notes, bundled)


def encode(lora: Lora, spelling: str) -> Encoded:
    """The table in one of WRITTEN; tensors are passed on as they are, so that nothing is rounded.

    kohya, ComfyUI and sd-scripts hold everything. diffusers and PEFT hold low-rank pairs alone: changes of biases and norms (diff, diff_b)
    are left out, and so are layers that are more than a pair (DoRA, LoHa, LoKr, Tucker), and embeddings. Keys that name no module are
    lost everywhere. Raises FaceExprError when nothing is left.
    """
    metadata = {key: value for key, value in lora.metadata.items() if key != ADAPTER_METADATA}
    lost = [f"{len(keys)} keys that {why} ({some_keys(keys)})" for why, keys in lora.unread().items()]
    layers = dict(lora.layers)
    pairs_alone = spelling in ("diffusers", "peft")
    if pairs_alone and lora.embeddings:
        lost.append(f"the embeddings {', '.join(lora.embeddings)}")
    if pairs_alone and lora.others:
        endings = Counter(ending for extra in lora.others.values() for ending in extra)
        told = ", ".join(f"{count} x {ending}" for ending, count in endings.items())
        lost.append(f"what is no low-rank pair in {len(lora.others)} modules ({told})")
        layers = {name: layer for name, layer in layers.items() if set(lora.others.get(name, {})) <= _BESIDE}
        if len(layers) < len(lora.layers):
            lost.append(f"{len(lora.layers) - len(layers)} pairs that mean something else without it")
    if not layers and (pairs_alone or not lora.others):
        raise FaceExprError(f"Nothing of this LoRA can be written for {spelling}{': lost would be ' if lost else ''}{'; '.join(lost)}.")
    if not pairs_alone:
        spell = {"kohya": kohya_module, "comfyui": comfyui_module, "sd-scripts": sd_scripts_module}[spelling]
        return Encoded(_with_alpha(lora, spell, flat=spelling == "comfyui"), metadata, tuple(lost), {})
    configs = {part: config for part in PARTS if (config := adapter_config(layers, part))}
    state = {f"{name}.lora_A.weight": layer.down for name, layer in layers.items()}
    state |= {f"{name}.lora_B.weight": layer.up for name, layer in layers.items()}
    if spelling == "diffusers":
        flat = {f"{part}.{key}": value for part, config in configs.items() for key, value in config.items()}
        metadata = {**metadata, "format": "pt", ADAPTER_METADATA: json.dumps(flat, sort_keys=True)}
    return Encoded(state, metadata, tuple(lost), configs)


def adapter_files(encoded: Encoded) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """PEFT's adapters by subfolder: the U-Net's in the folder itself, or without one the first text encoder's, others in subfolders of
    their names: in the folder itself nothing tells the second text encoder from the first."""
    top = next((part for part in ("unet", "text_encoder") if part in encoded.configs), None)
    return {
        "" if part == top else part: (
            {
                f"base_model.model.{key.removeprefix(f'{part}.')}": value
                for key, value in encoded.state.items()
                if key.startswith(f"{part}.")
            },
            config,
        )
        for part, config in encoded.configs.items()
    }


def _read_key(key: str, text_part: str) -> tuple[str, str, str] | None:
    """(format, module, what it is): `down`, `up`, or kohya's ending."""
    for pattern in (_LOW_RANK, _MAGNITUDE, _OTHER):
        if match := pattern.fullmatch(key):
            if (found := module_of(match["module"], text_part)) is None:
                return None
            if pattern is _MAGNITUDE:
                return (*found, "dora_scale")
            return (*found, _SIDES[match["side"]] if pattern is _LOW_RANK else match["what"])
    return None


def _is_pair(pair: Mapping[str, Tensor]) -> bool:
    if len(pair) < 2 or min(value.ndim for value in pair.values()) < 2:
        return False
    return len(pair["down"]) == pair["up"].shape[1] > 0 and all(value.is_floating_point() for value in pair.values())


def _as_convolution(module: str, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """ComfyUI trains convolutions as flat matrices: give them their kernel back."""
    kernel = kernel_of(module)
    if kernel is None or down.ndim > 2 or down.shape[1] % kernel**2:
        return down, up
    return down.reshape(len(down), -1, kernel, kernel), up.reshape(*up.shape, 1, 1) if up.ndim == 2 else up


def _with_alpha(lora: Lora, name: Callable[[str], str], flat: bool = False) -> dict[str, Tensor]:
    """kohya's endings after the names that `name` gives; `flat`: convolutions as matrices."""
    state: dict[str, Tensor] = {}
    for module, layer in lora.layers.items():
        mid = "lora_mid.weight" in lora.others.get(module, {})
        down, up = (layer.down.flatten(1), layer.up.flatten(1)) if flat and not mid else (layer.down, layer.up)
        state[f"{name(module)}.lora_down.weight"] = down
        state[f"{name(module)}.lora_up.weight"] = up
        state[f"{name(module)}.alpha"] = torch.tensor(layer.alpha)
    for module, extra in lora.others.items():
        state |= {f"{name(module)}.{ending}": value for ending, value in extra.items()}
    for word, tensors in lora.embeddings.items():
        state |= {embeddings.key_of(word, what): value for what, value in tensors.items()}
    return state


def some_keys(keys: Iterable[str], count: int = 3) -> str:
    """The first of them, for a message."""
    names = list(keys)
    return ", ".join(map(one_line, names[:count])) + (" ..." if len(names) > count else "")
