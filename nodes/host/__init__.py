"""The one place that knows ComfyUI's internals."""
