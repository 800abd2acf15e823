"""The network of `reader`, and its weights.

Four dense blocks of separable convolutions, a mean and a linear layer: the shape is face-api's, the code is ours. In numpy: so small a
network is not worth PyTorch's 250 MB in the process that reads photos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

BLOCKS = 4
_MEAN_RGB = np.array((122.782, 117.001, 104.298), np.float32)
READER_FILE = Path(__file__).parent / "reader.safetensors"


@cache
def weights() -> Mapping[str, Array]:
    """Those that ship with the package, by layer, read once: a convolution's [out, in, 3, 3], or [in, 1, 3, 3] on each channel alone."""
    from safetensors.numpy import load_file

    stored = load_file(READER_FILE)
    found = {}
    for name, values in stored.items():
        if not name.endswith(".scale"):
            scale = stored.get(f"{name}.scale")
            whole = values.astype(np.float32)
            found[name] = whole if scale is None else whole * scale[0] + scale[1]
    return found


def probabilities(rgb: NDArray[np.uint8]) -> Array:
    """Pictures uint8 [N, 112, 112, 3] -> probabilities float32 [N, 7]."""
    x = (rgb.astype(np.float32) - _MEAN_RGB) / np.float32(255)
    for number in range(BLOCKS):
        x = _dense_block(x, f"blocks.{number}")
    scores = x.mean(axis=(1, 2)) @ weights()["classify.weight"].T + weights()["classify.bias"]
    shown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shown / shown.sum(axis=1, keepdims=True), np.float32)


def _dense_block(x: Array, name: str) -> Array:
    """Four convolutions; each after the second reads the rectified sum of all before it, and the sum of all four leaves."""
    reduce = _plain if f"{name}.reduce.weight" in weights() else _separable
    total = _positive(reduce(x, f"{name}.reduce", 2))
    for number in range(3):
        total = total + _separable(_positive(total), f"{name}.others.{number}", 1)  # the first sum is positive as it is
    return _positive(total)


def _plain(x: Array, name: str, stride: int) -> Array:
    """3 x 3 over all channels."""
    kernel = weights()[f"{name}.weight"]
    out = sum(window @ kernel[:, :, row, column].T for row, column, window in _windows(x, stride))
    return np.asarray(out + weights()[f"{name}.bias"], np.float32)


def _separable(x: Array, name: str, stride: int) -> Array:
    """3 x 3 on each channel, then 1 x 1 across them."""
    kernel, across = weights()[f"{name}.depthwise.weight"], weights()[f"{name}.pointwise.weight"]
    each = sum(window * kernel[:, 0, row, column] for row, column, window in _windows(x, stride))
    return np.asarray(each @ across[:, :, 0, 0].T + weights()[f"{name}.pointwise.bias"], np.float32)


def _windows(x: Array, stride: int) -> Iterator[tuple[int, int, Array]]:
    """(row, column, what it meets) of a 3 x 3 kernel over [N, H, W, C] of even sizes, padded as TensorFlow's "same" pads: one pixel all
    round, or for stride 2 right and below only."""
    around = (0, 1) if stride == 2 else (1, 1)
    padded = np.pad(x, ((0, 0), around, around, (0, 0)))
    height, width = x.shape[1], x.shape[2]
    for row, column in product(range(3), repeat=2):
        yield row, column, padded[:, row : row + height : stride, column : column + width : stride]


def _positive(x: Array) -> Array:
    return np.maximum(x, np.float32(0))
