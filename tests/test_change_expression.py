"""Change Expression in a real ComfyUI, on Mini: the face changes, and nothing else does."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from comfy_process import ComfyInterrupted, ComfyProcess, Graph, Progress
from fusion_graphs import Graph as Patched
from fusion_graphs import lora, person_lora
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.measure.expression import ExpressionMeter, intensity_of
from faceexpr_core.measure.identity import IdentityMeter, normalised

QUICK = {"steps": 5}
WORDS = {"prompt": "a photo of a person", "intensity": 1.0, "second_expression": "none", "second_weight": 0.5, "strength": 1.5, "face": -1}


@pytest.fixture(scope="module")
def node(comfy_modules: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """ComfyUI's Mini, and `change(image, expression, **inputs)`, which gives (image, mask, report)."""
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        execute = pack.node("change_expression").ChangeExpression.execute
        given = {"model": model, "clip": clip, "vae": vae, **WORDS}

        def change(image: torch.Tensor, expression: str, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor, str]:
            return execute(image, expression=expression, **{**given, **QUICK, **inputs}).args

        error = comfy_modules.core.errors.FaceExprError
        hooks = importlib.import_module("comfy.hooks")
        nodes, home = comfy_modules.nodes, comfy_modules.home
        yield SimpleNamespace(model=model, clip=clip, change=change, error=error, nodes=nodes, home=home, hooks=hooks)


def photo(path: Any, side: int) -> Image.Image:
    return Image.fromarray(read_rgb(path)).resize((side, side), Image.Resampling.LANCZOS)


def as_image(picture: Image.Image) -> torch.Tensor:
    """IMAGE [1, H, W, 3], with values that no byte has."""
    pixels = torch.from_numpy(np.array(picture)).float()[None] / 255
    return (pixels + 0.3 / 255 * torch.rand(pixels.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def as_bytes(image: torch.Tensor) -> np.ndarray:
    return (image[0].clamp(0, 1) * 255).round().byte().numpy()


@pytest.fixture(scope="module")
def neutral() -> torch.Tensor:
    return as_image(photo(mini.subject_path() / "photo_6.png", 200))


@pytest.fixture(scope="module")
def smiling() -> torch.Tensor:
    return as_image(photo(mini.donor_path() / "another_person_happy.jpg", 200))


@pytest.fixture(scope="module")
def pair() -> torch.Tensor:
    """Two people beside each other, the left one larger, [1, 220, 360, 3]."""
    page = Image.new("RGB", (360, 220), "white")
    page.paste(photo(mini.subject_path() / "photo_6.png", 210), (0, 5))
    page.paste(photo(mini.donor_path() / "another_person_neutral.jpg", 130), (220, 60))
    return as_image(page)


def differs(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """[H, W]: where the first pictures differ in any bit."""
    return (one != other).any(-1)[0]


def test_the_face_takes_the_expression_and_stays_the_persons(node, neutral, model_folder) -> None:
    right, likeness = [], []
    with ExpressionMeter([model_folder]) as meter, IdentityMeter([model_folder], meter.detector) as identity:
        reference = identity.reference([as_bytes(neutral)])
        for expression in ("happy", "angry", "surprised"):
            made, mask, report = node.change(neutral, expression, steps=8)
            assert "neutral until now" in report
            assert made.shape == neutral.shape
            assert made.dtype == neutral.dtype
            assert torch.equal(made[mask == 0], neutral[mask == 0])
            assert 0.2 < float((mask > 0).float().mean()) < 0.9
            right.append(meter.measure(as_bytes(made), as_bytes(neutral)).hits(expression))
            likeness.append(normalised(identity.similarity(as_bytes(made), reference)))
    assert sum(right) >= 2, right
    assert min(likeness) > 0.6, likeness


def test_a_smile_is_taken_away(node, smiling, model_folder) -> None:
    made, mask, report = node.change(smiling, "neutral", steps=8)
    assert "happy until now" in report
    assert torch.equal(made[mask == 0], smiling[mask == 0])
    rest = read_rgb(mini.donor_path() / "another_person_neutral.jpg")
    with ExpressionMeter([model_folder]) as meter:
        faces = [face for picture in (as_bytes(smiling), as_bytes(made), rest) if (face := meter.face(picture)) is not None]
        before, after = (intensity_of(face, faces[2], "happy") for face in faces[:2])
    assert after < 0.7 * before


def test_faces_that_show_what_is_asked_are_left_alone_and_the_others_drawn(node, neutral, smiling, monkeypatch) -> None:
    drawn: list[int] = []
    faces = pack.node("redraw_faces")
    redraw = faces.redraw_latent

    def watch(*given: Any) -> torch.Tensor:
        drawn.append(given[-1])
        return redraw(*given)

    monkeypatch.setattr(faces, "redraw_latent", watch)
    for image, asked in ((neutral, "neutral"), (smiling, "happy")):
        made, mask, report = node.change(image, asked)
        assert torch.equal(made, image) and not mask.any()
        assert report.endswith(
            f"shows {asked} already, as the judges read it, and is left as it is; say in shown what it shows, to change it"
        )
    assert drawn == []
    made, mask, report = node.change(torch.cat([neutral, smiling]), "neutral", steps=2)
    assert drawn == [1]
    assert torch.equal(made[0], neutral[0]) and not mask[0].any()
    assert differs(made[1:], smiling).any() and mask[1].any()
    assert "shows neutral already" in report and "picture 2: a face of" in report and "happy until now" in report
    assert node.change(neutral, "neutral", shown="sad", steps=1)[1].any()  # the user knows better


def test_strength_0_gives_the_picture_back_to_the_bit(node, neutral) -> None:
    made, mask, _ = node.change(neutral, "happy", strength=0.0)
    assert torch.equal(made, neutral)
    assert not mask.any()


def test_all_faces_are_changed_or_the_one_that_is_meant(node, pair) -> None:
    everyone, both, report = node.change(pair, "surprised")
    assert report.count("a face of") == 2
    smaller, second, _ = node.change(pair, "surprised", face=1)
    left = torch.zeros(pair.shape[1:3], dtype=torch.bool)
    left[:, :215] = True
    assert not second[0][left].any()
    assert differs(smaller, pair)[~left].sum() > 500
    for made, mask in ((everyone, both), (smaller, second)):
        assert torch.equal(made[mask == 0], pair[mask == 0])
    assert differs(everyone, pair)[left].sum() > 500
    assert torch.equal(everyone[:, :, 215:], smaller[:, :, 215:])  # each face by itself


def test_a_mask_chooses_the_face_and_holds_the_change(node, pair) -> None:
    mask = torch.zeros(1, 110, 180)
    mask[:, :, 110:] = 1  # half the picture's size: the right person
    mask[:, 80:] = 0
    made, changed, _ = node.change(pair, "surprised", mask=mask)
    where = differs(made, pair)
    assert where.sum() > 300
    assert not where[:, :218].any()
    assert not where[162:].any()
    assert torch.equal(made[changed == 0], pair[changed == 0])


def test_a_batch_keeps_the_pictures_without_a_face_and_says_so(node, neutral) -> None:
    empty = torch.full_like(neutral, 0.5)
    made, mask, report = node.change(torch.cat([empty, neutral]), "happy")
    assert torch.equal(made[0], empty[0])
    assert not mask[0].any()
    assert differs(made[1:], neutral).any()
    assert "picture 1: 0 faces found, none that is meant; left as it is" in report


def test_where_there_is_no_face_at_all_that_is_an_error(node, neutral) -> None:
    with pytest.raises(node.error, match="no face to change was found in 1 picture"):
        node.change(torch.full_like(neutral, 0.5), "happy")
    with pytest.raises(node.error, match="no face to change was found inside the mask"):
        node.change(neutral, "happy", mask=torch.zeros(200, 200))
    with pytest.raises(node.error, match="no expression is asked"):
        node.change(neutral, "none")


def test_a_fourth_channel_and_half_precision_pass_through(node, neutral) -> None:
    given = torch.cat([neutral, torch.rand(neutral.shape[:3], generator=torch.Generator().manual_seed(3))[..., None]], -1).half()
    made, mask, _ = node.change(given, "happy", steps=2)
    assert made.dtype == torch.float16
    assert torch.equal(made[..., 3], given[..., 3])
    assert torch.equal(made[mask == 0], given[mask == 0])


def test_the_persons_model_draws_and_the_other_says_the_expression(node, neutral) -> None:
    with_lora = lora(SimpleNamespace(nodes=node.nodes, clip=node.clip, lora=person_lora(node.home)), Patched(node.model, None, None)).model
    alone, _, _ = node.change(neutral, "happy")
    personal, mask, _ = node.change(neutral, "happy", person_model=with_lora)
    wholly, _, _ = node.change(neutral, "happy", model=with_lora)
    assert differs(alone, personal).sum() > 500
    assert differs(personal, wholly).sum() > 500
    assert torch.equal(personal[mask == 0], neutral[mask == 0])


def test_a_patched_model_sampling_is_followed(node, neutral) -> None:
    discrete = importlib.import_module("comfy_extras.nodes_model_advanced").ModelSamplingDiscrete
    patched = discrete().patch(node.model, "lcm", False)[0]
    plain, _, _ = node.change(neutral, "happy", scheduler="sgm_uniform")
    made, mask, _ = node.change(neutral, "happy", scheduler="sgm_uniform", model=patched)
    assert torch.isfinite(made).all()
    assert torch.equal(made[mask == 0], neutral[mask == 0])
    assert differs(made, plain).any()
    assert float((made - plain).abs().max()) < 0.5


def over_http(steps: int) -> Graph:
    loaded = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
    return {
        "1": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "another_person_neutral.jpg"}},
        "3": {
            "class_type": "FaceExprChangeExpression",
            "inputs": {**loaded, "image": ["2", 0], **WORDS, "expression": "happy", "steps": steps},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "change/made"}},
    }


def test_a_text_that_changes_from_some_step_on_is_refused(node, neutral) -> None:
    """A LoRA with a schedule makes of each text one for some steps, of which only the first would be fused."""
    keyframes, half = node.hooks.HookKeyframeGroup(), node.hooks.HookKeyframe
    keyframes.add(half(1.0, start_percent=0.0))
    keyframes.add(half(0.5, start_percent=0.5))
    hooks, hook = node.hooks.HookGroup(), node.hooks.WeightHook()
    hook.weights, hook.need_weight_init = {}, False
    hooks.add(hook)
    hooks.set_keyframes_on_hooks(keyframes)
    clip = node.clip.clone()
    clip.patcher.forced_hooks, clip.use_clip_schedule = hooks, True
    with pytest.raises(node.error, match="makes 2 texts of one, each for some steps: a LoRA with a schedule"):
        node.change(neutral, "happy", clip=clip)


def test_over_http_it_shows_its_progress_and_can_be_cancelled(comfy: ComfyProcess) -> None:
    photo(mini.donor_path() / "another_person_neutral.jpg", 200).save(comfy.input_dir / "another_person_neutral.jpg", quality=95)
    told: list[Progress] = []
    shown = comfy.run(over_http(3), told.append)
    steps = [(step.value, step.total) for step in told if step.node_id == "3" and step.preview is None]
    assert steps[-1] == (7, 7)
    assert shown["3"]["text"] == ["picture 1: a face of " + shown["3"]["text"][0].split("a face of ")[1]]
    made = Image.open(io.BytesIO(comfy.view(shown["4"]["images"][0])))
    assert made.size == (200, 200)

    def stop(step: Progress) -> None:
        if step.node_id == "3" and step.value:
            comfy.interrupt()

    with pytest.raises(ComfyInterrupted):
        comfy.run(over_http(200), stop)
