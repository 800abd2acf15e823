"""ComfyUI's web page with this pack: `make comfyui`. Arguments go on to ComfyUI, for example `make comfyui ARGS="--port 9000"`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from comfy_process import PRIVATE_HOME, comfyui_path, command_line, copy_subject, device_options, make_home

MODEL_KINDS = ("checkpoints", "clip", "controlnet", "diffusion_models", "embeddings", "loras", "text_encoders", "upscale_models", "vae")


def main() -> None:
    home = make_home(PRIVATE_HOME)
    folder = copy_subject(home / "input")
    options = [*device_options(), "--auto-launch"]
    if os.environ.get("COMFYUI_PATH"):
        options += ["--extra-model-paths-config", _own_models(home)]
    print(
        "\nIn the page: Workflow > Browse Templates > faceexpr > faceexpr_mini_quick_start."
        f"\nThe demo's six photos are in the input folder `{folder}`; LoRAs appear in {home / 'models' / 'loras'}. Ctrl-C ends it.\n"
    )
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run([*command_line(home, 8188), *options, *sys.argv[1:]], cwd=home)


def _own_models(home: Path) -> str:
    """A configuration file by which ComfyUI finds the models of the user's own ComfyUI too (JSON is YAML)."""
    path = home / "own_models.yaml"
    path.write_text(json.dumps({"own": {"base_path": str(comfyui_path() / "models"), **{kind: kind for kind in MODEL_KINDS}}}))
    return str(path)


if __name__ == "__main__":
    main()
