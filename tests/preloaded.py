"""Imports what the processes of forks.py need, once for all of them; they would import the most of it late, each for itself."""

from __future__ import annotations

from importlib import import_module

import test_training_state

from faceexpr_core.diffusers_host import pipeline
from faceexpr_core.photos import subject_process

LATE = (
    "accelerate",
    "bitsandbytes",
    "cv2",
    "diffusers.training_utils",
    "faceexpr_core.commands.cli",
    "faceexpr_core.commands.dreambooth",
    "lab.benchmarks.trainer_peak",
    "matplotlib.pyplot",
    "mediapipe.tasks.python.vision",
    "peft",
    "pyarrow.parquet",
    "scipy.cluster.hierarchy",
    "scipy.stats",
)
for name in LATE:
    import_module(name)
assert subject_process and test_training_state
pipeline.load_pipeline("mini")  # for what that imports
