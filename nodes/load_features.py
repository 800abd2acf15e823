"""Expression features from a file."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..faceexpr_core.errors import FaceExprError
from ..faceexpr_core.fusion.recorder import load_bank
from .fusion_inputs import FEATURES
from .host.folders import features_files, features_folders, file_in, stamp_of, stamp_of_all

SUFFIX = ".safetensors"
NO_FILE = "none"


class LoadFeatures(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprLoadFeatures",
            display_name="Load Features",
            category="FaceExpr",
            description="Loads expression features that Save Features or `faceexpr extract` wrote, from models/faceexpr_features.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=features_files(SUFFIX) or [NO_FILE],
                    tooltip="A file in models/faceexpr_features. It serves any person, with the checkpoint it was made for: features of "
                    "words at the default site with any steps, others at their noise levels.",
                )
            ],
            outputs=[
                FEATURES.Output(display_name="features", tooltip="For Apply Attention-Focused Fusion or FaceExpr Sampler."),
                io.String.Output(display_name="report", tooltip="What the file says about itself."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None) -> tuple[str, int, int]:
        if file is None:  # it comes by a link, and may be any of them
            return "", stamp_of_all(folder / name for folder in features_folders() for name in features_files(SUFFIX)), 0
        return file, *stamp_of(_path(file))

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        if file is None:
            return True
        try:
            found = _path(file).is_file()
        except FaceExprError as error:
            return str(error)
        return found or f"there is no file {file} in {_folders()}. Save features first, or copy a file there."

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        bank = load_bank(_path(file))
        told = [f"{bank.site}, {bank.mode}", f"sigmas {', '.join(f'{sigma:.3g}' for sigma in bank.sigmas) or 'any'}"]
        return io.NodeOutput(bank, "\n".join([*told, *(f"{key}: {value}" for key, value in bank.notes.items())]))


def _folders() -> str:
    return " or ".join(map(str, features_folders()))


def _path(file: str) -> Path:
    """Of the first folder that has it, else of the first. Raises FaceExprError for a name that leads out of the folder."""
    meant = [file_in(folder, file, SUFFIX, "file") for folder in features_folders()]
    return next((path for path in meant if path.is_file()), meant[0])
