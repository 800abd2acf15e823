"""What fusion costs: time beside plain sampling in one run, and the size of the features, here and at SDXL's size.

    python -m lab.benchmarks.fusion_cost --arms cross_attention:layers=all/decoder skip
    python -m lab.benchmarks.fusion_cost --model sd_xl_base_1.0.safetensors --side 1024 --device cuda

Ways: plain sampling; strength 0; cached (features made before); made (in the run, as a sampler does that is given none); again (another
seed with the same texts). `--count` draws that many pictures at once.
Each way is timed in turn, several times, and its quickest counts: processor time on a CPU, wall time elsewhere.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from faceexpr_core import mini, text
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.diffusers_host.donors import draw_donors, own_donors
from faceexpr_core.diffusers_host.fusion import contexts, places_of, record
from faceexpr_core.errors import FaceExprError
from faceexpr_core.fusion.donor_faces import location_of
from faceexpr_core.fusion.donors import steps_in_window
from faceexpr_core.fusion.grids import Grid, grid_mask
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import CONTEXT_SITE, FusionSettings, select_places

from .arms import parse_arms
from .tools import close, meters
from .workers import one_thread

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

MEGABYTE = 2**20
HALF = 2
"""Bytes of a number in the bank."""
SDXL_SIDE = 1024
DEFAULT_ARMS = ("cross_attention_difference:layers=all/decoder", "cross_attention:layers=all/decoder", "skip", "paper")


# Time


@dataclass(frozen=True)
class Cost:
    """The quickest of several: `seconds`, and how many rows the U-Net was called with."""

    seconds: float
    rows: int


@contextmanager
def _counting(unet: Any) -> Iterator[list[int]]:
    """Rows of every call of the U-Net."""
    rows: list[int] = []
    handle = unet.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0])))
    try:
        yield rows
    finally:
        handle.remove()


def times(pipe: StableDiffusionXLPipeline, ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, Cost]:
    """Each way in turn, `repeats` rounds after one to warm up."""
    found: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            with _counting(pipe.unet) as rows:
                started = _clock(pipe)
                way()
                found[name].append(Cost(_clock(pipe) - started, sum(rows)))
    return {name: min(costs[1:], key=lambda cost: cost.seconds) for name, costs in found.items()}


def _clock(pipe: StableDiffusionXLPipeline) -> float:
    if pipe.device.type == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if pipe.device.type == "cpu" else time.perf_counter()


def ways_of(
    pipe: StableDiffusionXLPipeline, prompt: text.ExpressionPrompt, settings: FusionSettings, run: Run, count: int
) -> dict[str, Callable[[], object]]:
    """Name -> what is timed: `count` pictures in one batch."""
    generate: Callable[..., Tensor] = partial(_generate, pipe, prompt, run, count=count)
    own, _ = own_donors(pipe, prompt, settings, run, count)
    again: Callable[[], object] = partial(_generate, pipe, prompt, replace(run, seed=run.seed + 1), own, count)
    bank = draw_donors(pipe, prompt, settings, run, keep=_keep(settings)).bank
    return {
        "plain": generate,
        "strength 0": partial(generate, fusion=(bank, replace(settings, strength=0.0))),
        "cached": partial(generate, fusion=(bank, settings)),
        "made": lambda: generate(fusion=own_donors(pipe, prompt, settings, run, count)[0]),
        **({"again": again} if settings.site == CONTEXT_SITE else {}),  # at other sites features are of one noise
    }


def _generate(pipe: StableDiffusionXLPipeline, prompt: text.ExpressionPrompt, run: Run, fusion: Any = None, count: int = 1) -> Tensor:
    return sampling.generate(pipe, prompt, run, count=count, fusion=fusion)


def _keep(settings: FusionSettings) -> str:
    return "all" if settings.mode == "paper" else "face"


# Size


@dataclass(frozen=True)
class Place:
    """One place of a U-Net: its grid and channels (for keys and values `grid` is (1, tokens))."""

    grid: Grid
    channels: int


@cache
def sdxl_places(site: str, side: int = SDXL_SIDE) -> dict[str, Place]:
    """The places of SDXL's own U-Net for pictures of `side` pixels, by running it without numbers (meta device)."""
    from diffusers import UNet2DConditionModel

    config = json.loads((pipeline.SDXL_CONFIGS / "unet" / "config.json").read_text())
    found: dict[str, Place] = {}

    def add(place: str, features: Tensor, grid: Grid) -> None:
        found[place] = Place(grid, features.shape[2] if features.dim() == 3 else features.shape[1])

    with torch.device("meta"), torch.no_grad():
        unet = UNet2DConditionModel.from_config(config)
        hidden = torch.zeros(1, 77, config["cross_attention_dim"])
        if site == CONTEXT_SITE:
            return {place: Place((1, 77), keys.shape[2]) for place, keys, _ in contexts(unet, places_of(unet, site), hidden)}
        pooled = torch.zeros(1, config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"])
        with record(unet, site, places_of(unet, site), add):
            latent = torch.zeros(1, 4, side // 8, side // 8)
            unet(latent, torch.zeros(1), hidden, added_cond_kwargs={"text_embeds": pooled, "time_ids": torch.zeros(1, 6)})
    return found


def predicted_bytes(settings: FusionSettings, sigmas: Sequence[float], mask: Tensor | None, side: int = SDXL_SIDE) -> int:
    """Bytes of a twin bank of SDXL: two twins at every sigma of the window, tokens under `mask` [H, W] (None: all), half precision."""
    places = sdxl_places(settings.site, side)
    chosen = [places[name] for name in select_places(settings.site, settings.layers, places)]
    if settings.site == CONTEXT_SITE:
        return sum(4 * HALF * place.grid[1] * place.channels for place in chosen)
    levels = len(steps_in_window(sigmas, settings.window))
    return levels * sum(HALF * place.channels * _numbers(place, mask) for place in chosen)


def _numbers(place: Place, mask: Tensor | None) -> int:
    """Tokens of both twins that are kept at a place, with the mean of all where only some are."""
    every = place.grid[0] * place.grid[1]
    if mask is None:
        return 2 * every
    return 2 * int((grid_mask(mask, place.grid) > 0).sum()) + 1


def face_place(pipe: StableDiffusionXLPipeline, run: Run) -> Tensor | None:
    """Where an expression acts on a portrait that the model draws. Raises FaceExprError where it draws no face."""
    prompt = text.build_prompts("a photo of a woman", text.expression_terms("neutral"), partial(encoding.count_tokens, pipe))
    face = meters().expression.face(_generate(pipe, prompt, run)[0].numpy())
    if face is None:
        raise FaceExprError(f"the model drew no face with seed {run.seed}; choose another --seed.")
    return location_of(face, run.height, run.width, ()).mask


# Tables


def table(arguments: argparse.Namespace) -> str:
    """Markdown: times and sizes of every arm."""
    dtype = torch.float32 if arguments.device == "cpu" else torch.float16
    pipe = pipeline.load_pipeline(arguments.model, dtype, arguments.device)
    if arguments.lora is not None:
        from faceexpr_core.commands.loras import load_loras

        load_loras(pipe, [arguments.lora], 1.0)
    run = Run(seed=arguments.seed, steps=arguments.steps, cfg=arguments.cfg, width=arguments.side, height=arguments.side)
    count = partial(encoding.count_tokens, pipe)
    prompt = text.build_prompts("a photo of a woman", text.expression_terms(arguments.expression), count)
    arms = {arm.name: arm.fusion for arm in parse_arms(arguments.arms) if arm.fusion is not None}
    lines = ["| arm | plain, s | strength 0 | cached | made | again | U-Net rows: cached | made |", "|---|---|---|---|---|---|---|---|"]
    for name, settings in arms.items() if arguments.repeats else ():
        found = times(pipe, ways_of(pipe, prompt, settings, run, arguments.count), arguments.repeats)
        plain = found.pop("plain")
        ratios = [f"{cost.seconds / plain.seconds:.2f}x" for cost in found.values()] + ["-"] * ("again" not in found)
        rows = [f"{found[way].rows / plain.rows:.2f}x" for way in ("cached", "made")]
        lines.append(f"| `{name}` | {' | '.join([f'{plain.seconds:.2f}', *ratios, *rows])} |")
    if not arguments.times_only:
        lines += ["", *_sizes(pipe, prompt, arms, run)]
    return "\n".join([f"`python -m lab.benchmarks.fusion_cost {shlex.join(sys.argv[1:])}`", "", *lines]) + "\n"


def _sizes(pipe: StableDiffusionXLPipeline, prompt: text.ExpressionPrompt, arms: dict[str, FusionSettings], run: Run) -> list[str]:
    sigmas, area = sampling.schedule_of(pipe, run), face_place(pipe, run)
    lines = [
        f"| arm | sigmas of {run.steps} | here, MB: all | face | SDXL at {SDXL_SIDE} px, MB: all | face |",
        "|---|---|---|---|---|---|",
    ]
    for name, settings in arms.items():
        own = [draw_donors(pipe, prompt, settings, run, keep=keep).bank.nbytes for keep in ("all", "face")]
        sizes = [*own, *(predicted_bytes(settings, sigmas, mask) for mask in (None, area))]
        levels = 0 if settings.site == CONTEXT_SITE else len(steps_in_window(sigmas, settings.window))
        lines.append(f"| `{name}` | {levels} | {' | '.join(f'{size / MEGABYTE:.1f}' for size in sizes)} |")
    share = 0.0 if area is None else float((area > 0).float().mean())
    return [*lines, "", f"Where the expression acts covers {share:.0%} of the portrait."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="'mini', a diffusers folder, or an SDXL checkpoint file")
    parser.add_argument("--lora", type=Path, help="a LoRA on top, which is off while donors are made")
    parser.add_argument("--arms", nargs="+", default=list(DEFAULT_ARMS), help="as in benchmarks.fusion_sites")
    parser.add_argument("--expression", default="happy")
    parser.add_argument("--repeats", type=int, default=5, help="0 for sizes alone")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--side", type=int, default=mini.RESOLUTION, help="pixels of the pictures drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1, help="pictures in one batch")
    parser.add_argument("--times_only", action="store_true", help="no sizes")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    one_thread()
    try:
        print(table(arguments))
    except FaceExprError as reason:
        sys.exit(f"fusion_cost: {reason}")
    finally:
        close()


if __name__ == "__main__":
    main()
