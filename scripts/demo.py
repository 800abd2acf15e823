"""`make demo`: one person learned from six photos in a real ComfyUI, drawn with eight expressions in three ways, measured, on one sheet.

Writes output/demo/sheet.png, output/demo/report.json, the LoRA and ComfyUI's log, and nothing else.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import demo_sheet
import numpy as np
from comfy_process import REPOSITORY, ComfyProcess, Graph, Progress, comfyui, copy_subject, device_options, models_path
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from workflow_api import with_sources

from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.measure.expression import CLASSES, ExpressionMeter, measured_as
from faceexpr_core.measure.identity import IdentityMeter, normalised

OUTPUT = REPOSITORY / "output" / "demo"
QUICK_START = REPOSITORY / "workflows" / "api" / "faceexpr_mini_quick_start.json"
EXPRESSIONS = ("happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt", "shocked")
ARMS = {
    "without_lora": "Expression in the prompt, without the LoRA",
    "with_lora": "Expression in the prompt, with the LoRA",
    "fusion": "Expression by fusion, with the LoRA",
}
NEUTRAL = "neutral"
NOTE = (
    "Expression: nearest class of the change of MediaPipe's blendshapes from the neutral picture of the same noise; shocked is no class of "
    "its own and counts as surprised. Identity: SFace similarity to the photos, 0 = another person, 1 = another photo of the same person, "
    "null = no face found."
)
Picture = NDArray[np.uint8]


@dataclass
class Clock:
    """Seconds per phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)


def main() -> None:
    console = Console()
    clock = Clock()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="faceexpr-demo-") as home:
        try:
            photos, pictures = draw(Path(home), clock, console)
        finally:
            shutil.copy(Path(home) / "comfyui.log", OUTPUT / "comfyui.log")
        for lora in (Path(home) / "models" / "loras").rglob("*.safetensors"):
            shutil.copy(lora, OUTPUT / lora.name)
    with clock.phase("measure"):
        report = measure(photos, pictures)
    with clock.phase("sheet"):
        demo_sheet.draw_sheet(photos, pictures, report, EXPRESSIONS, ARMS).save(OUTPUT / "sheet.png")
    report["seconds"] = {**clock.seconds, "total": round(sum(clock.seconds.values()), 1)}
    (OUTPUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    tell(console, report)


def draw(home: Path, clock: Clock, console: Console) -> tuple[list[Picture], dict[str, dict[str, Picture]]]:
    """Run the quick start in ComfyUI. Returns the photos, and for each arm the picture of each expression: uint8 [H, W, 3]."""
    quick_start: Graph = json.loads(QUICK_START.read_text())
    with ExitStack() as stack:
        with clock.phase("start"), console.status("Starting ComfyUI"):
            comfy = stack.enter_context(comfyui(home, device_options()))
        folder = copy_subject(comfy.input_dir)
        photos = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((comfy.input_dir / folder).glob("*.png"))]
        with clock.phase("learn"):
            run(comfy, learning_graph(quick_start, folder), f"Learning a face from {len(photos)} photos", console)
        with clock.phase("draw"):
            shown = run(comfy, drawing_graph(quick_start, folder), f"Drawing {len(EXPRESSIONS)} expressions", console)
        pictures = {arm: {name: picture(comfy, shown[f"{arm} {name}"]) for name in (NEUTRAL, *EXPRESSIONS)} for arm in ARMS}
    return photos, pictures


def only(graph: Graph, class_type: str) -> str:
    """The id of the one node of a type, or of the first where there are several alike."""
    return next(node_id for node_id, node in graph.items() if node["class_type"] == class_type)


def learning_graph(quick_start: Graph, folder: str) -> Graph:
    """The quick start up to the trained LoRA, its loss curve shown."""
    train, photos = only(quick_start, "FaceExprTrainLoRA"), only(quick_start, "FaceExprLoadSubjectImages")
    graph = with_sources(quick_start, train)
    graph[photos] = {**graph[photos], "inputs": {**graph[photos]["inputs"], "folder": folder}}
    graph["curve"] = {"class_type": "PreviewImage", "inputs": {"images": [train, 2]}}
    return graph


def drawing_graph(quick_start: Graph, folder: str) -> Graph:
    """The quick start with its one expression replaced by all, each drawn in every arm from the same noise.

    The fusion arm's neutral picture is that of the LoRA alone: there is nothing to fuse.
    """
    graph = learning_graph(quick_start, folder)
    train = only(quick_start, "FaceExprTrainLoRA")
    trained, base = [train, 0], graph[train]["inputs"]["model"]
    encode, sampler = only(quick_start, "FaceExprExpressionTextEncode"), only(quick_start, "FaceExprSampler")
    decode = only(quick_start, "VAEDecode")
    graph = with_sources(quick_start, *(quick_start[sampler]["inputs"][name][0] for name in ("negative", "latent_image"))) | graph
    for name in (NEUTRAL, *EXPRESSIONS):
        graph[f"text {name}"] = changed(quick_start[encode], expression=name)
        donors = {"base_model": base, "neutral": [f"text {name}", 1], "vae": quick_start[decode]["inputs"]["vae"]}
        fusion = {} if name == NEUTRAL else donors
        for arm, inputs in zip(ARMS, ({"model": base}, {"model": trained}, {"model": trained, **fusion}), strict=True):
            sample = f"sample {arm} {name}"
            graph[sample] = changed(quick_start[sampler], positive=[f"text {name}", 0], **inputs)
            graph[f"decode {arm} {name}"] = changed(quick_start[decode], samples=[sample, 0])
            graph[f"{arm} {name}"] = {
                "class_type": "SaveImage",
                "inputs": {"images": [f"decode {arm} {name}", 0], "filename_prefix": f"{arm}/{name}"},
            }
    return graph


def changed(node: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {"class_type": node["class_type"], "inputs": {**node["inputs"], **inputs}}


def run(comfy: ComfyProcess, graph: Graph, title: str, console: Console) -> dict[str, dict[str, Any]]:
    """Run a graph with a bar that counts the steps of its nodes."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    totals: dict[str, tuple[int, int]] = {}
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(title, total=None)

        def on_progress(step: Progress) -> None:
            totals[step.node_id] = (step.value, step.total)
            known = len({json.dumps(node) for name, node in graph.items() if name.startswith("sample ")}) or 1  # equal nodes run once
            total = max(sum(total for _, total in totals.values()), step.total * known)
            bar.update(task, completed=sum(value for value, _ in totals.values()), total=total)

        return comfy.run(graph, on_progress)


def picture(comfy: ComfyProcess, shown: dict[str, Any]) -> Picture:
    return np.asarray(Image.open(io.BytesIO(comfy.view(shown["images"][0]))).convert("RGB"))


def measure(photos: Sequence[Picture], pictures: Mapping[str, Mapping[str, Picture]]) -> dict[str, Any]:
    """Expression of each cell against the neutral picture of the same noise, and its likeness to the photos; then the totals."""
    folders = [models_path()]
    cells = []
    with FaceDetector(folders) as detector:
        expression_meter, identity_meter = ExpressionMeter(folders, detector), IdentityMeter(folders, detector)
        person = identity_meter.reference(photos)
        for arm, drawn in pictures.items():
            neutral = expression_meter.face(drawn[NEUTRAL])
            for asked in EXPRESSIONS:
                reading = expression_meter.measure(drawn[asked], neutral)
                similarity = identity_meter.similarity(drawn[asked], person)
                cells.append(
                    {
                        "arm": arm,
                        "asked": asked,
                        "counts_as": measured_as(asked),
                        "measured": reading.expression,
                        "right": reading.hits(asked),
                        "intensity": round(reading.intensity, 3),
                        "identity": None if similarity is None else round(normalised(similarity), 3),
                        "sface_cosine": None if similarity is None else round(similarity, 3),
                    }
                )
    return {
        "model": "FaceExpr Mini",
        "photos": len(photos),
        "classes": list(CLASSES),
        "note": NOTE,
        "cells": cells,
        "totals": {arm: totals([cell for cell in cells if cell["arm"] == arm]) for arm in pictures},
    }


def totals(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over the cells of one arm; a cell without a face counts as likeness 0."""
    return {
        "cells": len(cells),
        "faces_found": sum(cell["identity"] is not None for cell in cells),
        "expressions_right": sum(cell["right"] for cell in cells),
        "identity": round(sum(cell["identity"] or 0.0 for cell in cells) / len(cells), 3),
    }


def tell(console: Console, report: Mapping[str, Any]) -> None:
    table = Table(box=None, padding=(0, 2))
    for heading in ("", "as asked", "likeness"):
        table.add_column(heading)
    for arm, total in report["totals"].items():
        table.add_row(ARMS[arm], f"{total['expressions_right']} of {total['cells']}", f"{total['identity']:.2f}")
    console.print(table)
    console.print("Likeness: 0 a stranger, 1 the same person.")
    sheet = (OUTPUT / "sheet.png").relative_to(REPOSITORY)
    console.print(f"{report['seconds']['total']:.0f} seconds. Look at {sheet}; the figures are in report.json.")


if __name__ == "__main__":
    main()
