"""The formulas of the loss, checked by hand and by finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from toys import toy_unet

from faceexpr_core.training.adapter import add_lora, without_lora
from faceexpr_core.training.losses import crafting_loss, distillation_loss, face_weights, min_snr_weight, prior_loss, weighted_epsilon_loss


@pytest.mark.parametrize(
    ("snr", "gamma", "weight"),
    [(0.5, 5.0, 1.0), (5.0, 5.0, 1.0), (10.0, 5.0, 0.5), (100.0, 5.0, 0.05), (100.0, 0.0, 1.0), (10.0, 1.0, 0.1)],
)
def test_min_snr_holds_back_timesteps_with_little_noise(snr: float, gamma: float, weight: float) -> None:
    assert min_snr_weight(torch.tensor([snr]), gamma).item() == pytest.approx(weight)


def test_min_snr_on_sdxls_schedule_leaves_noisy_timesteps_alone() -> None:
    schedule = DDPMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    weights = min_snr_weight(compute_snr(schedule, torch.arange(1000)), 5.0)
    noisy = schedule.alphas_cumprod <= 5 / 6  # SNR = abar / (1 - abar) <= 5
    assert torch.equal(weights[noisy], torch.ones(int(noisy.sum())))
    assert (weights[~noisy] < 1).all()
    assert weights[0].item() == pytest.approx(5 * 0.00085 / (1 - 0.00085), rel=1e-4)


def test_epsilon_loss_by_hand() -> None:
    noise = torch.zeros(2, 1, 1, 2)
    predicted = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 0.0]]]])
    mask = torch.tensor([[[[1.5, 0.5]]], [[[1.0, 1.0]]]])
    loss = weighted_epsilon_loss(noise, predicted, mask, torch.tensor([1.0, 0.5]))
    assert loss.tolist() == pytest.approx([(1.5 * 1 + 0.5 * 4) / 2, 0.5 * 9 / 2])


def test_the_gradient_of_the_epsilon_loss_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    noise, predicted, mask = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3, requires_grad=True), torch.rand(2, 1, 3, 3)
    snr_weight = torch.tensor([1.0, 0.3])
    weighted_epsilon_loss(noise, predicted, mask, snr_weight).sum().backward()
    assert predicted.grad is not None
    for index in [(0, 0, 0, 0), (0, 3, 2, 1), (1, 1, 1, 1), (1, 2, 0, 2)]:
        step = torch.zeros_like(predicted)
        step[index] = 0.1  # exact for a quadratic, up to rounding
        high, low = (weighted_epsilon_loss(noise, predicted.detach() + sign * step, mask, snr_weight).sum() for sign in (1, -1))
        assert predicted.grad[index].item() == pytest.approx((high - low).item() / 0.2, abs=1e-4)


def test_face_weights_are_one_to_the_background_weight_and_have_mean_one() -> None:
    face = torch.zeros(2, 16, 16)
    face[0, :8] = 1
    face[1] = 1
    weights = face_weights(face, 0.3, 2, 2)
    assert weights.shape == (2, 1, 2, 2)
    assert weights.mean(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 1.0])
    assert (weights[0, 0, 1, 0] / weights[0, 0, 0, 0]).item() == pytest.approx(0.3)
    assert torch.equal(weights[1], torch.ones(1, 2, 2))


def test_a_latent_half_covered_by_the_face_weighs_half_way() -> None:
    face = torch.zeros(1, 8, 16)
    face[0, :, :4] = 1  # left latent: half face; right latent: none
    weights = face_weights(face, 0.2, 1, 2)
    assert (weights[0, 0, 0, 0] / weights[0, 0, 0, 1]).item() == pytest.approx((0.2 + 0.8 / 2) / 0.2)


def test_v_prediction_divides_by_one_more_and_bears_zero_snr() -> None:
    weights = min_snr_weight(torch.tensor([0.0, 1.0, 9.0]), 5.0, velocity=True)
    assert weights.tolist() == pytest.approx([0.0, 0.5, 0.5])


def test_prior_loss_is_the_epsilon_loss_with_a_mask_of_one() -> None:
    noise, predicted, snr_weight = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.tensor([1.0, 0.3])
    same = weighted_epsilon_loss(noise, predicted, torch.ones(2, 1, 3, 3), snr_weight)
    assert torch.allclose(prior_loss(noise, predicted, snr_weight), same)


def test_crafting_loss_by_hand() -> None:
    wanted = torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    for given, expected in [((2.0, 0.0), 0.0), ((0.0, 0.0), 1.0), ((1.0, 0.0), 1 / 8), ((-2.0, 0.0), 3.0), ((0.0, 2.0), 1.5)]:
        loss, counted = crafting_loss(torch.tensor(given).view(1, 1, 1, 2), wanted)
        assert loss.item() == pytest.approx(expected, abs=1e-5)
        assert counted.tolist() == [True]


def test_crafting_does_not_depend_on_the_size_of_the_change() -> None:
    change, wanted = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    large, small = (crafting_loss(scale * change, scale * wanted)[0].item() for scale in (1.0, 0.1))
    assert small == pytest.approx(large, rel=1e-3)


def test_a_phrase_that_moves_the_base_model_by_nothing_is_skipped() -> None:
    change = torch.randn(2, 4, 8, 8, requires_grad=True)
    wanted = torch.randn(2, 4, 8, 8) * torch.tensor([1e-4, 1.0]).view(2, 1, 1, 1)
    loss, counted = crafting_loss(change, wanted)
    loss.sum().backward()
    assert counted.tolist() == [False, True] and loss[0].item() == 0
    assert change.grad is not None
    assert change.grad[0].abs().max() == 0 and change.grad[1].abs().max() > 0


def test_outside_the_area_no_change_is_wanted() -> None:
    wanted, area = torch.ones(1, 4, 2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    assert crafting_loss(area * wanted, wanted, area)[0].item() == pytest.approx(0, abs=1e-4)
    assert crafting_loss(wanted, wanted, area)[0].item() > 1


Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def identity_on(predict: Predict) -> Callable[[], torch.Tensor]:
    noise, mask = random(2, 4, 8, 8), random(2, 1, 8, 8).abs()
    return lambda: weighted_epsilon_loss(noise, predict(PROMPTS[0], POOLED[0]), mask, torch.tensor([1.0, 0.3])).mean()


def prior_on(predict: Predict) -> Callable[[], torch.Tensor]:
    noise = random(2, 4, 8, 8)
    return lambda: prior_loss(noise, predict(PROMPTS[1], POOLED[1]), torch.tensor([1.0, 0.3])).mean()


def distillation_on(predict: Predict) -> Callable[[], torch.Tensor]:
    base = random(2, 4, 8, 8)
    return lambda: distillation_loss(predict(PROMPTS[1], POOLED[1]), base).mean()


def crafting_on(predict: Predict) -> Callable[[], torch.Tensor]:
    wanted, neutral, area = random(2, 4, 8, 8), predict(PROMPTS[2], POOLED[2]).detach(), random(2, 1, 8, 8).abs().clamp(max=1)
    return lambda: crafting_loss(predict(PROMPTS[3], POOLED[3]) - neutral, wanted, area)[0].mean()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


GENERATOR = torch.Generator().manual_seed(2)
PROMPTS, POOLED = random(4, 2, 5, 8), random(4, 2, 6)


@pytest.mark.parametrize("part", [identity_on, prior_on, distillation_on, crafting_on])
def test_the_gradient_of_each_loss_agrees_with_finite_differences_through_a_unet(part: Callable) -> None:
    unet = toy_unet().double().requires_grad_(False)
    layers = add_lora(unet, 2, 2.0, torch.Generator().manual_seed(1))
    weights = [weight for pair in layers.values() for weight in pair]
    for weight in weights:
        weight.data = random(*weight.shape) * 0.3
    noisy, t, sizes = random(2, 4, 8, 8), torch.tensor([300, 700]), random(2, 6)

    def predict(embeds: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        return unet(noisy, t, embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample

    loss = part(predict)
    gradients = torch.autograd.grad(loss(), weights)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    for _ in range(3):
        direction = [random(*weight.shape) for weight in weights]
        expected = sum((gradient * way).sum().item() for gradient, way in zip(gradients, direction, strict=True))
        values = []
        for step in (1e-5, -2e-5):
            for weight, way in zip(weights, direction, strict=True):
                weight.data += step * way
            values.append(loss().item())
        for weight, way in zip(weights, direction, strict=True):
            weight.data += 1e-5 * way
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_without_the_lora_the_base_model_speaks_and_afterwards_the_lora_learns_on() -> None:
    unet = toy_unet().double().requires_grad_(False)
    added = {"text_embeds": POOLED[0], "time_ids": random(2, 6)}
    noisy, t = random(2, 4, 8, 8), torch.tensor([300, 700])
    base = unet(noisy, t, PROMPTS[0], added_cond_kwargs=added).sample
    layers = add_lora(unet, 2, 2.0, torch.Generator().manual_seed(1))
    weights = [weight for pair in layers.values() for weight in pair]
    for weight in weights:
        weight.data = random(*weight.shape)
    with without_lora(unet, layers), torch.no_grad():
        assert torch.equal(unet(noisy, t, PROMPTS[0], added_cond_kwargs=added).sample, base)
    predicted = unet(noisy, t, PROMPTS[0], added_cond_kwargs=added).sample
    assert (predicted - base).abs().max() > 1e-3
    assert all(gradient is not None for gradient in torch.autograd.grad(predicted.sum(), weights))
