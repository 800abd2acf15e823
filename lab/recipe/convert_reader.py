"""Convert the photographs' classifier of expressions to the file that ships with the package.

    npm pack @vladmandic/face-api@1.7.15
    tar -xf vladmandic-face-api-1.7.15.tgz
    python -m lab.recipe.convert_reader package

Reads `model/face_expression_model.bin` and its manifest (MIT; TensorFlow's layouts, uint8 with a scale and a minimum a tensor), checks
both by sha256, and writes `faceexpr_core/measure/reader.safetensors`: the same bytes in torch's layouts under torch's names. A quantised
tensor `x` comes with `x.scale` float32 [2] (scale, minimum): its value is `x * scale + minimum`. Nothing is rounded again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

SHA256 = {
    "face_expression_model.bin": "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
    "face_expression_model-weights_manifest.json": "5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8",
}
OUTPUT = Path(__file__).parents[2] / "faceexpr_core" / "measure" / "reader.safetensors"

# One entry, since safetensors writes several in any order and the file would differ from run to run.
_METADATA = {"source": f"npm @vladmandic/face-api 1.7.15, face_expression_model.bin, sha256 {SHA256['face_expression_model.bin']}, MIT"}
_TORCH_AXES = {"filters": (3, 2, 0, 1), "depthwise_filter": (2, 3, 0, 1), "pointwise_filter": (3, 2, 0, 1), "weights": (1, 0), "bias": (0,)}
_TORCH_NAME = {
    "filters": "weight",
    "depthwise_filter": "depthwise.weight",
    "pointwise_filter": "pointwise.weight",
    "weights": "weight",
    "bias": "bias",
}


def convert(model: Path) -> dict[str, NDArray[np.generic]]:
    """The tensors of a `model` folder in torch's layouts. Raises SystemExit where a file is not the one named above."""
    files = {name: (model / name).read_bytes() for name in SHA256}
    for name, content in files.items():
        if (found := hashlib.sha256(content).hexdigest()) != SHA256[name]:
            raise SystemExit(f"{model / name} has sha256 {found}, but {SHA256[name]} is needed: take version 1.7.15 of the package.")
    binary, manifest = files.values()
    tensors: dict[str, NDArray[np.generic]] = {}
    start = 0
    for row in json.loads(manifest)[0]["weights"]:
        *layer, kind = row["name"].split("/")
        quantised = row.get("quantization")
        dtype = np.dtype(quantised["dtype"] if quantised else row["dtype"])
        count = int(np.prod(row["shape"]))
        values = np.frombuffer(binary, dtype, count, start).reshape(row["shape"])
        start += count * dtype.itemsize
        name = torch_name(layer, kind)
        tensors[name] = np.ascontiguousarray(values.transpose(_TORCH_AXES[kind]))
        if quantised:
            tensors[f"{name}.scale"] = np.array([quantised["scale"], quantised["min"]], np.float32)
    if start != len(binary):
        raise SystemExit(f"{model} holds {len(binary)} bytes of weights; its manifest tells of {start}.")
    return tensors


def torch_name(layer: Sequence[str], kind: str) -> str:
    """dense1/conv2/pointwise_filter -> blocks.1.others.1.pointwise.weight; a separable convolution's bias is its pointwise part's."""
    if layer[0] == "fc":
        return f"classify.{_TORCH_NAME[kind]}"
    block, number = (int(name[-1]) for name in layer)
    place = f"blocks.{block}." + (f"others.{number - 1}" if number else "reduce")
    plain = layer == ["dense0", "conv0"]
    return f"{place}.{'pointwise.' if kind == 'bias' and not plain else ''}{_TORCH_NAME[kind]}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    args = parser.parse_args(argv)
    save_file(convert(args.package / "model"), OUTPUT, metadata=_METADATA)
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size:,} bytes, sha256 {hashlib.sha256(OUTPUT.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
