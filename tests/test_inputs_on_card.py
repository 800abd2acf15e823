"""What comes into a node may lie on a graphics card (`--gpu-only`), or be in half precision (newer ComfyUI): nodes bring together what they
join. The card is a pretended one, which refuses operations on tensors of two devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from distances import relative
from PIL import Image
from torch import Tensor

from faceexpr_core import mini as shipped
from faceexpr_core.faces.images import read_rgb
from lab.pretended.card import PretendedCard

Move = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def mini(comfy_modules) -> SimpleNamespace:
    with torch.inference_mode():
        given = pack.mini_asked_to_smile("a photo of a young man, black hair, blue background")
        latent = {"samples": torch.zeros(1, 4, 16, 16)}
        run = (given["positive"], given["neutral"], given["negative"], latent, 7, 4, 4.0, "euler", "normal", 1.0, "happy", given["vae"])
        bank = pack.node("extract_expression_features").ExtractExpressionFeatures.execute(given["model"], *run).args[0]
    photo = Image.fromarray(read_rgb(sorted(Path(shipped.subject_path()).glob("*.png"))[0])).resize((128, 128), Image.Resampling.LANCZOS)
    picture = torch.from_numpy(np.array(photo)).float()[None] / 255
    left = torch.zeros(1, 128, 128)
    left[..., :80] = 1
    return SimpleNamespace(**given, bank=bank, picture=picture, left=left, nodes=comfy_modules.nodes, latent=latent)


def masked_fusion(mini: SimpleNamespace, move: Move) -> Any:
    apply = pack.node("apply_attention_focused_fusion").ApplyAttentionFocusedFusion.execute
    model = apply(mini.model, mini.bank, 1.0, mask=move(mini.left), regions="mouth", vae=mini.vae).args[0]
    start = {"samples": mini.vae.encode(mini.picture)}
    return mini.nodes.KSampler().sample(model, 3, 4, 4.0, "euler", "normal", mini.neutral, mini.negative, start, 0.6)[0]["samples"]


def sampler(mini: SimpleNamespace, move: Move, refine_below: float = 1.0) -> Any:
    latent = {"samples": move(mini.vae.encode(mini.picture)), "noise_mask": move(mini.left)}
    texts = (mini.positive, mini.negative, latent, 0.6)
    more = {"neutral": mini.neutral, "base_model": mini.model, "vae": mini.vae, "refine_below": refine_below, "refine_denoise": 0.3}
    node = pack.node("sampler").Sampler.execute
    return node(mini.model, 3, 4, 4.0, "euler", "normal", *texts, **more).args[0]["samples"]


def change(mini: SimpleNamespace, move: Move) -> Any:
    words = ("a photo of a man", "happy", 1.0, "none", 0.5, 1.0, -1)
    node = pack.node("change_expression").ChangeExpression.execute
    return node(move(mini.picture), mini.model, mini.clip, mini.vae, *words, mask=move(torch.ones(1, 128, 128)), steps=2).args[0]


def photo_features(mini: SimpleNamespace, move: Move) -> Any:
    run = ({"samples": move(mini.latent["samples"])}, 7, 4, 4.0, "euler", "normal", 1.0, "happy", mini.vae)
    node = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
    texts = (mini.positive, mini.neutral, mini.negative)
    return node(mini.model, *texts, *run, photo=move(mini.picture), neutral_photo=move(mini.picture.flip(2)), levels=2).args[1]


def score(mini: SimpleNamespace, move: Move) -> Any:
    """The photos of a person; and a batch of pictures that came two ways."""
    words = {"folder": "none", "trigger_word": "ohwx", "class_word": "man", "resolution": 64, "framing": "face crop", "padding": 0.75}
    wishes: dict[str, Any] = {**words, "face": 0, "drop_small_faces": False, "drop_duplicates": True}
    load = pack.node("load_subject_images").LoadSubjectImages.execute
    subject = load(images=[move(mini.picture)], **{name: [value] for name, value in wishes.items()}).args[0]
    node, images = pack.node("score").Score.execute, [move(mini.picture), mini.picture]
    return node(images, [subject], ["happy"], [1.0], [2], neutral=[move(mini.picture)]).args[1][0]


NODES = [masked_fusion, sampler, change, photo_features, score]


@pytest.mark.parametrize("node", NODES)
def test_inputs_on_a_card_give_what_they_give_on_the_cpu(mini, node: Callable[..., Any]) -> None:
    with torch.inference_mode():
        expected = node(mini, lambda tensor: tensor)
        with PretendedCard("values"):
            given = node(mini, lambda tensor: tensor.to("cuda")).cpu()
            assert given.tolist() == expected.tolist()


@pytest.mark.parametrize("node", [node for node in NODES if node is not sampler])
def test_inputs_in_half_precision_give_nearly_what_they_give_in_full(mini, node: Callable[..., Any]) -> None:
    with torch.inference_mode():
        expected, given = node(mini, lambda tensor: tensor), node(mini, lambda tensor: tensor.half()).float()
    assert relative(given, expected) < 0.02


@pytest.mark.parametrize("refine_below", [0.0, 1.0])
def test_a_latent_in_half_precision_is_drawn_where_its_mask_lies(mini, refine_below: float) -> None:
    """Not to what it is in full: ComfyUI draws other noise for it."""
    with torch.inference_mode():
        start, given = mini.vae.encode(mini.picture), sampler(mini, lambda tensor: tensor.half(), refine_below).float()
    left, right = slice(9), slice(11, None)  # the mask ends at column 10
    assert torch.isfinite(given).all()
    assert torch.allclose(given[..., right], start[..., right], atol=0.01)
    drawn = float((given[..., left] - start[..., left]).std() / start[..., left].std())
    assert 0.1 < drawn < 1.5, drawn
