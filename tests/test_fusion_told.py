"""Where a fusion acts everywhere although features or a VAE know the face: said, and in every run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import torch

PERSON = "a photo of a young man, black hair, blue background"
SEED, STEPS, CFG = 7, 2, 4.0
EVERYWHERE, NO_FACE = "in the picture of their own noise and text alone", "no face found in picture 1"


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Iterator[SimpleNamespace]:
    extract = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        run = (given["positive"], given["neutral"], given["negative"], empty(), SEED, STEPS, CFG, "euler", "normal", 1.0, "happy")
        bank = extract(given["model"], *run).args[0]
        mask = torch.zeros(64, 128)
        mask[:, :64] = 1
        yield SimpleNamespace(
            **given,
            bank=replace(bank, mask=mask),
            apply=pack.node("apply_attention_focused_fusion").ApplyAttentionFocusedFusion.execute,
            draw=pack.node("sampler").Sampler.execute,
            extract=extract,
            texts=pack.node("host.conditioning").encode_conditioning(given["clip"], "a photo of a woman, red hair"),
            nodes=comfy_modules.nodes,
        )


def empty(count: int = 1) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(count, 4, 8, 16)}


def drawn(
    mini: SimpleNamespace,
    model: Any,
    start: dict | None = None,
    seed: int = SEED,
    denoise: float = 1.0,
    sampler: str = "euler",
    text: Any = None,
) -> torch.Tensor:
    latent = empty() if start is None else start
    given = (model, seed, STEPS, CFG, sampler, "normal", mini.neutral if text is None else text, mini.negative, latent, denoise)
    return mini.draw(*given).args[0]["samples"]


def fused(mini: SimpleNamespace, bank: Any = None, **options: Any) -> Any:
    return mini.apply(mini.model, mini.bank if bank is None else bank, 1.0, **options).args[0]


def times(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(what in line for line in caplog.messages)


def test_features_act_under_their_mask_in_their_own_picture_and_nothing_is_told(mini: SimpleNamespace, caplog) -> None:
    change = (drawn(mini, fused(mini)) - drawn(mini, mini.model)).abs().amax((0, 1))
    assert change[:, :8].max() > 0
    assert times(caplog, EVERYWHERE) == 0


def within(mini: SimpleNamespace, index: int) -> dict[str, Any]:
    """One latent taken out of a batch: its noise is the one that it has there."""
    start: dict[str, Any] = mini.nodes.LatentFromBatch().frombatch(empty(3), index, 1)[0]
    return start


@pytest.mark.parametrize("case", ["its own text with another", "the expression's text", "a steady sampler", "in a batch", "out of a batch"])
def test_their_own_picture_is_known_by_its_noise_and_texts(mini: SimpleNamespace, caplog, case: str) -> None:
    bank, options = mini.bank, dict[str, Any]()
    texts, run = (mini.positive, mini.neutral, mini.negative), (SEED, STEPS, CFG, "euler", "normal", 1.0, "happy")
    if case == "its own text with another":
        texts = [*mini.texts, *mini.positive], [*mini.texts, *mini.neutral], mini.negative
        options["text"] = [*mini.neutral, *mini.texts]
        bank = mini.extract(mini.model, *texts, empty(), *run).args[0]
    elif case == "the expression's text":
        options["text"] = mini.positive
    elif case == "a steady sampler":
        options["sampler"] = "dpmpp_2m"
    else:
        bank = mini.extract(mini.model, *texts, within(mini, 2), *run).args[0]
        options["start"] = within(mini, 2) if case == "out of a batch" else empty(3)
    drawn(mini, fused(mini, replace(bank, mask=mini.bank.mask)), **options)
    assert times(caplog, EVERYWHERE) == (case == "in a batch")  # of the two others


CASES = {
    "another seed": "other noise",
    "a batch": "other noise",
    "a picture that is given": "a picture that was given",
    "features of a photo": "of a photo",
    "another size": "other noise",
    "a later part of a batch": "other noise",
    "another prompt": "other texts",
    "a sampler that adds noise": "the sampler",
    "features of before": "do not say",
    "features of a given latent": "do not say",
}
"""How the picture differs from the features' own: what is told of it."""


@pytest.mark.parametrize("case", CASES)
def test_in_other_pictures_they_act_everywhere_and_that_is_told_once_a_run(mini: SimpleNamespace, caplog, case: str) -> None:
    bank = mini.bank
    if case == "features of a photo":
        bank = replace(bank, notes={**bank.notes, "source": "photo"})
    elif case == "features of before":
        bank = replace(bank, notes={name: note for name, note in bank.notes.items() if name not in ("noise", "texts")})
    elif case == "features of a given latent":
        given = ({"samples": torch.ones(1, 4, 8, 16)}, SEED, STEPS, CFG, "euler", "normal", 1.0, "happy")
        bank = replace(mini.extract(mini.model, mini.positive, mini.neutral, mini.negative, *given).args[0], mask=bank.mask)
    model = fused(mini, bank)
    noise = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    cases: dict[str, dict[str, Any]] = {
        "another seed": {"seed": SEED + 1},
        "a batch": {"start": empty(2)},
        "a picture that is given": {"start": {"samples": noise}, "denoise": 0.6},
        "another size": {"start": {"samples": torch.zeros(1, 4, 16, 16)}},
        "a later part of a batch": {"start": within(mini, 2)},
        "another prompt": {"text": mini.texts},
        "a sampler that adds noise": {"sampler": "euler_ancestral"},
    }
    for run in (1, 2):
        drawn(mini, model, **cases.get(case, {}))
        assert times(caplog, EVERYWHERE) == times(caplog, CASES[case]) == run
    assert all("Connect a VAE, or a mask" in line for line in caplog.messages if EVERYWHERE in line)


@pytest.mark.parametrize("connected", ["a mask", "a VAE", "neither mask nor regions of its own"])
def test_where_that_does_not_hold_it_is_not_told(mini: SimpleNamespace, caplog, connected: str) -> None:
    options = {"a mask": {"mask": torch.ones(1, 64, 128)}, "a VAE": {"vae": mini.vae}}.get(connected, {})
    bank = mini.bank if options else replace(mini.bank, mask=None, regions=None)
    drawn(mini, fused(mini, bank, **options), seed=SEED + 1)
    assert times(caplog, EVERYWHERE) == 0


def test_a_face_that_is_not_found_is_told_in_every_run(mini: SimpleNamespace, caplog) -> None:
    """Before, in the first one alone: ComfyUI keeps the MODEL with the fusion for the next prompt."""
    model = fused(mini, replace(mini.bank, mask=None, regions=None), vae=mini.vae)
    for run in (1, 2, 3):
        before = times(caplog, NO_FACE)
        drawn(mini, model, seed=run)
        assert times(caplog, NO_FACE) > before


def test_a_first_step_in_which_nothing_can_be_seen_is_told_in_every_run(mini: SimpleNamespace, caplog) -> None:
    """The expression acts in the whole picture there."""
    model = fused(mini, replace(mini.bank, mask=None, regions=None), vae=mini.vae, window_high=1.0)
    for run in (1, 2):
        drawn(mini, model)
        assert times(caplog, "nothing is drawn yet in which the face could be seen") == run
    drawn(mini, model, start={"samples": torch.ones(1, 4, 8, 16)}, denoise=0.5)  # which is seen
    assert times(caplog, "nothing is drawn yet in which the face could be seen") == 2


def test_what_a_window_leaves_out_is_told_in_every_run_and_once_in_each(mini: SimpleNamespace, caplog) -> None:
    model = fused(mini, window_low=0.999, window_high=1.0)
    for run in (1, 2):
        drawn(mini, model, denoise=0.5, start={"samples": torch.ones(1, 4, 8, 16)})
        assert times(caplog, "no step of this schedule lies well inside the window") == run
