"""Photos of one person, from a folder or an IMAGE batch, as a subject to learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..faceexpr_core import mini
from ..faceexpr_core.errors import FaceExprError
from .host.folders import input_folder, model_folders
from .host.widgets import require_choices

NO_FOLDER = "none"
EXAMPLE = "example: a rendered person"

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
                    options=[NO_FOLDER, *([EXAMPLE] if mini.subject_path().is_dir() else []), *_sub_folders()],
                    default=NO_FOLDER,
                    tooltip="A folder inside ComfyUI's input folder with photos of one person, six to twenty, with different expressions. "
                    "A .txt beside a photo, with the same name, replaces its caption. Choose 'none' to use only the IMAGE input.",
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
                    tooltip="Side of the square training pictures: 1024 for SDXL, 128 for FaceExpr Mini.",
                ),
                io.Combo.Input(
                    "framing",
                    options=["face crop", "whole picture"],
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
                    tooltip="Which face of a photo with several: 0 is the largest, 1 the second largest, and so on.",
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
                io.Image.Input("images", optional=True, tooltip="Photos of the person as a batch, instead of a folder or added to it."),
            ],
            outputs=[
                io.Custom("FACEEXPR_SUBJECT").Output(display_name="subject", tooltip="The person, for Train FaceExpr LoRA."),
                io.Image.Output(display_name="images", tooltip="The prepared pictures, as they will be trained on."),
                io.Mask.Output(display_name="face_masks", tooltip="A mask of the face for each prepared picture."),
                io.String.Output(display_name="report", tooltip="One line for each photo: kept or not, why, and its caption."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, folder: str = NO_FOLDER) -> bool | str:
        try:
            _resolve(folder)
        except FaceExprError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str = NO_FOLDER, **_: Any) -> str:
        from ..faceexpr_core.faces.images import caption_file, picture_files

        try:
            directory = _resolve(folder)
        except FaceExprError as error:
            return str(error)
        if directory is None:
            return ""
        files = [file for picture in picture_files(directory) for file in (picture, caption_file(picture)) if file.is_file()]
        return "\n".join(f"{file} {file.stat().st_mtime_ns} {file.stat().st_size}" for file in files)

    @classmethod
    def execute(
        cls,
        folder: str,
        trigger_word: str,
        class_word: str,
        resolution: int,
        framing: str,
        padding: float,
        face: int,
        drop_small_faces: bool,
        drop_duplicates: bool,
        images: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..faceexpr_core.faces.images import images_from_batch, read_images
        from ..faceexpr_core.photos.subject import prepare_subject

        require_choices(cls, framing=framing)
        directory = _resolve(folder)
        sources = [] if directory is None else read_images(directory)
        if images is not None:
            sources += images_from_batch(images)
        subject = prepare_subject(
            sources,
            folders=model_folders(),
            trigger=trigger_word,
            class_word=class_word,
            resolution=resolution,
            framing=framing,
            padding=padding,
            face_index=face,
            drop_small=drop_small_faces,
            drop_duplicates=drop_duplicates,
        )
        pictures = torch.stack([torch.from_numpy(photo.image) for photo in subject.photos]).float() / 255
        masks = torch.stack([torch.from_numpy(photo.mask()) for photo in subject.photos])
        return io.NodeOutput(subject, pictures, masks, subject.report, ui=ui.PreviewText(subject.report))


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


def _resolve(folder: str) -> Path | None:
    """The chosen folder, or None for 'none'. Raises FaceExprError for one outside the input folder or that does not exist."""
    if folder in ("", NO_FOLDER):
        return None
    if folder == EXAMPLE:
        return mini.subject_path()
    root = os.path.realpath(input_folder())
    path = os.path.realpath(os.path.join(root, folder))
    try:
        inside = os.path.commonpath([root, path]) == root and path != root
    except ValueError:  # another drive on Windows
        inside = False
    if not inside:
        raise FaceExprError(
            f"The folder '{folder}' is not inside ComfyUI's input folder. "
            f"Put the photos into a folder of their own inside {root} and choose it."
        )
    if not os.path.isdir(path):
        raise FaceExprError(f"There is no folder '{folder}' in {root}. Make it, put photos of one person into it and choose it again.")
    return Path(path)
