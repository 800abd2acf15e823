"""FaceExpr for ComfyUI: learn a person's face from a few photos, draw that person with any expression."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """What ComfyUI calls when it loads its custom nodes."""
    from .nodes import FaceExprExtension

    return FaceExprExtension()
