"""FaceExpr's core: faces, expressions, training and measuring. Never imports ComfyUI."""

__version__ = "0.1.0"
