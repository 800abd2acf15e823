"""The one error a user is meant to read."""


class FaceExprError(ValueError):
    """Says what was given, what is needed and what to do."""
