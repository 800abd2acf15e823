"""`faceexpr lora`: look into LoRA files, and turn one program's format into another's."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..files import part_beside
from .telling import say

if TYPE_CHECKING:
    from ..lora.formats import Encoded

FORMATS = ("kohya", "diffusers", "peft", "comfyui", "sd-scripts")


def add_lora_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lora inspect` and `lora convert` to the `faceexpr` command."""
    parser = subparsers.add_parser("lora", help="look into a LoRA file, or convert it", description="Look into a LoRA file, or convert it.")
    verbs = parser.add_subparsers(dest="lora_verb", required=True, metavar="VERB")

    look = verbs.add_parser("inspect", help="format, rank, alpha, layers, size of the change, metadata")
    look.add_argument("file", type=Path, metavar="FILE", help="a LoRA (.safetensors), or the folder of a PEFT adapter")
    look.set_defaults(func=inspect)

    convert_to = verbs.add_parser(
        "convert",
        help="write a LoRA in another format",
        description="Write a LoRA in another format. Numbers are copied, never rounded; what the format cannot hold is named. "
        "kohya's is the one that ComfyUI, diffusers and most other tools read; sd-scripts is the same with SDXL's blocks named as "
        "kohya's own scripts need them.",
    )
    convert_to.add_argument("file", type=Path, metavar="FILE", help="a LoRA (.safetensors), or the folder of a PEFT adapter")
    convert_to.add_argument("--to", choices=FORMATS, required=True, help="format to write")
    convert_to.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="new file (for peft a folder); a number is added when the name is taken"
    )
    convert_to.set_defaults(func=convert)

    words = verbs.add_parser("embeddings", help="write the embeddings that a LoRA carries as files of their own")
    words.add_argument("file", type=Path, metavar="FILE", help="a LoRA (.safetensors) with embeddings in it")
    words.add_argument("--output_dir", type=Path, required=True, help="folder for them, such as ComfyUI's models/embeddings")
    words.set_defaults(func=take_embeddings)


def inspect(arguments: argparse.Namespace) -> int:
    """Print the report on a file. Returns 0; raises FaceExprError when it cannot be read."""
    from ..lora.describe import describe
    from ..lora.formats import load_whole

    print(describe(load_whole(arguments.file)))
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """Write a file anew in another format, print where it lies, and on stderr what could not be kept. Returns 0; raises FaceExprError."""
    from ..lora.files import save_lora
    from ..lora.formats import encode, load_whole

    lora = load_whole(arguments.file)
    encoded = encode(lora, arguments.to)
    output: Path = arguments.output
    if arguments.to == "peft":
        saved = save_adapter(output, encoded)
    else:
        if output.is_dir():
            raise FaceExprError(f"--output {output} is a folder; give the name of a file in it, such as {output / 'anna.safetensors'}.")
        path = output if output.suffix == ".safetensors" else output.with_name(f"{output.name}.safetensors")
        saved = save_lora(path, encoded.state, encoded.metadata, None)
    for line in (*lora.notes, *(f"left out: {what}" for what in encoded.lost)):
        say(line)
    print(saved)
    return 0


def take_embeddings(arguments: argparse.Namespace) -> int:
    """Write the embeddings of a file, print where they lie. Returns 0; raises FaceExprError where there are none."""
    from ..lora.embeddings import save_embeddings
    from ..lora.formats import load

    embeddings = load(arguments.file).embeddings
    if not embeddings:
        raise FaceExprError(f"{arguments.file} carries no embeddings (keys that begin with bundle_emb); there is nothing to write.")
    for path in save_embeddings(embeddings, arguments.output_dir).values():
        print(path)
    return 0


def save_adapter(folder: Path, encoded: Encoded) -> Path:
    """Write PEFT's adapters into a new folder, or beside it as `name_00001_` when that is there; it appears whole or not at all.

    Raises FaceExprError for a name that ends in .safetensors, or when the disk does not take it.
    """
    from safetensors.torch import save

    from ..lora.formats import adapter_files
    from ..lora.given import PEFT_CONFIG, PEFT_WEIGHTS

    if folder.name in ("", ".."):
        raise FaceExprError(f"--output {folder} is a folder that is there; give the name of a new one in it, such as {folder / 'anna'}.")
    if folder.suffix == ".safetensors":
        raise FaceExprError(
            f"PEFT keeps an adapter in a folder, {PEFT_WEIGHTS} with {PEFT_CONFIG}; give --output {folder.with_suffix('')}."
        )
    temporary = part_beside(folder)
    try:
        for part, (state, config) in adapter_files(encoded).items():
            home = temporary / part
            home.mkdir(parents=True)
            (home / PEFT_WEIGHTS).write_bytes(save({key: value.contiguous() for key, value in state.items()}, encoded.metadata))
            (home / PEFT_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for number in itertools.count():
            target = folder.with_name(f"{folder.name}_{number:05}_") if number else folder
            if not target.exists():
                os.rename(temporary, target)
                return target
    except OSError as reason:
        raise FaceExprError(
            f"The adapter could not be written to {folder}: {reason.strerror or reason}. Free some space or choose another place."
        ) from reason
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    raise AssertionError("the numbers never end")
