"""What `lab.card.sdxl_size` does in turn. Each phase returns a line of what was seen, or raises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from comfy_process import REPOSITORY, ComfyError, ComfyProcess, Graph, comfyui, comfyui_path, copy_subject, make_home

from faceexpr_core import mini
from faceexpr_core.lora.files import read_lora

from . import sdxl_files, sdxl_graphs
from .watched import Taken, available, watched

GIB = 1 << 30
ROOMY = 18 * GIB
"""With so much free, ComfyUI keeps the U-Net in bfloat16 on a CPU; else in float8, computing in float32 all the same."""
HOURS = 3 * 3600
DONOR = "another_person_happy.jpg"


@dataclass(frozen=True)
class Place:
    """Where the phases work, and on what: `device` cpu or cuda, pictures of `side` pixels."""

    folder: Path
    device: str
    side: int

    @classmethod
    def here(cls, folder: Path, side: int) -> Place:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(folder, device, side or (1024 if device == "cuda" else 256))

    @property
    def base(self) -> Path:
        return self.checkpoint("base")

    def checkpoint(self, kind: str) -> Path:
        return self.folder / "home" / "models" / "checkpoints" / f"sdxl_random_{kind}.safetensors"

    @property
    def pipeline(self) -> Path:
        return self.folder / "diffusers"

    @property
    def home(self) -> Path:
        return self.folder / "home"


Phase = Callable[[Place, Taken], str]


# Files


def write(place: Place, taken: Taken) -> str:
    with measured(taken):
        if not place.base.is_file():
            sdxl_files.write_base(place.base, comfyui_path())
    return f"{place.base.stat().st_size / 1e9:.2f} GB written"


def write_folder(place: Place, taken: Taken) -> str:
    with measured(taken):
        sdxl_files.write_folder(place.pipeline, place.base, comfyui_path())
    return f"{sum(file.stat().st_size for file in place.pipeline.rglob('*.safetensors')) / 1e9:.2f} GB written"


# ComfyUI


def loader_and_photos(place: Place, taken: Taken) -> str:
    outputs = in_comfyui(place, taken, sdxl_graphs.prepared(place.base.name, subject(place), place.side))
    report = str(outputs["report"]["text"][0]).splitlines()
    return f"photos: {report[0]}; a picture drawn in two steps: {look(place, outputs)}"


def train(preset: str, place: Place, taken: Taken) -> str:
    name = f"sdxl_{preset}"
    for old in (place.home / "models" / "loras").glob(f"{name}*"):
        old.unlink()
    changes: dict[str, Any] = {}
    if place.device == "cpu":
        changes = {"precision": "bf16", "gradient_checkpointing": "on", "accumulation": 1}
    graph = sdxl_graphs.trained(place.base.name, subject(place), place.side, preset, name, **changes)
    in_comfyui(place, taken, graph)
    return lora_told(place.home / "models" / "loras" / f"{name}.safetensors")


def lora_loaders(place: Place, taken: Taken) -> str:
    names = [f"sdxl_{preset}.safetensors" for preset in ("paper", "low-vram", "default")]
    lora = next(name for name in reversed(names) if (place.home / "models" / "loras" / name).is_file())
    graphs = [sdxl_graphs.drawn_with_lora(place.base.name, place.side, *which) for which in loaders(lora)]
    plain, stock, own = (pixels(place, outputs) for outputs in in_comfyui_each(place, taken, graphs))
    if difference(plain, stock) == 0:
        raise AssertionError("the LoRA changes nothing")
    if difference(stock, own) > 0.5:
        raise AssertionError(f"both loaders differ by {difference(stock, own):.2f} of 255")
    return f"{lora}: changes the picture by {difference(plain, stock):.1f} of 255; both loaders differ by {difference(stock, own):.2f}"


def loaders(lora: str) -> list[tuple[str, str]]:
    return [("", lora), ("LoraLoader", lora), ("FaceExprLoadLoRA", lora)]


def fusion(place: Place, taken: Taken) -> str:
    subject(place)
    wanted: list[dict[str, Any]] = [{}, {"fused": True}, {"fused": True, "donor": DONOR}]
    graphs = [sdxl_graphs.drawn(place.base.name, place.side, **one) for one in wanted]
    plain, words, photo = (pixels(place, outputs) for outputs in in_comfyui_each(place, taken, graphs))
    by_words, by_photo = difference(plain, words), difference(plain, photo)
    if not by_words or not by_photo:
        raise AssertionError(f"fusion changed the picture by {by_words:.2f} (words) and {by_photo:.2f} (photo) of 255")
    return f"the sampler's picture changes by {by_words:.1f} (words) and {by_photo:.1f} (photo) of 255"


def vae(dtype: str, place: Place, taken: Taken) -> str:
    """ComfyUI's own switch for the VAE's precision, with encoding in the node that learns and decoding."""
    graph = sdxl_graphs.drawn_with_lora(place.base.name, place.side, "", "")
    outputs = in_comfyui(place, taken, graph, f"--{dtype}-vae")
    return look(place, outputs)


def fp8(place: Place, taken: Taken) -> str:
    """A checkpoint whose U-Net is float8: drawn with, fused, and learned on."""
    path = place.checkpoint("fp8")
    if not path.is_file():
        sdxl_files.write_fp8(path, place.base)
    subject(place)
    fused = sdxl_graphs.drawn(path.name, place.side, fused=True)
    learned = sdxl_graphs.trained(path.name, "faceexpr_subject", place.side, "paper", "sdxl_fp8", precision="bf16", accumulation=1, steps=1)
    drawn, _ = in_comfyui_each(place, taken, [fused, learned])
    return f"{path.stat().st_size / 1e9:.2f} GB; drawn with fusion: {look(place, drawn)}; one step: {lora_told(newest_lora(place))}"


def velocity(place: Place, taken: Taken) -> str:
    """A checkpoint that says `v_pred` and `ztsnr`."""
    path = place.checkpoint("velocity")
    if not path.is_file():
        sdxl_files.write_velocity(path, place.base)
    subject(place)
    drawn = sdxl_graphs.drawn(path.name, place.side, fused=True)
    changes = {"precision": "bf16", "accumulation": 1, "steps": 1}
    learned = sdxl_graphs.trained(path.name, "faceexpr_subject", place.side, "paper", "sdxl_velocity", **changes)
    outputs, _ = in_comfyui_each(place, taken, [drawn, learned])
    found = read_lora(newest_lora(place))[1]
    used = json.loads(found["faceexpr.settings"])
    settings = {name: used.get(name) for name in ("prediction", "zero_snr")}
    if settings != {"prediction": "v_prediction", "zero_snr": True}:
        raise RuntimeError(f"the LoRA was learned as {settings}")
    path.unlink()
    return f"drawn with fusion: {look(place, outputs)}; one step: {lora_told(newest_lora(place))}; {settings}"


def refused(kind: str, place: Place, taken: Taken) -> str:
    """A checkpoint of another kind must be refused with a reason, by node and command line."""
    path = place.checkpoint(kind)
    if not path.is_file():
        sdxl_files.write_empty(path, kind, comfyui_path())
    graph = sdxl_graphs.trained(path.name, subject(place), place.side, "paper", f"sdxl_{kind}")
    if kind == "refiner":  # its CLIP is not SDXL's either: what the MODEL is must be said first
        graph["train"]["inputs"]["steps"] = 1
    try:
        in_comfyui(place, taken, graph)
    except ComfyError as reason:
        node = reason.exception_message
    else:
        raise AssertionError(f"the node trained on an {kind} checkpoint")
    command = generate_command(place, path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=HOURS, env=environment())
    if done.returncode == 0 or "Traceback" in done.stderr:
        raise AssertionError(f"the command line on an {kind} checkpoint: {done.stderr[-300:]}")
    path.unlink()
    return f"node: {node!r}; command: {done.stderr.strip().splitlines()[-1]!r}"


# The command line


def generate(where: str, place: Place, taken: Taken) -> str:
    model = place.base if where == "file" else place.pipeline
    pictures = in_command(taken, generate_command(place, model))
    return f"picture {Path(pictures.splitlines()[-1]).name}"


def command_train(where: str, place: Place, taken: Taken) -> str:
    model, output = place.base if where == "file" else place.pipeline, place.folder / f"command_{where}.safetensors"
    output.unlink(missing_ok=True)
    options = ["--preset=low-vram", "--steps=2", "--learning_rate=1e-3", "--ema=0", f"--resolution={place.side}", "--resume=off"]
    if place.device == "cpu":
        options += ["--precision=bf16", "--accumulation=1", "--device=cpu"]
    words = [f"--photos={mini.subject_path()}", "--trigger=ohwx", f"--class_word={sdxl_graphs.CLASS}", f"--output={output}"]
    in_command(taken, [*FACEEXPR, "train", f"--model={model}", *words, *options])
    return lora_told(output)


FACEEXPR = (sys.executable, "-m", "faceexpr_core.cli")


def generate_command(place: Place, model: Path) -> list[str]:
    sizes = [f"--width={place.side}", f"--height={place.side}", "--steps=2", "--expression=happy"]
    where = [f"--output_dir={place.folder / 'pictures'}", f"--device={place.device}"]
    dtype = ["--dtype=bfloat16"] if place.device == "cpu" else []
    return [*FACEEXPR, "generate", f"--model={model}", f"--prompt={sdxl_graphs.PROMPT}", *sizes, *where, *dtype]


PHASES: Mapping[str, Phase] = {
    "write": write,
    "loader and photos": loader_and_photos,
    **{f"train {preset}": partial(train, preset) for preset in ("paper", "low-vram", "default")},
    "lora loaders": lora_loaders,
    "sampler and fusion": fusion,
    "write diffusers": write_folder,
    "generate, file": partial(generate, "file"),
    "generate, diffusers": partial(generate, "folder"),
    "train, file": partial(command_train, "file"),
    "train, diffusers": partial(command_train, "folder"),
    "fp8 weights": fp8,
    "v-prediction": velocity,
    **{f"{kind} refused": partial(refused, kind) for kind in ("inpaint", "refiner")},
    **{f"vae {dtype}": partial(vae, dtype) for dtype in ("fp16", "bf16", "fp32")},
}


NEEDED_ON_A_CPU: Mapping[str, float] = {
    "write": 2,
    "write diffusers": 3,
    "train paper": 12,
    "train low-vram": 12,
    "train default": 14,
    "fp8 weights": 12,
    "v-prediction": 12,
    "train, file": 13,
    "train, diffusers": 13,
    "generate, file": 9,
    "generate, diffusers": 9,
}
"""GiB that must be free before a phase starts, 7 for the others; a card does with SPARE."""
OTHERS, SPARE = 7.0, 4.0


def needed(place: Place, name: str) -> float:
    return NEEDED_ON_A_CPU.get(name, OTHERS) if place.device == "cpu" else SPARE


# How they are run


@contextmanager
def measured(taken: Taken, process: int = 0) -> Iterator[None]:
    """Watch a process (this one: 0) and leave what it took in `taken`. Raises OutOfMemory where it was ended for that."""
    found = Taken()
    try:
        with watched(process or os.getpid()) as found:
            yield
    except Exception as reason:
        if found.ended:
            raise OutOfMemory(f"ended at {found.host / GIB:.1f} GiB: the machine had no memory left for it") from reason
        raise
    finally:
        for one in fields(Taken):
            setattr(taken, one.name, getattr(found, one.name))


class OutOfMemory(RuntimeError):
    """The phase was ended before the system ended another process."""


def in_comfyui(place: Place, taken: Taken, graph: Graph, *options: str) -> dict[str, Any]:
    return in_comfyui_each(place, taken, [graph], *options)[0]


def in_comfyui_each(place: Place, taken: Taken, graphs: list[Graph], *options: str) -> list[dict[str, Any]]:
    """The outputs of graphs run one after the other in a ComfyUI of their own."""
    memory = ("--bf16-unet",) if available() > ROOMY else ("--fp8_e4m3fn-unet",)
    device = ("--cpu", *memory) if place.device == "cpu" else ()
    with comfyui(place.home, (*device, *options)) as running, measured(taken, running_process(running)):
        return [running.run(graph, timeout=HOURS) for graph in graphs]


def running_process(running: ComfyProcess) -> int:
    return running._process.pid


def in_command(taken: Taken, command: list[str]) -> str:
    """What the command printed. Raises with its last words where it failed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        with measured(taken, process.pid):
            output, errors = process.communicate(timeout=HOURS)
        if process.returncode:
            raise RuntimeError(errors[-1500:])
        return output


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": path}


def subject(place: Place) -> str:
    make_home(place.home)
    return copy_subject(place.home / "input")


def pixels(place: Place, outputs: dict[str, Any]) -> Any:
    """float64 [H, W, 3], 0 to 255."""
    import numpy as np
    from PIL import Image

    image = outputs["save"]["images"][0]
    return np.asarray(Image.open(BytesIO((place.home / "output" / image["subfolder"] / image["filename"]).read_bytes())), np.float64)


def difference(first: Any, second: Any) -> float:
    return float(abs(first - second).mean())


def look(place: Place, outputs: dict[str, Any]) -> str:
    """Raises where the picture is one colour, as one of NaNs is."""
    picture = pixels(place, outputs)
    if picture.std() < 0.5:
        raise AssertionError(f"the picture is flat: mean {picture.mean():.1f}, spread {picture.std():.2f}")
    return f"{picture.shape[1]} x {picture.shape[0]}, spread {picture.std():.0f}"


def newest_lora(place: Place) -> Path:
    return max((place.home / "models" / "loras").glob("*.safetensors"), key=lambda path: path.stat().st_mtime)


def lora_told(path: Path) -> str:
    """Raises where nothing was learned."""
    import torch

    state, metadata = read_lora(path)
    ups = [value.float() for key, value in state.items() if key.endswith("lora_up.weight")]
    if not all(bool(torch.isfinite(up).all()) for up in ups) or not any(float(up.abs().max()) > 0 for up in ups):
        raise AssertionError(f"{path.name} holds no finite change")
    read = sum("lora_te" in key for key in state) // 3
    return f"{metadata.get('faceexpr.steps', '?')} steps, {len(ups)} layers ({read} of text encoders), {path.stat().st_size / 1e6:.0f} MB"
