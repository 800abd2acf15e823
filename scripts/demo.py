"""`make demo`: one person learned from six photos in a real ComfyUI, drawn with expressions of every kind, measured, on one sheet.

Writes output/demo/sheet.png, output/demo/report.json, the LoRA and ComfyUI's log, and nothing else.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import demo_sheet
import numpy as np
from comfy_process import REPOSITORY, ComfyProcess, Graph, Progress, comfyui, copy_subject, device_options
from demo_graph import ARMS, NEUTRAL, ROWS, STRONGER, drawing_graph, learning_graph
from demo_measure import measure
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from faceexpr_core import mini
from faceexpr_core.faces.images import read_rgb

OUTPUT = REPOSITORY / "output" / "demo"
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
        demo_sheet.draw_sheet(photos, donor_photos(), pictures, report).save(OUTPUT / "sheet.png")
    report["seconds"] = {**clock.seconds, "total": round(sum(clock.seconds.values()), 1)}
    (OUTPUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    tell(console, report)


def draw(home: Path, clock: Clock, console: Console) -> tuple[list[Picture], dict[str, dict[str, Picture]]]:
    """Run the quick start in ComfyUI. Returns the photos, and for each row of the sheet its pictures by name: uint8 [H, W, 3]."""
    with ExitStack() as stack:
        with clock.phase("start"), console.status("Starting ComfyUI"):
            comfy = stack.enter_context(comfyui(home, device_options()))
        folder = copy_subject(comfy.input_dir)
        photos = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((comfy.input_dir / folder).glob("*.png"))]
        with clock.phase("learn"):
            run(comfy, learning_graph(folder), f"Learning a face from {len(photos)} photos", console)
        with clock.phase("draw"):
            shown = run(comfy, drawing_graph(folder), "Drawing expressions", console)
        pictures = {row: {name: picture(comfy, shown[f"{row} {name}"]) for name in names} for row, names in ROWS.items()}
    return photos, pictures


def donor_photos() -> list[Picture]:
    """The stranger at rest and with the expression."""
    return [read_rgb(path) for path in sorted(mini.donor_path().glob("*.jpg"), key=lambda path: NEUTRAL not in path.stem)]


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


def tell(console: Console, report: Mapping[str, Any]) -> None:
    table = Table(box=None, padding=(0, 2))
    for heading in ("", "as asked", "likeness"):
        table.add_column(heading)
    for arm, total in report["totals"].items():
        table.add_row(ARMS[arm], f"{total['expressions_right']} of {total['cells']}", f"{total['identity']:.2f}")
    console.print(table)
    console.print("Likeness: 0 a stranger, 1 the same person.")
    console.print(f"Asked for more and more of {STRONGER}: rank correlation of what is measured {report['strength']['rho']:.2f}.")
    sheet = (OUTPUT / "sheet.png").relative_to(REPOSITORY)
    console.print(f"{report['seconds']['total']:.0f} seconds. Look at {sheet}; the figures are in report.json.")


if __name__ == "__main__":
    main()
