"""LoRA files: four formats read and written, their names, and what of them fits a model."""
