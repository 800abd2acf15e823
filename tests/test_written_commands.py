"""The commands that stand in documents, docstrings and benchmarks can be given: their modules are there, and know their flags."""

from __future__ import annotations

import ast
import functools
import re
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from comfy_process import REPOSITORY
from test_rooms import imported

from faceexpr_core.commands.cli import _parser

PROGRAMS = ("faceexpr_core", "lab", "nodes", "scripts")
PAGES = ("*.md", "docs/*.md", "web/docs/**/*.md", "Makefile", *(f"{folder}/**/*.{kind}" for folder in PROGRAMS for kind in ("py", "md")))
MODULE = re.compile(r"python -m ((?:lab|faceexpr_core)(?:\.[a-z_]+)+)([^`\n]*)")
VERB = re.compile(r"(?m)(?:^|`|\b-m faceexpr_core\.cli )(?:faceexpr )?([a-z]+) ([^`\n]*--[^`\n]*)")
FLAG = re.compile(r"(?<!\S)\[?--([a-zA-Z_-]+)")


def pages() -> Iterator[tuple[str, str]]:
    """A file's path, and its text with continued lines joined."""
    for pattern in PAGES:
        for path in sorted(REPOSITORY.glob(pattern)):
            yield str(path.relative_to(REPOSITORY)), re.sub(r"\\+\n\s*", " ", path.read_text(encoding="utf-8"))


def file_of(module: str) -> Path | None:
    path = REPOSITORY.joinpath(*module.split("."))
    return next((one for one in (path.with_suffix(".py"), path / "__main__.py", path / "__init__.py") if one.is_file()), None)


@functools.cache
def words_and_lab_of(path: Path) -> tuple[frozenset[str], frozenset[Path]]:
    """Every text that stands in a module, and the modules of the lab that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    below = {file_of(module) for name in imported(path) if name.startswith("lab.") for module in (name, name.rpartition(".")[0])}
    return frozenset(words), frozenset(one for one in below if one is not None)


def words_of(path: Path) -> set[str]:
    """Every text in a module and in those of the lab on which it stands: what its flags can be called."""
    found, seen, ahead = set[str](), set[Path](), [path]
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            words, below = words_and_lab_of(one)
            found |= words
            ahead += below
    return found


def flags(text: str) -> list[str]:
    return FLAG.findall(text.partition(" # ")[0].partition(' "')[0])


def test_modules_that_a_command_names_are_there_and_know_its_flags() -> None:
    known: dict[str, set[str]] = {}
    wrong, seen = [], 0
    for page, text in pages():
        for module, rest in MODULE.findall(text):
            seen += 1
            path = file_of(module)
            if path is None:
                wrong.append(f"{page}: there is no {module}")
            elif module.startswith("lab."):
                known[module] = known.get(module) or words_of(path) | {"help"}
                wrong += [f"{page}: {module} knows no --{flag}" for flag in flags(rest) if not {flag, f"--{flag}"} & known[module]]
    assert not wrong
    assert seen > 90


def started(tree: ast.AST) -> Iterator[str]:
    """The modules of commands such as `[sys.executable, "-m", "lab.card.step"]`."""
    for node in ast.walk(tree):
        for dash, name in pairwise(getattr(node, "elts", ())):
            if isinstance(dash, ast.Constant) and dash.value == "-m" and isinstance(name, ast.Constant):
                yield str(name.value)


def is_there(module: str) -> bool:
    own = module.split(".")[0] in PROGRAMS
    return file_of(module) is not None if own else find_spec(module.split(".")[0]) is not None


def test_modules_that_a_program_starts_are_there() -> None:
    """In a process of their own: nobody else notices that one has moved."""
    named = {
        (name, str(path.relative_to(REPOSITORY)))
        for folder in (*PROGRAMS, "tests")
        for path in (REPOSITORY / folder).rglob("*.py")
        for name in started(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not [one for one in named if not is_there(one[0])]
    assert len(named) > 5
    (gone,) = started(ast.parse('command = [sys.executable, "-m", "lab.trainer_runs"]'))
    assert not is_there(gone)


def verbs(parser: ArgumentParser) -> dict[str, set[str]]:
    """Every verb with its flags; `lora` has those of `lora convert` and all others too."""
    found: dict[str, set[str]] = {}
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for name, below in action.choices.items():
                own = {option for one in below._actions for option in one.option_strings}
                found |= {name: own.union(*verbs(below).values()), **verbs(below)}
    return found


def test_flags_of_faceexpr_are_its_own() -> None:
    known = verbs(_parser())
    assert {"train", "plan", "generate", "evaluate"} <= known.keys()
    wrong, seen = [], 0
    for page, text in pages():
        for verb, rest in VERB.findall(text):
            if verb in known:
                seen += 1
                wrong += [f"{page}: faceexpr {verb} knows no --{flag}" for flag in flags(rest) if f"--{flag}" not in known[verb]]
    assert not wrong
    assert seen > 15


def test_what_is_gone_is_seen() -> None:
    assert file_of("lab.benchmarks.gone") is None
    ((module, rest),) = MODULE.findall("python -m lab.card.step --gone 3")
    path = file_of(module)
    assert path is not None and flags(rest) == ["gone"] and not {"gone", "--gone"} & words_of(path)
