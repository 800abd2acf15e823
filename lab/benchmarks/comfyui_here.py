"""ComfyUI in this process, with folders of its own, and models of Mini's kind in it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PACK = "faceexpr_pack"


def comfyui_nodes(home: Path, cpu: bool = True) -> Any:
    """ComfyUI's `nodes`; its folders lie in `home`."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    process = importlib.import_module("comfy_process")
    home = process.make_home(home)
    process.let_import_comfyui()
    options = importlib.import_module("comfy.cli_args").args
    options.cpu = cpu
    options.base_directory = str(home)
    importlib.import_module("folder_paths")
    return importlib.import_module("nodes")


def pack_module(name: str) -> ModuleType:
    """A module of the pack (`nodes.host.mini`), imported as ComfyUI does; after `comfyui_nodes`."""
    if PACK not in sys.modules:
        file = REPOSITORY / "__init__.py"
        specification = importlib.util.spec_from_file_location(PACK, file, submodule_search_locations=[str(REPOSITORY)])
        assert specification is not None and specification.loader is not None
        sys.modules[PACK] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[PACK])
    return importlib.import_module(f"{PACK}.{name}")


def load_model(folder: Path) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a diffusers folder: ComfyUI's loader knows SDXL's width, this pack's those of Mini's kind."""
    config = json.loads((folder / "unet" / "config.json").read_text())
    if config["block_out_channels"][0] == 320:
        return tuple(importlib.import_module("comfy.diffusers_load").load_diffusers(str(folder)))  # type: ignore[return-value]
    return tuple(pack_module("nodes.host.mini").load_mini(folder))  # type: ignore[return-value]
