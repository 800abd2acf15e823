"""FaceExpr for ComfyUI: learn a person's face from a few photos, draw that person with any expression."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """What ComfyUI calls when it loads its custom nodes."""
    from .nodes import FaceExprExtension
    from .nodes.host.missing import announce

    announce()  # here, since ComfyUI 0.3.75 calls no extension's on_load
    return FaceExprExtension()
