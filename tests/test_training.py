"""The training loop on Mini's U-Net: what it computes, what it leaves alone, how it ends."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from faceexpr_core import mini
from faceexpr_core.errors import FaceExprError
from faceexpr_core.preview import preview_latents
from faceexpr_core.train_settings import TrainSettings
from faceexpr_core.training import Step, add_lora, train_lora
from faceexpr_core.training_set import TrainingSet

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


def test_losses_and_lora_equal_a_short_independent_loop(shipped: UNet2DConditionModel, unet: UNet2DConditionModel) -> None:
    data, settings = photos(), few(steps=3, batch_size=2, accumulation=2, max_grad_norm=0.5, weight_decay=0.1)
    result = train_lora(unet, data, settings)

    reference = copy.deepcopy(shipped).requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    layers = add_lora(reference, 4, 4.0, generator)
    parameters = [weight for pair in layers.values() for weight in pair]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)
    abar = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    order: list[int] = []
    for expected in result.losses:
        step_loss = 0.0
        for _ in range(2):
            if len(order) < 2:
                order += torch.randperm(3, generator=generator).tolist()
            batch, order = order[:2], order[2:]
            t = torch.randint(1000, (2,), generator=generator)
            noise = torch.randn(2, 4, 8, 8, generator=generator)
            kept = abar[t].view(2, 1, 1, 1)
            noisy = kept.sqrt() * data.latents[batch] + (1 - kept).sqrt() * noise
            extra = {"text_embeds": data.pooled[batch], "time_ids": data.time_ids[batch]}
            epsilon = reference(noisy, t, data.prompt_embeds[batch], added_cond_kwargs=extra).sample
            snr = abar[t] / (1 - abar[t])
            per_photo = (data.weights[batch] * (epsilon - noise) ** 2).mean(dim=(1, 2, 3))
            loss = (torch.minimum(snr, torch.tensor(5.0)) / snr * per_photo).mean() / 2
            loss.backward()
            step_loss += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()
        assert step_loss == pytest.approx(expected, rel=1e-5)
    for name, (down, up) in layers.items():
        key = "lora_unet_" + name.replace(".", "_")
        assert torch.allclose(result.lora[f"{key}.lora_down.weight"], down, atol=1e-5)
        assert torch.allclose(result.lora[f"{key}.lora_up.weight"], up, atol=1e-5)


def test_every_attention_projection_learns_and_nothing_else(shipped: UNet2DConditionModel, unet: UNet2DConditionModel) -> None:
    result = train_lora(unet, photos(), few(steps=2))
    projections = [name for name, _ in shipped.named_modules() if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))]
    assert len(result.lora) == 3 * len(projections)
    moved = [key for key, value in result.lora.items() if key.endswith("lora_up.weight") and value.abs().sum() > 0]
    assert len(moved) == len(projections)
    frozen = {name.replace(".base_layer", ""): value for name, value in unet.state_dict().items() if "lora_" not in name}
    assert same(frozen, shipped.state_dict())


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
    assert same(again.lora, first.lora)
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
    assert same(stopped.lora, train_lora(copy.deepcopy(shipped), data, few(steps=2)).lora)


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
    assert same(result.lora, train_lora(copy.deepcopy(shipped), data, few(steps=2)).lora)


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
    key = next(key for key in result.lora if key.endswith("lora_up.weight"))
    assert torch.allclose(result.lora[key], average, atol=1e-7)
    assert not torch.allclose(result.lora[key], seen[-1], atol=1e-7)


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
    data = photos()
    plain = train_lora(copy.deepcopy(shipped), data, FEW)
    checkpointed = train_lora(copy.deepcopy(shipped), data, few(gradient_checkpointing=True))
    assert checkpointed.losses == pytest.approx(plain.losses, rel=1e-5)


def test_half_precision_stays_near_full_precision_and_the_lora_stays_float32(shipped: UNet2DConditionModel) -> None:
    data = photos()
    full = train_lora(copy.deepcopy(shipped), data, few(steps=2))
    half = train_lora(copy.deepcopy(shipped), data, few(steps=2, precision="bf16"))
    assert half.losses == pytest.approx(full.losses, rel=0.05)
    assert {value.dtype for value in half.lora.values()} == {torch.float32}


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
        {"schedule": "linear"},
        {"precision": "int8"},
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
