"""FaceExpr's core: faces, expressions, training and measuring. Never imports ComfyUI."""

import logging

# On a CPU bitsandbytes misses a package of kernels aloud, whenever peft imports it; nothing here is asked of them.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.2.0"
