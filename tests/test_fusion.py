"""The fusion operator on tokens small enough to compute by hand, and on a toy face whose ideal edit is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from distances import relative
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from faceexpr_core.errors import FaceExprError
from faceexpr_core.fusion import operator as fusion
from faceexpr_core.fusion.attention import context_difference
from faceexpr_core.fusion.formulas import adain, carry, limit, match, published
from faceexpr_core.fusion.grids import grid_mask, grid_of, grid_regions
from faceexpr_core.fusion.operator import Donor, Target, fuse
from faceexpr_core.fusion.settings import (
    SITES,
    FusionSettings,
    default_site,
    guidance_weight,
    paper_settings,
    region_ids,
    select_places,
    sigma_at,
    site_settings,
    step_weight,
    window_range,
    window_sigmas,
    window_weight,
)

TWIN = site_settings("cross_attention")
SKIP = replace(site_settings("skip"), layers="all")
PAPER = paper_settings()
GRID = (4, 4)


def tokens(seed: int, count: int = 16, channels: int = 8, rows: int = 1) -> Tensor:
    return torch.randn(rows, count, channels, generator=torch.Generator().manual_seed(seed))


def twins(seed: int = 1, count: int = 16, grid: tuple[int, int] = GRID, **others) -> Donor:
    neutral = tokens(seed, count)
    return Donor(neutral, neutral + 0.5 * tokens(seed + 100, count), grid, **others)


@pytest.mark.parametrize("settings", [TWIN, replace(TWIN, mode="adain"), PAPER, SKIP, replace(TWIN, matching=False)])
def test_nothing_to_do_returns_the_very_tensor(settings: FusionSettings) -> None:
    x, donor = tokens(0), twins()
    assert fuse(x, donor, Target(GRID), settings, 0.0) is x
    assert fuse(x, donor._replace(neutral=donor.expression), Target(GRID), settings, 1.0) is x
    assert fuse(x, donor._replace(neutral=donor.expression.clone()), Target(GRID), settings, 1.0) is x
    assert fusion.add_change(x, x, Target(GRID), settings, 0.0) is x
    assert not torch.equal(fuse(x, donor, Target(GRID), settings, 1.0), x)


def test_the_twin_formula_written_out() -> None:
    x, donor = tokens(0, count=6), twins(count=4, grid=(2, 2), regions=torch.tensor([0, 1, 4, 4]))
    regions, mask = torch.tensor([0, 1, 1, 4, 4, 0]), torch.tensor([[1.0, 0.5, 1.0], [0.25, 0.0, 1.0]])
    tau, beta, kappa, weight = 0.5, 2.0, 0.2, 1.5
    assert donor.neutral is not None
    q, k = x[0] - x[0].mean(0), donor.neutral[0] - donor.neutral[0].mean(0)
    logits = torch.empty(6, 4)
    for i in range(6):
        for j in range(4):
            cosine = float(q[i] @ k[j]) / (math.sqrt(float(q[i] @ q[i])) * math.sqrt(float(k[j] @ k[j])))
            logits[i, j] = cosine / tau - (beta if regions[i] != donor.regions[j] else 0)  # type: ignore[index]
    expected = x.clone()
    for i in range(6):
        s = logits[i].exp() / logits[i].exp().sum()
        r = torch.stack([logits[i, j].exp() / logits[:, j].exp().sum() for j in range(4)])
        g = min(max(1 + math.log(float(s @ r)) / math.log(6), 0), 1)
        change = s @ (donor.expression - donor.neutral)[0]
        change *= min(1.0, kappa * float(x[0, i].norm()) / float(change.norm()))
        expected[0, i] += weight * mask.flatten()[i] * g * change
    settings = FusionSettings(temperature=tau, region_penalty=beta, cap=kappa)
    assert torch.allclose(fuse(x, donor, Target((2, 3), regions), settings, weight, mask), expected, atol=1e-6)


def test_the_adain_formula_written_out() -> None:
    x, donor = tokens(0), twins()._replace(neutral=None)
    mask = torch.rand(GRID, generator=torch.Generator().manual_seed(3)) * torch.tensor([0.0, 1.0, 1.0, 1.0])
    to_donor, to_target = match(x, donor.expression, 0.05, 0.0)
    content, style, share = (to_donor @ donor.expression)[0], x[0], (mask / mask.sum()).flatten()[:, None]
    means = [(share * part).sum(0) for part in (content, style)]
    deviations = [(share * (part - mean) ** 2).sum(0).sqrt() for part, mean in zip((content, style), means, strict=True)]
    change = (content - means[0]) / deviations[0] * deviations[1] + means[1] - style
    sure = (1 + (to_donor * to_target.mT).sum(-1).log() / math.log(16)).clamp(0, 1).T
    expected = style + 0.7 * mask.flatten()[:, None] * sure * change
    result = fuse(x, donor, Target(GRID), replace(TWIN, mode="adain", cap=100.0), 0.7, mask)
    assert torch.allclose(result[0], expected, atol=1e-5)


@pytest.mark.parametrize(("rows", "count", "donor_count", "cells"), [(1, 7, 5, 11), (2, 33, 50, 333), (1, 64, 64, 1000), (3, 20, 3, 1)])
def test_parts_give_what_the_whole_gives(rows: int, count: int, donor_count: int, cells: int) -> None:
    x, keys, values = tokens(0, count, rows=rows), tokens(1, donor_count), tokens(2, donor_count, 5)
    regions_x, regions_d = torch.arange(count) % 3, torch.arange(donor_count) % 4
    for mine, theirs in ((None, None), (regions_x, regions_d), (regions_x, None)):
        whole, parts = (carry(x, keys, values, 0.1, 4.0, mine, theirs, cells=size) for size in (2**24, cells))
        for one, other in zip(whole, parts, strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    x, donor = tokens(0, rows=3), twins()
    for settings in (TWIN, replace(TWIN, mode="adain"), PAPER):
        together = fuse(x, donor, Target(GRID), settings, 0.7)
        for row in range(3):
            assert torch.allclose(together[row : row + 1], fuse(x[row : row + 1], donor, Target(GRID), settings, 0.7), atol=1e-6)


def test_the_paper_mode_is_the_printed_formula() -> None:
    x, donor = tokens(0), twins()
    f_id, f_exp = x[0].double(), donor.expression[0].double()
    root = math.sqrt(f_id.shape[1])
    fused = torch.softmax(f_exp @ f_id.T / root, -1) @ f_id + torch.softmax(f_id @ f_exp.T / root, -1) @ f_exp
    assert torch.allclose(published(x, donor.expression)[0].double(), fused, atol=1e-6)
    half = fused / 2
    restyled = (half - half.mean(0)) / half.std(0, correction=0) * f_id.std(0, correction=0) + f_id.mean(0)
    weight = PAPER.strength_at("input.8")
    assert weight == 0.5
    result = fuse(x, donor, Target(GRID), PAPER, weight)[0].double()
    assert torch.allclose(result, 0.5 * f_id + 0.5 * restyled, atol=1e-5)


def test_the_paper_mode_keeps_no_matrix_of_all_pairs_of_tokens() -> None:
    """With three dimensions no fused kernel took it: at 2048 px the matrix was 1 GiB."""

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, given=(), named=None):
            result = function(*given, **(named or {}))
            self.numbers = max([self.numbers, *(part.numel() for part in tree_leaves(result) if isinstance(part, Tensor))])
            return result

    with Largest() as seen:
        published(tokens(0, count=400, rows=2), tokens(1, count=400))
    assert 2 * 400 * 8 <= seen.numbers < 400 * 400


def test_the_paper_mode_refuses_unequal_sizes() -> None:
    with pytest.raises(FaceExprError, match="4 tokens and the target 16"):
        fuse(tokens(0), twins(count=4, grid=(2, 2)), Target(GRID), PAPER, 0.5)


def test_confidence_is_one_for_the_same_tokens_in_another_order() -> None:
    x = tokens(0, 64, 32)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    carried, sure = carry(x, x[:, order], x[:, order], 0.01, 0.0)
    assert (sure > 0.999).all()
    assert torch.allclose(carried, x, atol=1e-3)
    _, unsure = carry(x, tokens(9, 64, 32), tokens(9, 64, 32), 0.05, 0.0)
    assert (unsure >= 0).all() and (unsure <= 1).all()
    assert unsure.mean() < 0.8
    _, vague = carry(x, x, x, 10.0, 0.0)
    assert (vague < 0.01).all()


def test_matching_is_a_probability_both_ways() -> None:
    to_donor, to_target = match(tokens(0, 6), tokens(1, 4), 0.2, 4.0)
    assert to_donor.shape == (1, 6, 4) and to_target.shape == (1, 4, 6)
    assert torch.allclose(to_donor.sum(-1), torch.ones(1, 6))
    assert torch.allclose(to_target.sum(-1), torch.ones(1, 4))


def test_matching_does_not_see_what_all_tokens_of_a_person_share() -> None:
    x, donor = tokens(0), tokens(1)
    shifted = match(x + 5 * tokens(2, 1), donor - 3 * tokens(3, 1), 0.05, 4.0)
    for one, other in zip(match(x, donor, 0.05, 4.0), shifted, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_mouth_token_does_not_match_an_eye_token() -> None:
    eye, mouth = region_ids(("eyes", "mouth"))
    x = tokens(0, 2)
    donor = x[:, [1, 0]]  # the target's mouth looks like the donor's eye
    free, _ = match(x, donor, 0.5, 0.0, torch.tensor([eye, mouth]), torch.tensor([eye, mouth]))
    held, _ = match(x, donor, 0.5, 20.0, torch.tensor([eye, mouth]), torch.tensor([eye, mouth]))
    assert free[0, 0, 1] > 0.9 and free[0, 1, 0] > 0.9
    assert held[0, 0, 0] > 0.99 and held[0, 1, 1] > 0.99
    one_sided, _ = match(x, donor, 0.5, 20.0, torch.tensor([eye, mouth]), None)
    assert torch.equal(one_sided, free)


def test_without_matching_the_difference_is_added_as_it_lies() -> None:
    x, donor = tokens(0), twins()
    assert donor.neutral is not None
    settings = replace(TWIN, matching=False, cap=100.0)
    result = fuse(x, donor, Target(GRID), settings, 0.7)
    assert torch.allclose(result, x + 0.7 * (donor.expression - donor.neutral), atol=1e-6)


def test_without_matching_a_donor_of_another_size_is_resized() -> None:
    ramp = torch.arange(8.0).repeat(2, 1).flatten()[None, :, None].expand(1, 16, 3)
    donor = Donor(torch.zeros(1, 16, 3), ramp, (2, 8))
    x = torch.full((1, 8, 3), 100.0)
    result = fuse(x, donor, Target((2, 4)), replace(TWIN, matching=False), 1.0)
    assert torch.allclose(result[0, :4, 0], torch.tensor([100.5, 102.5, 104.5, 106.5]))


def test_without_matching_tokens_that_were_not_kept_change_nothing() -> None:
    x, whole = tokens(0), twins()
    assert whole.neutral is not None
    kept = torch.tensor([2, 3, 9], dtype=torch.int32)
    part = Donor(whole.neutral[:, kept], whole.expression[:, kept], GRID, indices=kept)
    for mode in ("twin", "adain"):
        result = fuse(x, part, Target(GRID), replace(TWIN, matching=False, mode=mode), 1.0)
        assert sorted((result != x).any(-1)[0].nonzero().flatten().tolist()) == [2, 3, 9]


def test_kept_tokens_match_as_they_do_in_the_whole_map() -> None:
    x, whole = tokens(0, 64, 32), tokens(1, 64, 32)
    kept = torch.arange(10, 20)
    logits = torch.log(match(x, whole, 0.5, 0.0)[0])[:, :, kept]
    part = match(x, whole[:, kept], 0.5, 0.0, centre=whole.mean(1, keepdim=True))[0]
    assert torch.allclose(part, logits.softmax(-1), atol=1e-5)


def test_no_token_changes_by_more_than_the_cap() -> None:
    x, donor = tokens(0), twins()
    big = donor._replace(expression=donor.expression * 50)
    changed = (fuse(x, big, Target(GRID), replace(TWIN, cap=0.6, matching=False), 1.0) - x).norm(dim=-1)
    assert torch.allclose(changed, 0.6 * x.norm(dim=-1), rtol=1e-4)
    assert torch.equal(limit(torch.zeros(1, 4, 8), tokens(0, 4), 1.0), torch.zeros(1, 4, 8))


def test_adain_takes_mean_and_deviation_over_the_mask() -> None:
    content, style, weights = 3 + 2 * tokens(0, 50), tokens(1, 50), torch.rand(50, generator=torch.Generator().manual_seed(2))
    weights[:20] = 0
    result = adain(content, style, weights)[0]
    share = (weights / weights.sum())[:, None]
    means = [(share * part).sum(0) for part in (result, style[0])]
    assert torch.allclose(means[0], means[1], atol=1e-5)
    deviations = [(share * (part - mean) ** 2).sum(0).sqrt() for part, mean in zip((result, style[0]), means, strict=True)]
    assert torch.allclose(deviations[0], deviations[1], atol=1e-5)
    assert adain(content, style, torch.zeros(50)).isfinite().all()
    assert adain(torch.ones(1, 50, 8), style, weights).isfinite().all()


def test_a_donor_without_neutral_twin_is_fused_by_adain() -> None:
    x, donor = tokens(0), twins()
    alone = donor._replace(neutral=None)
    assert torch.equal(fuse(x, alone, Target(GRID), TWIN, 1.0), fuse(x, alone, Target(GRID), replace(TWIN, mode="adain"), 1.0))
    y = fuse(x, donor, Target(GRID), replace(TWIN, mode="adain", matching=False, cap=100.0), 1.0)
    assert torch.allclose(y.mean(1), x.mean(1), atol=1e-5)
    assert torch.allclose(y.std(1), x.std(1), atol=1e-5)


def test_maps_are_changed_as_their_tokens() -> None:
    x, donor = tokens(0, 12), twins(count=12, grid=(3, 4))
    assert donor.neutral is not None
    maps = [part.mT.reshape(1, 8, 3, 4) for part in (x, donor.neutral, donor.expression)]
    for settings in (SKIP, PAPER):
        from_maps = fuse(maps[0], Donor(maps[1], maps[2], (3, 4)), Target((3, 4)), settings, 0.8)
        from_tokens = fuse(x, donor, Target((3, 4)), settings, 0.8)
        assert from_maps.shape == (1, 8, 3, 4)
        assert torch.allclose(from_maps.flatten(2).mT, from_tokens, atol=1e-6)


def test_a_change_known_per_token_is_capped_and_masked() -> None:
    x, change = tokens(0), 100 * tokens(1)
    mask = torch.tensor([[1.0], [0.5], [0.0], [0.0]])
    moved = (fusion.add_change(x, change, Target(GRID), replace(TWIN, cap=2.0), 1.0, mask) - x).norm(dim=-1)[0]
    expected = 2.0 * x.norm(dim=-1)[0] * grid_mask(mask, GRID).flatten()
    assert torch.allclose(moved, expected, atol=1e-4)


def test_masks_come_down_by_area() -> None:
    mask = torch.zeros(8, 8)
    mask[0, 0] = 1
    mask[4:, 4:] = 0.5
    small = grid_mask(mask, (2, 4))
    assert torch.allclose(small, torch.tensor([[1 / 8, 0, 0, 0], [0, 0, 0.5, 0.5]]))
    assert grid_mask(torch.ones(3, 5), (16, 16)).eq(1).all()
    assert grid_mask(mask, (3, 3)).sum() > 0
    several = torch.stack([mask, 1 - mask])
    assert torch.equal(grid_mask(several, (2, 4)), torch.stack([small, 1 - small]))
    with pytest.raises(FaceExprError, match="height and width"):
        grid_mask(torch.ones(8), GRID)


@pytest.mark.parametrize("regions", [False, True])
def test_a_face_gets_the_same_change_at_every_size(regions: bool) -> None:
    """A field of features sampled at 8 x 8, 32 x 32 and 64 x 64 tokens: before, confidence fell from 1 to 0.62 as their number grew."""

    def field(side: int, shift: float) -> Tensor:
        at = (torch.arange(side) + 0.5) / side + shift
        waves = torch.randn(24, 2, generator=torch.Generator().manual_seed(1)) * 4
        phases = torch.rand(24, generator=torch.Generator().manual_seed(2)) * 6
        return torch.sin(at[:, None, None] * waves[:, 0] + at[None, :, None] * waves[:, 1] + phases).flatten(0, 1)[None]

    changes = []
    for side in (8, 32, 64):
        neutral = field(side, 0.02)
        bump = torch.exp(-(((torch.arange(side) + 0.5) / side - 0.5) ** 2) * 20)
        expression = neutral + (bump[:, None] * bump[None]).flatten()[None, :, None] * field(side, 0.5)
        parts = torch.arange(side).div(side / 2, rounding_mode="floor").repeat_interleave(side).long() + 1 if regions else None
        donor = Donor(neutral, expression, (side, side), parts)
        x = field(side, 0.0)
        moved = (fuse(x, donor, Target((side, side), parts), TWIN, 1.0) - x).mT.unflatten(2, (side, side))
        changes.append(torch.nn.functional.adaptive_avg_pool2d(moved, 8))
    for change in changes[1:]:
        assert (change - changes[0]).norm() < 0.2 * changes[0].norm()


def test_a_mask_keeps_the_rest_to_the_bit() -> None:
    x, donor = tokens(0), twins()
    mask = torch.zeros(64, 64)
    mask[:16, :32] = 1
    for settings in (TWIN, replace(TWIN, mode="adain"), PAPER):
        result = fuse(x, donor, Target(GRID), settings, 1.0, mask)
        assert torch.equal(result[0, 2:], x[0, 2:])
        assert not torch.equal(result[0, :2], x[0, :2])


def test_the_largest_region_of_a_token_names_it() -> None:
    regions = torch.zeros(4, 4, dtype=torch.uint8)
    regions[:2, :2] = 4
    regions[2, 2:] = 2
    regions[3, 2:] = torch.tensor([2, 5], dtype=torch.uint8)
    assert grid_regions(regions, (2, 2)).tolist() == [4, 0, 0, 2]


def test_the_change_is_held_to_the_regions_asked_for() -> None:
    eyes, mouth = region_ids(("eyes", "mouth"))
    regions = torch.tensor([0] * 6 + [eyes] * 5 + [mouth] * 5)
    x, donor = tokens(0), twins(regions=regions)
    settings = replace(TWIN, regions=("mouth",), matching=False)
    changed = (fuse(x, donor, Target(GRID), settings, 1.0) != x).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [11, 12, 13, 14, 15]
    only_target = fuse(x, twins(), Target(GRID, regions), replace(TWIN, regions=("mouth", "eyes")), 1.0)
    assert torch.equal(only_target[0, :6], x[0, :6])
    assert (only_target != x).any(-1)[0, 6:].all()


def test_grids_are_halved_with_odd_sizes_rounded_up() -> None:
    assert [grid_of(count, (104, 75)) for count in (7800, 1976, 494, 130)] == [(104, 75), (52, 38), (26, 19), (13, 10)]
    with pytest.raises(FaceExprError, match="1000 tokens"):
        grid_of(1000, (104, 75))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("settings", [TWIN, SKIP, replace(TWIN, mode="adain"), PAPER, replace(TWIN, matching=False)])
def test_half_precision_goes_in_and_out(dtype: torch.dtype, settings: FusionSettings) -> None:
    scale = 500.0  # squares and products overflow float16
    exact = scale * tokens(0)
    donor = twins()
    assert donor.neutral is not None
    donor = Donor(scale * donor.neutral, scale * donor.expression, GRID)
    assert donor.neutral is not None
    x = exact.to(dtype)
    half = fuse(x, Donor(donor.neutral.half(), donor.expression.half(), GRID), Target(GRID), settings, 1.0)
    assert half.dtype == dtype and half.isfinite().all()
    full = fuse(exact, donor, Target(GRID), settings, 1.0)
    error = (half.float() - full).norm() / (full - exact).norm()
    assert error < (0.01 if dtype == torch.float16 else 0.06)


def test_features_of_another_model_are_refused() -> None:
    with pytest.raises(FaceExprError, match="8 channels where this model has 12"):
        fuse(tokens(0, channels=12), twins(), Target(GRID), TWIN, 1.0)
    with pytest.raises(FaceExprError, match="no grid of 3 x 4"):
        fuse(tokens(0), twins(), Target((3, 4)), TWIN, 1.0)
    with pytest.raises(FaceExprError, match="extract the features again"):
        fuse(tokens(0), twins(grid=(2, 4)), Target(GRID), TWIN, 1.0)


def by_hand(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Softmax attention head by head."""
    size = query.shape[-1] // heads
    parts = []
    for head in range(heads):
        q, k, v = (part[..., head * size : (head + 1) * size] for part in (query, keys, values))
        parts.append(torch.softmax(q @ k.mT / math.sqrt(size), -1) @ v)
    return torch.cat(parts, -1)


def test_the_context_difference_is_one_attention_less_another() -> None:
    query = tokens(0, rows=2)
    keys_e, values_e, keys_n, values_n = (tokens(seed, 7) for seed in (1, 2, 3, 4))
    result = context_difference(query, keys_e, values_e, keys_n, values_n, 2)
    assert torch.allclose(result, by_hand(query, keys_e, values_e, 2) - by_hand(query, keys_n, values_n, 2), atol=1e-5)
    assert torch.equal(context_difference(query, keys_e, values_e, keys_e, values_e, 2), torch.zeros_like(query))
    assert context_difference(query.half(), keys_e, values_e, keys_n, values_n, 2).dtype == torch.float16


def test_the_published_window_in_sigma() -> None:
    assert window_range((0.3, 0.7)) == pytest.approx((0.8328, 3.3344), abs=1e-4)
    assert window_range((0.0, 1.0)) == (0.0, math.inf)
    assert (sigma_at(0), sigma_at(1)) == pytest.approx((0.0292, 14.6146), abs=1e-4)
    assert sigma_at(0.8) == pytest.approx(5.1, abs=0.1)


def test_the_window_rises_and_falls_over_a_tenth() -> None:
    low, high = 0.833, 3.334
    width = 0.1 * math.log(high / low)
    for share, weight in ((0.0, 0.0), (0.5, 0.5), (0.25, 0.5 - math.sqrt(0.125)), (1.0, 1.0)):
        assert window_weight(low * math.exp(share * width), low, high) == pytest.approx(weight, abs=1e-9)
        assert window_weight(high * math.exp(-share * width), low, high) == pytest.approx(weight, abs=1e-6)
    assert window_weight(1.5, low, high) == 1.0
    for outside in (0.0, 0.0292, low * 0.999, high * 1.001, 14.6, math.inf):
        assert window_weight(outside, low, high) == 0.0
    assert window_weight(low, low, high, ramp=0.0) == 1.0


def test_a_window_open_at_an_end_has_no_ramp_there() -> None:
    low, high = window_range((0.0, 0.8))
    assert window_weight(0.0292, low, high) == 1.0
    assert window_weight(high, low, high) == 0.0
    assert window_weight(14.6146, *window_range((0.3, 1.0))) == 1.0
    assert window_weight(5.0, 0.0, 999999999.9) == 1.0


def test_the_sigmas_inside_the_window_or_the_nearest() -> None:
    sigmas = (14.6, 6.0, 3.0, 1.5, 0.9, 0.2, 0.0)
    assert window_sigmas(sigmas, 0.833, 3.334) == (2, 3, 4)
    assert window_sigmas((14.6, 5.0, 0.3, 0.0), 0.833, 3.334) == (1,)
    assert window_sigmas((14.6, 0.0), 0.0, 5.1) == (0,)
    assert window_sigmas((0.0,), 0.0, 5.1) == ()


def test_a_step_outside_the_window_has_a_weight_where_no_other_is_inside() -> None:
    window = 0.833, 3.334
    assert step_weight(1.5, (14.6, 1.5, 0.0), *window) == (1.0, "")
    assert step_weight(14.6, (14.6, 1.5, 0.0), *window) == (0.0, "")
    assert step_weight(5.0, (), *window) == (0.0, "")
    few = (14.6, 5.0, 0.3, 0.0)
    (nearest, told), (farther, _) = (step_weight(sigma, few, *window) for sigma in (5.0, 0.3))
    assert (nearest, farther) == (1.0, 0.0)
    assert "the nearest, sigma 5, is used" in told


def test_a_step_at_the_very_edge_of_the_window_counts_as_outside() -> None:
    """One-step Hyper-SDXL starts at timestep 800, where the default window ends: nothing was drawn, at a weight of 0.0002, nor told."""
    window, start = window_range((0.0, 0.8)), 5.088
    assert window[0] < start < window[1] and window_weight(start, *window) == 0.0
    weight, told = step_weight(start, (start, 0.0), *window)
    assert weight == 1.0 and "the nearest, sigma 5.09, is used" in told
    assert window_sigmas((start, 3.0, 0.5, 0.0), *window) == (1, 2)
    assert step_weight(start, (start, 3.0, 0.5, 0.0), *window) == (0.0, "")


def test_a_part_of_a_schedule_takes_no_step_outside_the_window() -> None:
    """Its other steps are another sampler's."""
    window = 0.833, 3.334
    for part, continued in (((14.6, 8.0, 4.0), False), ((0.5, 0.2, 0.0), True)):
        (weight, told), *others = (step_weight(sigma, part, *window, continued) for sigma in part[:-1])
        assert weight == 0.0 == others[0][0]
        assert "no step of this part of the schedule" in told
    assert step_weight(4.0, (14.6, 4.0, 2.0), *window)[0] == 0.0  # 2.0 is the other part's
    assert step_weight(0.5, (0.5, 0.2, 0.0), *window)[0] == 1.0
    assert step_weight(4.0, (4.0, 2.0, 0.5), *window, True) == (0.0, "")
    assert step_weight(2.0, (4.0, 2.0, 0.5), *window, True)[0] == 1.0


def test_strong_guidance_weakens_the_change() -> None:
    assert guidance_weight(3.0, 1.0) == 3.0
    assert guidance_weight(3.0, 5.0) == 3.0
    assert guidance_weight(3.0, 7.5) == pytest.approx(2.0)
    assert guidance_weight(3.0, 0.0) == 3.0


def test_each_site_starts_from_its_own_settings() -> None:
    assert [site_settings(site).layers for site in SITES] == ["decoder", "decoder", "2+3"]
    assert (FusionSettings().site, FusionSettings().strength, FusionSettings().window) == (
        default_site(photo=False),
        1.0,
        (0.0, 0.8),
    )
    assert [default_site(photo) for photo in (False, True)] == ["cross_attention_difference", "cross_attention"]
    assert site_settings("skip").cap == 1.0 and site_settings("cross_attention").cap == 3.0
    assert (PAPER.site, PAPER.mode, PAPER.window) == ("skip", "paper", (0.3, 0.7))
    strengths = [SKIP.strength_at(f"input.{number}") for number in range(9)]
    assert strengths == [0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.8, 0.8]
    assert replace(TWIN, strength=0.5).strength_at("output.3.0") == 1.5
    assert FusionSettings(strength=0.5).strength_at("output.3.0") == 0.625


def test_places_are_chosen_by_layers() -> None:
    skips = [f"input.{number}" for number in range(9)]
    assert select_places("skip", PAPER.layers, skips) == ("input.4", "input.5", "input.7", "input.8")
    assert select_places("skip", "1", skips) == ("input.1", "input.2")
    assert select_places("skip", "all", skips) == tuple(skips)
    layers = ["input.4.0", "middle.0.0", "output.3.1"]
    assert select_places("cross_attention", "decoder", layers) == ("middle.0.0", "output.3.1")
    assert select_places("cross_attention", "encoder", layers) == ("input.4.0",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "nose"}, "no site"),
        ({"mode": "both"}, "no mode"),
        ({"layers": "2+3"}, "all, decoder, encoder"),
        ({"site": "skip", "layers": "decoder"}, "all, 1, 2, 3"),
        ({"regions": ("ears",)}, "brows, eyes, nose"),
        ({"strength": -0.1}, "strength"),
        ({"strength": math.nan}, "strength"),
        ({"temperature": 0.0}, "temperature"),
        ({"window": (0.8, 0.2)}, "window"),
        ({"window": (0.0, 1.2)}, "window"),
        ({"cap": -1.0}, "cap"),
        ({"region_penalty": 1e9}, "region penalty"),
        ({"site": "cross_attention_difference", "mode": "paper"}, "mode paper"),
        ({"site": "epsilon"}, "no site"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(FaceExprError, match=message):
        FusionSettings(**changes)


def toy_face(seed: int) -> tuple[Tensor, Donor, Tensor, Tensor]:
    """Target, donor, ideal edit and the difference between the two people.

    Each of 256 parts of a face has features that all people share; a person is an offset of all of them. A quarter of the parts moves. The
    donor's parts lie in another order.
    """
    draw = torch.Generator().manual_seed(seed)
    parts, target, other, noise, noise_d = (torch.randn(size, 64, generator=draw) for size in (256, 1, 1, 256, 256))
    edit = torch.zeros(256, 64)
    edit[:64] = torch.randn(1, 64, generator=draw) + 0.5 * torch.randn(64, 64, generator=draw)
    order = torch.randperm(256, generator=draw)
    neutral = (parts + other + 0.2 * noise_d)[order]
    donor = Donor(neutral[None], (neutral + edit[order])[None], (16, 16))
    return (parts + target + 0.2 * noise)[None], donor, edit[None], other - target


def test_on_a_toy_face_the_change_travels_and_the_donor_stays_behind() -> None:
    errors: dict[str, list[float]] = {}
    leaks: dict[str, list[float]] = {}
    for seed in range(20):
        x, donor, edit, stranger = toy_face(seed)
        to_donor, _ = match(x, donor.expression, 0.05, 4.0)
        results = {
            "published": published(x, donor.expression),
            "copy": to_donor @ donor.expression,
            "paper": fuse(x, donor, Target((16, 16)), PAPER, 0.5),
            "twin": fuse(x, donor, Target((16, 16)), SKIP, 1.0),
            "tightly capped": fuse(x, donor, Target((16, 16)), replace(SKIP, cap=0.6), 1.0),
        }
        for name, result in results.items():
            errors.setdefault(name, []).append(relative(result - x, edit))
            leaks.setdefault(name, []).append(float(torch.cosine_similarity((result - x).mean(1), stranger)))
    error, leak = ({name: sum(values) / len(values) for name, values in table.items()} for table in (errors, leaks))
    assert error["published"] > 1.5  # changing nothing is 1
    assert error["paper"] > 0.9
    assert error["twin"] < 0.1
    assert error["twin"] < error["tightly capped"] < 0.5
    assert leak["published"] > 0.4
    assert leak["copy"] > 0.9
    assert abs(leak["twin"]) < 0.1
