"""Thumbnails of workflows, made by their own graphs: `python scripts/workflow_thumbnails.py faceexpr_mini_change ...`.

Runs workflows/api/<name>.json in a ComfyUI of its own and joins the pictures that it previews and saves, up to COUNT of them, into
workflows/<name>.jpg.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path

from comfy_process import ComfyProcess, Graph, comfyui, copy_subject
from PIL import Image
from workflow_api import WORKFLOWS

HEIGHT = 320
COUNT = 3
MOST_BYTES = 60_000
SHOWN = ("PreviewImage", "SaveImage")


def thumbnail(comfy: ComfyProcess, graph: Graph) -> bytes:
    """A JPEG of the graph's pictures beside each other: the last one of each of the first nodes that show some."""
    outputs = comfy.run(graph)
    shown = [outputs[number]["images"][-1] for number, node in graph.items() if node["class_type"] in SHOWN][:COUNT]
    pictures = [Image.open(io.BytesIO(comfy.view(one))).convert("RGB") for one in shown]
    scaled = [picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), Image.Resampling.LANCZOS) for picture in pictures]
    page = Image.new("RGB", (sum(picture.width for picture in scaled), HEIGHT))
    left = 0
    for picture in scaled:
        page.paste(picture, (left, 0))
        left += picture.width
    for quality in range(90, 30, -10):
        stream = io.BytesIO()
        page.save(stream, "JPEG", quality=quality)
        if stream.tell() < MOST_BYTES:
            break
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="workflows, without .json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, comfyui(Path(home)) as comfy:
        copy_subject(comfy.input_dir)
        for name in arguments.names:
            graph: Graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
            (WORKFLOWS / f"{name}.jpg").write_bytes(thumbnail(comfy, graph))
            print(name)


if __name__ == "__main__":
    main()
