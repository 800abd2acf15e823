"""What a picture is composed of that is drawn by a run of a sampler, for `faceexpr_core.fusion.composition`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...faceexpr_core.fusion.composition import Composition, composition_notes
from .conditioning import Conditioning
from .rows import conditional_entries
from .run import Session
from .texts import Pair, at_rest

STEADY = {
    *("euler", "euler_cfg_pp", "heun", "heunpp2", "dpm_2", "lms"),
    *("dpmpp_2m", "dpmpp_2m_cfg_pp", "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp"),
    *("gradient_estimation", "gradient_estimation_cfg_pp", "unipc", "unipc_bh2"),
}
"""Names of ComfyUI's sampler functions that draw Euler's picture of the same noise, unless an option of `NOISY` is above 0. On Mini (one
picture, 10 steps) the mask of the face overlaps with that of Euler's by 0.94 and more with these, with the others, of which `dpm_fast` adds
no noise either, by 0.89 and less; `dpm_adaptive` was not tried. Measured once, before
`lab.benchmarks.seen_faces` could repeat it."""
NOISY = ("eta", "s_churn")


def composition_of(session: Session, picture: int) -> Composition:
    """Of picture number `picture` of a batch that is drawn from nothing but noise."""
    said = (entry.get("model_conds", {}).get("c_crossattn") for entry in conditional_entries(session.guider))
    texts = tuple(_said_of(text.cond, picture) for text in said if text is not None)
    noise = None if session.noise is None else session.noise[picture]
    return Composition(noise, texts, _strays(session.sampler))


def notes_of_twins(noise: Tensor, latent: Tensor, expression: Conditioning, neutral: Conditioning, pairs: Sequence[Pair]) -> dict[str, str]:
    """Notes for the twins of two conditionings that differ by the pairs, drawn of `noise` [1, 4, h, w]; none where the `latent` is not
    empty. Their picture is that of either text, and of what a sampler draws while the expression is fused."""
    if bool(latent.count_nonzero()):
        return {}
    drawn = neutral, expression, at_rest(expression, neutral, pairs)
    return composition_notes(noise[0], ([_said_of(hidden, 0) for hidden, _ in texts] for texts in drawn))


def _said_of(hidden: Tensor, picture: int) -> Tensor:
    return hidden[picture % len(hidden)]


def _strays(sampler: Any) -> bool:
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", "").removeprefix("sample_")
    options = getattr(sampler, "extra_options", {})
    return name not in STEADY or any(options.get(option) for option in NOISY)
