"""Mini's figures: `python -m lab.recipe.check vae|base|attributes|lora [--model DIR] [--output_dir D]`.

All identities come from the reporting range, which training and tuning never touch. `vae`: how much of a face survives encoding.
`base`: captions of unseen people with every expression asked for. `attributes`: what is worn, and where (attributes.py). `lora`: six
photos of an unseen person, a LoRA, every expression.
Each prints its figures and writes them as `<what>.json` beside a sheet of the pictures they were measured on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from faceexpr_core import mini, text
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.faces.images import read_images
from faceexpr_core.fusion.run import Run
from faceexpr_core.measure.expression import CLASSES, ExpressionMeter
from faceexpr_core.measure.identity import IdentityMeter, normalised
from faceexpr_core.photos.subject import SubjectSettings, prepare_subject
from faceexpr_core.training.data import build_training_set
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.settings import TrainSettings
from lab.recipe.attributes import check_attributes
from lab.world.captions import hair, person, scene
from lab.world.check import REPORTING_FROM
from lab.world.dataset import expression_sheet, subject_photos

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

Pictures = NDArray[np.uint8]
FIRST = REPORTING_FROM
SEEDS = 2
QUICK_START = TrainSettings(rank=16, steps=400, batch_size=4, accumulation=1, learning_rate=6e-4, convolutions=True)


def check_vae(pipe: StableDiffusionXLPipeline, people: int, **_: Any) -> tuple[dict[str, Any], list[list[Pictures]]]:
    """SFace similarity and PSNR between unseen renders and their reconstructions."""
    similarities, psnr, rows = [], [], []
    with IdentityMeter() as identity:
        for seed in range(FIRST, FIRST + people):
            renders = np.stack([picture.image for picture in expression_sheet(seed)])
            decoded = encoding.decode_latents(pipe, encoding.encode_images(pipe, torch.from_numpy(renders))).numpy()
            rows += [list(renders), list(decoded)]
            for before, after in zip(renders, decoded, strict=True):
                vectors = identity.embed(before), identity.embed(after)
                similarities.append(0.0 if vectors[0] is None or vectors[1] is None else float(vectors[0] @ vectors[1]))
                psnr.append(-10 * np.log10(np.mean((before / 255.0 - after / 255.0) ** 2)))
    tenth = np.quantile(similarities, 0.1)
    return {"pictures": len(psnr), "sface_mean": np.mean(similarities), "sface_tenth": tenth, "psnr": np.mean(psnr)}, rows


def check_base(
    pipe: StableDiffusionXLPipeline, people: int, cfg: float, steps: int, **_: Any
) -> tuple[dict[str, Any], list[list[Pictures]]]:
    """Expression asked against expression measured, for captions of unseen people, against the neutral picture of the same noise."""
    rows, found, confusion = [], [], Counter[str]()
    with ExpressionMeter() as meter:
        for seed in range(FIRST, FIRST + people):
            seen = expression_sheet(seed)[0].attributes
            prompt = f"a photo of {person(seen)}, {seen['skin']} skin, {hair(seen)}, {scene(seen)}"
            neutral, drawn = _expressions(pipe, prompt, seed, cfg, steps)
            rows.append([neutral, *drawn])
            resting = meter.face(neutral)
            for asked, picture in zip(CLASSES, drawn, strict=True):
                face = meter.face(picture)
                found.append(face is not None)
                confusion[f"{asked}>{meter.measure(face, resting).expression}"] += 1
    right = sum(confusion[f"{name}>{name}"] for name in CLASSES)
    figures = {"pictures": len(found), "face_found": np.mean(found), "accuracy": right / len(found)}
    return figures | {f"accuracy_{name}": confusion[f"{name}>{name}"] / people for name in CLASSES} | {"confusion": dict(confusion)}, rows


def check_lora(
    pipe: StableDiffusionXLPipeline, people: int, cfg: float, steps: int, settings: TrainSettings
) -> tuple[dict[str, Any], list[list[Pictures]]]:
    """Identity and expression of people learned from six photos each; rows: the photos, then what the LoRA draws."""
    rows: list[list[Pictures]] = []
    similarities, hits, subjects = [], [], []
    with ExpressionMeter() as meter, IdentityMeter(detector=meter.detector) as identity:
        for seed in range(FIRST + 50, FIRST + 50 + people):
            photos = [photo.image for photo in subject_photos(seed)]
            gender = subject_photos(seed, n=1)[0].attributes["gender"]
            started = time.time()
            unet, final_loss = _learn(pipe, photos, gender, settings)
            seconds = time.time() - started
            reference = identity.reference(photos)
            own, right = [], []
            original, pipe.unet = pipe.unet, unet
            for noise in range(SEEDS):
                neutral, drawn = _expressions(pipe, f"a photo of ohwx {gender}", 1000 + noise, cfg, steps)
                resting = meter.face(neutral)
                own += [normalised(identity.similarity(picture, reference)) for picture in (neutral, *drawn)]
                right += [meter.measure(picture, resting).hits(asked) for asked, picture in zip(CLASSES, drawn, strict=True)]
                rows.append([neutral, *drawn])
            pipe.unet = original
            side = (mini.RESOLUTION, mini.RESOLUTION)
            small = [np.asarray(Image.fromarray(photo).resize(side, Image.Resampling.LANCZOS)) for photo in photos]
            rows.insert(len(rows) - SEEDS, small)
            similarities += own
            hits += right
            subjects.append({"seed": seed, "identity": np.mean(own), "accuracy": np.mean(right), "seconds": seconds, "loss": final_loss})
            print(subjects[-1], flush=True)
    return {"pictures": len(similarities), "identity": np.mean(similarities), "accuracy": np.mean(hits), "subjects": subjects}, rows


def _expressions(pipe: StableDiffusionXLPipeline, prompt: str, seed: int, cfg: float, steps: int) -> tuple[Pictures, list[Pictures]]:
    """The neutral picture and one for each of CLASSES, from the same noise."""
    count: Callable[[str], tuple[int, ...]] = partial(encoding.count_tokens, pipe)
    built = [text.build_prompts(prompt, text.expression_terms(name), count) for name in ("neutral", *CLASSES)]
    side = mini.RESOLUTION
    drawn = [sampling.generate(pipe, one, Run(seed, steps, cfg, side, side))[0].numpy() for one in built]
    return drawn[0], drawn[1:]


def _learn(pipe: StableDiffusionXLPipeline, photos: Sequence[Pictures], class_word: str, training: TrainSettings) -> tuple[Any, float]:
    """A private U-Net that carries the LoRA learned from the photos, and the mean loss of its last 50 steps."""
    import copy

    settings = SubjectSettings(class_word=class_word, resolution=mini.RESOLUTION, framing="whole picture")
    with tempfile.TemporaryDirectory() as folder:
        for number, photo in enumerate(photos):
            Image.fromarray(photo).save(Path(folder) / f"{number}.png")
        subject = prepare_subject(read_images(folder), settings)
    data = build_training_set(subject, partial(encoding.encode_prompts, pipe), partial(encoding.encode_images, pipe), 0.3)
    unet = copy.deepcopy(pipe.unet)
    result = train_lora(unet, data, training)
    unet.eval()
    return unet, float(np.mean(result.losses[-50:]))


def sheet(rows: Sequence[Sequence[Pictures]]) -> Image.Image:
    side, width = mini.RESOLUTION, max(len(row) for row in rows)
    page = Image.new("RGB", (width * side, len(rows) * side), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(Image.fromarray(picture), (x * side, y * side))
    return page


Check = Callable[..., tuple[dict[str, Any], list[list[Pictures]]]]
CHECKS: dict[str, tuple[Check, int]] = {
    "vae": (check_vae, 24),
    "base": (check_base, 20),
    "attributes": (check_attributes, 20),
    "lora": (check_lora, 5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=CHECKS)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--output_dir", type=Path, default=Path("output/check"))
    parser.add_argument("--people", type=int)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lora_steps", type=int, default=QUICK_START.steps)
    parser.add_argument("--attention_only", action="store_true", help="a LoRA without the convolutions")
    arguments = parser.parse_args()
    settings = replace(QUICK_START, steps=arguments.lora_steps, convolutions=not arguments.attention_only)
    check, people = CHECKS[arguments.what]
    pipe = pipeline.load_pipeline(arguments.model)
    figures, rows = check(pipe, people=arguments.people or people, cfg=arguments.cfg, steps=arguments.steps, settings=settings)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    report = json.dumps(figures, indent=1, default=float)
    (arguments.output_dir / f"{arguments.what}.json").write_text(report + "\n")
    sheet(rows[:40]).save(arguments.output_dir / f"{arguments.what}.png")
    print(report)


if __name__ == "__main__":
    main()
