"""What a MODEL predicts, read from the sampling that is patched onto it, as a node may have done."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling

from ...faceexpr_core.errors import FaceExprError
from .models import require_sdxl

STEPS = 1000
"""Timesteps of SDXL's noise schedule; distilled ones have fewer."""


def prediction_of(model: Any, node: str) -> dict[str, Any]:
    """What an SDXL MODEL predicts, as TrainSettings has it; ModelSamplingDiscrete on it counts.

    Raises FaceExprError for another kind of model, and for what the training has no loss for (LCM, x0, EDM, another noise schedule).
    """
    require_sdxl(model, node)
    sampling = model.get_model_object("model_sampling")
    kinds = comfy.model_sampling
    plain = isinstance(sampling, kinds.ModelSamplingDiscrete) and len(sampling.sigmas) == STEPS
    velocity = isinstance(sampling, kinds.V_PREDICTION)
    noise = isinstance(sampling, kinds.EPS) and type(sampling).calculate_denoised is kinds.EPS.calculate_denoised
    others = velocity and type(sampling).calculate_denoised is not kinds.V_PREDICTION.calculate_denoised
    zero = bool(getattr(sampling, "zsnr", False))
    if plain and not others and velocity:
        return {"prediction": "v_prediction", "zero_snr": zero}
    if plain and noise and not velocity and not zero:
        return {"prediction": "epsilon", "zero_snr": False}
    name = ", ".join(one.__name__ for one in type(sampling).__mro__ if one.__module__ != "builtins" and "Module" not in one.__name__)
    raise FaceExprError(
        f"{node} got a MODEL that is sampled as {name}{' with zero SNR' if zero else ''}; it learns on models that predict noise (eps) "
        "or velocity (v_prediction), the latter with zero SNR too. Take ModelSamplingDiscrete or the like off the MODEL's way, "
        "or set it to what the checkpoint was made for."
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
