"""What a face that is drawn over may be said to show, and the settings with which it is drawn."""

from ..expressions import EXPRESSIONS

READ = "read"
SHOWN = (READ, "neutral", *(name for name in EXPRESSIONS if name != "neutral"))
"""What a face may be said to show; READ: see for oneself."""

STRENGTH, GUIDANCE, DENOISE, STEPS = 1.5, 1.0, 0.65, 20
"""The strength counts multiples of what the two texts differ by, not of `settings.WORDS_STRENGTH` as that of fusion does."""
