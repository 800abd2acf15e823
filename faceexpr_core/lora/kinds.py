"""What a file does to a module, by the endings of its keys: the kind of change, whether it is whole, and whether it has the module's size.

Shapes as LyCORIS and PEFT write them, for a weight [out, in, ...kernel]; `in` below counts the kernel where a matrix is flat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

LORA, DORA, TUCKER, LOHA, LOKR, GLORA = "LoRA", "DoRA", "LoRA with a Tucker core", "LoHa", "LoKr", "GLoRA"
OFT, BOFT, IA3, FULL, NORM, NOTHING = "OFT", "BOFT", "(IA)^3", "a whole change", "a change of a norm", "no change that is known"
NOT_APPLIED = (IA3, NOTHING)
"""What ComfyUI's weight adapters do not know."""
SIZE = "their size is another in this model"
OTHER_SIZE = "is for a layer of another size"
ENDINGS = (
    r"alpha|diff|diff_b|dora_scale|w_norm|b_norm|set_weight|reshape_weight|lora_mid\.weight|hada_\w+|lokr_\w+|oft_\w+|rescale"
    r"|[ab][12]\.weight|weight|on_input|ia3_l"
)
"""kohya's and LyCORIS' endings beside a low-rank pair, as a regular expression."""
ALONE_NOTHING = frozenset({"alpha", "dora_scale", "reshape_weight", "rescale", "on_input", "lora_mid.weight", "weight"})
"""Endings that change nothing without others."""


def kind_of(extra: Mapping[str, Tensor], pair: bool) -> str:
    """The kind of change of a module: of a low-rank `pair` and what stands beside it, or of that alone."""
    if pair:
        return DORA if "dora_scale" in extra else TUCKER if "lora_mid.weight" in extra else LORA
    for kind, begins in ((LOHA, "hada_w"), (LOKR, "lokr_w"), (GLORA, ("a1.", "a2.", "b1.", "b2."))):
        if any(ending.startswith(begins) for ending in extra):
            return kind
    if "oft_blocks" in extra:
        return {3: OFT, 4: BOFT}.get(extra["oft_blocks"].ndim, NOTHING)
    if "ia3_l" in extra or {"weight", "on_input"} <= extra.keys():
        return IA3
    if extra.keys() & {"diff", "diff_b", "set_weight"}:
        return FULL
    return NORM if extra.keys() & {"w_norm", "b_norm"} else NOTHING


def is_meaningless(endings: Collection[str]) -> bool:
    """Whether nothing is said by these endings alone."""
    return set(endings) <= ALONE_NOTHING and not {"weight", "on_input"} <= set(endings)


def columns(kind: str, extra: Mapping[str, Tensor]) -> int | None:
    """Width of what the module of such a change takes in, None where the change does not tell."""
    try:
        if kind in (LOHA, LOKR):
            return (_loha(extra) if kind == LOHA else _lokr(extra))[1]
    except (KeyError, ValueError):
        return None
    if kind == GLORA:
        return max(extra.get("a1.weight", torch.empty(0, 0)).shape)
    return extra["diff"].shape[1] if kind == FULL and "diff" in extra and extra["diff"].ndim == 2 else None


def without_core(extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoKr with a Tucker core as one of two whole factors, its scale taken in; anything else as it is.

    ComfyUI 0.3.75 fails on the core (and logs it, and leaves the weight as it was).
    """
    if "lokr_t2" not in extra:
        return dict(extra)
    core, left, right = (extra[f"lokr_{name}"].float() for name in ("t2", "w2_a", "w2_b"))
    scale = float(extra["alpha"]) / len(right) if "alpha" in extra else 1.0
    first = extra["lokr_w1"] if "lokr_w1" in extra else extra["lokr_w1_a"].float() @ extra["lokr_w1_b"].float()
    second = scale * torch.einsum("ijkl,ip,jr->prkl", core, left, right)
    kept = {ending: one for ending, one in extra.items() if not ending.startswith("lokr_") and ending != "alpha"}
    return {**kept, "lokr_w1": first, "lokr_w2": second.contiguous()}


def misfit(kind: str, extra: Mapping[str, Tensor], weight: torch.Size) -> str:
    """Why a change (that of a pair itself apart) cannot be made to a weight of this size, in words that say what is wrong; "" if it can."""
    try:
        rows, columns = _sizes(kind, extra, weight)
    except KeyError as missing:
        return f"they are a part of {kind} alone ({missing.args[0]} is missing)"
    except ValueError:
        return f"the parts of their {kind} do not fit together"
    if (rows, columns) != (weight[0], weight[1:].numel()):
        return SIZE if kind in (LORA, FULL, NORM) else f"their {kind} {OTHER_SIZE}"
    return ""


def _sizes(kind: str, extra: Mapping[str, Tensor], weight: torch.Size) -> tuple[int, int]:
    """Rows, and numbers a row, of the weight that this is for. Raises KeyError for a missing part, ValueError for parts of unlike sizes."""
    own = weight[0], weight[1:].numel()
    if "dora_scale" in extra and not _is_magnitude(extra["dora_scale"], weight):
        return 0, 0
    if kind in (LOHA, LOKR):
        return _loha(extra) if kind == LOHA else _lokr(extra)
    if kind == GLORA:
        return _glora(extra, weight)
    if kind in (OFT, BOFT):
        return _oft(extra["oft_blocks"], own)
    if kind in (FULL, NORM):
        changes = [extra[ending] for ending in ("diff", "w_norm", "set_weight") if ending in extra]
        biases = [extra[ending] for ending in ("diff_b", "b_norm") if ending in extra]
        return own if all(one.shape == weight for one in changes) and all(one.numel() == own[0] for one in biases) else (0, 0)
    return own


def _product(left: Tensor, right: Tensor, core: Tensor | None = None) -> tuple[int, int]:
    """Rows and columns of left @ right; with a Tucker `core` [r, r, k, k] of core x left^T x right: [r, out] and [r, in]."""
    if min(left.ndim, right.ndim) < 2:
        raise ValueError
    if core is None:
        if left.shape[1] != right.shape[0]:
            raise ValueError
        return left.shape[0], right[0].numel()
    if core.ndim < 2 or core.shape[0] != left.shape[0] or core.shape[1] != right.shape[0]:
        raise ValueError
    return left[0].numel(), right[0].numel() * core.shape[2:].numel()


def _loha(extra: Mapping[str, Tensor]) -> tuple[int, int]:
    """(W1a W1b) * (W2a W2b), elementwise (Hyeon-Woo et al. 2108.06098)."""
    first, second = (_product(extra[f"hada_w{n}_a"], extra[f"hada_w{n}_b"], extra.get(f"hada_t{n}")) for n in (1, 2))
    if first != second or ("hada_t1" in extra) != ("hada_t2" in extra):
        raise ValueError
    return first


def _lokr(extra: Mapping[str, Tensor]) -> tuple[int, int]:
    """W1 kron W2, each whole or a product."""
    sizes = []
    for n in (1, 2):
        if (whole := extra.get(f"lokr_w{n}")) is not None:
            if whole.ndim < 2:
                raise ValueError
            sizes.append((whole.shape[0], whole[0].numel()))
        else:
            sizes.append(_product(extra[f"lokr_w{n}_a"], extra[f"lokr_w{n}_b"], extra.get("lokr_t2") if n == 2 else None))
    return sizes[0][0] * sizes[1][0], sizes[0][1] * sizes[1][1]


def _glora(extra: Mapping[str, Tensor], weight: torch.Size) -> tuple[int, int]:
    """W A + B with A = a1 a2 and B = b1 b2 (Chavan et al. 2306.07967), or LyCORIS' first spelling, where the factors are swapped."""
    a1, a2, b1, b2 = (extra[f"{name}.weight"].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    for left, right, outer, inner in ((a1, a2, b1, b2), (a2, a1, b2, b1)):
        if left.shape[1] == right.shape[0] == outer.shape[1] == inner.shape[0] and left.shape[0] == right.shape[1]:
            rows, columns = outer.shape[0], inner.shape[1]
            if left.shape[0] in (columns, weight[1]):
                return rows, columns
    if a1.shape[0] == b1.shape[0] == a2.shape[1] == b2.shape[1] or a1.shape[1] == b1.shape[1] == a2.shape[0] == b2.shape[0]:
        return 0, 0
    raise ValueError


def _oft(blocks: Tensor, own: tuple[int, int]) -> tuple[int, int]:
    """Block-diagonal rotations [k, b, b] of the rows (Qiu et al. 2306.07280); BOFT's butterflies [m, k, b, b] (Liu et al. 2311.06243)."""
    count, side = blocks.shape[-3], blocks.shape[-1]
    if blocks.shape[-2] != side:
        raise ValueError
    if blocks.ndim == 4 and (side % 2 or count * side % (2 ** len(blocks) * (side // 2))):
        raise ValueError
    return count * side, own[1]


def _is_magnitude(scale: Tensor, weight: torch.Size) -> bool:
    """[out, 1, ...] (of rows) or [1, in, 1, ...] (of columns)."""
    ones = (1,) * (len(weight) - 2)
    return tuple(scale.shape) in ((weight[0], 1, *ones), (1, weight[1], *ones))
