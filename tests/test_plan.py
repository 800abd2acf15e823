"""The plan before the first step: what `auto` chooses on usual cards, what is refused with what would fit, and what the plan says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from toys import toy_unet

from faceexpr_core import mini
from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.commands.train import given_settings
from faceexpr_core.diffusers_host import training as diffusers_training
from faceexpr_core.errors import FaceExprError
from faceexpr_core.training import plan
from faceexpr_core.training.auto import CANDIDATES, require_fit, settle
from faceexpr_core.training.memory import enough_memory
from faceexpr_core.training.plan import GB, card_table, need_of, rest
from faceexpr_core.training.settings import PRESETS, PRIORS, preset_settings

CARDS = (6, 8, 12, 16, 24)


def room_of(size: float) -> int:
    return round(size * GB) - rest()


@pytest.mark.parametrize("size", CARDS)
@pytest.mark.parametrize("side", [None, 1024, 768])
def test_auto_takes_the_best_that_fits_with_a_gigabyte_left(size: int, side: int | None) -> None:
    room = room_of(size)
    chosen = settle("auto", {}, side, room)
    assert need_of(chosen.settings, chosen.side).needed <= room
    assert chosen.side == (side or 1024)
    known = [preset_settings(name, **changes) for name, changes in CANDIDATES]
    better = known[: known.index(chosen.settings)]
    assert all(need_of(one, chosen.side).needed > room for one in better)
    assert chosen.told.startswith(f"auto: preset {chosen.preset}, photos at {chosen.side} px, ")


def test_a_card_on_which_nothing_fits_is_told_so() -> None:
    with pytest.raises(FaceExprError, match=r"^No preset fits: 2\.0 GB are free for it\. Nothing would fit; the least[^;]*\.$"):
        settle("auto", {}, None, room_of(3))


def test_what_only_bitsandbytes_would_make_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = {size: settle("auto", {}, None, room_of(size)) for size in (6, 8, 12, 24)}
    monkeypatch.setattr("faceexpr_core.training.auto.unusable", lambda: "is not installed")
    needs = "would fit, but that needs the package bitsandbytes, which is not installed"
    for size in (8, 12, 24):
        chosen = settle("auto", {}, None, room_of(size))
        missed = usual[size].settings.base != "full"
        assert (needs in chosen.told) == missed and (missed or chosen == usual[size])
    assert usual[8].settings.base == "nf4"
    with pytest.raises(FaceExprError, match=f"Nothing would fit as things are; .*{needs}"):
        settle("auto", {}, None, room_of(4.5))
    with pytest.raises(FaceExprError, match=rf"This would: preset low-vram, photos at (768|640|512) px .*with photos at 1024 px .*{needs}"):
        settle("auto", {}, 1024, room_of(7))


def test_auto_leaves_checkpointing_out_where_there_is_room_and_takes_the_whole_method_from_12_gb_on() -> None:
    chosen = {size: settle("auto", {}, 1024, room_of(size)) for size in (8, 12, 16, 24)}
    assert [one.preset for size, one in chosen.items() if size >= 12] == ["default"] * 3
    assert chosen[24].settings.gradient_checkpointing is False
    assert chosen[12].settings == preset_settings("default")


def test_the_card_that_a_preset_names_is_the_smallest_that_it_fits() -> None:
    named = {name: found[1] for name, one in PRESETS.items() if (found := re.search(r"cards with (\d+) GB", one.summary))}
    assert named == {"default": "12"}
    needed = need_of(preset_settings("default"), PRESETS["default"].resolution).needed
    assert room_of(8) < needed <= room_of(12)


def test_what_was_given_stands_over_what_auto_chooses() -> None:
    chosen = settle("auto", {"rank": 8, "gradient_checkpointing": True, "seed": 7}, 1024, room_of(24))
    assert (chosen.settings.rank, chosen.settings.gradient_checkpointing, chosen.settings.seed) == (8, True, 7)
    with pytest.raises(FaceExprError, match=r"This would: preset .* Leave out what was given beside the preset \(batch_size\)"):
        settle("auto", {"batch_size": 200}, 1024, room_of(24))


def test_auto_takes_nothing_in_which_what_was_given_has_no_effect() -> None:
    assert settle("auto", {}, 1024, room_of(6)).settings.text_encoder is False
    with pytest.raises(FaceExprError, match=r"does not fit"):
        settle("auto", {"text_encoder_learning_rate": 1e-4}, 1024, room_of(6))
    assert settle("auto", {"text_encoder_learning_rate": 1e-4}, 1024, room_of(8)).settings.text_encoder is True


def test_pictures_of_the_class_that_are_named_are_used_by_auto() -> None:
    arguments = _parser().parse_args(["train", "--model=x", "--photos=p", "--output=o", "--prior_images=5"])
    assert given_settings(arguments) == {"prior": "images"}
    assert settle("auto", given_settings(arguments), None, room_of(6)).settings.prior == "images"


def test_without_a_card_auto_is_the_preset_default() -> None:
    for side in (None, 128):
        chosen = settle("auto", {"rank": 8}, side, None)
        assert chosen.settings == preset_settings("default", rank=8) and chosen.preset == "default" and not chosen.told
        assert chosen.side == (side or 1024)


def test_auto_chooses_what_a_stopped_run_was_begun_with() -> None:
    begun = settle("auto", {}, 1024, room_of(8))
    run = json.loads(json.dumps({**begun.settings.used(), "photos": "abc"}))
    later = settle("auto", {}, 1024, room_of(24), run)
    assert later.preset == begun.preset and later.settings.rank == begun.settings.rank
    assert settle("auto", {}, 1024, room_of(24), {**run, "rank": 5}).preset == "default"


def test_auto_goes_on_with_a_base_in_four_bits_where_a_whole_one_fits_now() -> None:
    begun = settle("auto", {}, None, room_of(6))
    assert begun.settings.base == "nf4"
    run = json.loads(json.dumps({**begun.settings.used(), "side": begun.side, "prediction": "v_prediction", "zero_snr": True}))
    for later in (settle("auto", {}, None, room_of(24), run), settle("auto", {}, None, room_of(24), {**run, "photos": "abc"})):
        assert (later.preset, later.settings, later.side) == (begun.preset, begun.settings, begun.side)
    assert begun.side != 512 == settle("auto", {}, None, room_of(24), {**run, "side": 512}).side


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    with pytest.raises(FaceExprError, match=r"Preset default with photos at 1024 px takes \d+\.\d GB .* This would: preset "):
        require_fit("default", preset_settings("default", gradient_checkpointing=False), 1024, room_of(8))
    assert require_fit("low-vram", preset_settings("low-vram"), 768, room_of(8)).allocated < room_of(8)


def test_pictures_of_the_class_may_need_more_of_a_small_card_than_the_training() -> None:
    wanted = preset_settings("low-vram", base="nf4", prior="images")
    need = need_of(wanted, 1024)
    assert need.needed < room_of(6) < need.drawing
    with pytest.raises(
        FaceExprError, match=r"before its steps, which takes 5\.1 GB .* This would: preset .* Prior distill or off draws none"
    ):
        require_fit("low-vram", wanted, 1024, room_of(6))
    assert require_fit("low-vram", wanted, 1024, room_of(6), draws=False) == need
    with pytest.raises(
        FaceExprError, match=r"What was asked for does not fit: 5\.0 GB .* Leave out what was given beside the preset \(prior\)"
    ):
        settle("auto", {"prior": "images"}, 1024, room_of(6))
    assert settle("auto", {"prior": "images"}, 1024, room_of(6), draws=False).settings == wanted
    assert settle("auto", {"prior": "images"}, None, room_of(6)).side == 768


def test_a_preview_takes_what_stays_on_the_card_and_its_own_call() -> None:
    need, packed = (need_of(preset_settings("low-vram", base=base), 1024) for base in ("full", "nf4"))
    stay = need.allocated - need.parts["activations"] - need.parts["gradients"]
    assert stay < need.preview < stay + GB
    assert need.preview - packed.preview == need.parts["U-Net"] - packed.parts["U-Net"]


def test_a_device_without_a_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert faceexpr(["plan", "--card", "12", "--device", "cpu"]) == 2
    assert "--device would change nothing: no model is loaded" in capsys.readouterr().err


@pytest.mark.parametrize("row", card_table()["rows"], ids=lambda row: f"{row['preset']} {row['side']} {row['checkpointing']} {row['base']}")
def test_the_plan_gives_the_tables_own_figures_where_the_table_has_them(row: dict[str, Any]) -> None:
    settings = preset_settings(row["preset"], **{"gradient_checkpointing": row["checkpointing"], **row["changes"]})
    need = need_of(settings, row["side"])
    assert need.needed == pytest.approx(row["needed"], rel=0.005)
    assert need.tflop == pytest.approx(row["tflop"]["mean"] * settings.steps, rel=0.001)
    assert need.lora == pytest.approx(2 * row["trained"], rel=0.01)
    assert sum(need.parts.values()) == need.allocated


def test_other_settings_are_reckoned_from_the_table() -> None:
    plain = preset_settings("default", prior="off")
    usual, wide, large = (need_of(preset_settings("default", prior="off", **more), 1024) for more in ({}, {"rank": 64}, {"batch_size": 2}))
    assert wide.parts["LoRA"] == pytest.approx(2 * usual.parts["LoRA"], rel=1e-6) and wide.lora == pytest.approx(2 * usual.lora, rel=1e-6)
    assert large.parts["activations"] == pytest.approx(2 * usual.parts["activations"], rel=1e-6) and large.tflop > 1.9 * usual.tflop
    assert "EMA" not in need_of(preset_settings("default", ema=0.0), 1024).parts
    assert need_of(preset_settings("default", text_encoder=False), 1024).parts.get("text encoders", 0) == 0
    assert usual.pictures == 0 == usual.drawing and need_of(preset_settings("default"), 1024).pictures > 50 << 20
    work = {prior: need_of(preset_settings("default", prior=prior, prior_target="noise"), 1024).tflop for prior in PRIORS}
    assert work["off"] < 0.65 * work["images"] and work["images"] < work["distill"] < 1.2 * work["images"]
    assert need_of(preset_settings("default"), 1024).tflop == work["distill"]  # as many calls of the U-Net
    assert plain.steps * 2 == preset_settings("default", steps=1600).steps


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("low-vram", {"prior": "off"}),
        ("default", {"prior": "off", "text_encoder": False}),
        ("paper", {}),
        ("default", {"prior": "distill"}),
    ],
)
def test_the_work_of_crafting_is_counted_whatever_else_differs_from_the_table(preset: str, changes: dict[str, Any]) -> None:
    without, every, second = (
        need_of(preset_settings(preset, **changes, **crafting), 1024).tflop
        for crafting in ({"crafting_weight": 0.0}, {"crafting_weight": 0.05, "crafting_every": 1}, {"crafting_weight": 0.05})
    )
    assert every > 1.2 * without and second - without == pytest.approx((every - without) / 2, rel=0.01)


def test_the_command_says_what_fits_a_card_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert faceexpr(["plan", "--card", "12"]) == 0
    told = capsys.readouterr().out
    drawing = r"\n  drawing: pictures of the class 5\.1 GB, a preview \d\.\d GB, faceexpr generate 5\.1 GB\n"
    assert re.search(drawing, told)
    for words in ("auto: preset default, photos at 1024 px", "of the card, simulated (U-Net ", "PFLOP", "disk: LoRA "):
        assert words in told
    assert faceexpr(["plan", "--card", "8", "--preset", "default", "--no-gradient_checkpointing"]) == 2
    assert "does not fit: 7.0 GB are free for it. This would: preset " in capsys.readouterr().err
    assert faceexpr(["plan", "--model", "mini"]) == 0
    assert capsys.readouterr().out == "mini is smaller than SDXL, for which alone there are figures.\n"


def test_more_pictures_of_the_class_take_more_of_the_disk(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert faceexpr(["plan", *words, "--preset", "default"]) == 0
        return capsys.readouterr().out.strip()

    sizes = [told("--card", "12", "--prior_images", count).rpartition("pictures of the class ")[2] for count in ("64", "640")]
    assert sizes == ["102 MB", "1.0 GB"]
    usual, many = (float(re.findall(r"([\d.]+) GB \|$", told("--cards", *more))[0]) for more in ((), ("--prior_images", "640")))
    assert many - usual == pytest.approx(576 * 1024**2 * 1.6 / GB, abs=0.11)
    assert faceexpr(["plan", "--cards", "--prior_images", "0"]) == 2
    assert "--prior_images is 0; give 1 or more" in capsys.readouterr().err
    assert faceexpr(["plan", "--card", "12", "--preset", "low-vram", "--prior_images", "100"]) == 2
    assert "--prior_images would change nothing: prior is distill" in capsys.readouterr().err


def test_the_page_about_cards_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert faceexpr(["plan", "--cards"]) == 0
    page = (Path(__file__).resolve().parent.parent / "docs" / "training.md").read_text()
    assert capsys.readouterr().out.strip() in page


def test_one_call_of_the_unet_is_timed() -> None:
    unet = UNet2DConditionModel.from_pretrained(mini.path() / "unet", torch_dtype=torch.float32)
    assert plan.measured_tflops(unet, torch.device("cpu"), 256) > 0


@pytest.mark.usefixtures("prepared_here")
def test_sdxl_on_a_cpu_is_warned_about_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With Mini in SDXL's place: its figures are not SDXL's, but they come the same way."""
    plain = diffusers_training.DiffusersHost.__init__

    def large(self: Any, *given: Any) -> None:
        plain(self, *given)
        self.full_size = True

    monkeypatch.setattr(diffusers_training.DiffusersHost, "__init__", large)
    monkeypatch.setattr(torch.version, "cuda", None)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "photo_1.png").write_bytes((mini.subject_path() / "photo_1.png").read_bytes())
    words = ["train", "--model=mini", f"--photos={photos}", f"--output={tmp_path / 'anna'}", "--device=cpu", "--preset=paper"]
    assert faceexpr([*words, "--resolution=64", "--rank=2", "--accumulation=1", "--steps=1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    (warned,) = [number for number, line in enumerate(lines) if line.startswith("SDXL learns on cpu here and takes about ")]
    assert "(one call of the U-Net, timed): 1 steps of " in lines[warned] and "install the build for CUDA" in lines[warned]
    assert warned < next(number for number, line in enumerate(lines) if line.startswith("step 1 of 1"))


def test_every_preset_has_rows() -> None:
    assert {row["preset"] for row in card_table()["rows"]} == set(PRESETS)


@pytest.mark.parametrize(
    "words", ["CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"]
)
def test_a_card_that_is_short_is_known_by_its_libraries_words_too(words: str) -> None:
    with (
        pytest.raises(FaceExprError, match=r"^The device ran out of memory while drawing: .*ALLOC_FAILED.* Take the preset low-vram"),
        enough_memory("drawing"),
    ):
        raise RuntimeError(words)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), enough_memory("drawing"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("free", [10, 0.1])
def test_a_plan_that_cannot_be_timed_is_told_without_hours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free: float
) -> None:
    """A run with a packed base needs less of the card than one call of the whole U-Net."""
    called = []

    def short(*_: Any) -> float:
        called.append(1)
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    card = torch.device("cuda")
    monkeypatch.setattr(plan, "measured_tflops", short)
    monkeypatch.setattr(plan, "free_memory", lambda device: round(free * GB))
    monkeypatch.setattr(plan, "card_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    told = plan.plan_on(card, toy_unet(), "low-vram", preset_settings("low-vram", base="nf4"), 1024)
    assert "the first steps will tell how long" in told and "base in nf4, on a card" in told
    assert (len(called), "could not be timed" in caplog.text) == ((1, True) if free > 1 else (0, False))


@pytest.mark.parametrize("size", ["nan", "inf", "-inf", "0", "-8", "1e300"])
def test_a_size_that_no_card_has_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert faceexpr(["plan", f"--card={size}"]) == 2
    assert re.fullmatch(r"faceexpr: --card is \S+; give .*\n", capsys.readouterr().err)
