"""When the faces of pictures that are being drawn are looked for, and which face is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faceexpr_core import mini
from faceexpr_core.faces import models
from faceexpr_core.faces.images import read_rgb
from faceexpr_core.fusion.look import EVERYWHERE, Area, Look, Where

SIGMAS = (4.9, 3.9, 3.1, 2.6, 2.1, 1.8, 0.9, 0.5, 0.1)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A render of an unseen person, [128, 128, 3]."""
    picture = Image.fromarray(read_rgb(sorted(mini.subject_path().glob("*.png"))[0]))
    return np.array(picture.resize((128, 128), Image.Resampling.LANCZOS))


def watching(pictures: list[np.ndarray], folder: Path, seen: list[int], moved: tuple[str, ...] = (), tell: Any = print, free=None) -> Look:
    """Latents know their picture's number and where in it they lie; `seen` grows with each that is decoded."""

    def decode(latent: torch.Tensor) -> np.ndarray:
        assert latent.shape[0] == 1
        number, rows, columns = latent[0, 0], latent[0, 1], latent[0, 2]
        seen.append(round(float(number.mean())))
        top, bottom, left, right = (8 * round(float(edge)) for edge in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
        size = 8 * latent.shape[3], 8 * latent.shape[2]
        return np.array(Image.fromarray(pictures[seen[-1]][top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC))

    return Look(decode, moved, [folder], tell, free)


def where(look: Look, picture: int, sigma: float, area: Area | None = None, said: torch.Tensor | None = None) -> Where:
    look.look(picture, sigma)
    return look.known(picture, sigma, area, said)


def numbered(pictures: list[np.ndarray]) -> torch.Tensor:
    height, width = (side // 8 for side in pictures[0].shape[:2])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.stack([torch.full_like(rows, number), rows, columns, rows]) for number in range(len(pictures))]).float()


EARLY = (11.0, 9.0, 7.0, 6.0, 5.2)


@pytest.mark.parametrize("side", [128, 640])
@pytest.mark.parametrize(("sigmas", "looks"), [(SIGMAS, 2), ((*EARLY, *SIGMAS), 3), ((2.1, 0.9, 0.1), 1)])
def test_each_picture_is_decoded_at_the_first_change_and_once_more_later(photo, model_folder: Path, side: int, sigmas, looks: int) -> None:
    """Where the first was at much noise, in between too."""
    seen: list[int] = []
    large = np.array(Image.fromarray(photo).resize((side, side), Image.Resampling.BICUBIC))
    look = watching(pictures := [large, large], model_folder, seen)
    assert where(look, 0, 5.1) is EVERYWHERE  # nothing is known yet
    look.seen(numbered(pictures))
    places = [[where(look, picture, sigma) for _ in range(3) for picture in (0, 1)] for sigma in sigmas]
    assert seen == [0, 1] * looks
    assert all(where.mask is not None and where.regions is not None for step in places for where in step)
    first, again = (places[index][0].mask for index in (0, -1))
    assert first is not None and again is not None and first.shape == again.shape == (side, side)
    both = [mask >= 0.5 for mask in (first, again)]
    assert (both[0] & both[1]).sum() > 0.9 * (both[0] | both[1]).sum()  # made smaller, and cut out: back in the picture's pixels
    assert len({id(step[0].mask) for step in places}) == looks


def test_a_face_that_is_not_found_is_looked_for_again_and_one_that_was_is_kept(photo, model_folder: Path) -> None:
    seen: list[int] = []
    told: set[str] = set()
    pictures = [np.full_like(photo, 128)]
    look = watching(pictures, model_folder, seen, tell=told.add)
    look.seen(numbered(pictures))
    assert all(where(look, 0, sigma).mask is None for sigma in SIGMAS[:3])
    pictures[0] = photo
    found = [where(look, 0, sigma) for sigma in SIGMAS[3:4]]
    assert (len(seen), found[0].mask is None) == (2, True)  # 4.9 and 3.1; the next at 2.1
    assert where(look, 0, 2.1).mask is not None
    assert any("no face found" in what for what in told)
    lost = [photo]
    again = watching(lost, model_folder, seen, tell=told.add)
    again.seen(numbered(lost))
    before = where(again, 0, 4.9)
    lost[0] = np.full_like(photo, 128)
    told.clear()
    assert where(again, 0, 2.0).mask is before.mask is not None
    assert not told  # that it acts everywhere would not be true


def test_at_much_noise_a_missing_face_is_looked_for_more_often_and_told_once(photo, model_folder: Path) -> None:
    seen: list[int] = []
    told: list[str] = []
    grey = np.full_like(photo, 128)
    look = watching(pictures := [grey], model_folder, seen, tell=told.append)
    look.seen(numbered(pictures))
    looks = []
    for sigma in (*EARLY, *SIGMAS):
        look.look(0, sigma)
        looks.append(len(seen))
    assert looks == [1, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 7, 7]
    assert len(told) == 1 and "no face found in picture 1 at sigma 11" in told[0]


def test_what_seemed_a_face_at_much_noise_is_dropped_where_there_is_none(photo, model_folder: Path) -> None:
    told: list[str] = []
    pictures = [photo]
    look = watching(pictures, model_folder, [], tell=told.append)
    look.seen(numbered(pictures))
    assert where(look, 0, 11.0).mask is not None
    pictures[0] = np.full_like(photo, 128)
    assert where(look, 0, 5.2) is EVERYWHERE
    assert len(told) == 1 and "at sigma 5.2" in told[0]
    pictures[0] = photo
    assert where(look, 0, 3.1).mask is not None


def test_where_nothing_can_be_seen_yet_that_is_told_once(photo, model_folder: Path) -> None:
    told: list[str] = []
    look = watching([photo, photo], model_folder, [], tell=told.append)
    assert all(where(look, picture, 14.6) is EVERYWHERE for picture in (0, 1))
    assert len(told) == 1 and "at sigma 14.6, the first step, nothing is drawn yet" in told[0]


def test_the_face_of_an_area_is_the_one_that_lies_in_it(photo, model_folder: Path) -> None:
    wide = np.concatenate([photo, photo[:, 16:112]], 1)
    look = watching([wide], model_folder, [], ("mouth",))
    look.seen(numbered([wide]))
    left, right = (where(look, 0, 3.0, area).mask for area in ((0.0, 1.0, 0.0, 0.57), (0.0, 1.0, 0.57, 1.0)))
    assert left is not None and right is not None
    assert left[:, 128:].max() < 0.01 < left[:, :128].max()
    assert right[:, :128].max() < 0.01 < right[:, 128:].max()
    assert where(look, 0, 3.0, (0.0, 0.1, 0.0, 1.0)) is EVERYWHERE


def test_the_face_of_a_masked_text_is_the_one_that_lies_in_its_mask(photo, model_folder: Path) -> None:
    """Of each picture of a batch its own; in more than half of the mask where there is such a face, else in any of it."""
    told: list[str] = []
    wide = np.concatenate([photo, photo[:, 16:112]], 1)
    look = watching([wide, wide], model_folder, [], ("mouth",), tell=told.append)
    look.seen(numbered([wide, wide]))
    said = torch.full((2, 8, 14), 0.2)
    said[0, :, :8], said[1, :, 8:] = 0.8, 0.8  # soft, and of another size
    grey = torch.zeros(1, 16, 28)
    grey[..., 16:] = 0.3
    for picture, mask, left in ((0, said, True), (1, said, False), (0, 1 - said, False), (1, 1 - said, True), (1, grey, False)):
        found = where(look, picture, 3.0, said=mask).mask
        assert found is not None
        halves = found[:, :128].max(), found[:, 128:].max()
        assert halves[not left] > 0.5 and halves[left] < 0.01
    assert not told
    assert where(look, 0, 3.0, (0.0, 1.0, 0.0, 0.57), grey) is EVERYWHERE  # the area's face is not the mask's
    assert len(told) == 1 and "the area or the mask of the text" in told[0]


def test_of_several_faces_the_one_that_is_drawn_is_meant(photo, model_folder: Path) -> None:
    """Another person of a group is inpainted."""
    wide = np.concatenate([photo, photo[:, 16:112]], 1)
    for most, least in ((1.0, 0.0), (0.3, 0.0), (1.0, 0.3)):  # a grey mask changes a face late, and a little
        free = torch.full((1, 1, 16, 28), least)
        free[..., 18:] = most
        look = watching([wide], model_folder, [], ("mouth",), free=free)
        look.seen(numbered([wide]))
        mask = where(look, 0, 3.0).mask
        assert mask is not None
        assert mask[:, :128].max() < 0.01 < mask[:, 128:].max()


def test_where_no_face_is_drawn_that_is_told(photo, model_folder: Path) -> None:
    told: list[str] = []
    free = torch.zeros(1, 1, 16, 16)
    free[..., :1, :] = 1
    look = watching([photo], model_folder, [], tell=told.append, free=free)
    look.seen(numbered([photo]))
    assert where(look, 0, 3.0) is EVERYWHERE
    assert len(told) == 1 and "where the noise mask lets it be drawn" in told[0]


def test_missing_model_files_are_told_and_the_expression_acts_everywhere(photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEEXPR_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(models, "_beside", lambda pack: [])
    told: list[str] = []
    look = watching([photo], tmp_path, [], tell=told.append)
    look.seen(numbered([photo]))
    assert where(look, 0, 3.0) is EVERYWHERE
    assert any("no mask of the face" in what for what in told)
