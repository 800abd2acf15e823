"""How much expressions change the base's prediction on FaceExpr Mini, and how much of such a change is rounding in half precision.

    python -m lab.benchmarks.crafting_floor --batches 16

For each draw (photo, expression, timestep as L_ec takes it): d0 = eps_0(class, expression) - eps_0(class, neutral) in float32, and the
mean square of its difference from the same in bfloat16 and float16. The floors of L_ec (`losses`) stand between the two.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from functools import partial

import torch
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.diffusers_host import encoding
from faceexpr_core.diffusers_host.pipeline import load_pipeline
from faceexpr_core.faces.images import read_images
from faceexpr_core.photos.subject import SubjectSettings, prepare_subject
from faceexpr_core.training.crafting import build_crafting_set
from faceexpr_core.training.data import build_training_set
from faceexpr_core.training.draws import CRAFTING_TIMESTEPS
from faceexpr_core.training.parts import noise_schedule
from faceexpr_core.training.settings import TrainSettings

BATCH = 8
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTILES = torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=16)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    pipe = load_pipeline("mini")
    person = SubjectSettings(resolution=mini.RESOLUTION, trigger="ohwx", class_word="man", drop_duplicates=False)
    subject = prepare_subject(read_images(mini.subject_path()), person)
    encode_text = partial(encoding.encode_prompts, pipe)
    data = build_training_set(subject, encode_text, partial(encoding.encode_images, pipe), 0.3)
    pairs = build_crafting_set(subject, encode_text, partial(encoding.count_tokens, pipe))
    full = pipe.unet.float().eval()
    unets = {"float32": full, **{name: torch.nn.Module.to(copy.deepcopy(full), dtype) for name, dtype in HALVES.items()}}
    schedule, generator = noise_schedule(TrainSettings()), torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {name: [] for name in unets}
    for _ in range(arguments.batches):
        photos = data.select(torch.randint(len(data), (BATCH,), generator=generator))
        e = torch.randint(len(pairs), (BATCH,), generator=generator)
        low, high = CRAFTING_TIMESTEPS
        t = torch.randint(low, high + 1, (BATCH,), generator=generator)
        noisy = schedule.add_noise(photos.latents, torch.randn(photos.latents.shape, generator=generator), t)

        @torch.no_grad()
        def change(name: str, noisy: Tensor = noisy, t: Tensor = t, e: Tensor = e, sizes: Tensor = photos.time_ids) -> Tensor:
            unet, dtype = unets[name], HALVES.get(name, torch.float32)
            predicted = []
            for which in (0, 1):
                added = {"text_embeds": pairs.base_pooled[e, which], "time_ids": sizes}
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    predicted.append(unet(noisy, t, pairs.base[e, which], added_cond_kwargs=added).sample.float())
            return predicted[1] - predicted[0]

        whole = change("float32")
        found["float32"].append(whole.square().mean((1, 2, 3)))
        for name in HALVES:
            found[name].append((change(name) - whole).square().mean((1, 2, 3)))
    print(f"{arguments.batches * BATCH} draws; mean squares\n")
    print("| what | least | 5 % | median | 95 % | most |\n| --- | --- | --- | --- | --- | --- |")
    for name, rows in found.items():
        what = "change by an expression, float32" if name == "float32" else f"rounding in {name}"
        print(f"| {what} | {' | '.join(f'{value:.1e}' for value in torch.quantile(torch.cat(rows), QUANTILES).tolist())} |")


if __name__ == "__main__":
    main()
