"""A given picture drawn over with another expression: the difference of two runs of a model along the picture's own noise path.

The path is DDIM inversion (Song et al. 2010.02502; Dhariwal and Nichol 2105.05233) by the model that is told what the picture shows, n.
Along it the model draws twice, as the picture is (n) and as it is to be (e), and only their difference is kept (after "Direct Inversion",
Ju et al. 2310.01506, where the source's branch follows its recorded path exactly):

    p_K = z,   p_k = p_{k+1} + (s_k - s_{k+1}) eps_n(p_{k+1}, s_{k+1})                    up to the noise s_0
    d_0 = 0,   d_{k+1} = d_k + (s_{k+1} - s_k) w m (eps_e(p_k + d_k, s_k) - eps_n(p_k, s_k))  down again
    z' = z + d_K

Both runs have the neutral text, with the expression, if any, by fusion. So the latent stays where the mask m is 0, and all of it where both
runs say the same: the error of the inversion never enters. The mask, the weight w (see `strengths`) and the use with fusion are ours.
s_K, the clean picture's level, is LOWEST instead of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..errors import FaceExprError
from ..expressions import EXPRESSIONS, NONE
from ..text import ExpressionPrompt, Term, TokenCount, build_prompts, expression_terms
from .donor_faces import moved_regions
from .donors import Which
from .grids import grid_mask
from .settings import MAX_STRENGTH, WORDS_STRENGTH, require_between

SHOWN_SHARE, SHOWN_ALONE, AWAY = 2 / 3, 2.0, 4 / 3
"""See `strengths`; chosen on tuning people (seeds 100,000 and up)."""
LOWEST = 0.5
"""The model looks at the clean latent at this share of the lowest noise level."""


class Words(NamedTuple):
    """Texts of one length, with one neutral text: what is `asked` of a picture and what it has `shown` until now."""

    asked: ExpressionPrompt
    shown: ExpressionPrompt


def redraw_words(prompt: str, terms: Sequence[Term], shown: str, count: TokenCount) -> Words:
    """The texts for a prompt, what is asked (`text.expression_terms`) and the expression that the picture shows (of the vocabulary, or
    `none`). A neutral face has the neutral text itself on either side. Raises FaceExprError for an unknown name, or nothing asked."""
    if not terms:
        raise FaceExprError("no expression is asked; choose one, or write action units such as AU12.")
    resting = EXPRESSIONS["neutral"].phrase
    asked = [term for term in terms if term.weight > 0 and term.phrase != resting]
    before = [] if shown == NONE else [term for term in expression_terms(shown) if term.phrase != resting]
    built = build_prompts(prompt, [*asked, *before] or terms, count)

    def part(expressions: tuple[str, ...], weights: tuple[float, ...]) -> ExpressionPrompt:
        whole = ExpressionPrompt(built.neutral, expressions, weights)
        return whole if expressions else whole.at_rest()

    first, last = slice(0, len(asked)), slice(len(asked), len(asked) + len(before))
    return Words(*(part(built.expressions[one], built.weights[one]) for one in (first, last)))


def acting_regions(shown: str, moved: Sequence[str]) -> tuple[str, ...]:
    """Where a face is drawn over: the regions that the asked expression moves, with those of the one that it shows. Not all of the face, as
    fusion has it: what is drawn over costs likeness (`docs/measurements.md`, "Changing a picture")."""
    return (*moved, *(region for region in moved_regions(shown) if region not in moved))


class Strengths(NamedTuple):
    """Strengths of the fusion of the `asked` and the `shown` expression into their runs, and the `weight` of the two runs' difference."""

    asked: float
    shown: float
    weight: float


def strengths(strength: float, words: Words) -> Strengths:
    """What the strength asked for means, in multiples of what the texts differ by. An expression that is asked is fused so strongly, the
    shown one with a SHOWN_SHARE of it. Where none is asked, no strength of the shown one's fusion takes more of it away than SHOWN_ALONE:
    there AWAY times the strength is the difference's weight. Raises FaceExprError for a strength out of 0..MAX_STRENGTH."""
    require_between("strength", strength, 0, MAX_STRENGTH)
    if words.asked.expressions == (words.asked.neutral,):
        return Strengths(0.0, SHOWN_ALONE / WORDS_STRENGTH, AWAY * strength)
    return Strengths(strength / WORDS_STRENGTH, SHOWN_SHARE * strength / WORDS_STRENGTH, 1.0)


def stays(words: Words, strength: float) -> bool:
    """Whether a face is left as it is instead of being drawn over: at strength 0, and where it is asked to show what it shows.

    The same words on both sides draw next to nothing: on Mini, happy asked of a neutral face that was said to be happy made 0.06 of a
    smile, of the same face said to be neutral 0.58. Measured once; no command here repeats it.
    """
    return strength == 0 or words.asked == words.shown


def told_of_face(size: float, shown: str, words: Words, strength: float, read: bool) -> str:
    """What is done with a face of so many pixels, in a line; `read`: what it shows was read of it, and not given."""
    face = f"a face of {size:.0f} pixels"
    if not stays(words, strength):
        return f"{face}, {shown} until now"
    if strength == 0:
        return f"{face}, {shown} until now, is left as it is: the strength is 0"
    known = "as the judges read it" if read else "as 'shown' says"
    return f"{face} shows {shown} already, {known}, and is left as it is{'; say in shown what it shows, to change it' if read else ''}"


class Host(Protocol):
    """A model on the neutral text, with what a picture shows fused into it (`n`), or what it is to show (`e`)."""

    def predict(self, x: Tensor, sigma: float, which: Which) -> Tensor:
        """The noise in x = z + sigma eps, float32 [1, 4, h, w], with guidance."""
        ...


def redraw_evaluations(steps: int) -> int:
    """How often `redraw` calls its host for so many steps."""
    return 2 * steps + 1


def redraw(host: Host, latent: Tensor, sigmas: Sequence[float], mask: Tensor, weight: float = 1.0) -> Tensor:
    """The latent [1, 4, h, w] of a picture, with the other expression.

    `sigmas`: a falling schedule with its 0, from the noise up to which the picture is taken: a sampler's last steps. `mask`: float [H, W]
    in 0..1, where it may change. `weight`: of the difference, see `strengths`. Raises FaceExprError for a schedule without a step.
    """
    if len(sigmas) < 2:
        raise FaceExprError("the schedule has no step, so that nothing would be drawn; raise steps or denoise.")
    inside = grid_mask(mask, (latent.shape[2], latent.shape[3])).to(latent)
    path, noises = [latent], [host.predict(latent, LOWEST * sigmas[-2], "n")]
    for low, high in pairwise(reversed(sigmas)):
        path.append(path[-1] + (high - low) * noises[-1])
        noises.append(host.predict(path[-1], high, "n"))
    path, noises = path[::-1], noises[::-1]
    change = torch.zeros_like(latent)
    for (sigma, following), point, noise in zip(pairwise(sigmas), path, noises, strict=False):
        change = change + weight * (following - sigma) * inside * (host.predict(point + change, sigma, "e") - noise)
    return latent + change
