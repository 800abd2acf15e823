"""SDXL's noise schedule, by which it is trained, drawn and fused into."""

TIMESTEPS = 1000
"""T."""
BETAS = (0.00085, 0.012)
"""The first and the last beta; those between are linear in their roots (`scaled_linear`)."""
