"""`faceexpr change`: a picture with another expression, on diffusers."""

from __future__ import annotations

import argparse
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceExprError
from ..expressions import NONE, names
from ..faces.face_choice import ALL_FACES
from ..files import beginning
from ..fusion.redraw_settings import DENOISE, GUIDANCE, READ, SHOWN, STEPS, STRENGTH
from ..provenance import CHANGED_BY_A_MODEL
from .flags import TellsDefaults, refuse_idle_intensity, refuse_idle_negative
from .generate import (
    PROMPT,
    add_expression_arguments,
    add_machine_arguments,
    moved_by,
    open_pipeline,
    spelled,
    terms_of,
)
from .given_picture import read_given
from .loras import check_loras, load_loras
from .saved_picture import require_folder, save_picture
from .telling import Evaluations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..faces.detector import Face


def add_change_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `change` to the `faceexpr` command."""
    parser = subparsers.add_parser(
        "change",
        help="give a picture another expression",
        description="Give a face in a picture another expression, or a neutral one. The face is drawn over and its change laid onto the "
        "picture; all else stays equal to the bit. The same as the node Change Expression in ComfyUI. Use pictures of people who agreed.",
        formatter_class=TellsDefaults,
    )
    parser.add_argument("--model", required=True, help="'mini', a diffusers directory, or an SDXL checkpoint file (.safetensors)")
    parser.add_argument("--picture", type=Path, required=True, help="the picture; it is not overwritten")
    parser.add_argument("--prompt", default=PROMPT, help="whom it shows, in a few words")
    parser.add_argument("--expression", default="happy", metavar="E", help=f"one of: {', '.join((NONE, *names()))}")
    add_expression_arguments(parser)
    parser.add_argument(
        "--shown",
        choices=SHOWN,
        default=READ,
        help="what the face shows now; read: it looks for itself, and takes neutral where it is not sure",
    )
    parser.add_argument("--strength", type=float, default=STRENGTH, help="how strongly, 0 to 4; lower keeps more of the person")
    parser.add_argument("--face", type=int, default=ALL_FACES, help="-1 all faces, 0 the largest, 1 the second largest ...")
    parser.add_argument(
        "--lora",
        type=Path,
        action="append",
        default=[],
        help="the person's LoRA (a file, or a PEFT adapter's folder), which draws the face then",
    )
    parser.add_argument("--lora_strength", type=float, default=1.0, help="strength of every LoRA")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the picture; nothing in it is overwritten")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps into noise, and as many back")
    parser.add_argument("--cfg", type=float, default=GUIDANCE, help="guidance; 1 keeps most")
    parser.add_argument("--denoise", type=float, default=DENOISE, help="how far into noise, above 0 and up to 1")
    parser.add_argument("--negative", default="", help="what to avoid, where --cfg is not 1")
    add_machine_arguments(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> None:
    """Change and save the picture; prints its path. Raises FaceExprError for what cannot be done."""
    import numpy as np
    from PIL import Image

    from ..diffusers_host import encoding
    from ..diffusers_host.pipeline import native_side
    from ..diffusers_host.redraw import Redrawing, change_face
    from ..faces.change import cut_face
    from ..faces.images import read_rgb_and_alpha
    from ..fusion.redraw import redraw_evaluations, redraw_words, stays, told_of_face

    check_loras(arguments)
    refuse_idle_negative(arguments)
    arguments.expression, arguments.second_expression = spelled(arguments.expression), spelled(arguments.second_expression)
    terms, moved = terms_of(arguments, arguments.expression), moved_by(arguments, arguments.expression)
    refuse_idle_intensity(arguments, [arguments.expression])
    how = Redrawing(arguments.strength, arguments.steps, arguments.cfg, arguments.denoise, arguments.negative)
    given, alpha = read_given(arguments.picture, read_rgb_and_alpha)
    found = _faces(arguments, given)
    require_folder(arguments.output_dir)

    pipe = open_pipeline(arguments)
    load_loras(pipe, arguments.lora, arguments.lora_strength)
    picture = np.asarray(given / 255, np.float32)
    words = {shown: redraw_words(arguments.prompt, terms, shown, partial(encoding.count_tokens, pipe)) for _, shown in found}
    drawn = sum(not stays(words[shown], how.strength) for _, shown in found)
    with closing(Evaluations(drawn * redraw_evaluations(arguments.steps))) as progress:
        for face, shown in found:
            if not stays(words[shown], how.strength):
                cut = cut_face(picture, face, native_side(pipe))
                picture = change_face(pipe, picture, cut, words[shown], shown, moved, how, progress.step)
            progress.say(told_of_face(face.size, shown, words[shown], how.strength, arguments.shown == READ))
    saved = {key: value for key, value in vars(arguments).items() if key not in ("func", "verb", "output_dir", "no_metadata")}
    saved |= {"picture": arguments.picture.name, "lora": [path.name for path in arguments.lora], "model": Path(arguments.model).name}
    made = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    if alpha is not None:
        made.putalpha(Image.fromarray(alpha))
    told = None if arguments.no_metadata else saved
    stem = f"{beginning(arguments.picture.stem, 200)}_{arguments.expression}"  # a name has 255 bytes, and a number is to come
    print(save_picture(made, arguments.output_dir, stem, told, CHANGED_BY_A_MODEL))


def _faces(arguments: argparse.Namespace, picture: NDArray[np.uint8]) -> list[tuple[Face, str]]:
    """The faces that are meant, and what each shows. Raises FaceExprError where there is none."""
    from ..faces.change import chosen_faces
    from ..faces.detector import FaceDetector
    from ..measure.shown import shown_expression

    with FaceDetector() as detector:
        faces = detector.detect(picture, every=True)
    meant = chosen_faces(faces, arguments.face)
    if not meant:
        raise FaceExprError(
            f"{arguments.picture} shows {len(faces)} faces, none of them number {arguments.face}. Give one that shows a face clearly, from "
            "the front or nearly so, and --face -1 or 0."
        )
    return [(face, shown_expression(picture, face) if arguments.shown == READ else arguments.shown) for face in meant]
