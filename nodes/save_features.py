"""Expression features into a file."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..faceexpr_core.fusion.recorder import save_bank
from .fusion_inputs import FEATURES
from .host.folders import features_folders, file_in
from .host.widgets import name_within, shown_report


class SaveFeatures(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprSaveFeatures",
            display_name="Save Features",
            category="FaceExpr",
            description="Saves expression features in models/faceexpr_features, so that a good smile can be kept, shared and used again.",
            is_output_node=True,
            inputs=[
                FEATURES.Input("features", tooltip="From Extract Expression Features."),
                io.String.Input(
                    "name",
                    default="expression",
                    tooltip="File name, without .safetensors; a / makes a subfolder. An existing file is never overwritten: "
                    "the next free number is added.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Where the file lies.")],
        )

    @classmethod
    def execute(cls, features: Any, name: str) -> io.NodeOutput:
        folder = features_folders()[0]
        saved = save_bank(features, file_in(folder, name, ".safetensors", "name"))
        return io.NodeOutput(str(saved), ui=shown_report(name_within(saved, folder).as_posix()))
