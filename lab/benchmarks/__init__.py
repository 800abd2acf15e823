"""Measurements whose tables stand in docs/measurements.md and docs/speed_and_memory.md.

Run from the repository's root, as `python -m lab.benchmarks.<name> --help`.
They need the renderer of Mini's people (`pip install anny`, the extra `world`) and the model files that measure faces.
"""
