"""Expression features: recorded while a donor is drawn, kept in files."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FaceExprError
from ..files import write_new
from .bank import FeatureBank, parse_key
from .grids import Grid, grid_mask, grid_of
from .settings import SITES

FORMAT = "faceexpr expression features"
VERSION = "1"


class Recorder:
    """Collects features while a donor is drawn, and makes a FeatureBank of them.

    `sigmas`: those at which will be recorded, falling. `latent`: (h, w) of the donor's latents, by which tokens [B, N, C] find their grid.
    `keep`: `all`, or `face` to keep only tokens where the mask is above 0 (all while there is no mask); `focus` tells the mask, best
    before recording, at the latest before `bank`. `sparse`: the sigmas are not all that will be asked for (`FeatureBank.sparse`).
    """

    def __init__(
        self, site: str, sigmas: tuple[float, ...] = (), latent: Grid | None = None, keep: str = "all", sparse: bool = False
    ) -> None:
        if keep not in ("all", "face"):
            raise FaceExprError(f"'{keep}' is no choice of tokens; it must be one of: all, face.")
        self.site, self.sigmas, self.latent, self.keep = site, tuple(sigmas), latent, keep
        self.sparse = sparse
        self.mask: Tensor | None = None
        self._tokens: dict[str, Tensor] = {}
        self._grids: dict[str, Grid] = {}
        self._kept: dict[Grid, Tensor] = {}

    def add(self, place: str, index: int | None, which: str, tensor: Tensor, grid: Grid | None = None) -> None:
        """Keep one row's features: `which` is `n` or `e`, `index` counts `sigmas`.

        Tokens [1, N, C] (their grid is given or found from `latent`) or maps [1, C, h, w], which become tokens.
        For `cross_attention_difference`: keys and values [1, T, C], `index` None and `which` `n:k`, `n:v`, `e:k` or `e:v`.
        """
        if tensor.shape[0] != 1:
            raise FaceExprError(f"features of {tensor.shape[0]} rows were given at {place}; a recorder takes one row.")
        key = f"{place}:{which}" if index is None else f"{place}@{index}:{which}"
        if index is None:
            self._tokens[key] = _half(tensor)
            return
        self._grids[place] = self._grid(tensor, grid)
        self._tokens[key] = _half(tensor.flatten(2).mT if tensor.dim() == 4 else tensor)
        if self.mask is not None:
            self._crop(key)

    def focus(self, mask: Tensor | None) -> None:
        """Tell where the expression acts: float [H, W] in 0..1. With `keep` face everything recorded so far and later is cropped to it."""
        if mask is None:
            return
        self.mask = mask.detach().to("cpu", torch.float32).clamp(0, 1).contiguous()
        for key in list(self._tokens):
            self._crop(key)

    def bank(self, regions: Tensor | None = None, notes: Mapping[str, str] | None = None) -> FeatureBank:
        """What was recorded; `single` when no neutral features came. `regions`: integers [H, W] or None. Raises FaceExprError."""
        if not self._tokens:
            raise FaceExprError("no features were recorded: none of the sampler's steps lies in the window, or no place was chosen.")
        kinds = {parts["which"] or parts["context"][0] for parts in map(parse_key, self._tokens)}
        mode = "twin" if "n" in kinds else "single"
        numbers = None if regions is None else regions.detach().to("cpu", torch.uint8).contiguous()
        return FeatureBank(
            self.site,
            mode,
            self.sigmas,
            dict(self._tokens),
            dict(self._grids),
            self.mask,
            numbers,
            dict(notes or {}),
            dict(self._kept),
            self.sparse,
        )

    def _grid(self, tensor: Tensor, grid: Grid | None) -> Grid:
        if tensor.dim() == 4:
            return tensor.shape[2], tensor.shape[3]
        if grid is None and self.latent is None:
            raise FaceExprError("tokens were recorded without their grid; give the recorder the size of the latents.")
        return grid if grid is not None else grid_of(tensor.shape[1], self.latent)  # type: ignore[arg-type]

    def _crop(self, key: str) -> None:
        parts = parse_key(key)
        if self.keep != "face" or self.mask is None or parts["context"] or parts["which"] == "c":
            return
        grid, tokens = self._grids[parts["place"]], self._tokens[key]
        if tokens.shape[1] != grid[0] * grid[1]:
            return
        if grid not in self._kept:
            inside = (grid_mask(self.mask, grid).flatten() > 0).nonzero().flatten().int()
            if len(inside) == 0:
                raise FaceExprError("the mask of the expression is empty; use a donor whose face is seen, or keep all tokens.")
            self._kept[grid] = inside
        centre = f"{parts['place']}@{parts['index']}:c"
        if parts["which"] == "n" or centre not in self._tokens:
            self._tokens[centre] = _half(tokens.float().mean(1, keepdim=True))
        self._tokens[key] = tokens[:, self._kept[grid].long()].contiguous()


def save_bank(bank: FeatureBank, path: Path) -> Path:
    """Write features as safetensors to `path`, or beside it as `name_00001_.safetensors` when the name is taken; return where they lie.

    The file appears whole or not at all. Raises FaceExprError when it cannot be written.
    """
    from safetensors.torch import save

    tensors = {key: value.contiguous() for key, value in bank.tokens.items()}
    tensors |= {f"kept:{height}x{width}": value.contiguous() for (height, width), value in bank.kept.items()}
    tensors |= {name: value.contiguous() for name, value in (("mask", bank.mask), ("regions", bank.regions)) if value is not None}
    metadata = {
        "faceexpr.format": FORMAT,
        "faceexpr.version": VERSION,
        "faceexpr.site": bank.site,
        "faceexpr.mode": bank.mode,
        "faceexpr.sigmas": json.dumps(bank.sigmas),
        "faceexpr.sparse": json.dumps(bank.sparse),
        "faceexpr.grids": json.dumps(bank.grids),
        "faceexpr.notes": json.dumps(dict(bank.notes), ensure_ascii=False),
    }
    try:
        return write_new(path, save(tensors, metadata))
    except OSError as reason:
        why = "the disk is full" if reason.errno in (errno.ENOSPC, errno.EDQUOT) else reason.strerror or str(reason)
        raise FaceExprError(
            f"The features ({bank.nbytes / 2**20:.0f} MB) could not be saved in {path.parent}: {why}. "
            "Free some space or choose another folder."
        ) from reason


def load_bank(path: Path) -> FeatureBank:
    """Features from a file of `save_bank`, to the bit. Raises FaceExprError when it is missing, broken, or something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_origin(path, metadata)
            # as they come they lie in the file, which then could not be replaced on Windows, and elsewhere would change them
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)
        mask, regions = tensors.pop("mask", None), tensors.pop("regions", None)
        kept = {_size(key): tensors.pop(key) for key in list(tensors) if key.startswith("kept:")}
        return FeatureBank(
            metadata["faceexpr.site"],
            metadata["faceexpr.mode"],
            tuple(float(sigma) for sigma in json.loads(metadata["faceexpr.sigmas"])),
            tensors,
            {place: (int(height), int(width)) for place, (height, width) in json.loads(metadata["faceexpr.grids"]).items()},
            mask,
            regions,
            {str(name): str(note) for name, note in json.loads(metadata["faceexpr.notes"]).items()},
            kept,
            json.loads(metadata.get("faceexpr.sparse", "false")) is True,
        )
    except FaceExprError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as reason:
        raise FaceExprError(f"{path} cannot be read as expression features ({reason}); extract and save them again.") from reason


def _check_origin(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("faceexpr.format") != FORMAT:
        raise FaceExprError(f"{path} holds no expression features. Choose a file that Save Features or `faceexpr extract` wrote.")
    if metadata.get("faceexpr.version") != VERSION:
        raise FaceExprError(f"{path} was written by a newer FaceExpr (format {metadata.get('faceexpr.version')}); update FaceExpr.")
    if (site := metadata.get("faceexpr.site")) not in SITES:
        raise FaceExprError(
            f"{path} was recorded at the site {site}, which this FaceExpr does not have. Extract the features again, at one of: "
            f"{', '.join(SITES)}."
        )


def _size(key: str) -> Grid:
    height, width = key.removeprefix("kept:").split("x")
    return int(height), int(width)


def _half(tensor: Tensor) -> Tensor:
    largest = torch.finfo(torch.float16).max
    return tensor.detach().float().clamp(-largest, largest).to("cpu", torch.float16).contiguous()
