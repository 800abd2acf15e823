"""Carries an expression from a donor to a person inside the U-Net: the operator, what it needs, and where that comes from."""
