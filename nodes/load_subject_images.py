"""Photos of one person, from a folder or an IMAGE batch, as a subject to learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..faceexpr_core import mini
from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.photos.settings import FRAMINGS
from .host.folders import input_folder, missing_models, model_folders, stamp_of_all
from .host.pixels import to_image
from .host.progress import Progress, say_or_stop
from .host.widgets import one_value, require_choices, require_pictures, shown_report, tell_unused

NO_FOLDER = "none"
EXAMPLES = {"example: a rendered person": mini.subject_path, "example: another person": mini.donor_path}
"""Photos that come with the pack: six of a person to learn, and two of somebody else, happy and neutral."""

_DEPTH = 3


class LoadSubjectImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprLoadSubjectImages",
            display_name="Load Subject Images",
            category="FaceExpr",
            description="Prepares photos of one person for training: finds the face, crops and resizes, notes the expression of each photo "
            "in its caption, and reports what was kept and why.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=[NO_FOLDER, *(name for name, path in EXAMPLES.items() if path().is_dir()), *_sub_folders()],
                    default=NO_FOLDER,
                    tooltip="A folder inside ComfyUI's input folder with photos of one person, six to twenty, with different expressions. "
                    "A .txt or .caption of the same name beside a photo replaces its caption. Choose 'none' to use only the IMAGE input.",
                ),
                io.String.Input(
                    "trigger_word",
                    default="ohwx",
                    tooltip="A rare word that will stand for this person in prompts.",
                ),
                io.String.Input("class_word", default="person", tooltip="What the person is: person, woman, man, boy ..."),
                io.Int.Input(
                    "resolution",
                    default=1024,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip=f"Side of the square training pictures: 1024 for SDXL, {mini.RESOLUTION} for FaceExpr Mini.",
                ),
                io.Combo.Input(
                    "framing",
                    options=list(FRAMINGS),
                    default="face crop",
                    tooltip="'face crop' cuts a square around the face. 'whole picture' keeps the largest square, for photos that are "
                    "already portraits.",
                ),
                io.Float.Input(
                    "padding",
                    default=0.75,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="Room on each side of the face, as a share of its size; 0.75 shows head and shoulders. For 'face crop'.",
                ),
                io.Int.Input(
                    "face",
                    default=0,
                    min=0,
                    max=7,
                    tooltip="0 takes the face of the person (see 'person'). Above 0 takes a face by its size: 1 is the second largest of "
                    "each photo, and so on; people are then not compared.",
                ),
                io.Boolean.Input(
                    "drop_small_faces",
                    default=True,
                    tooltip="Leave out photos whose face is smaller than an eighth of the resolution (at least 48 pixels). "
                    "Otherwise they are only reported.",
                ),
                io.Boolean.Input(
                    "drop_duplicates",
                    default=True,
                    tooltip="Leave out photos that are nearly the same as an earlier one. Otherwise they are only reported.",
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="Photos of the person, as a batch or a list, instead of a folder or added to it."
                ),
                io.Int.Input(
                    "person",
                    default=0,
                    min=-1,
                    max=63,
                    optional=True,
                    tooltip="Whom to learn if the photos show several people: 0 is who is in most photos, 1 the next; the report says who "
                    "is who. -1 takes the largest face of each photo, without comparing them.",
                ),
            ],
            outputs=[
                io.Custom("FACEEXPR_SUBJECT").Output(display_name="subject", tooltip="The person, for Train FaceExpr LoRA."),
                io.Image.Output(display_name="images", tooltip="The prepared pictures, as they will be trained on."),
                io.Mask.Output(display_name="face_masks", tooltip="A mask of the face for each prepared picture."),
                io.String.Output(display_name="report", tooltip="One line for each file: kept or not, why, and its caption."),
                io.Image.Output(
                    display_name="contact_sheet", tooltip="The report as a picture: every photo with its mask, verdict and caption."
                ),
            ],
            is_output_node=True,
            is_input_list=True,  # a list of images is one person's photos, not a person each
        )

    @classmethod
    def validate_inputs(cls, folder: Any = NO_FOLDER) -> bool | str:
        try:
            _resolve(_one("folder", folder) or NO_FOLDER)
        except FaceExprError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: Any = NO_FOLDER, **_: Any) -> str:
        from ..faceexpr_core.photos.dataset import watched_files

        try:
            chosen = _one("folder", folder)
            directory = _resolve(chosen or NO_FOLDER)
        except FaceExprError as error:
            return str(error)
        read, beside = ([], []) if directory is None else watched_files(directory)
        if chosen is None:  # it comes by a link, and may be any of them
            read = _files_of_sub_folders()
        return f"{stamp_of_all(read, beside):x} {missing_models()}"

    @classmethod
    def execute(cls, images: list[torch.Tensor] | None = None, **lists: list[Any]) -> io.NodeOutput:
        from PIL import Image

        from ..faceexpr_core.faces.images import images_from_batches
        from ..faceexpr_core.photos.dataset import read_dataset
        from ..faceexpr_core.photos.sheet import contact_sheet
        from ..faceexpr_core.photos.subject import prepare_subject

        given = {"person": 0, **{name: _one(name, values) for name, values in lists.items()}}
        require_choices(cls, framing=given["framing"])
        if given["framing"] == FRAMINGS[1]:
            tell_unused(cls, "no face is cut out of a whole picture", padding=given["padding"])
        directory = _resolve(given["folder"])
        batches = [one for one in images or () if one is not None]
        if directory is None and images is not None and len(batches) == len(images):
            require_pictures("images", batches)
        if directory is not None and given["folder"] not in EXAMPLES:
            _require_inside(directory)
        sources = [] if directory is None else read_dataset(directory, reading=lambda name: say_or_stop(f"reading {name}"))
        sources += images_from_batches(batches)
        progress = Progress(len(sources))

        def looking(number: int, count: int) -> None:
            say_or_stop(f"looking at photo {number} of {count}")
            photo = sources[number - 1].rgb
            progress.update(number - 1, None if photo is None else Image.fromarray(photo))

        subject = prepare_subject(
            sources,
            folders=model_folders(),
            trigger=given["trigger_word"],
            class_word=given["class_word"],
            resolution=given["resolution"],
            framing=given["framing"],
            padding=given["padding"],
            face_index=given["face"],
            drop_small=given["drop_small_faces"],
            drop_duplicates=given["drop_duplicates"],
            person=given["person"],
            looking=looking,
        )
        progress.update(len(sources))
        pictures = torch.stack([torch.from_numpy(photo.image) for photo in subject.photos]).float() / 255
        masks = torch.stack([torch.from_numpy(photo.mask()) for photo in subject.photos])
        sheet = to_image(contact_sheet(subject))
        shown = {**ui.PreviewImage(sheet, cls=cls).as_dict(), **shown_report(subject.report).as_dict()}
        return io.NodeOutput(subject, pictures, masks, subject.report, sheet, ui=shown)


def _one(name: str, values: Any) -> Any:
    return one_value(name, values, "one subject is made of one. Only 'images' may be a list.")


def _sub_folders() -> list[str]:
    """Folders inside the input folder, by their path from it, down to a depth of three; hidden ones are left out."""
    root = input_folder()
    found: list[str] = []
    for folder, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        path = Path(folder).relative_to(root)
        if path.parts:
            found.append(path.as_posix())
        if len(path.parts) >= _DEPTH:
            names.clear()
    return sorted(found)


def _files_of_sub_folders() -> list[Path]:
    """All files in folders inside the input folder, however deep, as metadata.jsonl may name them; without hidden ones."""
    found: list[Path] = []
    for folder, names, files in os.walk(root := input_folder()):
        names[:] = [name for name in names if not name.startswith(".")]
        if Path(folder) != root:
            found += [Path(folder, name) for name in files if not name.startswith(".")]
    return found


def _resolve(folder: str) -> Path | None:
    """The chosen folder, or None for 'none'. Raises FaceExprError for one outside the input folder or that does not exist."""
    if folder in ("", NO_FOLDER):
        return None
    if folder in EXAMPLES:
        return EXAMPLES[folder]()
    root = os.path.realpath(input_folder())
    path = os.path.realpath(os.path.join(root, folder))
    if path == root or not _is_inside(path, root):
        raise FaceExprError(
            f"The folder '{folder}' is not inside ComfyUI's input folder. "
            f"Put the photos into a folder of their own inside {root} and choose it."
        )
    if not os.path.isdir(path):
        raise FaceExprError(f"There is no folder '{folder}' in {root}. Make it, put photos of one person into it and choose it again.")
    return Path(path)


def _require_inside(directory: Path) -> None:
    """Raise FaceExprError for a photo, a caption or a table in the folder that is a link out of the input folder."""
    from ..faceexpr_core.faces.images import shown_name
    from ..faceexpr_core.photos.dataset import photo_files

    root = os.path.realpath(input_folder())
    if out := [shown_name(file) for file in photo_files(directory) if not _is_inside(os.path.realpath(file), root)]:
        raise FaceExprError(
            f"{', '.join(out[:3])}{' ...' if len(out) > 3 else ''} in {directory} lies, by a link, outside ComfyUI's input folder. "
            "Put the files themselves into it."
        )


def _is_inside(path: str, root: str) -> bool:
    """Of real paths."""
    try:
        return os.path.commonpath([root, path]) == root
    except ValueError:  # another drive on Windows
        return False
