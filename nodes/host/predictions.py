"""What a MODEL predicts and how its noise comes in, read from the sampling that is patched onto it, as a node may have done."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling
import torch

from ...faceexpr_core.errors import FaceExprError
from ...faceexpr_core.schedule import TIMESTEPS
from .models import require_sdxl

LEAST_PICTURE = 1e-3
"""What counts as left of the picture where a flow begins, which is noise alone."""


def prediction_of(model: Any, node: str) -> dict[str, Any]:
    """What an SDXL MODEL predicts, as TrainSettings has it; ModelSamplingDiscrete on it counts.

    Raises FaceExprError for another kind of model, and for what the training has no loss for (LCM, x0, EDM, another noise schedule).
    """
    require_sdxl(model, node)
    sampling = model.get_model_object("model_sampling")
    kinds = comfy.model_sampling
    plain = isinstance(sampling, kinds.ModelSamplingDiscrete) and len(sampling.sigmas) == TIMESTEPS  # distilled ones have fewer
    velocity = isinstance(sampling, kinds.V_PREDICTION)
    noise = isinstance(sampling, kinds.EPS) and type(sampling).calculate_denoised is kinds.EPS.calculate_denoised
    others = velocity and type(sampling).calculate_denoised is not kinds.V_PREDICTION.calculate_denoised
    zero = bool(getattr(sampling, "zsnr", False))
    if plain and not others and velocity:
        return {"prediction": "v_prediction", "zero_snr": zero}
    if plain and noise and not velocity and not zero:
        return {"prediction": "epsilon", "zero_snr": False}
    name = _name(sampling)
    raise FaceExprError(
        f"{node} got a MODEL that is sampled as {name}{' with zero SNR' if zero else ''}; it learns on models that predict noise (eps) "
        "or velocity (v_prediction), the latter with zero SNR too. Take ModelSamplingDiscrete or the like off the MODEL's way, "
        "or set it to what the checkpoint was made for."
    )


def _name(sampling: Any) -> str:
    return ", ".join(one.__name__ for one in type(sampling).__mro__ if one.__module__ != "builtins" and "Module" not in one.__name__)


def noise_level(sampling: Any, sigma: float) -> float:
    """The sigma at which SDXL's latent is as noisy as one at a sampling's `sigma`: sigma itself where noise is added to a picture that
    varies by 1 (`sigma_data`), as in SDXL's sampling; twice that where the picture varies by half (EDM, as of Playground v2.5); more in a
    flow, where the picture fades as noise comes in."""
    return _beside_the_picture(sampling, sigma) / float(getattr(sampling, "sigma_data", 1.0))


def _beside_the_picture(sampling: Any, sigma: float) -> float:
    """How much of the noise is in a latent, for each part of the picture in it."""
    at, all_of_it, nothing = torch.tensor(sigma), torch.ones(1), torch.zeros(1)
    noise, picture = (float(sampling.noise_scaling(at, *parts)) for parts in ((all_of_it, nothing), (nothing, all_of_it)))
    return noise / max(picture, LEAST_PICTURE)


def require_added_noise(model: Any, node: str) -> None:
    """Raise FaceExprError unless the MODEL's latents are x = z + sigma eps, as `node` makes and reads them."""
    sampling = model.get_model_object("model_sampling")
    if _beside_the_picture(sampling, 0.5) != 0.5:
        raise FaceExprError(
            f"{node} got a MODEL that is sampled as a flow ({_name(sampling)}), in which the picture fades while noise comes in; it needs "
            "one in which noise is added to the picture, as in SDXL's own sampling. Take ModelSamplingSD3 or the like off the MODEL's way; "
            "if the checkpoint was made for a flow, use another SDXL checkpoint here."
        )


def require_own_levels(model: Any, node: str) -> None:
    """Raise FaceExprError unless the MODEL's sigmas are SDXL's too, as features of noise levels have them."""
    require_added_noise(model, node)
    sampling = model.get_model_object("model_sampling")
    if noise_level(sampling, 0.5) != 0.5:
        raise FaceExprError(
            f"{node} got a MODEL that is sampled as {_name(sampling)} with sigma_data {sampling.sigma_data:g}, whose noise levels are "
            "others than SDXL's; features of a photo, and of the sites cross_attention and skip, are kept by SDXL's. Take words at the "
            "site cross_attention_difference, or use another SDXL checkpoint here."
        )


def told_prediction(model: Any, says: str) -> Any:
    """The MODEL sampled as the user `says` (of `settings.PREDICTED`) that it was made to be, by ComfyUI's own ModelSamplingDiscrete."""
    from ...faceexpr_core.training.settings import PREDICTED

    given = PREDICTED[says]
    if not given:
        return model
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    sampling = "eps" if given["prediction"] == "epsilon" else "v_prediction"
    (patched,) = ModelSamplingDiscrete().patch(model, sampling, given["zero_snr"])
    return patched
