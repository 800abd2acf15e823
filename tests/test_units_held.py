"""Single action units act on their part of the face, in ComfyUI as on the command line; words on all of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from PIL import Image

from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.mini import RESOLUTION

PERSON = "a photo of a young woman, red hair, green background"
STEPS, CFG, SEED = 6, 4.0, 11


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Any:
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        negative = pack.host().encode_conditioning(clip, "")
        encode = pack.node("expression_text_encode").ExpressionTextEncode.execute
        yield SimpleNamespace(
            model=model,
            vae=vae,
            negative=negative,
            texts=lambda *asked: encode(clip, PERSON, *asked).args,
            sampler=pack.node("sampler").Sampler.execute,
            extract=pack.node("extract_expression_features").ExtractExpressionFeatures.execute,
            moved=pack.node("fusion_inputs").moved_by,
            held=pack.node("host.texts").HELD,
        )


def drawn(mini: SimpleNamespace, positive: Any, neutral: Any, **fusion: Any) -> np.ndarray:
    """[H, W, 3] in 0..255."""
    start = {"samples": torch.zeros(1, 4, RESOLUTION // 8, RESOLUTION // 8)}
    run = (mini.model, SEED, STEPS, CFG, "euler", "normal", positive, mini.negative, start, 1.0)
    with torch.inference_mode():
        samples = mini.sampler(*run, neutral=neutral, vae=mini.vae, **fusion).args[0]["samples"]
        return np.asarray(mini.vae.decode(samples)[0] * 255)


@pytest.mark.parametrize(
    ("asked", "regions"),
    [
        (("none", 1.0, "none", 0.5, "AU1+L2"), ("brows",)),
        (("neutral", 1.0, "happy", 0.0, "AU12"), ("mouth",)),  # a second expression without weight asks for nothing
        (("none", 1.0, "happy", 0.5, "AU1"), ()),
        (("happy", 1.0, "none", 0.5, "AU1"), ()),
        (("happy", 1.0, "none", 0.5, ""), ()),
    ],
)
def test_a_text_says_to_which_part_of_the_face_it_is_held(mini: SimpleNamespace, asked: Any, regions: tuple[str, ...]) -> None:
    positive, neutral = mini.texts(*asked)
    assert tuple(positive[0][1].get(mini.held, ())) == regions and mini.held not in neutral[0][1]
    start = {"samples": torch.zeros(1, 4, 8, 8)}
    with torch.inference_mode():
        run = (start, SEED, 2, CFG, "euler", "normal", 1.0)
        bank = mini.extract(mini.model, positive, neutral, mini.negative, *run).args[0]
    assert mini.moved(bank) == regions


def test_comfyui_and_the_command_line_draw_the_same_of_a_unit_and_leave_the_rest_of_the_face(mini: SimpleNamespace, tmp_path: Path) -> None:
    positive, neutral = mini.texts("none", 1.0, "none", 0.5, "AU12")
    held = drawn(mini, positive, neutral, base_model=mini.model)
    words = ["generate", "--model", "mini", "--prompt", PERSON, "--expression", "none", "--action_units", "AU12", "--fusion_strength", "1"]
    run = ["--steps", f"{STEPS}", "--cfg", f"{CFG}", "--seed", f"{SEED}", "--output_dir", str(tmp_path)]
    assert faceexpr([*words, *run]) in (0, None)
    (file,) = tmp_path.glob("*.png")
    assert np.abs(np.asarray(Image.open(file), np.float32) - np.floor(held)).mean() < 0.1  # a file's numbers are whole
    everywhere = [[hidden, {key: value for key, value in extra.items() if key != mini.held}] for hidden, extra in positive]
    loose, rest = drawn(mini, everywhere, neutral, base_model=mini.model), drawn(mini, neutral, neutral)
    upper = slice(0, RESOLUTION // 3)
    changes = [np.abs(one - rest)[upper].mean() for one in (held, loose)]
    assert changes[0] < 0.9 * changes[1]
    assert np.abs(held - rest).mean() > 0.3
