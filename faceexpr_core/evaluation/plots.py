"""Plots of an evaluation as SVG that takes its ink from the page, so that it is read on light and on dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..measure.statistics import Interval
from .summary import Measure, Row

COLOURS = ("#3b82c4", "#d97a1c", "#3a9e6e", "#b0589f", "#8f7a33", "#5c6bc0", "#c0504d", "#2a9d9d")
"""Of the arms, in their order; each stands out on white and on near-black."""
MARKS = "osD^vPX*"
_INK = "#010203"
SHOWN = ("accuracy_6", "accuracy_6_classifier", "right_on_person", "expression_score", "likeness", "hes", "linearity", "background", "pose")

SHARES = ("accuracy_6", "accuracy_6_classifier", "right_on_person", "expression_score", "hes")
"""Of those, what runs from 0 to 1."""


def forest(rows: Sequence[Row], measures: Sequence[Measure]) -> str:
    """Small plots, a measure each: the arms' means with their intervals."""
    chosen = [one for one in measures if one.name in SHOWN and any(row.values[one.name] for row in rows)]
    from matplotlib.ticker import MaxNLocator

    columns = 3
    figure, axes = _figure(columns * 3.3, -(-len(chosen) // columns) * (0.75 + 0.28 * len(rows)), -(-len(chosen) // columns), columns)
    for axis, one in zip(axes, chosen, strict=False):
        for place, row in enumerate(rows):
            if (value := row.values[one.name]) is not None:
                _dot(axis, value, place, place, across=True)
        axis.set_title(f"{one.title} {_arrow(one.better)}", fontsize=9, color=_INK)
        axis.set_yticks(range(len(rows)), [row.arm for row in rows] if axis in axes[::columns] else [""] * len(rows), fontsize=8)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        if one.name in SHARES:
            axis.set_xlim(-0.04, 1.04)
            axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axis.grid(axis="x", color=_INK, alpha=0.15)
    for axis in axes[len(chosen) :]:
        axis.set_visible(False)
    return _svg(figure)


def expressions(shares: Mapping[str, Mapping[str, Interval | None]]) -> str:
    """Of each arm and expression the share that is right."""
    names = list(dict.fromkeys(name for own in shares.values() for name, share in own.items() if share is not None))
    figure, (axis,) = _figure(6.2, 3.2)
    for number, (arm, own) in enumerate(shares.items()):
        for place, name in enumerate(names):
            if (value := own.get(name)) is not None:
                _dot(axis, value, place + (number - (len(shares) - 1) / 2) * 0.8 / len(shares), number, label=arm if not place else None)
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=20 if len(names) > 4 else 0)
    axis.set_xlim(-0.5, max(1, len(names)) - 0.5)
    axis.set_ylim(-0.04, 1.04)
    axis.set_ylabel("share right", fontsize=9, color=_INK)
    axis.grid(axis="y", color=_INK, alpha=0.15)
    _legend(axis)
    return _svg(figure)


def intensities(read: Mapping[str, Mapping[float, Interval | None]]) -> str:
    """The intensity asked against the one read, a line an arm."""
    figure, (axis,) = _figure(5.2, 3.4)
    most = max((asked for own in read.values() for asked in own), default=1.0)
    axis.plot([0, most], [0, most], color=_INK, alpha=0.4, linestyle="--", linewidth=1, label="as asked")
    for number, (arm, own) in enumerate(read.items()):
        known = [(asked, value) for asked, value in own.items() if value is not None]
        axis.plot([asked for asked, _ in known], [value.mean for _, value in known], color=COLOURS[number % len(COLOURS)], linewidth=1.5)
        for place, (asked, value) in enumerate(known):
            _dot(axis, value, asked, number, label=arm if not place else None)
    axis.set_xlabel("intensity asked", fontsize=9, color=_INK)
    axis.set_ylabel("intensity read", fontsize=9, color=_INK)
    axis.grid(color=_INK, alpha=0.15)
    _legend(axis)
    return _svg(figure)


def trade(rows: Sequence[Row]) -> str:
    """Likeness against expression score: a small mark a person, a large one an arm."""
    figure, (axis,) = _figure(5.2, 3.4)
    for number, row in enumerate(rows):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        points = [(own["expression_score"], own["likeness"]) for own in row.people.values()]
        if len(points) > 1:
            axis.scatter(*zip(*points, strict=True), s=14, color=colour, alpha=0.5, marker=mark, linewidths=0)
        score, likeness = row.values["expression_score"], row.values["likeness"]
        if score is not None and likeness is not None:
            axis.scatter([score.mean], [likeness.mean], s=70, color=colour, marker=mark, label=row.arm)
    axis.set_xlabel("expression score", fontsize=9, color=_INK)
    axis.set_ylabel("likeness (SFace)", fontsize=9, color=_INK)
    axis.grid(color=_INK, alpha=0.15)
    _legend(axis)
    return _svg(figure)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.patch.set_alpha(0)
        axis.tick_params(colors=_INK, labelcolor=_INK, labelsize=8)
        for side, spine in axis.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_edgecolor(_INK)
            spine.set_alpha(0.5)
    return figure, axes


def _dot(axis: Any, value: Interval, place: float, number: int, across: bool = False, label: str | None = None) -> None:
    """A mean with its interval, across or upright."""
    ends = [[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]]
    at = ([value.mean], [place]) if across else ([place], [value.mean])
    style = {"color": COLOURS[number % len(COLOURS)], "fmt": MARKS[number % len(MARKS)], "markersize": 5, "linewidth": 1.4, "label": label}
    axis.errorbar(*at, **{"xerr" if across else "yerr": ends}, **style)


def _legend(axis: Any) -> None:
    axis.legend(fontsize=8, frameon=False, labelcolor=_INK, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)


def _arrow(better: int) -> str:
    return {1: "\N{UPWARDS ARROW}", -1: "\N{DOWNWARDS ARROW}"}.get(better, "")


def _svg(figure: Any) -> str:
    """The figure's `<svg>` alone, the same each time, its ink the page's; its ids differ from those of other plots."""
    import hashlib

    from matplotlib import rc_context

    figure.patch.set_alpha(0)
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "faceexpr", "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL).replace(_INK, "currentColor")
    own = hashlib.sha256(drawn.encode()).hexdigest()[:6]
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', drawn)
    drawn = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{own}-", drawn)
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn, count=2)
