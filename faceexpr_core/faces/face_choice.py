"""Which of the faces in a picture is meant, by number."""

ALL_FACES = -1
"""Beside 0 for the largest face, 1 for the second largest and so on."""
