"""What only the tests' ComfyUI has: a small untrained model of SD 1.5, a ControlNet for Mini, and its word on a graph that is not run."""

import importlib.util
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import execution
import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io
from server import PromptServer

SD15_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "num_classes": None,
    "adm_in_channels": None,
    "legacy": False,
    "dtype": torch.float32,
}


class ModelOfSD15(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestModelOfSD15", display_name="Tiny model of SD 1.5", category="tests", inputs=[], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        model = comfy.model_base.BaseModel(comfy.supported_models.SD15(SD15_UNET), device="cpu")
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu")))


class RandomControlNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestRandomControlNet",
            display_name="Random ControlNet",
            category="tests",
            inputs=[io.Model.Input("model")],
            outputs=[io.ControlNet.Output()],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        place = Path(__file__).resolve().parent.parent / "fusion_graphs.py"
        spec = importlib.util.spec_from_file_location("faceexpr_fusion_graphs", place)
        assert spec is not None and spec.loader is not None
        graphs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(graphs)
        return io.NodeOutput(graphs.random_controlnet(model))


@PromptServer.instance.routes.post("/faceexpr_test/validate")
async def validate(request: web.Request) -> web.Response:
    """What /prompt would refuse the graph for, and the outputs that it would run."""
    _, error, outputs, about_nodes = await execution.validate_prompt("validated", await request.json(), None)
    return web.json_response({"error": error, "nodes": about_nodes, "outputs": sorted(outputs)})


class TestNodes(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [ModelOfSD15, RandomControlNet]


async def comfy_entrypoint() -> TestNodes:
    return TestNodes()
