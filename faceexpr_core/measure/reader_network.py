"""The network of `reader`, and its weights.

Four dense blocks of separable convolutions, a mean and a linear layer: the shape is face-api's, the code is ours.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from .reader import READER_CLASSES

_MEAN_RGB = (122.782, 117.001, 104.298)
_WIDTHS = (3, 32, 64, 128, 256)
_WEIGHTS = Path(__file__).parent / "reader.safetensors"


class _Separable(nn.Module):
    """3 x 3 on each channel, then 1 x 1 across them, padded as TensorFlow's "same" pads."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(ins, ins, 3, stride, groups=ins, bias=False)
        self.pointwise = nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(_padded(x, self.stride)))
        return out


class _Plain(nn.Conv2d):
    """3 x 3 with stride 2, padded as TensorFlow's "same" pads."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__(ins, outs, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_padded(x, 2))


class _DenseBlock(nn.Module):
    """Four convolutions; each after the second reads the rectified sum of all before it, and the sum of all four leaves."""

    def __init__(self, ins: int, outs: int, first: bool) -> None:
        super().__init__()
        self.reduce = _Plain(ins, outs) if first else _Separable(ins, outs, 2)
        self.others = nn.ModuleList(_Separable(outs, outs, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        total = F.relu(self.reduce(x))
        for convolution in self.others:
            total = total + convolution(F.relu(total))  # the first term is not negative: relu leaves it as it is
        return F.relu(total)


class ReaderNetwork(nn.Module):
    """RGB [N, 3, 112, 112] in 0..255 -> probabilities [N, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_DenseBlock(ins, outs, ins == 3) for ins, outs in pairwise(_WIDTHS)))
        self.classify = nn.Linear(_WIDTHS[-1], len(READER_CLASSES))

    def forward(self, rgb: Tensor) -> Tensor:
        x: Tensor = self.blocks((rgb - rgb.new_tensor(_MEAN_RGB)[:, None, None]) / 255)
        scores: Tensor = self.classify(x.mean(dim=(2, 3)))
        return scores.softmax(dim=1)


@cache
def network() -> ReaderNetwork:
    """The network with the weights that ship with the package, made once."""
    from safetensors.torch import load_file

    stored = load_file(_WEIGHTS)
    weights = {}
    for name, values in stored.items():
        if not name.endswith(".scale"):
            scale = stored.get(f"{name}.scale")
            weights[name] = values if scale is None else values.float() * scale[0] + scale[1]
    made = ReaderNetwork()
    made.load_state_dict(weights)
    return made.eval().requires_grad_(False)


def _padded(x: Tensor, stride: int) -> Tensor:
    """TensorFlow's "same" for a 3 x 3 window over an even size: one pixel all round, or for stride 2 right and below only."""
    return F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
