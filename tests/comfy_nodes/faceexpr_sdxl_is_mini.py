"""For the tests of SDXL's templates in the page: Mini in the checkpoint's place, a ControlNet of random weights, pictures of Mini's size.

The graphs stay as the page opened them; only what ComfyUI's own loaders give them is small.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

nodes: Any = importlib.import_module("nodes")  # ComfyUI's
MINI_SIDE, SDXL_SIDE = 192, 1024


def load_checkpoint(self: Any, ckpt_name: str) -> tuple[Any, ...]:
    return tuple(nodes.NODE_CLASS_MAPPINGS["FaceExprLoadMini"].execute().args)


def load_controlnet(self: Any, control_net_name: str) -> tuple[Any]:
    place = Path(__file__).resolve().parent.parent / "fusion_graphs.py"
    spec = importlib.util.spec_from_file_location("faceexpr_fusion_graphs", place)
    assert spec is not None and spec.loader is not None
    graphs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(graphs)
    return (graphs.random_controlnet(load_checkpoint(self, "")[0]),)


def generate(self: Any, width: int, height: int, batch_size: int = 1) -> tuple[Any]:
    width, height = (side * MINI_SIDE // SDXL_SIDE // 16 * 16 for side in (width, height))
    return tuple(_generate(self, width, height, batch_size))


_generate = nodes.EmptyLatentImage.generate
nodes.CheckpointLoaderSimple.load_checkpoint = load_checkpoint
nodes.ControlNetLoader.load_controlnet = load_controlnet
nodes.EmptyLatentImage.generate = generate
NODE_CLASS_MAPPINGS: dict[str, Any] = {}
