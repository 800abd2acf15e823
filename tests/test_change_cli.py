"""`faceexpr change`: the picture that the node makes, and clear words where there is nothing to change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pack
import pytest
import torch
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.commands.cli import main
from faceexpr_core.commands.given_picture import read_given
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.provenance import CHANGED_BY_A_MODEL, XMP_KEY

pytestmark = pytest.mark.usefixtures("loaded_once")
STEPS = 4


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("change") / "her.png"
    Image.fromarray(read_rgb(mini.donor_path() / "another_person_happy.jpg")).resize((220, 220)).save(path)
    return path


def command(picture: Path, folder: Path, *more: str) -> list[str]:
    return ["change", "--model", "mini", "--picture", str(picture), "--output_dir", str(folder), "--steps", str(STEPS), *more]


@pytest.mark.long
def test_it_draws_what_the_node_draws(comfy_modules: SimpleNamespace, picture: Path, tmp_path: Path, capsys) -> None:
    assert main(command(picture, tmp_path, "--expression", "surprised")) == 0
    told = capsys.readouterr()
    made = read_rgb(Path(told.out.strip()))
    assert "a face of" in told.err and "happy until now" in told.err
    saved = json.loads(Image.open(told.out.strip()).info["faceexpr"])
    assert (saved["expression"], saved["steps"], saved["picture"]) == ("surprised", STEPS, "her.png")
    assert CHANGED_BY_A_MODEL in Image.open(told.out.strip()).info[XMP_KEY]

    given = read_rgb(picture)
    with torch.inference_mode():
        model, clip, vae = pack.host().load_mini()
        change = pack.node("change_expression").ChangeExpression.execute
        words = {"prompt": "a photo of a person", "expression": "surprised", "intensity": 1.0, "second_expression": "none"}
        rest = {"second_weight": 0.5, "strength": 1.5, "face": -1, "steps": STEPS}
        image, mask, _ = change(torch.from_numpy(given).float()[None] / 255, model, clip, vae, **words, **rest).args
    node = (image[0] * 255).round().byte().numpy()
    outside = mask[0].numpy() == 0
    assert np.array_equal(made[outside], given[outside])
    changed = np.abs(node.astype(float) - given).mean()
    assert changed > 1
    assert np.abs(node.astype(float) - made).mean() < 0.1 * changed


@pytest.mark.long
def test_what_is_transparent_stays_so(picture: Path, tmp_path: Path, capsys) -> None:
    """The alpha channel and the colours under it outside of the face are the given ones, to the bit."""
    given = np.dstack([read_rgb(picture), np.full((220, 220), 255, np.uint8)])
    given[:40, :40] = (10, 20, 30, 0)
    given[180:, :40, 3] = 90
    clear = tmp_path / "clear.png"
    Image.fromarray(given).save(clear)
    assert main([*command(clear, tmp_path, "--expression", "sad"), "--steps", "1"]) == 0
    made = np.array(Image.open(capsys.readouterr().out.strip()))
    assert made.shape == given.shape and np.array_equal(made[..., 3], given[..., 3])
    assert np.array_equal(made[:40, :40], given[:40, :40]) and np.array_equal(made[180:, :40], given[180:, :40])
    assert (made != given).any()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--negative", "ugly"), "--negative would change nothing: without guidance nothing is avoided"),
        (("--lora_strength", "0.5"), "there is no LoRA"),
        (("--second_weight", "1"), "there is no second expression"),
        (("--expression", "neutral", "--intensity", "0.5"), "--intensity would change nothing: it weighs --expression and --action_units"),
    ],
)
def test_what_would_change_nothing_is_refused(picture: Path, tmp_path: Path, capsys, more: tuple[str, ...], told: str) -> None:
    assert main(command(picture, tmp_path, *more)) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--expression", "neutral", "--strength", "nan"), "the strength is nan; it must lie between 0 and 4"),
        (("--expression", "neutral", "--strength", "9"), "the strength is 9"),
        (("--expression", "sad", "--strength", "-1"), "the strength is -1"),
        (("--steps", "0"), "the steps are 0"),
        (("--cfg", "nan"), "the guidance (cfg) is nan"),
        (("--denoise", "0"), "the denoise is 0"),
        (("--denoise", "nan"), "the denoise is nan"),
        (("--lora", __file__, "--lora_strength", "inf"), "--lora_strength is inf"),
    ],
)
def test_settings_that_cannot_be_are_told_before_anything_is_read(tmp_path: Path, capsys, more: tuple[str, ...], told: str) -> None:
    assert main(command(tmp_path / "nobody.png", tmp_path / "out", "--model", "nowhere", *more)) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_of_several_frames_the_one_that_is_taken_is_told(picture: Path, tmp_path: Path, capsys) -> None:
    moving, one = tmp_path / "moving.gif", Image.open(picture).convert("RGB")
    one.save(moving, save_all=True, append_images=[one.rotate(90), one.rotate(180)])
    assert np.array_equal(read_given(moving, read_rgb), read_rgb(moving))
    assert capsys.readouterr().err == f"faceexpr: {moving}: the first of its 3 pictures was taken\n"
    read_given(picture, read_rgb)
    assert capsys.readouterr().err == ""


def test_without_a_face_or_a_picture_it_says_so(picture: Path, tmp_path: Path, capsys) -> None:
    assert main(command(picture, tmp_path, "--face", "3")) == 2
    assert "shows 1 faces, none of them number 3" in capsys.readouterr().err
    assert main(command(tmp_path / "nobody.png", tmp_path)) == 2
    assert "there is no picture" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_face_that_shows_what_is_asked_is_left_as_it_is(picture: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceexpr_core.diffusers_host.redraw.change_face", None)  # not called
    for more, told in (
        (("--expression", "happy"), "shows happy already, as the judges read it, and is left as it is"),
        (("--expression", "neutral", "--shown", "neutral"), "shows neutral already, as 'shown' says, and is left as it is"),
        (("--expression", "sad", "--strength", "0"), "happy until now, is left as it is: the strength is 0"),
    ):
        assert main(command(picture, tmp_path, *more)) == 0
        written = capsys.readouterr()
        assert told in written.err
        assert np.array_equal(read_rgb(Path(written.out.strip())), read_rgb(picture))


def test_a_picture_with_a_long_name_is_saved_under_its_beginning(picture: Path, tmp_path: Path, capsys) -> None:
    for stem, kept in (("a" * 245, "a" * 200), ("安" * 81, "安" * 66)):
        long = tmp_path / f"{stem}.png"
        shutil.copy(picture, long)
        assert main(command(long, tmp_path / "out", "--expression", "happy")) == 0  # which it shows
        assert Path(capsys.readouterr().out.strip()).name == f"{kept}_happy_00001.png"
