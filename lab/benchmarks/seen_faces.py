"""Where the face of a picture is seen while it is drawn, and which samplers draw the picture that Euler draws.

    python -m lab.benchmarks.seen_faces --work_dir WORK --pictures 8

Described people with a happy face, drawn by Mini in ComfyUI (`--steps`, cfg 5), each of a noise of its own. `found`: in how many pictures a
face is found. `overlap`: of the mask of mouth and eyes with that of the finished picture, the smaller over the larger of both, pixel by
pixel, summed (1: the same); the median, and the least.

Tables: in the steps' own estimates of the clean picture, in its own size and in three quarters of it; in the finished picture with noise on
it, as a run that goes on with another's leftover noise finds it; in the pictures of ComfyUI's samplers, beside Euler's of the same noise.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from faceexpr_core import mini
from faceexpr_core.dataset.people import described
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.files import replace_file
from faceexpr_core.fusion.donor_faces import Picture, faces_in, location_of
from faceexpr_core.fusion.look import FIRST_SCALE

from .comfyui_here import comfyui_nodes, load_model, pack_module
from .workers import one_thread

EXPRESSION, CFG = "happy", 5.0
MOVED = ("mouth", "eyes")
THROUGH = (0.1, 0.3, 0.5, 1.0)
"""Noise levels of the second table."""
ENDLESS = ("dpm_adaptive",)
"""Samplers that choose their steps themselves."""

Mask = Tensor | None


def overlap(one: Tensor, other: Tensor) -> float:
    """Of two masks in 0..1."""
    return float(torch.minimum(one, other).sum() / torch.maximum(one, other).sum())


def mask_of(picture: Picture, size: tuple[int, int] | None = None) -> Mask:
    """Mouth and eyes of the largest face, in a picture of `size` (its own where none is given); None without a face."""
    faces = faces_in(picture)
    if not faces:
        return None
    height, width = size or picture.shape[:2]
    return location_of(faces[0].moved(width / picture.shape[1]), height, width, MOVED).mask


def cells(found: Sequence[Mask], finished: Sequence[Mask]) -> list[str]:
    """`7 of 8`, `0.90`, `0.71`; of pictures whose finished form shows a face."""
    pairs = [(one, last) for one, last in zip(found, finished, strict=True) if last is not None]
    shares = [overlap(one, last) for one, last in pairs if one is not None]
    seen = f"{len(shares)} of {len(pairs)}"
    return [seen, *((f"{median(shares):.2f}", f"{min(shares):.2f}") if shares else ("-", "-"))]


@dataclass(frozen=True)
class Bench:
    """Mini in ComfyUI and what it is to draw: `texts` (positive, negative) for each picture, `noise` [P, 4, h, w]."""

    model: Any
    vae: Any
    texts: tuple[tuple[Any, Any], ...]
    noise: Tensor
    steps: int

    @classmethod
    def opened(cls, work: Path, pictures: int, steps: int) -> Bench:
        comfyui_nodes(work / "comfyui")
        with torch.inference_mode():
            model, clip, vae = load_model(mini.path())
            encode = pack_module("nodes.expression_text_encode").ExpressionTextEncode.execute
            negative = pack_module("nodes.host.conditioning").encode_conditioning(clip, "")
            prompts = [f"a photo of {described(0, number).words}" for number in range(pictures)]
            texts = tuple((encode(clip, prompt, EXPRESSION, 1.0, "none", 0.5, "").args[0], negative) for prompt in prompts)
        side = mini.RESOLUTION // 8
        noise = [torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed)) for seed in range(pictures)]
        return cls(model, vae, texts, torch.cat(noise), steps)

    def drawn(self, picture: int, sampler: str) -> tuple[Tensor, list[tuple[float, Tensor]]]:
        """The finished latent [1, 4, h, w], and at each step the noise level with the estimate of it, both in the model's scale."""
        sample, samplers = importlib.import_module("comfy.sample"), importlib.import_module("comfy.samplers")
        sigmas = samplers.KSampler(self.model, steps=self.steps, device="cpu", sampler=sampler, scheduler="normal").sigmas
        estimates: list[tuple[float, Tensor]] = []

        def keep(step: int, clean: Tensor, x: Tensor, total: int) -> None:
            estimates.append((float(sigmas[step]), clean.clone()))

        noise, (positive, negative) = self.noise[picture : picture + 1], self.texts[picture]
        with torch.inference_mode():
            made = sample.sample(
                self.model, noise, self.steps, CFG, sampler, "normal", positive, negative, torch.zeros_like(noise),
                callback=keep, disable_pbar=True, seed=picture,
            )  # fmt: skip
        return self.model.model.process_latent_in(made), estimates

    def picture(self, latent: Tensor) -> Picture:
        decoded = pack_module("nodes.host.encoding").decode_latents(self.model, self.vae, latent)[0]
        return (decoded.clamp(0, 1) * 255).round().byte().numpy()  # type: ignore[no-any-return]

    def mask(self, latent: Tensor, scale: float = 1.0) -> Mask:
        """Mouth and eyes as seen in a latent, or in it made smaller."""
        size = (8 * latent.shape[2], 8 * latent.shape[3])
        less = latent if scale == 1 else F.interpolate(latent, scale_factor=scale, mode="bilinear", antialias=True)
        return mask_of(self.picture(less), size)


def table_of_steps(bench: Bench, runs: Sequence[tuple[Tensor, list[tuple[float, Tensor]]]], finished: Sequence[Mask]) -> str:
    lines = table_head(["sigma", "found", "overlap", "least", f"found at {FIRST_SCALE:g}", "overlap", "least"])
    for step, (sigma, _) in enumerate(runs[0][1]):
        row = [f"{sigma:.2f}"]
        for scale in (1.0, FIRST_SCALE):
            row += cells([bench.mask(estimates[step][1], scale) for _, estimates in runs], finished)
        lines.append(table_line(row))
    return "\n".join(lines)


def table_of_noise(bench: Bench, latents: Sequence[Tensor], finished: Sequence[Mask]) -> str:
    lines = table_head(["sigma", "found", "overlap", "least"])
    for sigma in THROUGH:
        noisy = [latent + sigma * bench.noise[number : number + 1] for number, latent in enumerate(latents)]
        lines.append(table_line([f"{sigma:g}", *cells([bench.mask(one) for one in noisy], finished)]))
    return "\n".join(lines)


def table_of_samplers(bench: Bench, names: Iterable[str], finished: Sequence[Mask]) -> str:
    steady = pack_module("nodes.host.composition").STEADY
    rows = []
    for name in names:
        found = cells([bench.mask(bench.drawn(number, name)[0]) for number in range(len(finished))], finished)
        rows.append([f"`{name}`", *found, "yes" if name in steady else ""])
        print(table_line(rows[-1]), file=sys.stderr, flush=True)
    rows.sort(key=lambda row: row[3], reverse=True)
    return "\n".join([*table_head(["sampler", "found", "overlap", "least", "counts as Euler's"]), *map(table_line, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="ComfyUI's folders, and seen_faces.md with the tables")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samplers", nargs="*", help="names of ComfyUI's samplers; all but those that choose their steps; empty: none")
    arguments = parser.parse_args()
    one_thread()
    bench = Bench.opened(arguments.work_dir, arguments.pictures, arguments.steps)
    runs = [bench.drawn(number, "euler") for number in range(arguments.pictures)]
    latents = [latent for latent, _ in runs]
    finished = [bench.mask(latent) for latent in latents]
    if not any(mask is not None for mask in finished):
        raise FaceExprError("no picture shows a face.")
    known = importlib.import_module("comfy.samplers").KSampler.SAMPLERS
    names = [name for name in known if name not in (*ENDLESS, "euler")] if arguments.samplers is None else arguments.samplers
    told = [f"`python -m lab.benchmarks.seen_faces {shlex.join(sys.argv[1:])}`", table_of_steps(bench, runs, finished)]
    told += [table_of_noise(bench, latents, finished), *([table_of_samplers(bench, names, finished)] if names else [])]
    page = "\n\n".join(told) + "\n"
    replace_file(arguments.work_dir / "seen_faces.md", page.encode())
    print(page)


if __name__ == "__main__":
    main()
