"""Pictures of the class: drawn once, spread over the expressions, kept whole, encoded for training."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sources import DRAWN, digital_source

from faceexpr_core.errors import FaceExprError
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.training.prior import ClassImage, build_class_set, prior_folder, prior_images, prior_prompts

SETTINGS = {"model": "abc", "side": 16, "steps": 20}


class Painter:
    """Draws noise of its seed, and keeps count."""

    def __init__(self) -> None:
        self.drawn: list[tuple[str, int]] = []

    def __call__(self, prompt: str, seed: int) -> np.ndarray:
        self.drawn.append((prompt, seed))
        return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_prompts_are_spread_evenly_over_the_expressions() -> None:
    prompts = prior_prompts("a photo of a woman", 2 * len(EXPRESSIONS) + 1)
    counts = Counter(prompts)
    assert prompts[0] == "a photo of a woman, neutral expression" and prompts[1] == "a photo of a woman, happy expression"
    assert len(counts) == len(EXPRESSIONS) and set(counts.values()) == {2, 3}


def test_a_picture_is_drawn_once_and_a_longer_list_draws_only_what_is_missing(tmp_path: Path) -> None:
    painter, prompts = Painter(), prior_prompts("a photo of a man", 5)
    first = prior_images(tmp_path, prompts[:3], painter, SETTINGS)
    again = prior_images(tmp_path, prompts, painter, SETTINGS)
    assert [seed for _, seed in painter.drawn] == [0, 1, 2, 3, 4]
    assert [one.prompt for one in again] == prompts
    assert all(np.array_equal(one.image, other.image) for one, other in zip(first, again, strict=False))
    home = prior_folder(tmp_path, SETTINGS)
    assert json.loads((home / "prior.json").read_text()) == SETTINGS
    assert sorted(file.name for file in home.iterdir()) == [*(f"{seed:05}.png" for seed in range(5)), "prior.json"]
    assert {digital_source(file) for file in home.glob("*.png")} == {DRAWN}


def test_other_settings_and_other_prompts_are_drawn_anew(tmp_path: Path) -> None:
    painter = Painter()
    prior_images(tmp_path, ["a"], painter, SETTINGS)
    prior_images(tmp_path, ["a"], painter, {**SETTINGS, "steps": 21})
    prior_images(tmp_path, ["b"], painter, SETTINGS)
    assert painter.drawn == [("a", 0), ("a", 0), ("b", 0)]


def test_a_broken_picture_is_drawn_again(tmp_path: Path) -> None:
    painter = Painter()
    prior_images(tmp_path, ["a", "a"], painter, SETTINGS)
    path = prior_folder(tmp_path, SETTINGS) / "00001.png"
    path.write_bytes(path.read_bytes()[:200])
    images = prior_images(tmp_path, ["a", "a"], painter, SETTINGS)
    assert painter.drawn[2:] == [("a", 1)]
    assert np.array_equal(np.asarray(Image.open(path)), images[1].image)


def test_what_stops_the_drawing_leaves_the_pictures_so_far(tmp_path: Path) -> None:
    painter = Painter()

    def cancelled(prompt: str, seed: int) -> np.ndarray:
        if seed == 2:
            raise KeyboardInterrupt
        return painter(prompt, seed)

    with pytest.raises(KeyboardInterrupt):
        prior_images(tmp_path, ["a"] * 4, cancelled, SETTINGS)
    prior_images(tmp_path, ["a"] * 4, painter, SETTINGS)
    assert [seed for _, seed in painter.drawn] == [0, 1, 2, 3]


def test_a_process_killed_while_drawing_leaves_whole_pictures_and_the_next_draws_what_is_missing(tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")

    def slowly(prompt: str, seed: int) -> np.ndarray:
        time.sleep(0.05)
        return Painter()(prompt, seed)

    told = tmp_path / "told.txt"
    told.touch()
    child = os.fork()
    if not child:
        try:
            prior_images(tmp_path, ["a"] * 1000, slowly, SETTINGS)
        except BaseException:
            told.write_text(traceback.format_exc())
        os._exit(1)
    home = prior_folder(tmp_path, SETTINGS)
    while not (home / "00002.png").exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), f"it ended before it was killed:\n{told.read_text()}"
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    before = {file.name: file.read_bytes() for file in home.glob("0*.png")}
    painter = Painter()
    images = prior_images(tmp_path, ["a"] * (len(before) + 2), painter, SETTINGS)
    assert [seed for _, seed in painter.drawn] == [len(before), len(before) + 1]
    assert all((home / name).read_bytes() == content for name, content in before.items())
    assert all(np.array_equal(one.image, Painter()("a", seed)) for seed, one in enumerate(images))


def test_a_picture_just_drawn_lies_in_memory_as_one_that_is_read(tmp_path: Path) -> None:
    def planar(prompt: str, seed: int) -> np.ndarray:
        return np.arange(768, dtype=np.uint8).reshape(3, 16, 16).transpose(1, 2, 0)

    drawn, read = (prior_images(tmp_path, ["a"], planar, SETTINGS)[0].image for _ in range(2))
    assert drawn.strides == read.strides and np.array_equal(drawn, read)


def test_a_picture_that_another_process_drew_meanwhile_stays_and_is_learned(tmp_path: Path) -> None:
    """Cards round in their own way. With a picture of its own in memory, a run that is stopped would be refused when it goes on."""
    path, first = prior_folder(tmp_path, SETTINGS) / "00000.png", []

    def overtaken(prompt: str, seed: int) -> np.ndarray:
        prior_images(tmp_path, [prompt], lambda *_: Painter()(prompt, 7), SETTINGS)
        first.append(path.read_bytes())
        return Painter()(prompt, seed)

    (one,) = prior_images(tmp_path, ["a"], overtaken, SETTINGS)
    assert [path.read_bytes()] == first
    assert np.array_equal(one.image, Painter()("a", 7)) and np.array_equal(one.image, np.asarray(Image.open(path)))
    assert sorted(file.name for file in path.parent.iterdir()) == ["00000.png", "prior.json"]


def test_a_broken_picture_that_lies_there_in_the_end_is_replaced(tmp_path: Path) -> None:
    path = prior_folder(tmp_path, SETTINGS) / "00000.png"

    def broken(prompt: str, seed: int) -> np.ndarray:
        path.write_bytes(b"no picture")
        return Painter()(prompt, seed)

    (one,) = prior_images(tmp_path, ["a"], broken, SETTINGS)
    assert np.array_equal(one.image, Painter()("a", 0)) and np.array_equal(one.image, np.asarray(Image.open(path)))


def test_two_class_words_keep_their_own_pictures(tmp_path: Path) -> None:
    painter = Painter()
    for word in ("man", "woman", "man", "woman"):
        prompt = f"a photo of a {word}"
        prior_images(tmp_path, prior_prompts(prompt, 3), painter, {**SETTINGS, "prompt": prompt})
    assert len(painter.drawn) == 6


def test_processes_share_the_drawing(tmp_path: Path) -> None:
    painters = [Painter(), Painter()]
    for rank, painter in enumerate(painters):
        prior_images(tmp_path, ["a"] * 5, painter, SETTINGS, seeds=range(rank, 9, 2))
    assert [[seed for _, seed in painter.drawn] for painter in painters] == [[0, 2, 4], [1, 3]]
    assert len(prior_images(tmp_path, ["a"] * 5, painters[0], SETTINGS)) == 5 and len(painters[0].drawn) == 3


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FaceExprError, match="could not be kept"):
        prior_images(tmp_path / "file", ["a"], Painter(), SETTINGS)


def encode_text(prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([float(len(prompt)) for prompt in prompts])
    return lengths.view(-1, 1, 1).expand(-1, 77, 4), lengths.view(-1, 1).expand(-1, 3)


def encode_images(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 8)[:, [0, 1, 2, 0]]


def test_the_set_holds_each_pictures_own_prompt_and_uncropped_size() -> None:
    images = [ClassImage(np.full((16, 24, 3), value, np.uint8), prompt) for value, prompt in ((0, "a"), (255, "bcd"), (51, "a"))]
    data = build_class_set(images, encode_text, encode_images)
    assert data.latents[:, 0, 0, 0].tolist() == pytest.approx([0, 1, 0.2])
    assert len(data.prompt_embeds) == len(data.pooled) == 2  # what two pictures share is held once
    each = data.select(torch.tensor([2, 1, 0, 0]))
    assert each.prompt_embeds[:, 0, 0].tolist() == [1, 3, 1, 1] and each.pooled[:, 0].tolist() == [1, 3, 1, 1]
    assert data.time_ids.tolist() == [[16, 24, 0, 0, 16, 24]] * 3
    assert torch.equal(data.weights, torch.ones(3, 1, 2, 3))


def test_a_picture_that_was_resized_says_how_large_it_was_and_is_another_one_for_a_stopped_run() -> None:
    image = np.full((16, 24, 3), 9, np.uint8)
    plain, same, small = (build_class_set([ClassImage(image, "a", size)], encode_text, encode_images) for size in (None, (16, 24), (8, 12)))
    assert small.time_ids.tolist() == [[8, 12, 0, 0, 16, 24]] and torch.equal(plain.time_ids, same.time_ids)
    assert plain.digest() == same.digest() != small.digest()


def test_no_pictures_and_pictures_of_two_sizes_are_refused() -> None:
    two = [ClassImage(np.zeros((8, side, 3), np.uint8), "a") for side in (8, 16)]
    for images, told in (([], "no pictures of the class"), (two, "have 2 sizes")):
        with pytest.raises(FaceExprError, match=told):
            build_class_set(images, encode_text, encode_images)
