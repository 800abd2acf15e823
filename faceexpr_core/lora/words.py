"""The words that a LoRA file says it learned."""

from __future__ import annotations

from pathlib import Path

from ..errors import FaceExprError
from .given import weights_of


def said_words(file: Path) -> tuple[str, str] | None:
    """Trigger and class word in the file's metadata, as `faceexpr train` writes them or as the trigger phrase of Stability AI's modelspec;
    None where it says nothing. Of a PEFT adapter's folder what its first file says. Raises FaceExprError for a file that cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights_of(file)[0], framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (OSError, SafetensorError) as reason:
        raise FaceExprError(f"{file} cannot be read as a LoRA ({reason}); it needs to be a whole .safetensors file.") from reason
    if "faceexpr.trigger" in metadata or "faceexpr.class_word" in metadata:
        return metadata.get("faceexpr.trigger", ""), metadata.get("faceexpr.class_word", "")
    return split_words(metadata["modelspec.trigger_phrase"]) if metadata.get("modelspec.trigger_phrase") else None


def split_words(words: str) -> tuple[str, str]:
    """`ohwx young woman` -> (`ohwx young`, `woman`); one word is a class word."""
    trigger, _, class_word = words.strip().rpartition(" ")
    return trigger.strip(), class_word
