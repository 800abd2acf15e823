"""What photographs of real people say of the measures: SFace's cosine of one person and of two, and what their captions name.

    python -m lab.benchmarks.photographs DIR [--sheet captions.jpg]

DIR holds a folder of photographs for each person; in each the largest face is taken. None is part of this repository: take some that you
may use. `--sheet` shows every face with what its caption names, to be looked at: what is right only an eye can say.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.faces.detector import FaceDetector, square_around
from faceexpr_core.faces.images import crop_resized, read_images
from faceexpr_core.faces.upright import turned_upright
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.measure.reader import Judgement, judge_faces
from faceexpr_core.measure.reading import READ_CLASSES, read_album
from faceexpr_core.photos.people import COPY, SAME_PERSON
from faceexpr_core.sheet import labelled_sheet

BARS = (SAME_PERSON, 0.6, 0.8)
SIDE, COLUMNS = 160, 10
NOTHING = "no expression"


@dataclass(frozen=True, eq=False)
class Photograph:
    """`face` uint8 [SIDE, SIDE, 3]; `vector` SFace's unit vector [128]; `named` by its caption, None for no expression."""

    name: str
    face: NDArray[np.uint8]
    vector: NDArray[np.float32]
    named: str | None


def photographs(folder: Path, meter: IdentityMeter) -> list[Photograph]:
    """A person's photographs, read as an album; those without a face are left out, and so is one that is there twice."""
    found: list[tuple[str, Any, NDArray[np.float32], Any, Judgement]] = []
    for source in read_images(folder):
        if source.rgb is None:
            continue
        rgb = turned_upright(source.rgb, meter.detector).rgb
        for face in meter.detector.detect(rgb)[:1]:
            row = meter.detector.closer_row(rgb, face)
            vector = meter.embed_points(rgb, face.five_points() if row is None else row[4:14].reshape(5, 2))
            if all(float(vector @ other) < COPY for _, _, other, _, _ in found):
                shown = crop_resized(rgb, *square_around(face, 1.4 * face.size, *rgb.shape[:2]), SIDE)
                found.append((source.name, shown, vector, face.blendshapes, judge_faces([rgb], [face])[0]))
    readings = read_album([one[3] for one in found], [one[4] for one in found])
    return [Photograph(*one[:3], reading.expression) for one, reading in zip(found, readings, strict=True)]


def likeness_table(people: Sequence[Sequence[NDArray[np.float32]]]) -> str:
    """Markdown: SFace's cosines of one person's photographs and of two people's, from unit vectors [128] of each person."""
    kinds: Mapping[str, list[float]] = {
        "one person, photo and photo": [float(a @ b) for own in people for i, a in enumerate(own) for b in own[:i]],
        "one person, photo and the mean of the others": [
            float(one @ _mean(own[:i] + own[i + 1 :])) for own in map(list, people) if len(own) > 1 for i, one in enumerate(own)
        ],
        "two people, photo and photo": [float(a @ b) for i, own in enumerate(people) for other in people[:i] for a in own for b in other],
        "two people, photo and the other's mean": [
            float(one @ _mean(list(other))) for own in people for other in people if other is not own for one in own
        ],
    }
    lines = table_head(["SFace", "pairs", "5 %", "median", "95 %", *(f"{bar:g} and more" for bar in BARS)])
    for kind, values in kinds.items():
        if values:
            ends = [f"{end:.2f}" for end in np.percentile(values, (5, 50, 95))]
            lines.append(table_line([kind, f"{len(values)}", *ends, *(f"{np.mean(np.array(values) >= bar):.1%}" for bar in BARS)]))
    return "\n".join(lines) + "\n"


def caption_lines(named: Mapping[str, str | None]) -> str:
    """How many captions name each expression, and by name those whose caption names another than neutral and happy."""
    counts = Counter(name or NOTHING for name in named.values())
    lines = [f"{len(named)} photographs: " + ", ".join(f"{counts[name]} {name}" for name in (*READ_CLASSES, NOTHING) if counts[name])]
    lines += [f"- {photo}: {name}" for photo, name in named.items() if name not in (None, "neutral", "happy")]
    return "\n".join(lines) + "\n"


def sheet(people: Iterable[Sequence[Photograph]]) -> NDArray[np.uint8]:
    """Every face over what its caption names, a person after the other."""
    every = [one for own in people for one in own]
    return labelled_sheet([one.face for one in every], [one.named or NOTHING for one in every], COLUMNS)


def _mean(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    mean = np.mean(vectors, axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of people's folders of photographs")
    parser.add_argument("--sheet", type=Path, help="where a picture of all faces with their captions goes")
    arguments = parser.parse_args()
    with FaceDetector() as detector:
        meter = IdentityMeter((), detector)
        people = {folder.name: photographs(folder, meter) for folder in sorted(arguments.folder.iterdir()) if folder.is_dir()}
    print(f"`python -m lab.benchmarks.photographs DIR`, {len(people)} people\n")
    print(likeness_table([[one.vector for one in own] for own in people.values()]))
    print(caption_lines({f"{person}/{one.name}": one.named for person, own in people.items() for one in own}))
    if arguments.sheet is not None:
        Image.fromarray(sheet(people.values())).save(arguments.sheet)


if __name__ == "__main__":
    main()
