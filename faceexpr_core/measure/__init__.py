"""Reads expression and likeness out of pictures."""
