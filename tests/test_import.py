"""What ComfyUI loads when it starts with this pack: nothing beyond what it has itself, but the pack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_process import REPOSITORY, comfyui_path

SCRIPT = """
import asyncio, importlib.util, json, os, sys
comfyui, pack = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, comfyui)
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config  # first, as main.py does
import server
import nodes
import comfy_api.latest
before = set(sys.modules)
spec = importlib.util.spec_from_file_location("faceexpr_at_start", os.path.join(pack, "__init__.py"), submodule_search_locations=[pack])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
extension = asyncio.run(module.comfy_entrypoint())
for node in asyncio.run(extension.get_node_list()):
    node.GET_SCHEMA()
    node.INPUT_TYPES()
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""
"""What ComfyUI's `load_custom_node` and its `/object_info` do."""


@pytest.mark.long
def test_starting_comfyui_with_the_pack_imports_no_library_that_comfyui_has_not_loaded(tmp_path: Path) -> None:
    """Of all its modules at any depth, so that no file of the core that a node imports may do it either."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT, str(comfyui_path()), str(REPOSITORY)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded - set(sys.stdlib_module_names) == {"faceexpr_at_start"}
