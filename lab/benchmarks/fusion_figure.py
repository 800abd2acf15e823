"""A figure of a comparison's pictures: people from one noise each, a row of expressions for each way to ask for them.

    python -m lab.benchmarks.fusion_figure --output_dir OUT --people 200001:0 200002:1 --save docs/images/fusion.jpg \\
        --rows "by text=text" "fused from words=cross_attention_difference:layers=decoder,target=neutral"
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.measure.expression import CLASSES

from .fusion_sites import NEUTRAL
from .summary import page_of, picture_path


def figure(output: Path, people: list[tuple[int, int]], rows: list[tuple[str, str]]) -> Image.Image:
    """`people`: subject and noise; `rows`: words and the arm that drew the row. The neutral picture stands first."""
    page = []
    for subject, noise in people:
        for words, arm in rows:
            paths = [picture_path(output, NEUTRAL, subject, noise, NEUTRAL)]
            paths += [picture_path(output, arm, subject, noise, name) for name in CLASSES]
            page.append((words, [read_picture(path) for path in paths]))
    return page_of(page, (NEUTRAL, *CLASSES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="where the comparison wrote its pictures")
    parser.add_argument("--people", nargs="+", required=True, help="subject:noise")
    parser.add_argument("--rows", nargs="+", required=True, help="words=arm")
    parser.add_argument("--save", type=Path, required=True)
    arguments = parser.parse_args()
    people = [(int(subject), int(noise)) for subject, noise in (word.split(":") for word in arguments.people)]
    rows = [(words, arm) for words, _, arm in (row.partition("=") for row in arguments.rows)]
    figure(arguments.output_dir, people, rows).save(arguments.save, quality=88)


if __name__ == "__main__":
    main()
