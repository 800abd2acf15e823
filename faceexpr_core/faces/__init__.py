"""Finds faces in pictures: detectors, landmarks and masks, the model files they need, pictures read from files and batches."""
