"""Recorded features: what goes in comes out, at the right sigma, to the bit, and only from files that are ours."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceexpr_core.errors import FaceExprError
from faceexpr_core.fusion import operator as fusion
from faceexpr_core.fusion import recorder as features
from faceexpr_core.fusion.bank import FeatureBank
from faceexpr_core.fusion.recorder import Recorder, load_bank, save_bank

SIGMAS = (3.0, 1.5, 0.9)
LATENT = (16, 12)
PLACES = {"input.4.0": (8, 6), "output.0.1": (4, 3)}


def tokens(seed: int, count: int, channels: int = 8) -> Tensor:
    return torch.randn(1, count, channels, generator=torch.Generator().manual_seed(seed))


def mouth() -> Tensor:
    mask = torch.zeros(128, 96)
    mask[70:100, 30:60] = 1
    return mask


def fill(recorder: Recorder, kinds: str = "ne") -> dict[str, Tensor]:
    given = {}
    for number, (place, (height, width)) in enumerate(PLACES.items()):
        for index in range(len(recorder.sigmas)):
            for which in kinds:
                given[f"{place}@{index}:{which}"] = value = tokens(100 * number + 10 * index + (which == "e"), height * width)
                recorder.add(place, index, which, value)
    return given


def record(keep: str = "all") -> FeatureBank:
    recorder = Recorder("cross_attention", SIGMAS, LATENT, keep)
    fill(recorder)
    recorder.focus(mouth())
    regions = torch.zeros(128, 96)
    regions[70:100] = 4
    return recorder.bank(regions, {"model": "Mini", "expression": "fröhlich", "seed": "3"})


def test_what_was_recorded_is_found_by_place_and_sigma() -> None:
    recorder = Recorder("cross_attention", SIGMAS, LATENT)
    given = fill(recorder)
    bank = recorder.bank()
    assert bank.mode == "twin"
    assert bank.places() == tuple(PLACES)
    donor = bank.donor("output.0.1", 1.5)
    assert donor is not None and donor.neutral is not None
    assert donor.grid == (4, 3)
    assert torch.equal(donor.neutral, given["output.0.1@1:n"].half())
    assert torch.equal(donor.expression, given["output.0.1@1:e"].half())
    assert donor.regions is None and donor.indices is None
    assert bank.nbytes == 2 * sum(value.numel() for value in given.values())


def test_a_sigma_serves_its_neighbours_within_five_percent() -> None:
    bank = record()
    expected = bank.donor("input.4.0", 1.5)
    assert expected is not None
    for sigma in (1.5 * 1.049, 1.5 / 1.049):
        found = bank.donor("input.4.0", sigma)
        assert found is not None and found.expression is expected.expression
    for sigma in (1.5 * 1.051, 1.5 / 1.051, 2.1, 14.6, 0.0):
        assert bank.donor("input.4.0", sigma) is None
    assert bank.donor("middle.0.0", 1.5) is None


def test_a_sigma_of_a_sparse_bank_serves_as_far_as_the_next_one() -> None:
    recorder = Recorder("cross_attention", SIGMAS, LATENT, sparse=True)
    fill(recorder)
    bank = recorder.bank()
    for sigma, served in ((5.9, 3.0), (2.2, 3.0), (2.1, 1.5), (1.2, 1.5), (1.1, 0.9), (0.55, 0.9)):
        given, expected = bank.donor("input.4.0", sigma), bank.donor("input.4.0", served)
        assert given is not None and expected is not None and given.expression is expected.expression
    assert bank.donor("input.4.0", 6.1) is None
    assert bank.donor("input.4.0", 0.53) is None
    assert bank.donor("input.4.0", 0.0) is None
    alone = Recorder("cross_attention", (1.5,), LATENT, sparse=True)
    fill(alone)
    assert alone.bank().donor("input.4.0", 4.0) is not None


def test_only_tokens_under_the_mask_are_kept() -> None:
    whole, part = record("all"), record("face")
    assert sum(value.nbytes for value in part.tokens.values()) < 0.4 * sum(value.nbytes for value in whole.tokens.values())
    for place, grid in PLACES.items():
        inside = (fusion.grid_mask(mouth(), grid).flatten() > 0).nonzero().flatten()
        assert 0 < len(inside) < grid[0] * grid[1] / 2
        full, kept = whole.donor(place, 0.9), part.donor(place, 0.9)
        assert full is not None and full.neutral is not None and full.regions is not None
        assert kept is not None and kept.neutral is not None and kept.indices is not None and kept.centre is not None
        assert torch.equal(kept.indices, inside.int())
        assert torch.equal(kept.expression, full.expression[:, inside])
        assert torch.equal(kept.neutral, full.neutral[:, inside])
        assert torch.equal(kept.regions, full.regions[inside])  # type: ignore[arg-type]
        assert torch.allclose(kept.centre.float(), full.neutral.float().mean(1, keepdim=True), atol=1e-3)


def test_the_mask_may_be_known_before_or_after_recording() -> None:
    early = Recorder("cross_attention", SIGMAS, LATENT, "face")
    early.focus(mouth())
    fill(early, "en")
    late = record("face")
    for key, value in early.bank().tokens.items():
        assert torch.equal(value, late.tokens[key])
    assert len(early.bank().tokens) == len(late.tokens)


def test_kept_tokens_move_the_face_as_all_of_them_do() -> None:
    whole, part = record("all").donor("input.4.0", 1.5), record("face").donor("input.4.0", 1.5)
    assert whole is not None and part is not None and whole.neutral is not None
    settings = fusion.FusionSettings("cross_attention", region_penalty=0.0, temperature=0.01)
    target = fusion.Target((8, 6))
    x = whole.neutral.float()
    mask = fusion.grid_mask(mouth(), (8, 6))
    full, cropped = (fusion.fuse(x, donor, target, settings, 1.0, mask) for donor in (whole, part))
    assert (full - x).norm() > 1
    assert torch.allclose(full, cropped, atol=0.05)


def test_maps_become_tokens() -> None:
    maps = torch.randn(1, 8, 4, 3, generator=torch.Generator().manual_seed(0))
    recorder = Recorder("skip", (1.5,))
    for which in "ne":
        recorder.add("input.8", 0, which, maps)
    donor = recorder.bank().donor("input.8", 1.5)
    assert donor is not None and donor.grid == (4, 3)
    assert torch.equal(donor.expression, maps.flatten(2).mT.half())


def test_without_neutral_features_the_bank_is_single() -> None:
    recorder = Recorder("cross_attention", SIGMAS, LATENT)
    fill(recorder, "e")
    bank = recorder.bank()
    donor = bank.donor("input.4.0", 3.0)
    assert bank.mode == "single"
    assert donor is not None and donor.neutral is None
    with pytest.raises(FaceExprError, match="no features were recorded"):
        Recorder("cross_attention", SIGMAS, LATENT).bank()


def test_a_twin_missing_its_neutral_is_no_donor() -> None:
    bank = record()
    tokens_left = {key: value for key, value in bank.tokens.items() if key != "input.4.0@1:n"}
    assert replace(bank, tokens=tokens_left).donor("input.4.0", 1.5) is None


def test_contexts_belong_to_no_sigma() -> None:
    recorder = Recorder("cross_attention_difference")
    parts = {which: tokens(number, 77) for number, which in enumerate(("e:k", "e:v", "n:k", "n:v"))}
    for which, value in parts.items():
        recorder.add("middle.0.0", None, which, value)
    bank = recorder.bank()
    assert bank.mode == "twin" and bank.sigmas == () and bank.places() == ("middle.0.0",)
    context = bank.context("middle.0.0")
    assert context is not None
    assert torch.equal(context.values_e, parts["e:v"].half()) and torch.equal(context.keys_n, parts["n:k"].half())
    assert bank.context("output.0.0") is None and bank.donor("middle.0.0", 1.5) is None


def test_large_values_stay_finite_and_others_are_refused() -> None:
    recorder = Recorder("skip", (1.5,))
    recorder.add("input.8", 0, "e", torch.full((1, 8, 2, 2), 1e6))
    assert recorder.bank().tokens["input.8@0:e"].max() == torch.finfo(torch.float16).max
    recorder.add("input.8", 0, "e", torch.full((1, 8, 2, 2), math.nan))
    with pytest.raises(FaceExprError, match="not all finite"):
        recorder.bank()


def test_recording_asks_for_one_row_and_a_known_grid() -> None:
    with pytest.raises(FaceExprError, match="2 rows"):
        Recorder("skip", SIGMAS).add("input.8", 0, "n", torch.zeros(2, 8, 4, 4))
    with pytest.raises(FaceExprError, match="size of the latents"):
        Recorder("cross_attention", SIGMAS).add("input.4.0", 0, "n", tokens(0, 48))
    with pytest.raises(FaceExprError, match="mask of the expression is empty"):
        recorder = Recorder("cross_attention", SIGMAS, LATENT, "face")
        recorder.focus(torch.zeros(8, 8))
        recorder.add("input.4.0", 0, "n", tokens(0, 48))


def tensors_of(bank: FeatureBank) -> dict[str, Tensor]:
    kept = {f"kept {grid}": value for grid, value in bank.kept.items()}
    maps = {name: value for name, value in (("mask", bank.mask), ("regions", bank.regions)) if value is not None}
    return {**bank.tokens, **kept, **maps}


def same(one: FeatureBank, other: FeatureBank) -> bool:
    mine, theirs = tensors_of(one), tensors_of(other)
    plain = all(getattr(one, name) == getattr(other, name) for name in ("site", "mode", "sigmas", "grids", "notes", "sparse"))
    return (
        plain
        and mine.keys() == theirs.keys()
        and all(theirs[key].dtype == mine[key].dtype and theirs[key].equal(mine[key]) for key in mine)
    )


@pytest.mark.parametrize("keep", ["all", "face"])
def test_a_file_gives_back_every_bit(tmp_path: Path, keep: str) -> None:
    bank = record(keep)
    path = save_bank(bank, tmp_path / "new" / "happy.safetensors")
    assert path == tmp_path / "new" / "happy.safetensors"
    assert [file.name for file in path.parent.iterdir()] == ["happy.safetensors"]
    loaded = load_bank(path)
    assert same(loaded, bank)
    assert loaded.notes["expression"] == "fröhlich"
    assert not same(loaded, replace(bank, sigmas=(3.0, 1.5, 0.90001)))
    sparse = replace(bank, sparse=True)
    assert same(load_bank(save_bank(sparse, tmp_path / "sparse.safetensors")), sparse)
    assert not same(sparse, bank)


def test_a_bank_without_sigmas_mask_and_regions_comes_back_too(tmp_path: Path) -> None:
    recorder = Recorder("cross_attention_difference")
    for number, which in enumerate(("e:k", "e:v", "n:k", "n:v")):
        recorder.add("middle.0.0", None, which, tokens(number, 77))
    loaded = load_bank(save_bank(recorder.bank(), tmp_path / "text.safetensors"))
    assert same(loaded, recorder.bank())
    assert loaded.mask is None and loaded.regions is None


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "happy.safetensors"
    first = save_bank(record(), path)
    content = first.read_bytes()
    second = save_bank(record("face"), path)
    assert second == tmp_path / "happy_00001_.safetensors"
    assert path.read_bytes() == content
    assert load_bank(second).kept


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FaceExprError, match="could not be saved"):
        save_bank(record(), tmp_path / "file" / "happy.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet.alpha": torch.ones(1)}, path)
    with pytest.raises(FaceExprError, match="holds no expression features"):
        load_bank(path)
    with pytest.raises(FaceExprError, match="cannot be read"):
        load_bank(tmp_path / "missing.safetensors")
    with pytest.raises(FaceExprError, match="cannot be read"):
        load_bank(tmp_path)
    path.write_text("not a file of tensors")
    with pytest.raises(FaceExprError, match="cannot be read"):
        load_bank(path)


def test_a_file_of_a_site_that_is_no_more_says_so(tmp_path: Path) -> None:
    good = load_file(save_bank(record(), tmp_path / "good.safetensors"))
    known = {"faceexpr.format": features.FORMAT, "faceexpr.version": features.VERSION, "faceexpr.mode": "twin"}
    for site in ("epsilon", "self_attention"):
        path = tmp_path / f"{site}.safetensors"
        save_file(good, path, {**known, "faceexpr.site": site, "faceexpr.sigmas": json.dumps(SIGMAS)})
        with pytest.raises(FaceExprError, match=f"recorded at the site {site}.*Extract the features again.*cross_attention"):
            load_bank(path)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    whole = save_bank(record("face"), tmp_path / "whole.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(FaceExprError, match="cannot be read"):
        load_bank(cut)
    good = {
        "faceexpr.format": features.FORMAT,
        "faceexpr.version": features.VERSION,
        "faceexpr.site": "cross_attention",
        "faceexpr.mode": "twin",
        "faceexpr.sigmas": json.dumps(SIGMAS),
        "faceexpr.grids": json.dumps(PLACES),
        "faceexpr.notes": "{}",
    }
    tensors = load_file(whole)
    unreadable, grid = r"cannot be read as expression features \(", "do not fit their grid, site and sigmas"
    wrong: list[tuple[dict, dict, str]] = [
        ({"faceexpr.version": "2"}, {}, r"was written by a newer FaceExpr \(format 2\); update FaceExpr"),
        ({"faceexpr.site": "skip"}, {"input.4.0:e:k": tokens(0, 77).half()}, f"'input.4.0:e:k' of shape .* {grid}"),
        ({"faceexpr.sigmas": "[1, 2, 3]"}, {}, r"must fall and lie above 0; given were \(1.0, 2.0, 3.0\)"),
        ({"faceexpr.sigmas": "[3.0]"}, {}, f"'input.4.0@1:c' of shape .* {grid}"),
        ({"faceexpr.sigmas": "[3,"}, {}, unreadable),
        ({"faceexpr.sigmas": "3"}, {}, unreadable),
        ({"faceexpr.grids": "[]"}, {}, unreadable),
        ({"faceexpr.grids": "{}"}, {}, f"'input.4.0@0:c' of shape .* {grid}"),
        ({"faceexpr.notes": "7"}, {}, unreadable),
        ({}, {"input.4.0@0:e": tokens(0, 5).half()}, rf"'input.4.0@0:e' of shape \(1, 5, 8\) {grid}"),
        ({}, {"input.4.0@0:e": tensors["input.4.0@0:e"].float()}, "'input.4.0@0:e' are torch.float32; needed: torch.float16"),
        ({}, {"somewhere": torch.zeros(1).half()}, "'somewhere' names no features"),
        ({}, {"kept:8x6": torch.tensor([48], dtype=torch.int32)}, r"kept on the grid \(8, 6\) do not lie on it"),
        ({}, {"kept:eight": torch.tensor([4], dtype=torch.int32)}, unreadable),
        ({}, {"mask": torch.zeros(4)}, r"mask of the features is torch.float32 \(4,\); needed: torch.float32 of two dimensions"),
    ]
    for number, (metadata, parts, told) in enumerate(wrong):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors | parts, path, good | metadata)
        with pytest.raises(FaceExprError, match=told):
            load_bank(path)
    save_file(tensors, tmp_path / "good.safetensors", good)
    assert load_bank(tmp_path / "good.safetensors").places()
