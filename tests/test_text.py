"""The arithmetic of conditioning, on tensors small enough to check by hand and on Mini's own text encoders."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch

from faceexpr_core import text
from faceexpr_core.diffusers_host import encoding
from faceexpr_core.errors import FaceExprError
from faceexpr_core.expressions import ACTION_UNITS, NONE, names
from faceexpr_core.text import Term, build_prompts, expression_terms, mix, mix_pooled, plain_terms

SCENE = "a photo of sks woman, curly hair, wearing a suit, standing near a skyscraper in a bustling city"


@pytest.fixture(scope="module")
def count(pipe):
    return partial(encoding.count_tokens, pipe)


def token(*values: float) -> torch.Tensor:
    return torch.tensor([[values]])


def test_intensity_goes_from_neutral_to_expression_and_beyond() -> None:
    neutral, happy = token(10.0, 0.0), token(10.0, 2.0)
    assert torch.equal(mix(neutral, [happy], [0.5]), token(10.0, 1.0))
    assert torch.allclose(mix(neutral, [happy], [1.5]), token(10.0, 3.0))


def test_the_ends_of_the_scale_are_the_very_tensors() -> None:
    neutral, happy = torch.randn(1, 77, 96), torch.randn(1, 77, 96)
    assert mix(neutral, [happy], [0.0]) is neutral
    assert mix(neutral, [happy], [1.0]) is happy
    assert mix_pooled(neutral[:, 0], [happy[:, 0]], [1.5]).equal(happy[:, 0])


def test_beyond_full_strength_no_token_grows_by_more_than_a_tenth() -> None:
    assert torch.allclose(mix(token(1.0, 0.0), [token(3.0, 0.0)], [1.5]), token(3.3, 0.0))
    torch.manual_seed(0)
    neutral, sad = torch.randn(2, 154, 96), 3 * torch.randn(2, 154, 96)
    norms = mix(neutral, [sad], [1.5]).norm(dim=-1)
    limit = 1.1 * torch.maximum(neutral.norm(dim=-1), sad.norm(dim=-1))
    assert (norms <= limit * 1.00001).all()
    assert (norms > limit * 0.999).any()


def test_a_blend_changes_no_token_by_more_than_one_and_a_half_of_its_strongest_part() -> None:
    base, right, up = token(100.0, 0.0, 0.0), token(100.0, 2.0, 0.0), token(100.0, 0.0, 2.0)
    assert torch.allclose(mix(base, [right, up], [0.5, 0.5]), token(100.0, 1.0, 1.0))
    assert torch.allclose(mix(base, [right, right], [1.0, 1.0]), token(100.0, 3.0, 0.0))
    assert torch.allclose(mix_pooled(base[:, 0], [right[:, 0], right[:, 0]], [1.5, 1.5]), token(100.0, 3.0, 0.0)[:, 0])


def test_pooled_embeddings_stop_at_full_strength() -> None:
    neutral, happy, sad = torch.zeros(1, 2), torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert torch.allclose(mix_pooled(neutral, [happy, sad], [1.5, 0.25]), torch.tensor([[4.0, 1.0]]))


def test_each_chunk_of_77_tokens_is_mixed_as_if_alone() -> None:
    torch.manual_seed(1)
    parts = [torch.randn(1, 231, 96) for _ in range(3)]
    whole = mix(parts[0], parts[1:], [1.2, 0.7])
    chunks = [mix(a, [b, c], [1.2, 0.7]) for a, b, c in zip(*(part.split(77, dim=1) for part in parts), strict=True)]
    assert torch.equal(whole, torch.cat(chunks, dim=1))


def test_half_precision_goes_in_and_out() -> None:
    mixed = mix(token(1.0, 0.0).half(), [token(2.0, 0.0).half()], [0.5])
    assert mixed.dtype == torch.float16
    assert mixed[0, 0, 0] == 1.5


def test_embeddings_of_different_lengths_are_refused() -> None:
    with pytest.raises(FaceExprError, match="77-token chunks"):
        mix(torch.zeros(1, 77, 4), [torch.zeros(1, 154, 4)], [0.5])


def test_the_epsilon_mode_is_plain_guidance_at_scale_one() -> None:
    u, n, e = torch.randn(3, 2, 4, 8, 8, dtype=torch.float64)
    assert torch.allclose(text.epsilon_mix(u, n, e, 5.0, 1.0), u + 5.0 * (e - u), atol=1e-12)
    assert torch.allclose(text.epsilon_mix(u, n, e, 5.0, 0.0), u + 5.0 * (n - u), atol=1e-12)
    assert torch.allclose(text.epsilon_mix(u, n, e, 5.0, 1.4), u + 5.0 * (n - u) + 7.0 * (e - n), atol=1e-12)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a photo of a man", "a photo of a man, sad expression"),
        ("a photo of a man, \n", "a photo of a man, sad expression"),
        ("", "sad expression"),
        ("a man, {expression}, in {a city}", "a man, sad expression, in {a city}"),
        ("[W*] woman, {shocked}, (red hair:1.2), \\(sic\\)", "[W*] woman, {shocked}, (red hair:1.2), \\(sic\\), sad expression"),
        ("({expression}:1.3), a man", "(sad expression:1.3), a man"),
    ],
)
def test_the_phrase_goes_to_its_slot_or_to_the_end_and_all_else_is_kept(prompt: str, expected: str) -> None:
    assert text.insert(prompt, "sad expression") == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a man, {expression}, outdoors", "a man, outdoors"),
        ("a {expression} man", "a man"),
        ("{expression}, a man", "a man"),
        ("a man, in {a city}", "a man, in {a city}"),
        ("a man, ({expression}:1.2), outdoors", "a man, outdoors"),
        ("a ((({expression})): 0.9 ) man", "a man"),
        ("({expression}:-.5), a man", "a man"),
        ("(a man, {expression}:1.2), outdoors", "(a man:1.2), outdoors"),
        ("a man, \\({expression}\\), outdoors", "a man, \\(\\), outdoors"),
    ],
)
def test_without_an_expression_the_slot_disappears(prompt: str, expected: str) -> None:
    assert text.without_slot(prompt) == expected
    assert build_prompts(prompt, (), len).expressions == (expected,)  # type: ignore[arg-type]


def test_terms_weigh_what_is_asked_for() -> None:
    assert expression_terms("happy", 0.8) == (Term("happy expression", 0.8),)
    assert expression_terms("bittersweet", 0.5) == (Term("happy expression", 0.3), Term("sad expression", 0.3))
    assert expression_terms("neutral", 1.0, "angry", 0.4) == (Term("angry expression", 0.4),)
    assert expression_terms("happy", 1.0, "sad", 0.0) == (Term("happy expression", 1.0),)
    assert expression_terms(NONE, 0.7, action_units="AU1+AU2") == (Term("raised inner brows and raised outer brows", 0.7),)
    assert expression_terms("happy", 0.0) == (Term("happy expression", 0.0),)
    assert expression_terms(NONE) == ()


def test_plain_words_say_how_strong_by_an_adverb() -> None:
    said = [plain_terms(name, weight)[0].phrase for name, weight in (("contempt", 0.4), ("contempt", 0.7), ("contempt", 1.0))]
    assert said == ["slightly contemptuous expression", "contemptuous expression", "very contemptuous expression"]
    assert plain_terms("neutral", 0.4) == plain_terms("happy", 0.0) == expression_terms("neutral")
    assert plain_terms("Happily_surprised", 0.7) == (Term("happily surprised expression", 1.0),)
    with pytest.raises(FaceExprError, match="the intensity is"):
        plain_terms("happy", 1.6)
    with pytest.raises(FaceExprError, match="not an expression of the vocabulary"):
        plain_terms("cheery")


@pytest.mark.parametrize("weights", [(1.6, 0.0), (-0.1, 0.0), (1.0, 2.0), (float("nan"), 0.0)])
def test_weights_out_of_range_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(FaceExprError, match=r"between 0 and 1\.5"):
        expression_terms("happy", weights[0], "sad", weights[1])


@pytest.mark.parametrize("prompt", [SCENE, f"a photo of {text.SLOT} woman, curly hair", f"({text.SLOT}:1.2), {text.SLOT}, red hair", ""])
def test_every_phrase_has_a_neutral_of_the_same_length(count, prompt: str) -> None:
    asked = [expression_terms(name) for name in names()]
    asked += [expression_terms(NONE, action_units=str(number)) for number in ACTION_UNITS]
    asked += [expression_terms("contempt", 1.0, "shocked", 1.0, "R12+AU25")]
    for terms in asked:
        prompts = build_prompts(prompt, terms, count)
        assert {count(words) for words in prompts.expressions} == {count(prompts.neutral)}
        assert "neutral" in prompts.neutral
        if len(terms) == 1:
            assert prompts.expressions == (text.insert(prompt, terms[0].phrase),)


def test_action_units_of_one_strength_are_said_together_and_share_the_intensity() -> None:
    assert expression_terms("happy", 0.8, action_units="AU1:0.5 + AU2:0.5 + R12") == (
        Term("happy expression", 0.8),
        Term("raised inner brows and raised outer brows", 0.4),
        Term("lip corners pulled up on the right side", 0.8),
    )


def test_arbitrary_phrases_have_a_neutral_of_the_same_length(count) -> None:
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyzäéß'!,.-0123456789"
    for _ in range(200):
        words = ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(draw.randint(1, 12))]
        prompts = build_prompts(SCENE, [Term(" ".join(words), 1.0)], count)
        assert count(prompts.neutral) == count(prompts.expressions[0])


def test_the_neutral_of_the_canonical_phrase_is_the_canonical_neutral(count) -> None:
    assert build_prompts(SCENE, expression_terms("sad"), count).neutral == f"{SCENE}, neutral expression"


def test_a_slot_inside_a_word_is_refused_when_no_neutral_fits() -> None:
    def count(words: str) -> tuple[int, int]:
        return (len(words.split()), len(words))

    with pytest.raises(FaceExprError, match="space or a comma on both sides"):
        build_prompts("x{expression}y", [Term("sad", 1.0)], count)


def test_with_the_phrase_last_the_tokens_before_it_are_the_same_for_every_expression(pipe, count) -> None:
    before = count(f"{SCENE},")[0] + 1  # and the start token
    hidden, _ = encoding.encode_prompts(pipe, [text.insert(SCENE, f"{name} expression") for name in ("neutral", "happy", "sad", "angry")])
    assert before < 60
    for other in hidden[1:]:
        assert torch.allclose(other[:before], hidden[0, :before], atol=1e-6)
        assert not torch.allclose(other[before:], hidden[0, before:], atol=1e-3)


def test_prompts_longer_than_77_tokens_are_mixed_chunk_by_chunk(pipe, count) -> None:
    prompt = f"{SCENE}, " * 4
    prompts = build_prompts(prompt, expression_terms("fearful", 0.5), count)
    hidden, _ = encoding.encode_prompts(pipe, [prompts.neutral, *prompts.expressions])
    assert hidden.shape[1] == 77 * 2
    mixed = mix(hidden[:1], [hidden[1:]], prompts.weights)
    assert torch.allclose(mixed[0], hidden.mean(0), atol=1e-5)
    assert torch.equal(mixed[0, :77], hidden[0, :77])


def test_short_prompts_are_repeated_to_the_length_of_the_longest(pipe) -> None:
    hidden, pooled = encoding.encode_prompts(pipe, ["a man", "a man " * 50])
    assert hidden.shape[:2] == (2, 154)
    assert torch.equal(hidden[0, :77], hidden[0, 77:])
    assert pooled.shape == (2, pipe.text_encoder_2.config.projection_dim)
