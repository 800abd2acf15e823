"""`faceexpr extract`, and `faceexpr generate` with fusion, as they are typed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.commands.cli import main
from faceexpr_core.commands.generate import PROMPT
from faceexpr_core.commands.saved_picture import METADATA_KEY
from faceexpr_core.diffusers_host import encoding, sampling
from faceexpr_core.fusion.recorder import load_bank
from faceexpr_core.fusion.run import Run
from faceexpr_core.fusion.settings import paper_settings
from faceexpr_core.text import build_prompts, expression_terms

pytestmark = pytest.mark.usefixtures("loaded_once")
QUICK = ("--steps", "4", "--device", "cpu")
SMALL = ("--width", "64", "--height", "64", *QUICK)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.int16)


def settings(path: Path) -> dict:
    return json.loads(Image.open(path).text[METADATA_KEY])  # type: ignore[attr-defined]


def extract(folder: Path, *more: str) -> int:
    return main(["extract", "--model", "mini", "--expression", "surprised", "--output_dir", str(folder), *more])


def generate(folder: Path, *more: str) -> np.ndarray:
    """The picture that the verb draws, checked to be the only one."""
    assert main(["generate", "--model", "mini", "--expression", "surprised", "--output_dir", str(folder), *SMALL, *more]) == 0
    (name,) = files(folder)
    return pixels(folder / name)


@pytest.mark.long
def test_the_bare_commands_work_word_for_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "features"
    assert main(["extract", "--model", "mini", "--expression", "happy", "--output_dir", str(folder)]) == 0
    assert files(folder) == ["happy_0_00001.png", "happy_0_00001.safetensors"]
    assert capsys.readouterr().out.split() == [str(folder / name) for name in reversed(files(folder))]
    bank = load_bank(folder / "happy_0_00001.safetensors")
    assert (bank.mode, bank.notes["expression"], bank.notes["model"], bank.notes["source"]) == ("twin", "happy", "mini", "text")
    assert bank.notes["prompt"] == "a photo of a person, happy expression"
    assert (bank.site, bank.sigmas) == ("cross_attention_difference", ())
    assert bank.mask is not None
    assert Image.open(folder / "happy_0_00001.png").size == (3 * mini.RESOLUTION, mini.RESOLUTION)
    pictures = tmp_path / "pictures"
    assert main(["generate", "--model", "mini", "--expression", "happy", "--output_dir", str(pictures)]) == 0
    assert files(pictures) == ["happy_0_00001.png"]


@pytest.mark.long
def test_kept_features_give_the_same_change_as_donors_made_in_the_run(tmp_path: Path) -> None:
    assert extract(tmp_path / "f", *SMALL) == 0
    features = str(tmp_path / "f" / "surprised_0_00001.safetensors")
    plain = generate(tmp_path / "plain")
    off = generate(tmp_path / "off", "--features", features, "--fusion_strength", "0")
    kept = generate(tmp_path / "kept", "--features", features, "--fusion_strength", "1.5")
    own = generate(tmp_path / "own", "--fusion_strength", "1.5")
    assert np.array_equal(off, plain)
    rest = generate(tmp_path / "rest", "--expression", "neutral")
    assert np.abs(kept - rest).mean() > 0.05
    assert np.array_equal(own, kept)
    saved = settings(tmp_path / "kept" / "surprised_0_00001.png")
    assert (saved["features"], saved["fusion"]["strength"]) == ("surprised_0_00001.safetensors", 1.5)
    assert str(tmp_path) not in json.dumps(saved)
    assert settings(tmp_path / "plain" / "surprised_0_00001.png")["fusion"] is None


@pytest.mark.long
def test_the_text_of_a_fused_picture_is_neutral_unless_asked(tmp_path: Path) -> None:
    faint = ("--fusion_strength", "0.001")
    plain, rest = generate(tmp_path / "plain"), generate(tmp_path / "rest", "--expression", "neutral")
    apart = np.abs(plain - rest).mean()
    texts = {"neutral": (), "expression": ("--fusion_text", "expression"), "scaled": ("--expression_scale", "1.001")}
    drawn = {name: generate(tmp_path / name, *faint, *more) for name, more in texts.items()}
    for name, expected in (("neutral", rest), ("expression", plain), ("scaled", plain)):
        assert np.abs(drawn[name] - expected).mean() < 0.2 * apart


@pytest.mark.long
def test_words_take_their_difference_and_a_photo_its_attention_unless_told(tmp_path: Path) -> None:
    photo = (
        "--photo",
        str(sorted(mini.subject_path().glob("*.png"))[1]),
        "--neutral",
        "none",
        "--width",
        "128",
        "--height",
        "128",
        *QUICK,
        "--steps",
        "8",
    )
    known = {"words": SMALL, "photo": photo, "told": (*SMALL, "--site", "cross_attention"), "whole": (*photo, "--levels", "99")}
    for name, more in known.items():
        assert extract(tmp_path / name, *more) == 0
    banks = {name: load_bank(tmp_path / name / "surprised_0_00001.safetensors") for name in known}
    sites = {name: bank.site for name, bank in banks.items()}
    assert sites == {
        "words": "cross_attention_difference",
        "photo": "cross_attention",
        "told": "cross_attention",
        "whole": "cross_attention",
    }
    assert all(place.startswith(("middle", "output")) for bank in banks.values() for place in bank.places())
    assert (banks["photo"].sparse, banks["whole"].sparse, banks["told"].sparse) == (True, False, False)
    assert (len(banks["photo"].sigmas), len(banks["whole"].sigmas)) == (4, 6)


@pytest.mark.long
def test_nothing_is_overwritten_and_a_seed_gives_the_same_features(tmp_path: Path) -> None:
    for seed in ("3", "3", "4"):
        assert extract(tmp_path, *SMALL, "--site", "cross_attention", "--seed", seed) == 0
    names = ["surprised_3_00001", "surprised_3_00002", "surprised_4_00001"]
    assert files(tmp_path) == [f"{name}.{kind}" for name in names for kind in ("png", "safetensors")]
    first, second, other = (load_bank(tmp_path / f"{name}.safetensors").tokens for name in names)
    assert first and all((value == second[key]).all() for key, value in first.items())
    assert all((value != other[key]).any() for key, value in first.items())


def test_features_have_the_vocabularys_name_however_it_is_spelled(tmp_path: Path) -> None:
    assert extract(tmp_path, *SMALL, "--expression", "Contemptuous") == 0
    assert files(tmp_path) == ["contempt_0_00001.png", "contempt_0_00001.safetensors"]
    assert load_bank(tmp_path / "contempt_0_00001.safetensors").notes["expression"] == "contempt"


@pytest.mark.long
def test_a_photo_of_anybody_is_a_donor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = sorted(mini.subject_path().glob("*.png"))[:2]
    photo = ("--photo", str(photos[1]), "--width", "128", "--height", "128", "--sigmas", "4", "1.5", "0.6", "--device", "cpu")
    assert extract(tmp_path / "two", *photo, "--neutral_photo", str(photos[0])) == 0
    assert extract(tmp_path / "drawn", *photo) == 0
    assert extract(tmp_path / "alone", *photo, "--neutral", "none") == 0
    two, drawn, alone = (load_bank(tmp_path / name / "surprised_0_00001.safetensors") for name in ("two", "drawn", "alone"))
    assert (two.mode, drawn.mode, alone.mode) == ("twin", "twin", "single")
    assert two.sigmas == drawn.sigmas == alone.sigmas == (4.0, 1.5, 0.6)
    assert two.notes["source"] == "photo"
    key = next(key for key in alone.tokens if key.endswith(":e"))
    assert two.mask is not None
    assert 0.02 < float(two.mask.mean()) < 0.9
    assert two.tokens[key].shape[1] <= 64
    assert not all((two.tokens[key] == drawn.tokens[key]).all() for key in two.tokens if key.endswith(":n") and key in drawn.tokens)
    assert Image.open(tmp_path / "alone" / "surprised_0_00001.png").size == (256, 128)
    assert "acts on the whole face" in capsys.readouterr().err


@pytest.mark.long
def test_features_decide_the_expression_unless_the_text_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a neutral text another expression or intensity is refused; pictures bear the name of what the features show."""
    quick = ("--width", "64", "--height", "64", "--steps", "1")
    assert extract(tmp_path / "f", *quick) == 0
    common = ["generate", "--model", "mini", *quick, "--features", str(tmp_path / "f" / "surprised_0_00001.safetensors")]
    for number, options in enumerate((["--expression", "happy", "surprised"], ["--expression", "happy"], ["--intensity", "0.4"])):
        assert main([*common, *options, "--output_dir", str(tmp_path / f"refused{number}")]) == 2
        assert f"{' '.join(options) if number < 2 else options[0]} would change nothing: the features say" in capsys.readouterr().err
        assert not (tmp_path / f"refused{number}").exists()
    assert main([*common, "--output_dir", str(tmp_path / "out")]) == 0
    assert settings(tmp_path / "out" / "surprised_0_00001.png")["expression"] == "surprised"
    for more in (["--fusion_text", "expression"], ["--fusion_strength", "0"], ["--expression_scale", "1.5"]):
        assert main([*common, "--expression", "happy", "--output_dir", str(tmp_path / "out"), *more]) == 0
    assert files(tmp_path / "out") == ["happy_0_00001.png", "happy_0_00002.png", "happy_0_00003.png", "surprised_0_00001.png"]


def test_the_published_recipe_is_extracted_and_fused(tmp_path: Path, pipe: StableDiffusionXLPipeline) -> None:
    assert extract(tmp_path / "f", *SMALL, "--mode", "paper", "--tokens", "all") == 0
    features = tmp_path / "f" / "surprised_0_00001.safetensors"
    bank = load_bank(features)
    assert bank.site == "skip"
    assert set(bank.places()) == {"input.4", "input.5", "input.7", "input.8"}
    spoken = ("--features", str(features), "--fusion_text", "expression", "--fusion_mode")
    fused, twin = (generate(tmp_path / mode, *spoken, mode) for mode in ("paper", "twin"))
    assert np.abs(fused - twin).mean() > 0.05
    prompt = build_prompts(PROMPT, expression_terms("surprised"), partial(encoding.count_tokens, pipe))
    expected = sampling.generate(pipe, prompt, Run(steps=4, width=64, height=64), fusion=(bank, paper_settings()))
    assert np.array_equal(fused, expected[0].numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--expression", "smug"), "not an expression of the vocabulary"),
        (("--photo", "nowhere.png"), "there is no picture nowhere.png"),
        (("--neutral_photo", "nowhere.png"), "without --photo"),
        (("--window", "0.7", "0.3"), "the window is"),
        (("--layers", "2+3"), "is no choice of layers"),
        (("--levels", "0"), "at least 1"),
        (("--steps", "0"), "at least 1"),
        (("--cfg", "inf"), "the guidance (cfg) is inf"),
        (("--sigmas", "nan", "1"), "must fall"),
        (("--seed", "18446744073709551616"), "--seed is 18446744073709551616; give a value from 0 to 18446744073709551615"),
        (("--site", "cross_attention_difference", "--photo", str(sorted(mini.subject_path().glob("*.png"))[1])), "words alone"),
        (("--width", "100"), "multiples of 8"),
        (("--sigmas", "1", "2", "--steps", "20"), "must fall"),
        (("--neutral", "none"), "--neutral would change nothing: it is for a --photo without a --neutral_photo"),
        (("--tokens", "all", "--levels", "3"), "--tokens and --levels would change nothing: the site cross_attention_difference"),
        (("--window", "0", "0.5"), "--window would change nothing"),
        (("--site", "cross_attention", "--mode", "adain"), "Give it to generate"),
        (("--second_weight", "0.7"), "there is no second expression"),
        (("--steps", "30", "--sigmas", "4", "1"), "--steps would change nothing: --sigmas says which steps are taken"),
        (("--cfg", "1", "--negative", "blurry"), "--negative would change nothing: without guidance nothing is avoided"),
        (("--expression", "neutral"), "--expression neutral --intensity 1 moves nothing in the face"),
        (("--intensity", "0"), "--expression surprised --intensity 0 moves nothing in the face"),
    ],
)
def test_impossible_wishes_are_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert extract(tmp_path / "out", *SMALL, "--model", "nowhere", *options) == 2  # the model is asked for last
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["photo", "neutral photo"])
def test_a_photo_without_a_face_is_told_before_the_model_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str) -> None:
    grey, her = tmp_path / "grey.png", mini.donor_path() / "another_person_happy.jpg"
    Image.new("RGB", (256, 256), "grey").save(grey)
    photo, neutral = (grey, her) if which == "photo" else (her, grey)
    assert extract(tmp_path / "out", *SMALL, "--model", "nowhere", "--photo", str(photo), "--neutral_photo", str(neutral)) == 2
    assert f"no face was found in the {which}" in capsys.readouterr().err


def test_features_that_do_not_fit_are_refused_before_anything_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["generate", "--model", "mini", "--output_dir", str(tmp_path / "out"), *SMALL]
    assert main([*common, "--features", "nowhere.safetensors"]) == 2
    assert "nowhere.safetensors" in capsys.readouterr().err
    assert extract(tmp_path / "f", *SMALL, "--site", "cross_attention") == 0
    features = str(tmp_path / "f" / "surprised_0_00001.safetensors")
    assert main([*common, "--features", features, "--fusion_site", "skip", "--model", "nowhere"]) == 2
    assert "recorded at cross_attention;" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
