"""Other words by which ComfyUI's search finds the nodes, where its schema knows of them (0.3.75 does not, 0.33 does)."""

from __future__ import annotations

from comfy_api.latest import io

ALIASES: dict[str, tuple[str, ...]] = {
    "FaceExprApplyAttentionFocusedFusion": ("fusion", "apply expression", "inject expression", "attention"),
    "FaceExprChangeExpression": ("edit expression", "smile", "face editor", "change face", "expression of a picture"),
    "FaceExprExpressionSheet": ("expression grid", "character sheet", "xy plot", "contact sheet"),
    "FaceExprExpressionTextEncode": ("emotion", "smile", "prompt", "facial expression", "CLIP Text Encode", "action units"),
    "FaceExprExtractExpressionFeatures": ("record expression", "donor", "expression from photo", "features"),
    "FaceExprLoadFeatures": ("load expression", "features"),
    "FaceExprLoadLoRA": ("lora loader", "diffusers lora", "peft", "lycoris", "dora", "glora", "convert lora"),
    "FaceExprLoadMini": ("tiny sdxl", "test model", "checkpoint", "demo"),
    "FaceExprLoadSubjectImages": ("photos", "dataset", "load images from folder", "album", "crop faces", "captions"),
    "FaceExprSampler": ("ksampler", "sample", "draw", "fusion"),
    "FaceExprSaveFeatures": ("save expression", "features"),
    "FaceExprScore": ("evaluate", "likeness", "best of n", "face similarity"),
    "FaceExprTrainLoRA": ("dreambooth", "train lora", "fine-tune", "learn a person", "kohya"),
}


def add_aliases(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node, its schema with the words of ALIASES."""
    plain = node.define_schema.__func__  # type: ignore[attr-defined]

    def define_schema(cls: type[io.ComfyNode]) -> io.Schema:
        schema: io.Schema = plain(cls)
        if hasattr(schema, "search_aliases"):
            schema.search_aliases = list(ALIASES.get(schema.node_id, ()))
        return schema

    node.define_schema = classmethod(define_schema)  # type: ignore[method-assign,assignment]
    return node
