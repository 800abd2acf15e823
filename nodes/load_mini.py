"""FaceExpr Mini as MODEL, CLIP and VAE."""

from __future__ import annotations

from comfy_api.latest import io

from ..faceexpr_core import mini
from .host.mini import load_mini


class LoadMini(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprLoadMini",
            display_name="Load FaceExpr Mini",
            category="FaceExpr",
            description="Loads FaceExpr Mini, the tiny SDXL that comes with this pack: it draws faces of "
            f"{mini.RESOLUTION} x {mini.RESOLUTION} pixels on any computer. "
            "Use it to try a workflow before a full SDXL checkpoint.",
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Mini's U-Net, an SDXL MODEL."),
                io.Clip.Output(display_name="clip", tooltip="Mini's two text encoders."),
                io.Vae.Output(display_name="vae", tooltip="Mini's VAE. Its latents are not those of other SDXL checkpoints."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_mini())
