"""The trainers of `trainer_cost`, each as its user runs it, in a process of its own: `python -m lab.benchmarks.trainer_runs FILE.json`.

`faceexpr`: the command line that accelerate launches (no moving average). `faceexpr shipped`: `faceexpr train` with the preset default but
for prior, crafting, convolutions and text encoders. `low-vram`: that preset whole. `diffusers`: its SDXL DreamBooth LoRA script.
`comfyui`: its Train LoRA node.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import runpy
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from faceexpr_core import mini

from .comfyui_here import comfyui_nodes, load_model
from .trainer_probe import Probe

PROMPT = "a photo of ohwx person"
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Task:
    """A training: `trainer` one of TRAINERS, `model` a diffusers folder, `photos` squares of `side` pixels, `precision` no, bf16 or fp16.

    `work` is a folder for what it writes, `script` the file of diffusers' script; `threads` 0 leaves their number to torch.
    `checkout` is the folder whose `faceexpr_core` trains, "" this one.
    """

    trainer: str
    model: str
    photos: str
    work: str
    script: str = ""
    side: int = mini.RESOLUTION
    rank: int = 16
    batch: int = 1
    steps: int = 60
    precision: str = "no"
    checkpointing: bool = False
    device: str = "cpu"
    threads: int = 0
    checkout: str = ""


def faceexpr(task: Task) -> None:
    _module("faceexpr_core.train", [*_paper_flags(task), "--report_to", "none", "--device", task.device])


def diffusers_script(task: Task) -> None:
    # an epoch's last batch is smaller unless the photos are repeated so
    _script(task.script, [*_paper_flags(task), "--repeats", str(task.batch), "--num_validation_images", "0"])


def faceexpr_shipped(task: Task) -> None:
    checkpointing = "--gradient_checkpointing" if task.checkpointing else "--no-gradient_checkpointing"
    options = ["--preset", "default", "--prior", "off", "--crafting_weight", "0", "--accumulation", "1", "--batch_size", str(task.batch)]
    same = ["--no-convolutions", "--no-train_text_encoder"]  # the same layers as the others
    _faceexpr_train(
        task, [*options, *same, "--rank", str(task.rank), "--optimizer", "adamw", "--precision", _own(task.precision), checkpointing]
    )


def low_vram(task: Task) -> None:
    _faceexpr_train(task, ["--preset", "low-vram"])


def comfyui_node(task: Task) -> None:
    """The node as ComfyUI's executor calls it, in inference mode; what comes before it by ComfyUI's own nodes and loaders."""
    import torch

    comfy = comfyui_nodes(Path(task.work) / "comfyui", task.device == "cpu")
    with torch.inference_mode():
        model, clip, vae = load_model(Path(task.model))
        photos = torch.cat([_picture(path) for path in sorted(Path(task.photos).glob("*.png"))])
        latents = comfy.VAEEncode().encode(vae, photos)[0]["samples"]
        positive = comfy.CLIPTextEncode().encode(clip, PROMPT)[0]
        given = {
            "model": model,
            "positive": positive,
            "batch_size": task.batch,
            "steps": task.steps,
            "grad_accumulation_steps": 1,
            "learning_rate": LEARNING_RATE,
            "rank": task.rank,
            "optimizer": "AdamW",
            "loss_function": "MSE",
            "seed": 0,
            "training_dtype": _own(task.precision),
            "lora_dtype": _own(task.precision),
            "algorithm": "LoRA",
            "gradient_checkpointing": task.checkpointing,
            "existing_lora": "[None]",
        }
        node = importlib.import_module("comfy_extras.nodes_train").TrainLoraNode
        # one by one: version 0.3.75 fails on a batch
        node.execute(latents=[{"samples": latent[None]} for latent in latents], **{name: [value] for name, value in given.items()})


TRAINERS: Mapping[str, Callable[[Task], None]] = MappingProxyType(
    {
        "faceexpr": faceexpr,
        "faceexpr shipped": faceexpr_shipped,
        "diffusers": diffusers_script,
        "comfyui": comfyui_node,
        "low-vram": low_vram,
    }
)


def _own(precision: str) -> str:
    return "fp32" if precision == "no" else precision


def _paper_flags(task: Task) -> list[str]:
    flags = {
        "pretrained_model_name_or_path": task.model,
        "instance_data_dir": task.photos,
        "instance_prompt": PROMPT,
        "output_dir": f"{task.work}/out",
        "resolution": task.side,
        "rank": task.rank,
        "train_batch_size": task.batch,
        "gradient_accumulation_steps": 1,
        "max_train_steps": task.steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "mixed_precision": task.precision,
        "seed": 0,
    }
    checkpointing = ["--gradient_checkpointing"] if task.checkpointing else []
    return [*(part for name, value in flags.items() for part in (f"--{name}", str(value))), "--center_crop", *checkpointing]


def _faceexpr_train(task: Task, options: list[str]) -> None:
    photos = ["--photos", task.photos, "--framing", "whole picture", "--keep_small_faces", "--keep_duplicates", "--class_word", "person"]
    run = ["--output", f"{task.work}/lora.safetensors", "--resolution", str(task.side), "--steps", str(task.steps), "--device", task.device]
    _module("faceexpr_core.cli", ["train", "--model", task.model, *photos, *run, *options])


def _module(name: str, arguments: list[str]) -> None:
    sys.argv = [name, *arguments]
    _until_exit(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True))


def _script(path: str, arguments: list[str]) -> None:
    sys.argv = [path, *arguments]
    sys.path[0] = str(Path(path).parent)
    _until_exit(lambda: runpy.run_path(path, run_name="__main__"))


def _until_exit(program: Callable[[], object]) -> None:
    try:
        program()
    except SystemExit as end:
        if end.code not in (None, 0):
            raise


def _picture(path: Path) -> Any:
    """float32 [1, H, W, 3] in 0..1, as ComfyUI's Load Image gives it."""
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(path) as opened:
        return torch.from_numpy(np.array(opened.convert("RGB"))).float()[None] / 255


def main() -> None:
    """Run the task in the file named first; the measures go to the file named second."""
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    result = Path(sys.argv[2])
    if task.threads:
        import torch

        torch.set_num_threads(task.threads)
    probe = Probe(task.steps, task.device)
    TRAINERS[task.trainer](task)
    probe.write(result)


def write_task(task: Task, path: Path) -> None:
    path.write_text(json.dumps(asdict(task)))


if __name__ == "__main__":
    main()
