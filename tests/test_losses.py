"""The formulas of the loss, checked by hand and by finite differences."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from faceexpr_core.losses import face_weights, min_snr_weight, weighted_epsilon_loss


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
