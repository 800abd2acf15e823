"""What a base in fewer bits costs: LoRAs learned on FaceExpr Mini in full, nf4 and int8, all judged on the whole base in float32.

    python -m lab.benchmarks.base_bits --steps 300

Mini's six photos, L_id alone. The loss is that of the photos with the LoRA on the base that pictures are drawn with: the same noise and
timesteps for all, without weights. `distance` is how far the learned change lies from that learned in `full fp32`, in its length.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.diffusers_host import encoding
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.faces.images import read_images
from faceexpr_core.photos.subject import SubjectSettings, prepare_subject
from faceexpr_core.training.adapter import add_lora
from faceexpr_core.training.data import TrainingSet, build_training_set
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.parts import noise_schedule
from faceexpr_core.training.result import Layers
from faceexpr_core.training.settings import TrainSettings

RUNS = (("full", "fp32"), ("full", "bf16"), ("nf4", "bf16"), ("int8", "bf16"))
TRIALS = 32
"""Draws of noise and timestep for each photo."""


@torch.no_grad()
def loss_on(base: torch.nn.Module, layers: Layers, settings: TrainSettings, data: TrainingSet) -> float:
    """Mean square error of the noise on the photos, the LoRA on the base in float32."""
    unet, generator = copy.deepcopy(base), torch.Generator().manual_seed(1)
    if layers:
        for name, pair in add_lora(unet, settings.rank, settings.effective_alpha, generator, (), settings.convolutions).items():
            for given, learned in zip(pair, layers[f"unet.{name}"], strict=True):
                given.copy_(learned)
    schedule, total = noise_schedule(settings), 0.0
    for _ in range(TRIALS):
        t = torch.randint(1000, (len(data),), generator=generator)
        noise = torch.randn(data.latents.shape, generator=generator)
        added = {"text_embeds": data.pooled, "time_ids": data.time_ids}
        predicted = unet(schedule.add_noise(data.latents, noise, t), t, data.prompt_embeds, added_cond_kwargs=added).sample
        total += float((data.weights * (predicted - noise).square()).mean())
    return total / TRIALS


def distance(one: Layers, other: Layers) -> float:
    """Length of the difference of two LoRAs' changes in lengths of the second's."""
    apart = [(_change(one[name]) - _change(other[name])).norm() for name in other]
    return float(torch.stack(apart).norm() / torch.stack([_change(pair).norm() for pair in other.values()]).norm())


def _change(pair: tuple[Tensor, Tensor]) -> Tensor:
    down, up = pair
    return up.flatten(1) @ down.flatten(1)


def frozen_bytes(unet: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in unet.parameters() if not weight.requires_grad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    pipe = load_pipeline("mini")
    person = SubjectSettings(resolution=mini.RESOLUTION, trigger="ohwx", class_word="man", drop_duplicates=False)
    encode_text, encode_images = partial(encoding.encode_prompts, pipe), partial(encoding.encode_images, pipe)
    data = build_training_set(prepare_subject(read_images(mini.subject_path()), person), encode_text, encode_images, 0.3)
    unet = pipe.unet.float()
    untrained = loss_on(unet, {}, TrainSettings(), data)
    print(f"loss without a LoRA {untrained:.4f}\n\n| base | seed | loss | distance | weights, MB | s a step |")
    print("| --- | --- | --- | --- | --- | --- |")
    for seed in range(arguments.seeds):
        learned: Mapping[str, tuple[Tensor, Tensor]] = {}
        for base, precision in RUNS:
            settings = TrainSettings(
                rank=16, steps=arguments.steps, accumulation=1, learning_rate=6e-4, precision=precision, base=base, seed=seed
            )
            own, started = copy.deepcopy(unet), time.perf_counter()
            result = train_lora(own, data, settings)
            if result.stopped_by is not None:
                raise result.stopped_by
            seconds = (time.perf_counter() - started) / arguments.steps
            learned = learned or result.layers
            cells = f"{loss_on(unet, result.layers, settings, data):.4f} | {distance(result.layers, learned):.3f}"
            print(f"| {base} {precision} | {seed} | {cells} | {frozen_bytes(own) / 1e6:.1f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
