"""What FaceExpr Sampler draws of a latent: KSampler's picture, its expression scaled at each step or fused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from ..faceexpr_core.fusion.bank import FeatureBank
from ..faceexpr_core.fusion.settings import NEUTRAL_TEXT, FusionSettings, by_fusion_alone, site_settings, words_settings
from ..faceexpr_core.text import expression_direction
from . import extraction
from .host.conditioning import Conditioning
from .host.fusion import Seen, attach_fusion
from .host.sampling import ExpressionGuider, Span, sample
from .host.texts import Pair, at_rest, held_to, own_texts, pair_texts, same_text, tagged

TEXTS = (NEUTRAL_TEXT, "positive")
"""Which text is drawn while features are fused."""


class Texts(NamedTuple):
    positive: Conditioning
    negative: Conditioning
    neutral: Conditioning | None = None


@dataclass(frozen=True, eq=False)
class Drawing:
    """How latents are drawn: KSampler's settings, the expression's scale (1: plain guidance), and what is fused (neither `features` nor
    `base_model`: nothing). `base_model` is read against `neutral`, which the texts then must hold, as they must for a scale other than 1.

    `seen`: how the face is found. What a text is held to (`texts.held_to`) takes the place of its regions where `base_model` is fused.
    `fusion_text`: one of TEXTS. `span`: where the drawing is one of several of a node.
    """

    steps: int
    cfg: float
    sampler: str
    scheduler: str
    expression_scale: float = 1.0
    features: FeatureBank | None = None
    base_model: Any = None
    fusion_strength: float = FusionSettings.strength
    fusion_text: str = NEUTRAL_TEXT
    seen: Seen | None = None
    span: Span | None = None

    def draw(self, model: Any, texts: Texts, latent: dict[str, Any], seed: int, denoise: float) -> dict[str, Any]:
        """The latent that `model` draws of the texts."""
        positive, negative, neutral = texts
        pairs = [] if neutral is None else pair_texts(positive, neutral)
        fused = self._fused(model, texts, pairs, len(latent["samples"]), denoise)
        if neutral is not None and fused is not model and self.fusion_strength > 0:
            alone = by_fusion_alone(self.fusion_text, self.expression_scale)
            positive = at_rest(positive, neutral, pairs) if alone else tagged(positive, pairs)
        guider = None
        if neutral is not None and self.expression_scale != 1.0:
            mix = partial(expression_direction, scale=self.expression_scale)
            guider = ExpressionGuider(fused, positive, negative, neutral, self.cfg, mix)
        return sample(
            fused,
            positive,
            negative,
            latent,
            seed=seed,
            steps=self.steps,
            cfg=self.cfg,
            sampler=self.sampler,
            scheduler=self.scheduler,
            denoise=denoise,
            guider=guider,
            span=self.span,
        )

    def _fused(self, model: Any, texts: Texts, pairs: list[Pair], pictures: int, denoise: float) -> Any:
        """`model` with the features on it, or with what the base model makes of each pair of texts; itself where nothing is to be fused."""
        if self.features is not None:
            # all layers of those that were recorded
            settings = replace(site_settings(self.features.site), strength=self.fusion_strength, layers="all")
            return attach_fusion(model, self.features, settings, seen=self.seen)
        if self.base_model is None or texts.neutral is None or self.fusion_strength == 0 or denoise == 0:
            return model
        settings = words_settings(self.fusion_strength)
        fused = model
        for tag, pair in enumerate(pairs):
            for own in own_texts(texts.positive[pair.expression], texts.neutral[pair.neutral], pictures):
                if not same_text(own.expression, own.neutral):
                    bank = extraction.kept_contexts(self.base_model, own.expression, own.neutral, settings)
                    seen = None if self.seen is None else self.seen._replace(moved=held_to(own.expression))
                    fused = attach_fusion(fused, bank, settings, seen=seen, tag=tag, pictures=own.pictures)
        return fused
