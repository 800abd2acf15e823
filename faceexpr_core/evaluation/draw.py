"""A picture of an arm, on diffusers: the same as `faceexpr generate` draws with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import text
from ..diffusers_host import encoding, sampling
from ..diffusers_host.donors import Run, own_donors
from ..fusion.donor_faces import held_regions, moves_face
from ..measure.judges import Picture
from ..measure.picture_score import NEUTRAL
from .arms import Arm
from .people import Person
from .plan import PERSON, Drawing, Place

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from ..diffusers_host.fusion import Fusion

LoadLora = Callable[["StableDiffusionXLPipeline", Path, float], None]


class Drawer:
    """Draws with one pipeline, which holds one LoRA at a time; `load` puts a file into it.

    What is fused comes from `base`, by default the same pipeline with its LoRA switched off.
    """

    def __init__(
        self, pipe: StableDiffusionXLPipeline, how: Drawing, load: LoadLora, base: StableDiffusionXLPipeline | None = None
    ) -> None:
        self._pipe, self._how, self._load, self._base = pipe, how, load, base or pipe
        self._loaded: tuple[Path, float] | None = None

    def draw(self, arm: Arm, lora: Path | None, person: Person, place: Place, expression: str, intensity: float) -> Picture:
        """A picture, uint8 [H, W, 3]; `lora` the person's, None for the model alone. Raises FaceExprError for a LoRA that does not fit."""
        self._bring(None if lora is None else (lora, arm.lora_strength))
        pipe, how = self._pipe, self._how
        words = place.scene.replace(PERSON, person.anybody if lora is None else person.words)
        terms = text.expression_terms(expression, intensity) if arm.embeddings else text.plain_terms(expression, intensity)
        prompt = text.build_prompts(words, terms, partial(encoding.count_tokens, pipe))
        fusions: list[Fusion] = []
        if arm.fusion is not None and arm.fusion.strength > 0 and moves_face(expression):
            run = Run(place.seed, how.steps, how.cfg, how.width, how.height, how.negative)
            fusions, _ = own_donors(self._base, prompt, arm.fusion, run, moved=held_regions(expression))
        alone = fusions and arm.text == NEUTRAL and arm.scale in (None, 1.0)
        drawn = sampling.generate(
            pipe,
            prompt.at_rest() if alone else prompt,
            negative=how.negative,
            seed=place.seed,
            steps=how.steps,
            cfg=how.cfg,
            width=how.width,
            height=how.height,
            expression_scale=arm.scale,
            fusion=fusions,
        )
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
