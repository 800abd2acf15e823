"""What a data set of `faceexpr dataset` teaches: small classifiers learn on its train split and read faces they never saw.

    python -m lab.benchmarks.dataset_classifier --data dataset --parts PARTS --subjects 200000-200009 \\
        --make "--model mini --people 12 --expressions happy sad angry surprised"

Three of them: logistic regression on the blendshapes, the same on their change from the person's neutral picture, and a small
convolutional net on the pixels of the face. Two tests: the data set's own test split (drawn by the same model, chosen by the same
measures), and renders with known truth, every expression at full strength, whose people no model drew. Expressions that one of the two
does not show are left out. Prints tables, with intervals over people.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.markdown import table_head, table_line
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.measure.reader import face_square
from faceexpr_core.measure.statistics import Interval, mean_interval

from .albums import PHOTO_SIDE
from .subjects import seeds
from .summary import cell

SIDE = 48
"""Pixels along the square that the net sees."""
NEUTRAL = "neutral"
WEIGHT_DECAY = 0.02
SHIFT = 3
"""Pixels by which the net's pictures are moved at most while it learns."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A face: `person`, `label`, `blendshapes` and `change` (from the person's neutral picture) [52], `pixels` uint8 [SIDE, SIDE, 3]."""

    person: str
    label: str
    blendshapes: NDArray[np.float32]
    change: NDArray[np.float32]
    pixels: NDArray[np.uint8]


Shown = tuple[tuple[Any, ...], str, NDArray[np.uint8], Face]
"""(person, ...), label, picture, face: a person may be in several places, each with a neutral picture of its own."""
Features = Callable[[Sequence[Sample]], Tensor]
Classify = Callable[[Sequence[Sample]], list[str]]


def samples_of(pictures: Iterable[Shown]) -> list[Sample]:
    """Pictures as samples, of places whose neutral picture comes first; others are left out."""
    resting: dict[tuple[Any, ...], NDArray[np.float32]] = {}
    found = []
    for place, label, picture, face in pictures:
        shapes = np.array(list(face.blendshapes.values()), np.float32)
        if label == NEUTRAL:
            resting[place] = shapes
        if place in resting:
            square = face_square(picture, face).astype(np.float32)
            pixels = functional.interpolate(torch.from_numpy(square).permute(2, 0, 1)[None], size=(SIDE, SIDE), mode="area")
            whole = pixels[0].permute(1, 2, 0).round().byte().numpy()
            found.append(Sample(str(place[0]), label, shapes, shapes - resting[place], whole))
    return found


def make_data_set(folder: Path, flags: str) -> None:
    """The folder by `faceexpr dataset`, which goes on with what is there. Raises SystemExit where that fails."""
    from faceexpr_core.commands.cli import main as faceexpr

    with redirect_stdout(sys.stderr):
        status = faceexpr(["dataset", *shlex.split(flags), "--output_dir", str(folder)])
    if status:
        raise SystemExit(status)


def data_set(folder: Path, intensity: float) -> dict[str, list[Sample]]:
    """Split -> samples, as `datasets` loads them: neutral, and the expressions asked for at `intensity` or more."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    from datasets import load_dataset

    loaded = load_dataset("imagefolder", data_dir=str(folder))
    return {split: samples_of(_rows(loaded[split], intensity)) for split in loaded}


def _rows(rows: Any, intensity: float) -> Iterable[Shown]:
    names = rows["expression"]
    for number in sorted(range(len(rows)), key=lambda number: names[number] != NEUTRAL):
        row = rows[number]
        if row["expression"] == NEUTRAL or row["intensity"] >= intensity:
            points = np.array(row["landmarks"], np.float32)
            (left, top), (right, bottom) = points[:, :2].min(axis=0).tolist(), points[:, :2].max(axis=0).tolist()
            face = Face((left, top, right, bottom), points, row["blendshapes"])
            yield (row["person"], row["scene"], row["seed"]), row["expression"], np.asarray(row["image"]), face


def renders(subjects: Sequence[int], size: int = PHOTO_SIDE) -> list[Sample]:
    """Every expression of the vocabulary at full strength, of the world's people."""
    from lab.world.dataset import expression_sheet

    names = {one.word: name for name, one in EXPRESSIONS.items()}

    def pictures() -> Iterable[Shown]:
        with FaceDetector() as detector:
            for seed in subjects:
                for shown in expression_sheet(seed, size):
                    word = shown.attributes["expression"]
                    for face in detector.detect(shown.image)[:1]:
                        yield (seed,), names.get(word, word), shown.image, face

    return samples_of(pictures())


def blendshapes(samples: Sequence[Sample]) -> Tensor:
    return torch.from_numpy(np.stack([one.blendshapes for one in samples]))


def changes(samples: Sequence[Sample]) -> Tensor:
    return torch.from_numpy(np.stack([one.change for one in samples]))


def pixels(samples: Sequence[Sample]) -> Tensor:
    """float32 [n, 3, SIDE, SIDE] of each picture's own mean 0 and spread 1, so that light and skin count less."""
    whole = torch.from_numpy(np.stack([one.pixels for one in samples])).permute(0, 3, 1, 2).float()
    return (whole - whole.mean((1, 2, 3), keepdim=True)) / whole.std((1, 2, 3), keepdim=True).clamp_min(1.0)


def learn_regression(samples: Sequence[Sample], features: Features, classes: Sequence[str], seed: int = 0) -> Classify:
    """Multinomial logistic regression on standardised features, to its optimum."""
    torch.manual_seed(seed)
    given, labels = features(samples), _labels(samples, classes)
    mean, spread = given.mean(0), given.std(0).clamp_min(0.01)
    model = nn.Linear(given.shape[1], len(classes))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    weights = _weights(labels, len(classes))

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model((given - mean) / spread), labels, weights) + WEIGHT_DECAY * model.weight.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return _classify(lambda ones: model((features(ones) - mean) / spread), classes)


def learn_net(samples: Sequence[Sample], classes: Sequence[str], steps: int, seed: int = 0) -> Classify:
    """Three convolutions and a linear layer on the pixels, mirrored and moved at random while it learns."""
    torch.manual_seed(seed)
    widths = (3, 24, 48, 96)
    layers: list[nn.Module] = []
    for low, high in pairwise(widths):
        layers += [nn.Conv2d(low, high, 3, 2, 1), nn.GroupNorm(8, high), nn.SiLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.3), nn.Linear(9 * widths[-1], len(classes)))
    given, labels = pixels(samples), _labels(samples, classes)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    weights = _weights(labels, len(classes))
    net.train()
    for _ in range(steps):
        chosen = torch.randint(len(given), (min(64, len(given)),))
        batch = given[chosen]
        if torch.rand(()) < 0.5:
            batch = batch.flip(3)
        across, down = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
        loss = functional.cross_entropy(net(batch.roll((down, across), (2, 3))), labels[chosen], weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    net.eval()
    return _classify(lambda ones: net(pixels(ones)), classes)


def right_by_person(samples: Sequence[Sample], classify: Classify) -> Interval:
    """Share of the samples read as what they show: mean over people with its interval."""
    read = classify(samples)
    people: dict[str, list[float]] = {}
    for one, name in zip(samples, read, strict=True):
        people.setdefault(one.person, []).append(float(one.label == name))
    return mean_interval(list(people.values()))


def report(train: Sequence[Sample], tests: Mapping[str, Sequence[Sample]], classes: Sequence[str], steps: int) -> str:
    """Markdown: a line a classifier, then the share right of each expression."""
    learned = {
        "logistic regression, blendshapes": learn_regression(train, blendshapes, classes),
        "logistic regression, change of blendshapes": learn_regression(train, changes, classes),
        "convolutional net, pixels": learn_net(train, classes, steps),
    }
    people = len({one.person for one in train})
    counts = Counter(one.label for one in train)
    told = ", ".join(f"{name} {counts[name]}" for name in classes)
    lines = [f"Learned on {len(train)} pictures of {people} people ({told}). By chance {1 / len(classes):.2f}.", ""]
    lines += table_head(["classifier", *[f"{name}: {len(ones)} pictures" for name, ones in tests.items()]])
    lines += [table_line([name, *[cell(right_by_person(ones, one), "right") for ones in tests.values()]]) for name, one in learned.items()]
    for place, ones in tests.items():
        lines += ["", *table_head([place, *classes])]
        for name, one in learned.items():
            read = list(zip(ones, one(ones), strict=True))
            shares = [[found == label for sample, found in read if sample.label == label] for label in classes]
            lines.append(table_line([name, *[f"{np.mean(share):.2f}" if share else "-" for share in shares]]))
    return "\n".join(lines) + "\n"


def _labels(samples: Sequence[Sample], classes: Sequence[str]) -> Tensor:
    return torch.tensor([classes.index(one.label) for one in samples])


def _weights(labels: Tensor, count: int) -> Tensor:
    """Each class counts the same, however many pictures it has."""
    return len(labels) / (count * torch.bincount(labels, minlength=count).clamp_min(1))


def _classify(scores: Callable[[Sequence[Sample]], Tensor], classes: Sequence[str]) -> Classify:
    @torch.no_grad()
    def read(samples: Sequence[Sample]) -> list[str]:
        return [classes[number] for number in scores(samples).argmax(1).tolist()]

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set that faceexpr dataset made")
    parser.add_argument("--make", metavar="'FLAGS'", help="flags of faceexpr dataset, which first makes the folder or goes on with it")
    parser.add_argument("--intensity", type=float, default=0.5, help="expressions asked for more weakly are left out (0.5)")
    parser.add_argument("--parts", type=Path, help="the parts of the world's people (else $FACEEXPR_PARTS)")
    parser.add_argument("--subjects", nargs="+", default=["200000-200009"], help="seeds: 100000 and up tuning, 200000 and up reporting")
    parser.add_argument("--steps", type=int, default=400, help="of the net's training (400)")
    arguments = parser.parse_args()
    if arguments.parts is not None:
        os.environ["FACEEXPR_PARTS"] = str(arguments.parts)
    torch.set_num_threads(1)
    if arguments.make is not None:
        make_data_set(arguments.data, arguments.make)
    splits = data_set(arguments.data, arguments.intensity)
    rendered = renders(seeds(arguments.subjects))
    shown = {one.label for one in rendered}
    classes = sorted({one.label for one in splits["train"]} & shown, key=lambda name: (name != NEUTRAL, name))
    if len(classes) < 2:
        raise SystemExit(f"{arguments.data} shares {classes} with the renders; two or more are needed.")
    tests = {"its test split": splits.get("test", []), "renders": rendered}
    chosen = {name: [one for one in ones if one.label in classes] for name, ones in tests.items()}
    train = [one for one in splits["train"] if one.label in classes]
    print(report(train, {name: ones for name, ones in chosen.items() if ones}, classes, arguments.steps))


if __name__ == "__main__":
    try:
        main()
    except FaceExprError as reason:
        raise SystemExit(str(reason)) from reason
