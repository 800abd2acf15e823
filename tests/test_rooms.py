"""The house keeps its floors: a room imports only what stands below it, ComfyUI only in `nodes/`, and nothing installed needs `lab/`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from comfy_process import REPOSITORY

CORE = "faceexpr_core"
BELOW: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "files": set(),
    "mini": set(),
    "typed": set(),
    "requirements": {"typed"},
    "provenance": set(),
    "schedule": set(),
    "expressions": {"errors"},
    "faces": {"errors", "files", "typed", "requirements"},
    "text": {"errors", "expressions"},
    "sheet": {"errors", "expressions"},
    "fusion": {"errors", "files", "schedule", "expressions", "faces", "text"},
    "measure": {"errors", "expressions", "faces"},
    "photos": {"errors", "files", "expressions", "faces", "measure"},
    "training": {"errors", "files", "schedule", "typed", "provenance", "expressions", "faces", "text", "measure", "photos"},
    "diffusers_host": {"errors", "files", "mini", "schedule", "expressions", "faces", "text", "fusion", "photos", "training"},
    "evaluation": {
        "errors",
        "files",
        "typed",
        "provenance",
        "expressions",
        "faces",
        "text",
        "fusion",
        "measure",
        "photos",
        "diffusers_host",
    },
    "dataset": {"errors", "files", "expressions", "text", "lora", "faces", "measure", "evaluation"},
    "lora": {"__init__", "errors", "files", "photos", "training"},
}
"""What a room of the core may import of the core, whether at the top of a file or inside a function. `commands` may import all."""
DOORS = {"cli", "train"}
"""The files through which `python -m` reaches `commands`."""


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


def imported(path: Path, for_types: bool = True) -> Iterator[str]:
    """Every module that a file imports, absolute, wherever the statement stands; `from . import x` gives the module x or its package.
    Without `for_types` none that types alone need."""
    package = path.relative_to(REPOSITORY).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    left_out = set() if for_types else {inner for node in typed for inner in ast.walk(node)}
    for statement in ast.walk(tree):
        if statement in left_out:
            continue
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            base = ".".join((*package[: len(package) - statement.level + 1], *filter(None, [statement.module])))
            yield from (f"{base}.{alias.name}" for alias in statement.names)


def absolute(statement: ast.AST) -> set[str]:
    """The roots of what a statement imports by its whole name."""
    if isinstance(statement, ast.Import):
        return {alias.name.split(".")[0] for alias in statement.names}
    return {(statement.module or "").split(".")[0]} if isinstance(statement, ast.ImportFrom) and not statement.level else set()


def rooms_of(path: Path) -> set[str]:
    """The rooms of the core that a file of the core imports, but its own."""
    own = path.relative_to(REPOSITORY / CORE).with_suffix("").parts[0]
    known = {*BELOW, *DOORS, "commands"}
    named = {name.split(".")[1] for name in imported(path) if name.startswith(f"{CORE}.")}
    return {room if room in known else "__init__" for room in named} - {own}


def test_the_table_of_rooms_has_no_circle_and_names_every_room() -> None:
    there = {path.stem for path in (REPOSITORY / CORE).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there == {*BELOW, *DOORS, "commands"}
    floors: dict[str, int] = {}
    while len(floors) < len(BELOW):
        free = [room for room, below in BELOW.items() if room not in floors and below <= floors.keys()]
        assert free, f"a circle among {sorted(BELOW.keys() - floors.keys())}"
        floors |= {room: 1 + max((floors[one] for one in BELOW[room]), default=0) for room in free}


@pytest.mark.parametrize("room", [*BELOW, "commands"])
def test_a_room_imports_only_what_stands_below_it(room: str) -> None:
    files = [path for path in modules(CORE) if path.relative_to(REPOSITORY / CORE).with_suffix("").parts[0] == room]
    wrong = {str(path.relative_to(REPOSITORY)): rooms_of(path) - BELOW.get(room, {*BELOW}) for path in files}
    assert not {name: above for name, above in wrong.items() if above}


def test_no_files_import_each_other_in_a_circle() -> None:
    """The packages' own files left out: they hand nothing on, and ComfyUI's module `nodes` is called as the pack's folder."""
    paths = [path for path in modules(CORE, "nodes", "lab") if path.name != "__init__.py"]
    files = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path for path in paths}
    needs = {
        name: {one if one in files else one.rpartition(".")[0] for one in imported(path, for_types=False)} & files.keys()
        for name, path in files.items()
    }
    assert sum(map(len, needs.values())) > len(files)  # it sees what they import
    TopologicalSorter(needs).prepare()  # a CycleError names the circle


def test_a_rooms_own_file_says_what_it_is_for_and_hands_nothing_on() -> None:
    for path in modules(CORE, "nodes", "lab"):
        folder = path.parent.relative_to(REPOSITORY)
        if path.name != "__init__.py" or str(folder) in (CORE, "nodes", f"{CORE}/mini"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) and len(tree.body) == 1, folder


def test_nothing_that_users_install_imports_the_lab_or_needs_to_be_installed() -> None:
    """In ComfyUI the core is a part of the pack: by the name `faceexpr_core` only those have it who installed it besides."""
    for path in [REPOSITORY / "__init__.py", *modules(CORE, "nodes")]:
        assert not [name for name in imported(path) if name.split(".")[0] in ("lab", "tests", "scripts")], path
        assert not [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if CORE in absolute(node)], path


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in modules(CORE, "nodes")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert not long
