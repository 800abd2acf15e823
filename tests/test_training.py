"""The training loop on Mini's U-Net: what it computes, what it leaves alone, how it ends."""

from __future__ import annotations

import copy
import importlib.util
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from toys import lora_of

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.training.adapter import TARGETS, add_lora
from faceexpr_core.training.crafting import CraftingSet
from faceexpr_core.training.data import TrainingSet
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.loss_plot import loss_picture
from faceexpr_core.training.preview import contact_sheet, preview_latents
from faceexpr_core.training.progress import duration, progress_text
from faceexpr_core.training.result import Step
from faceexpr_core.training.settings import PRESETS, PRIOR_TARGETS, TrainSettings, parse_settings, preset_settings

FEW = TrainSettings(rank=4, steps=3, batch_size=1, accumulation=1, learning_rate=1e-3, ema=0, seed=7)


def few(**changes: object) -> TrainSettings:
    return TrainSettings(**{**FEW.__dict__, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shipped() -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(mini.path() / "unet", torch_dtype=torch.float32)


@pytest.fixture
def unet(shipped: UNet2DConditionModel) -> UNet2DConditionModel:
    return copy.deepcopy(shipped)


def photos(count: int = 3) -> TrainingSet:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sizes = torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]]).repeat(count, 1)
    return TrainingSet(
        draw(count, 4, 8, 8), draw(count, 77, 96), draw(count, 64), sizes, torch.rand(count, 1, 8, 8, generator=generator) + 0.5
    )


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("first", "peft_name"), [("kaiming", True), ("gaussian", "gaussian")])
def test_the_first_weights_are_spread_as_pefts_are(shipped: UNet2DConditionModel, first: str, peft_name: bool | str) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    ours, theirs = copy.deepcopy(shipped), copy.deepcopy(shipped)
    layers = add_lora(ours, 4, 4.0, torch.Generator().manual_seed(0), first=first)
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=list(TARGETS), init_lora_weights=peft_name), theirs)
    spread = {name: module.lora_A["default"].weight.detach().std() for name, module in theirs.named_modules() if hasattr(module, "lora_A")}
    assert spread.keys() == layers.keys()
    ratios = torch.stack([down.detach().std() / spread[name] for name, (down, _) in layers.items()])
    assert ratios.mean() == pytest.approx(1, abs=0.02) and ratios.std() < 0.15
    assert all(not up.any() for _, up in layers.values())


def test_the_published_command_starts_as_the_published_trainer_does_and_ours_as_before() -> None:
    """Its authors draw the first weights from a gaussian of 1 / rank, on SDXL 11 to 15 times as large as kaiming's."""
    assert preset_settings("paper").init_lora_weights == "gaussian"
    assert {preset_settings(name).init_lora_weights for name in PRESETS if name != "paper"} == {"kaiming"}
    assert "init_lora_weights" not in preset_settings("default").used()  # a run of an earlier version goes on
    assert preset_settings("paper").used()["init_lora_weights"] == "gaussian"


REFERENCE = [
    few(batch_size=2, accumulation=2, max_grad_norm=0.5, weight_decay=0.1),
    preset_settings("paper", steps=3, seed=7),
    few(prediction="v_prediction", min_snr_gamma=1.0),
]


@pytest.mark.parametrize("settings", REFERENCE, ids=["batches", "paper", "velocity"])
def test_losses_and_lora_equal_a_short_independent_loop(
    shipped: UNet2DConditionModel, unet: UNet2DConditionModel, settings: TrainSettings
) -> None:
    data, size = photos(), settings.batch_size
    result = train_lora(unet, data, settings)

    reference = copy.deepcopy(shipped).requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    layers = add_lora(reference, 4, 4.0, generator, first=settings.init_lora_weights)
    parameters = [weight for pair in layers.values() for weight in pair]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    abar = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    order: list[int] = []
    for expected in result.losses:
        step_loss = 0.0
        for _ in range(settings.accumulation):
            if len(order) < size:
                order += torch.randperm(3, generator=generator).tolist()
            batch, order = order[:size], order[size:]
            t = torch.randint(1000, (size,), generator=generator)
            noise = torch.randn(size, 4, 8, 8, generator=generator)
            kept = abar[t].view(size, 1, 1, 1)
            clean = data.latents[batch]
            extra = {"text_embeds": data.pooled[batch], "time_ids": data.time_ids[batch]}
            noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
            predicted = reference(noisy, t, data.prompt_embeds[batch], added_cond_kwargs=extra).sample
            velocity = settings.prediction == "v_prediction"
            target = kept.sqrt() * noise - (1 - kept).sqrt() * clean if velocity else noise
            snr = abar[t] / (1 - abar[t])
            weight = torch.minimum(snr, torch.tensor(settings.min_snr_gamma)) / (snr + velocity)
            per_photo = (data.weights[batch] * (predicted - target) ** 2).mean(dim=(1, 2, 3))
            loss = (weight * per_photo).mean() / settings.accumulation
            loss.backward()
            step_loss += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        assert step_loss == pytest.approx(expected, rel=1e-5)
    for name, (down, up) in layers.items():
        key = "lora_unet_" + name.replace(".", "_")
        assert torch.allclose(lora_of(result)[f"{key}.lora_down.weight"], down, atol=1e-5)
        assert torch.allclose(lora_of(result)[f"{key}.lora_up.weight"], up, atol=1e-5)


def pairs(person_is_class: bool = False, same_phrase: bool = False) -> CraftingSet:
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    base, base_pooled, person, person_pooled = draw(2, 2, 77, 96), draw(2, 2, 64), draw(2, 2, 77, 96), draw(2, 2, 64)
    if person_is_class:
        person, person_pooled = base, base_pooled
    if same_phrase:
        person, person_pooled = person[:, :1].expand(-1, 2, -1, -1), person_pooled[:, :1].expand(-1, 2, -1)
    return CraftingSet(("happy", "sad"), person, person_pooled, base, base_pooled)


WHOLE = few(steps=1, prior="distill", crafting_weight=0.5, crafting_every=1)


def test_at_the_start_distillation_is_0_and_crafting_0_where_the_person_is_the_class(unet: UNet2DConditionModel) -> None:
    curves = train_lora(unet, photos(), WHOLE, crafting=pairs(person_is_class=True)).curves
    assert curves["prior"][0] == pytest.approx(0, abs=1e-9)
    assert curves["crafting"][0] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("target", PRIOR_TARGETS)
def test_at_the_start_the_pictures_of_the_class_teach_nothing_of_the_model_but_their_noise(unet: UNet2DConditionModel, target: str) -> None:
    settings = few(steps=3, learning_rate=1e-2, prior="images", prior_target=target)
    first, _, last = train_lora(unet, photos(), settings, class_images=photos(5)).curves["prior"]
    assert first == pytest.approx(0, abs=1e-9) if target == "model" else first > 0.1
    assert last > 1e-6  # the photos moved what the model says of the class


@pytest.mark.parametrize("target", PRIOR_TARGETS)
def test_pictures_of_the_class_whose_words_are_dropped_are_learned_without(shipped: UNet2DConditionModel, target: str) -> None:
    given, common = photos(5), {"steps": 6, "seed": 0, "learning_rate": 1e-2, "prior": "images", "prior_target": target}
    silent = torch.randn(1, *given.prompt_embeds.shape[1:], generator=torch.Generator().manual_seed(8))
    spoken = replace(given, empty_embeds=silent, empty_pooled=given.pooled[:1])
    wordless = replace(spoken, prompt_embeds=silent.expand_as(given.prompt_embeds), pooled=given.pooled[:1].expand_as(given.pooled))

    def learned(images: TrainingSet, dropout: float) -> tuple[float, ...]:
        return train_lora(copy.deepcopy(shipped), photos(), few(**common, prior_dropout=dropout), class_images=images).curves["prior"]

    every, half, none = (learned(spoken, share) for share in (1.0, 0.5, 0.0))
    assert every == learned(wordless, 1.0)
    assert len({every, half, none}) == 3
    with pytest.raises(FaceExprError, match=r"Captions cannot be dropped.*prior_dropout to 0"):
        learned(given, 0.5)


def test_at_the_start_crafting_is_1_where_the_phrase_has_no_effect(unet: UNet2DConditionModel) -> None:
    curves = train_lora(unet, photos(), WHOLE, crafting=pairs(same_phrase=True)).curves
    assert curves["crafting"][0] == pytest.approx(1, abs=0.02)  # delta takes a little


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.long
def test_a_phrase_that_changes_less_than_rounding_teaches_nothing(shipped: UNet2DConditionModel, precision: str) -> None:
    """In bfloat16 rounding alone moves the prediction by 1.5e-5, which was above the floor of 1e-6."""
    given = pairs()
    almost = given.base[:, :1] + 1e-3 * torch.randn(2, 2, 77, 96, generator=torch.Generator().manual_seed(3))
    hardly = CraftingSet(**{**given.__dict__, "base": almost, "base_pooled": given.base_pooled[:, :1].expand(-1, 2, -1)})
    settings = TrainSettings(**{**WHOLE.__dict__, "steps": 8, "prior": "off", "precision": precision})
    none = train_lora(copy.deepcopy(shipped), photos(), settings, crafting=hardly)
    taught = sum(not math.isnan(value) for value in none.curves["crafting"])
    assert taught <= (precision == "bf16")  # one of sixteen came out above the floor on a CPU without bfloat16 of its own
    some = train_lora(copy.deepcopy(shipped), photos(), settings, crafting=given)
    assert all(value > 0.1 for value in some.curves["crafting"])


BASES = [("nf4", 0.35, 0.06), ("int8", 0.6, 0.01)]


@pytest.mark.parametrize(("kind", "share", "tolerance"), BASES, ids=["nf4", "int8"])
@pytest.mark.long
def test_a_lora_learns_on_a_base_in_fewer_bits(shipped: UNet2DConditionModel, kind: str, share: float, tolerance: float) -> None:
    common = {"steps": 3, "prior": "distill", "crafting_weight": 0.05, "crafting_every": 1, "convolutions": True, "precision": "bf16"}
    unet = copy.deepcopy(shipped)
    full = train_lora(copy.deepcopy(shipped), photos(), few(**common), crafting=pairs())
    packed = train_lora(unet, photos(), few(**common, base=kind), crafting=pairs())
    assert packed.losses[0] == pytest.approx(full.losses[0], rel=tolerance) and packed.losses != full.losses
    assert packed.losses == pytest.approx(full.losses, abs=0.05)  # on random pictures, at this rate, differences grow
    assert packed.layers.keys() == full.layers.keys()
    assert all(down.shape == full.layers[name][0].shape and up.abs().sum() > 0 for name, (down, up) in packed.layers.items())
    name = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    bits = unet.get_submodule(name).weight
    assert bits.nbytes < share * 2 * shipped.get_submodule(name).weight.numel()  # of bfloat16
    assert unet.conv_in.weight.dtype == torch.bfloat16


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"), reason="torch from 2.7 on")
def test_products_are_summed_in_float32_whatever_comfyui_was_started_with(
    unet: UNet2DConditionModel,
) -> None:
    products, seen = torch.backends.cuda.matmul, []
    products.allow_fp16_accumulation = True
    try:
        train_lora(unet, photos(), few(steps=1), lambda step: seen.append(products.allow_fp16_accumulation))
        assert seen == [False] and products.allow_fp16_accumulation is True
    finally:
        products.allow_fp16_accumulation = False


def test_a_base_in_fewer_bits_needs_bitsandbytes(unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FaceExprError, match="base is nf4, which needs the package bitsandbytes, but that is not installed"):
        train_lora(unet, photos(), few(base="nf4"))
    assert train_lora(unet, photos(), few(steps=1)).steps == 1


def test_each_part_of_the_loss_is_logged_and_weighed(unet: UNet2DConditionModel, shipped: UNet2DConditionModel) -> None:
    settings = few(steps=4, prior="images", prior_weight=0.5, crafting_weight=0.1, crafting_ramp=1.0)
    result = train_lora(unet, photos(), settings, class_images=photos(5), crafting=pairs())
    curves = result.curves
    assert list(curves) == ["identity", "prior", "crafting"]
    assert [math.isnan(value) for value in curves["crafting"]] == [True, False, True, False]
    for step, total in enumerate(result.losses, start=1):
        crafting = 0.0 if step % 2 else 0.1 * step / 4 * curves["crafting"][step - 1]
        assert total == pytest.approx(curves["identity"][step - 1] + 0.5 * curves["prior"][step - 1] + crafting, rel=1e-5)
    alone = train_lora(copy.deepcopy(shipped), photos(), few(steps=1))
    assert alone.losses[0] == curves["identity"][0]  # the same noise whatever else is on
    assert len({loss_picture(dict([curve])).tobytes() for curve in curves.items()}) == 3


def test_a_set_that_holds_each_prompt_once_is_learned_as_one_with_a_row_for_each_picture(shipped: UNet2DConditionModel) -> None:
    rows = torch.tensor([1, 0, 0, 1, 1])
    whole = photos(5)
    once = replace(whole, prompt_embeds=whole.prompt_embeds[:2], pooled=whole.pooled[:2], prompts=rows)
    each = replace(whole, prompt_embeds=whole.prompt_embeds[rows], pooled=whole.pooled[rows])
    held, spread = (train_lora(copy.deepcopy(shipped), photos(), few(steps=3, prior="images"), class_images=one) for one in (once, each))
    assert held.losses == spread.losses and once.digest() != each.digest()
    assert held.losses != train_lora(copy.deepcopy(shipped), photos(), few(steps=3, prior="images"), class_images=whole).losses
    empty = replace(once, empty_embeds=whole.prompt_embeds[:1] * 0, empty_pooled=whole.pooled[:1] * 0)
    dropped = empty.without_captions(torch.tensor([True, False, False, True, False]))
    assert torch.equal(dropped.pooled[1:3], each.pooled[1:3]) and not dropped.pooled[::3].any()


@pytest.mark.parametrize("prior", [{"prior": "distill"}, {"prior": "images", "prior_target": "model"}], ids=["distill", "images"])
@pytest.mark.long
def test_the_prior_holds_the_class_where_it_was(shipped: UNet2DConditionModel, prior: dict[str, str]) -> None:
    data, common = photos(1), {"steps": 12, "learning_rate": 1e-2, **prior}
    sets = {"class_images": photos(5)} if prior["prior"] == "images" else {"crafting": pairs()}
    drift = {}
    for weight in (0.0, 10.0):
        settings = few(**common, prior_weight=weight)
        drift[weight] = sum(train_lora(copy.deepcopy(shipped), data, settings, **sets).curves["prior"][4:])
    assert drift[10.0] < 0.5 * drift[0.0]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (few(prior="images"), "prior is images, but there are no pictures of the class"),
        (few(prior="distill"), "need the prompts of the class"),
        (few(crafting_weight=1.0), "need the prompts of the class"),
        (few(caption_dropout=0.5), "no embedding of the empty caption"),
        (few(blocks="down.0"), r"down.0, where this U-Net has no attention; it has some in down.1, down.2, middle"),
    ],
)
def test_what_the_settings_need_and_lack_is_told_before_the_first_step(
    unet: UNet2DConditionModel, settings: TrainSettings, told: str
) -> None:
    with pytest.raises(FaceExprError, match=told):
        train_lora(unet, photos(), settings)


def test_only_the_blocks_asked_for_learn(unet: UNet2DConditionModel) -> None:
    lora = lora_of(train_lora(unet, photos(), few(steps=1, blocks="middle, up.0")))
    assert {key.split("attentions")[0] for key in lora} == {"lora_unet_mid_block_", "lora_unet_up_blocks_0_"}


def test_dropped_captions_are_learned_as_the_empty_one(shipped: UNet2DConditionModel) -> None:
    data = photos()
    empty = data.prompt_embeds[:1] * 0, data.pooled[:1] * 0
    with_empty = TrainingSet(**{**data.__dict__, "empty_embeds": empty[0], "empty_pooled": empty[1]})
    blank = TrainingSet(**{**data.__dict__, "prompt_embeds": data.prompt_embeds * 0, "pooled": data.pooled * 0})
    dropped = train_lora(copy.deepcopy(shipped), with_empty, few(steps=1, caption_dropout=1.0))
    assert dropped.losses == train_lora(copy.deepcopy(shipped), blank, few(steps=1)).losses


def test_presets_hold_what_they_say_and_every_value_can_be_overridden() -> None:
    paper = preset_settings("paper")
    assert (paper.rank, paper.steps, paper.accumulation, paper.batch_size, paper.learning_rate) == (4, 400, 3, 1, 1e-4)
    assert (paper.schedule, paper.precision, paper.min_snr_gamma, paper.optimizer) == ("constant", "fp16", 5.0, "adamw8bit")
    assert (paper.prior, paper.crafting_weight, paper.captions, paper.ema) == ("off", 0.0, False, 0.0)
    assert PRESETS["paper"].resolution == 512
    whole, small = preset_settings("default"), preset_settings("low-vram")
    assert (whole.prior, whole.text_encoder, whole.convolutions) == ("images", True, True)
    assert (small.prior, small.text_encoder, small.convolutions) == ("distill", False, False)
    assert preset_settings("paper", ema=0.5, rank=None).ema == 0.5
    with pytest.raises(FaceExprError, match="choose one of auto, default, paper, low-vram"):
        preset_settings("best")


def test_settings_are_read_from_text() -> None:
    read = parse_settings("noise_offset=0.05, blocks=up,middle\nflip = on; rank=8")
    assert read == {"noise_offset": 0.05, "blocks": "up,middle", "flip": True, "rank": 8}
    assert parse_settings(" ") == {}


def test_eight_bits_without_cuda_are_told(unet: UNet2DConditionModel) -> None:
    (note,) = train_lora(unet, photos(), few(steps=1)).notes
    assert "plain AdamW" in note


def test_progress_in_words(unet: UNet2DConditionModel) -> None:
    said: list[str] = []
    train_lora(unet, photos(), few(steps=2), lambda step: said.append(progress_text(step)))
    assert re.fullmatch(r"step 1 of 2, [\d.]+ (steps/s|s a step), \d+ s left, loss [\d.]+, [\d.]+ GB", said[0])
    assert [duration(seconds) for seconds in (4.4, 185, 7800)] == ["4 s", "3 min 5 s", "2 h 10 min"]


def test_a_sheet_holds_its_pictures_in_order() -> None:
    pictures = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(pictures)
    assert sheet.shape == (4, 6, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((0, 0), (0, 3), (2, 0), (2, 3))] == [10, 20, 30, 255]


def test_every_attention_projection_learns_and_nothing_else(shipped: UNet2DConditionModel, unet: UNet2DConditionModel) -> None:
    result = train_lora(unet, photos(), few(steps=2))
    projections = [name for name, _ in shipped.named_modules() if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))]
    assert len(lora_of(result)) == 3 * len(projections)
    moved = [key for key, value in lora_of(result).items() if key.endswith("lora_up.weight") and value.abs().sum() > 0]
    assert len(moved) == len(projections)
    frozen = {name.replace(".base_layer", ""): value for name, value in unet.state_dict().items() if "lora_" not in name}
    assert same(frozen, shipped.state_dict())


@pytest.mark.long
def test_training_lowers_the_loss(shipped: UNet2DConditionModel) -> None:
    data, common = photos(1), {"steps": 20, "min_snr_gamma": 0}
    still = train_lora(copy.deepcopy(shipped), data, few(**common, learning_rate=1e-8)).losses
    # which rate suits depends on the weights that Mini has
    moving = [train_lora(copy.deepcopy(shipped), data, few(**common, learning_rate=rate)).losses for rate in (3e-3, 3e-2)]
    assert min(sum(losses[-8:]) for losses in moving) < 0.97 * sum(still[-8:])


def test_the_seed_decides_and_the_global_generator_is_left_alone(shipped: UNet2DConditionModel) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = train_lora(copy.deepcopy(shipped), photos(), FEW)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again = train_lora(copy.deepcopy(shipped), photos(), FEW)
    other = train_lora(copy.deepcopy(shipped), photos(), few(seed=8))
    assert again.losses == first.losses
    assert same(lora_of(again), lora_of(first))
    assert other.losses[0] != first.losses[0]


def test_an_exception_of_the_host_hands_back_what_was_learned(shipped: UNet2DConditionModel) -> None:
    class Cancelled(BaseException):
        pass

    def cancel(step: Step) -> None:
        if step.number == 2:
            raise Cancelled

    data = photos()
    stopped = train_lora(copy.deepcopy(shipped), data, few(steps=5), cancel)
    assert isinstance(stopped.stopped_by, Cancelled)
    assert (stopped.interrupted, stopped.steps, len(stopped.losses)) == (True, 2, 2)
    assert same(lora_of(stopped), lora_of(train_lora(copy.deepcopy(shipped), data, few(steps=2))))


def test_a_loss_that_is_not_a_number_stops_with_the_last_good_weights(shipped: UNet2DConditionModel) -> None:
    def poison(step: Step) -> None:
        if step.number == 3:
            for name, weight in step.unet.named_parameters():
                if "lora_B" in name:
                    weight.data.fill_(float("nan"))

    data = photos()
    result = train_lora(copy.deepcopy(shipped), data, few(steps=6), poison)
    assert isinstance(result.stopped_by, FaceExprError)
    assert "step 4 of 6" in str(result.stopped_by) and "learning rate" in str(result.stopped_by)
    assert (result.steps, len(result.losses)) == (2, 3)
    assert same(lora_of(result), lora_of(train_lora(copy.deepcopy(shipped), data, few(steps=2))))


def test_a_loss_that_is_never_a_number_is_raised(unet: UNet2DConditionModel) -> None:
    data = photos()
    data.latents.fill_(float("inf"))
    with pytest.raises(FaceExprError, match="diverged: at step 1"):
        train_lora(unet, data, FEW)


def test_the_moving_average_is_what_is_handed_back(unet: UNet2DConditionModel) -> None:
    seen: list[torch.Tensor] = []

    def watch(step: Step) -> None:
        name = next(name for name, _ in step.unet.named_parameters() if "lora_B" in name)
        seen.append(step.unet.get_parameter(name).detach().clone())

    result = train_lora(unet, photos(), few(steps=4, ema=0.3), watch)
    average = seen[0]  # the first step is taken as it is, then decay = min(ema, (1 + n) / (10 + n))
    for number, weight in enumerate(seen[1:], start=1):
        decay = min(0.3, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * weight
    key = next(key for key in lora_of(result) if key.endswith("lora_up.weight"))
    assert torch.allclose(lora_of(result)[key], average, atol=1e-7)
    assert not torch.allclose(lora_of(result)[key], seen[-1], atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"warmup": 2}, [5e-4, 1e-3, 1e-3, 1e-3]),
        ({"schedule": "cosine"}, [8.535534e-4, 5e-4, 1.464466e-4, 0.0]),
        ({}, [1e-3] * 4),
    ],
)
def test_the_learning_rate_follows_the_schedule(unet: UNet2DConditionModel, changes: dict, expected: list[float]) -> None:
    rates: list[float] = []
    train_lora(unet, photos(), few(steps=4, **changes), lambda step: rates.append(step.learning_rate))
    assert rates == pytest.approx(expected, abs=1e-9)


def test_gradient_checkpointing_gives_the_same_losses(shipped: UNet2DConditionModel) -> None:
    data, unet = photos(), copy.deepcopy(shipped)
    plain = train_lora(copy.deepcopy(shipped), data, FEW)
    checkpointed = train_lora(unet, data, few(gradient_checkpointing=True))
    assert checkpointed.losses == pytest.approx(plain.losses, rel=1e-5)
    assert unet.is_gradient_checkpointing


def test_half_precision_stays_near_full_precision_and_the_lora_stays_float32(shipped: UNet2DConditionModel) -> None:
    data = photos()
    full = train_lora(copy.deepcopy(shipped), data, few(steps=2))
    half = train_lora(copy.deepcopy(shipped), data, few(steps=2, precision="bf16"))
    assert half.losses == pytest.approx(full.losses, rel=0.05)
    assert {value.dtype for value in lora_of(half).values()} == {torch.float32}


def test_tensors_made_in_inference_mode_can_be_trained_on(shipped: UNet2DConditionModel) -> None:
    plain = train_lora(copy.deepcopy(shipped), photos(), FEW)
    unet = copy.deepcopy(shipped)
    with torch.inference_mode():
        data = photos()
        assert data.latents.is_inference()
        assert train_lora(unet, data, FEW).losses == plain.losses


def test_previews_do_not_disturb_the_training(shipped: UNet2DConditionModel) -> None:
    data, drawn = photos(), []

    def draw(step: Step) -> None:
        drawn.append(preview_latents(step.unet, data.prompt_embeds[:2], data.pooled[:2], 64, 64, steps=2))

    watched = train_lora(copy.deepcopy(shipped), data, FEW, draw)
    assert watched.losses == train_lora(copy.deepcopy(shipped), data, FEW).losses
    assert [latents.shape for latents in drawn] == [(1, 4, 8, 8)] * 3
    assert torch.isfinite(drawn[-1]).all() and not torch.equal(drawn[0], drawn[-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 0},
        {"alpha": -1.0},
        {"steps": 0},
        {"batch_size": 0},
        {"accumulation": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup": 4},
        {"ema": 1.0},
        {"min_snr_gamma": -1.0},
        {"seed": -1},
        {"schedule": "quadratic"},
        {"blocks": "left"},
        {"prior": "maybe"},
        {"crafting_weight": -1.0},
        {"zero_snr": True},
        {"precision": "int8"},
        {"base": "fp4"},
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict) -> None:
    with pytest.raises(FaceExprError, match=next(iter(changes))):
        few(**changes)


@pytest.mark.parametrize(
    ("field", "shape", "told"),
    [
        ("prompt_embeds", (3, 77, 768), "text embeddings of width 768, the U-Net needs 96"),
        ("latents", (3, 16, 8, 8), "latents with 16 channels, the U-Net needs 4"),
        ("pooled", (3, 1280), "pooled text embeddings of width 1280, the U-Net needs 64"),
        ("latents", (3, 4, 9, 8), "64 x 72 pixels"),
    ],
)
def test_photos_encoded_for_another_model_are_refused(unet: UNet2DConditionModel, field: str, shape: tuple, told: str) -> None:
    data = TrainingSet(**{**photos().__dict__, field: torch.zeros(shape)})
    with pytest.raises(FaceExprError, match=told):
        train_lora(unet, data, FEW)
