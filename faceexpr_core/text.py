"""Conditioning arithmetic: how strongly which expression stands in a prompt. Pure functions of strings and tensors.

The paper places the expression among the prompt's parts (identity, expression, attribute, accessory, action, context);
the formulas are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import FaceExprError
from .expressions import EXPRESSIONS, NONE, ActionUnit, action_unit_phrase, blend_of, parse_unit_strengths

SLOT = "{expression}"
"""Where the phrase goes in a prompt; without one it goes to the end."""
_WEIGHTED_SLOT = re.compile(rf"(?<!\\)\(\s*{re.escape(SLOT)}\s*(?::\s*[-+]?[\d.]+\s*)?\)")

MAX_WEIGHT = 1.5
NORM_LIMIT = 1.1
BLEND_LIMIT = 1.5
SLIGHTLY, VERY = 0.55, 0.85
"""Intensities below and above which words alone say so."""

NEUTRAL_PHRASES = ("a calm neutral expression", "a neutral expression", "neutral expression", "neutral")
FILLER = ", "
"""One token in CLIP, with next to no meaning; it brings a phrase to a wanted length."""

TokenCount = Callable[[str], tuple[int, ...]]
"""Text -> number of its tokens in each text encoder."""


@dataclass(frozen=True)
class Term:
    """A phrase with its strength a_k in 0..1.5."""

    phrase: str
    weight: float


@dataclass(frozen=True)
class ExpressionPrompt:
    """Texts to embed, all of one token count: `neutral` gives H_n, `expressions` the H_ek that `weights` (a_k) go with."""

    neutral: str
    expressions: tuple[str, ...]
    weights: tuple[float, ...]

    def at_rest(self) -> ExpressionPrompt:
        """The neutral text alone: what is drawn where the expression comes by fusion."""
        return ExpressionPrompt(self.neutral, (self.neutral,), (1.0,))


def expression_terms(
    expression: str, intensity: float = 1.0, second: str = NONE, second_weight: float = 0.0, action_units: str = ""
) -> tuple[Term, ...]:
    """What is asked for, as phrases with weights.

    `expression` and `second` are names of the vocabulary or `none`, `action_units` a text such as `AU1+AU2` or `AU6:0.5+AU12`; units of
    one strength are said in one phrase. The intensity (0..1.5) weighs the first expression and the action units, these times their own
    strength; `second_weight` (0..1.5) weighs the second expression. Parts that change nothing
    (weight 0, or neutral) are left out, unless nothing else remains; () means that the prompt stays as it is.
    Raises FaceExprError for unknown names and for weights out of range.
    """
    _check_weight("intensity", intensity)
    _check_weight("second weight", second_weight)
    terms = [] if expression == NONE else [Term(part.phrase, intensity * share) for part, share in blend_of(expression)]
    together: dict[float, tuple[ActionUnit, ...]] = {}
    for unit, strength in parse_unit_strengths(action_units):
        together[strength] = (*together.get(strength, ()), unit)
    terms += [Term(action_unit_phrase(units), intensity * strength) for strength, units in together.items()]
    if second != NONE:
        terms += [Term(part.phrase, second_weight * share) for part, share in blend_of(second)]
    effective = [term for term in terms if term.weight > 0 and term.phrase != EXPRESSIONS["neutral"].phrase]
    return tuple(effective or terms[:1])


def plain_terms(expression: str, intensity: float = 1.0) -> tuple[Term, ...]:
    """What is asked for in words alone, as the paper's prompts have it, the intensity (0..1.5) by an adverb that captions use:
    `slightly happy expression` below 0.55, `very happy expression` above 0.85; 0 is neutral. A compound is called by its name.

    Raises FaceExprError for unknown names and for an intensity out of range.
    """
    _check_weight("intensity", intensity)
    parts, neutral = blend_of(expression), EXPRESSIONS["neutral"].phrase
    word = parts[0][0].word if len(parts) == 1 else " ".join(expression.replace("_", " ").lower().split())
    phrase = f"{word} expression"
    return (Term(neutral if intensity == 0 or phrase == neutral else f"{degree(intensity)} {phrase}".strip(), 1.0),)


def degree(intensity: float) -> str:
    """How strong an expression is, as captions say it: `slightly`, `very`, or nothing between."""
    return "slightly" if intensity < SLIGHTLY else "very" if intensity > VERY else ""


def build_prompts(prompt: str, terms: Sequence[Term], count: TokenCount) -> ExpressionPrompt:
    """The texts to embed for a prompt and its terms, all with the same number of tokens in each encoder (else end-of-text shifts).

    A single phrase is used as it is; in a blend shorter phrases are brought to the longest one's length by commas before them, and so is
    the neutral phrase. Everything else in the prompt (weights, braces, embeddings, line breaks) is kept.
    Raises FaceExprError when no neutral phrase can be made as long, which takes a slot glued to other letters.
    """
    if not terms:
        plain = without_slot(prompt)
        return ExpressionPrompt(plain, (plain,), (1.0,))
    lengths = [count(insert(prompt, term.phrase)) for term in terms]
    target = max(lengths)
    expressions = []
    for term in terms:
        text = _fit(prompt, term.phrase, target, count)
        if text is None:
            raise _cannot_match(prompt, term.phrase)
        expressions.append(text)
    fitted = (_fit(prompt, phrase, target, count) for phrase in NEUTRAL_PHRASES)
    neutral = next((text for text in fitted if text is not None), None)
    if neutral is None:
        raise _cannot_match(prompt, terms[0].phrase)
    return ExpressionPrompt(neutral, tuple(expressions), tuple(term.weight for term in terms))


def insert(prompt: str, phrase: str) -> str:
    """The prompt with the phrase in its `{expression}` slots, or at its end: `<prompt>, <phrase>`."""
    if SLOT in prompt:
        return prompt.replace(SLOT, phrase)
    start = prompt.rstrip(" ,\t\r\n")
    return f"{start}, {phrase}" if start else phrase


def without_slot(prompt: str) -> str:
    """The prompt with its `{expression}` slots, parentheses and weight around them alone, and the comma or space before each, taken out;
    unchanged if there is none."""
    if SLOT not in prompt:
        return prompt
    while (bare := _WEIGHTED_SLOT.sub(SLOT, prompt)) != prompt:
        prompt = bare
    *before, last = prompt.split(SLOT)
    return "".join([*(part.rstrip().removesuffix(",") for part in before), last]).lstrip(" ,")


def _check_weight(what: str, weight: float) -> None:
    if not 0 <= weight <= MAX_WEIGHT:
        raise FaceExprError(f"the {what} is {weight:g}; it must lie between 0 and {MAX_WEIGHT:g}.")


def _fit(prompt: str, phrase: str, target: tuple[int, ...], count: TokenCount) -> str | None:
    """The prompt with the phrase, filled up to `target` tokens; None if that cannot be done."""
    text = insert(prompt, phrase)
    missing = [wanted - given for wanted, given in zip(target, count(text), strict=True)]
    fillers, rest = divmod(missing[0], max(prompt.count(SLOT), 1))
    if rest or fillers < 0 or len(set(missing)) != 1:
        return None
    text = insert(prompt, FILLER * fillers + phrase)
    return text if count(text) == target else None


def _cannot_match(prompt: str, phrase: str) -> FaceExprError:
    return FaceExprError(
        f"no neutral phrase of the same length fits where '{phrase}' stands in '{prompt}'. Put a space or a comma on both sides of {SLOT}."
    )


def mix(neutral: Tensor, expressions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Token embeddings of an expression at a given strength.

    H = H_n + dH, dH = sum_k a_k (H_ek - H_n), each token's |dH| <= 1.5 max_k |H_ek - H_n| and |H| <= 1.1 max(|H_n|, |H_ek|); both limits
    act only beyond convex mixtures. `neutral` and each of `expressions`: [B, T, C], any float type, T any multiple of 77.
    One expression of weight 1 and weights of 0 give back the very tensors. Raises FaceExprError when shapes differ.
    """
    _check_shapes(neutral, expressions, weights)
    if exact := _exact(neutral, expressions, weights):
        return exact[0]
    base = neutral.float()
    mixed = base + _limited_change(base, expressions, weights)
    longest = torch.stack([_norm(base), *(_norm(expression.float()) for expression in expressions)]).amax(0)
    return (mixed * _shrink(_norm(mixed), NORM_LIMIT * longest)).to(neutral.dtype)


def mix_pooled(neutral: Tensor, expressions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Pooled embeddings [B, P] likewise, no expression by more than its full strength.

    p = p_n + sum_k min(a_k, 1) (p_ek - p_n), the change limited as dH is.
    """
    _check_shapes(neutral, expressions, weights)
    capped = [min(weight, 1.0) for weight in weights]
    if exact := _exact(neutral, expressions, capped):
        return exact[0]
    base = neutral.float()
    return (base + _limited_change(base, expressions, capped)).to(neutral.dtype)


def expression_direction(neutral: Tensor, expression: Tensor, scale: float) -> Tensor:
    """The conditional prediction of the epsilon mode: eps_n + a (eps_e - eps_n), any shape."""
    return neutral + scale * (expression - neutral)


def epsilon_mix(unconditional: Tensor, neutral: Tensor, expression: Tensor, guidance: float, scale: float) -> Tensor:
    """Epsilon mode: eps = eps_u + w (eps_n - eps_u) + w a (eps_e - eps_n), any shape. At a = 1 it is classifier-free guidance."""
    return unconditional + guidance * (expression_direction(neutral, expression, scale) - unconditional)


def _exact(neutral: Tensor, expressions: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
    if not any(weights):
        return [neutral]
    return [expressions[0]] if len(weights) == 1 and weights[0] == 1 else []


def _limited_change(base: Tensor, expressions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    changes = torch.stack([expression.float() - base for expression in expressions])
    total = torch.einsum("k,k...->...", torch.tensor(weights, dtype=base.dtype, device=base.device), changes)
    return total * _shrink(_norm(total), BLEND_LIMIT * _norm(changes).amax(0))


def _norm(values: Tensor) -> Tensor:
    return values.norm(dim=-1, keepdim=True)


def _shrink(norm: Tensor, limit: Tensor) -> Tensor:
    return (limit / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1.0)


def _check_shapes(neutral: Tensor, expressions: Sequence[Tensor], weights: Sequence[float]) -> None:
    if not expressions or len(expressions) != len(weights):
        raise FaceExprError(f"{len(expressions)} expressions came with {len(weights)} weights; there must be as many, at least one.")
    shapes = [tuple(tensor.shape) for tensor in (neutral, *expressions)]
    if len(set(shapes)) != 1:
        raise FaceExprError(
            f"embeddings of shapes {shapes} cannot be mixed; the prompts must have the same number of 77-token chunks. "
            "A prompt that just fills one does this: make it a word or two shorter or longer."
        )
