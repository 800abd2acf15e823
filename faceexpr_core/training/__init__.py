"""Learns a person: encoded photos in, the layers of a LoRA out."""
