"""How a training run goes, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import Step


def progress_text(step: Step) -> str:
    """`step 120 of 800, 1.2 steps/s, 9 min 27 s left, loss 0.0831 (identity 0.0621, prior 0.021), 10.4 GB`."""
    parts = [f"step {step.number} of {step.total}"]
    if step.seconds > 0:
        pace = step.taken / step.seconds
        parts += [f"{pace:.2g} steps/s" if pace >= 0.1 else f"{1 / pace:.0f} s a step", f"{duration(step.remaining)} left"]
    shown = ", ".join(f"{name} {value:.3g}" for name, value in step.losses.items() if not math.isnan(value))
    parts.append(f"loss {step.loss:.3g} ({shown})" if len(step.losses) > 1 else f"loss {step.loss:.3g}")
    if step.memory:
        parts.append(f"{step.memory / 2**30:.1f} GB")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
