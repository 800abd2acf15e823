"""The loss as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def loss_picture(curves: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Draw each named loss over the steps, faint as measured and strong as a moving mean over a tenth of the run.

    Each needs one value at least; steps with NaN, where that loss was not taken, are left out. Returns uint8 [432, 768, 3].
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.68, 4.32), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for position, (name, curve) in enumerate(curves.items()):
        given = np.asarray(curve, dtype=float)
        taken = np.flatnonzero(np.isfinite(given))
        steps, values = taken + 1, given[taken]
        window = max(1, len(values) // 10)
        axes.plot(steps, values, color=f"C{position}", alpha=0.3, linewidth=0.8)
        if len(values):
            mean = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(steps[window - 1 :], mean, color=f"C{position}", linewidth=2, label=name)
    if curves:
        axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
