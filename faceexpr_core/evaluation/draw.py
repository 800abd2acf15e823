"""A picture of an arm, on diffusers: the same as `faceexpr generate` draws with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import text
from ..diffusers_host import encoding, sampling
from ..diffusers_host.donors import own_donors
from ..fusion.donor_faces import held_regions, moves_face
from ..fusion.run import Run
from ..fusion.settings import by_fusion_alone
from ..measure.judges import Picture
from .arms import Arm
from .people import Person
from .plan import PERSON, Place

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from ..diffusers_host.fusion import Fusion

LoadLora = Callable[["StableDiffusionXLPipeline", Path, float], None]


class Drawer:
    """Draws with one pipeline, which holds one LoRA at a time; `load` puts a file into it. `how` is each picture's run but for its seed.

    What is fused comes from `base`, by default the same pipeline with its LoRA switched off.
    """

    def __init__(self, pipe: StableDiffusionXLPipeline, how: Run, load: LoadLora, base: StableDiffusionXLPipeline | None = None) -> None:
        self._pipe, self._how, self._load, self._base = pipe, how, load, base or pipe
        self._loaded: tuple[Path, float] | None = None

    def draw(self, arm: Arm, lora: Path | None, person: Person, place: Place, expression: str, intensity: float) -> Picture:
        """A picture, uint8 [H, W, 3]; `lora` the person's, None for the model alone. Raises FaceExprError for a LoRA that does not fit."""
        self._bring(None if lora is None else (lora, arm.lora_strength))
        pipe, run = self._pipe, replace(self._how, seed=place.seed)
        words = place.scene.replace(PERSON, person.anybody if lora is None else person.words)
        terms = text.expression_terms(expression, intensity) if arm.embeddings else text.plain_terms(expression, intensity)
        prompt = text.build_prompts(words, terms, partial(encoding.count_tokens, pipe))
        fusions: list[Fusion] = []
        if arm.fusion is not None and arm.fusion.strength > 0 and moves_face(expression):
            fusions, _ = own_donors(self._base, prompt, arm.fusion, run, moved=held_regions(expression))
        said = prompt.at_rest() if fusions and by_fusion_alone(arm.text, arm.scale) else prompt
        drawn = sampling.generate(pipe, said, run, expression_scale=arm.scale, fusion=fusions)
        picture: Picture = drawn[0].numpy()
        return picture

    def _bring(self, wanted: tuple[Path, float] | None) -> None:
        if wanted == self._loaded:
            return
        if self._loaded is not None:
            self._pipe.unload_lora_weights()
        self._loaded = None
        if wanted is not None:
            self._load(self._pipe, *wanted)
        self._loaded = wanted
