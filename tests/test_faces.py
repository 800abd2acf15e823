"""Finding faces and masking their parts, on a photograph (skimage's astronaut: one smiling face of about 105 pixels)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rendered import turned_faces

from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces import detector as faces
from faceexpr_core.faces import models
from faceexpr_core.faces.detector import Face, FaceDetector, face_mask, region_mask

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def face(detector: FaceDetector, photo: Picture) -> Face:
    return detector.detect(photo)[0]


def shrunk(photo: Picture, side: int) -> Picture:
    return np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.LANCZOS))


def test_a_face_has_its_box_landmarks_and_blendshapes(face: Face) -> None:
    left, top, right, bottom = face.box
    assert 170 < left < 190 and 60 < top < 80 and 260 < right < 280 and 168 < bottom < 186
    assert face.landmarks.shape == (478, 3) and face.landmarks.dtype == np.float32
    assert len(face.blendshapes) == 52
    assert face.blendshapes["mouthSmileLeft"] > 0.7 and face.blendshapes["mouthSmileRight"] > 0.7
    assert face.size == max(face.width, face.height)


def test_landmarks_agree_with_the_other_detectors_five_points(detector: FaceDetector, photo: Picture, face: Face) -> None:
    other = detector.five_points(photo)
    assert other is not None
    assert np.abs(face.five_points() - other).max() < 0.1 * face.size


def test_a_small_face_that_mediapipe_misses_is_found_enlarged(detector: FaceDetector, photo: Picture) -> None:
    scene = np.full((600, 900, 3), 120, np.uint8)
    scene[200:380, 300:480] = shrunk(photo, 180)
    found = detector.detect(scene)
    assert len(found) == 1
    assert 30 < found[0].size < 48
    assert abs(found[0].centre[0] - (300 + 225.5 * 180 / 512)) < 3 and abs(found[0].centre[1] - (200 + 124.6 * 180 / 512)) < 3


def test_every_face_is_found_largest_first(detector: FaceDetector, photo: Picture) -> None:
    scene = np.concatenate([np.pad(shrunk(photo, 300), ((0, 212), (0, 0), (0, 0))), photo], axis=1)
    found = detector.detect(scene, every=True)
    assert len(found) == 2
    assert found[0].centre[0] > 300 > found[1].centre[0]
    assert found[0].size > 1.4 * found[1].size


def test_of_a_crowd_every_face_is_found(detector: FaceDetector, photo: Picture) -> None:
    """MediaPipe looks for eight, YuNet for all."""
    small = np.pad(shrunk(photo[:256, 96:352], 200), ((10, 10), (10, 10), (0, 0)))
    found = detector.detect(np.tile(small, (4, 5, 1)), every=True)
    assert len(found) == 20
    assert len({(round(face.centre[0] // 220), round(face.centre[1] // 220)) for face in found}) == 20


def couple(photo: Picture, place: int, mirrored: bool, side: int, overlap: float) -> Picture:
    """A turned face (`place` of `turned_faces`) at `side` pixels; the photo's face stands before a part of it."""
    other = turned_faces()[place][:, :: -1 if mirrored else 1]
    front = np.asarray(Image.fromarray(photo[:256, 136:312]).resize((344, 500), Image.Resampling.BICUBIC))
    scene = np.full((800, 1200, 3), (90, 50, 110), np.uint8)
    top, left = 400 - side // 2, round(100 + side * (1 - overlap))
    scene[top : top + side, 100 : 100 + side] = np.asarray(Image.fromarray(other).resize((side, side), Image.Resampling.BICUBIC))
    scene[150:650, left : left + 344] = front
    return scene


@pytest.mark.parametrize(
    ("place", "mirrored", "side", "overlap", "count"),
    [
        (2, True, 400, 0.25, 1),  # YuNet sees the profile, MediaPipe makes the neighbour's face of it
        (2, True, 500, 0.25, 1),
        (3, False, 300, 0.35, 1),
        (3, False, 600, 0.35, 1),
        (0, True, 300, 0.35, 2),  # MediaPipe itself finds one of them twice
        (0, False, 400, 0.25, 2),
        (0, True, 300, 0.25, 2),
        (1, False, 500, 0.35, 2),
    ],
)
def test_of_two_people_close_together_each_is_found_once(
    detector: FaceDetector, photo: Picture, place: int, mirrored: bool, side: int, overlap: float, count: int
) -> None:
    found = detector.detect(couple(photo, place, mirrored, side, overlap), every=True)
    assert len(found) == count
    middle = 100 + side * (1 - overlap) + (225 - 136) * 500 / 256  # of the photo's face
    assert sorted(abs(face.centre[0] - middle) < 20 for face in found) == [False, True][-count:]


def test_a_face_within_a_much_larger_one_is_another(detector: FaceDetector, face: Face) -> None:
    """On a pair of sunglasses, on a cup held before it."""
    x, y = face.centre
    small, half = (face.moved(share, x * (1 - 1 / share), y * (1 - 1 / share)) for share in (0.3, 0.7))
    assert small.centre == pytest.approx(face.centre, abs=0.1)
    assert not small.again(face) and not face.again(small) and half.again(face) and face.again(half)
    assert not face.moved(1.0, left=0.6 * face.width).again(face)


@pytest.mark.parametrize("upright", [False, True])
def test_a_picture_longer_than_mediapipe_takes_is_seen_all_the_same(detector: FaceDetector, photo: Picture, upright: bool) -> None:
    """From 32,767 pixels a side on it ended the process."""
    short = np.asarray(Image.fromarray(photo[:256, 96:352]).resize((1400, 1400), Image.Resampling.BICUBIC))
    long = np.full((33_500, 1400, 3) if upright else (1400, 33_500, 3), 120, np.uint8)
    start = (32_050, 0) if upright else (0, 32_050)
    long[start[0] : start[0] + 1400, start[1] : start[1] + 1400] = short
    (alone,), (found,) = detector.detect(short), detector.detect(long)
    moved = found.moved(1.0, start[1], start[0])
    assert np.abs(moved.landmarks[:, :2] - alone.landmarks[:, :2]).mean() < 0.03 * alone.size
    assert max(abs(found.blendshapes[name] - value) for name, value in alone.blendshapes.items()) < 0.25
    assert region_mask(found, *long.shape[:2], "face").sum() == pytest.approx(region_mask(alone, 1400, 1400, "face").sum(), rel=0.05)


@pytest.mark.parametrize("shape", [(1, 33_000), (33_000, 1), (40, 40_000)])
def test_a_strip_of_any_length_holds_no_face(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 100, np.uint8), every=True) == []


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_and_flat_pictures_hold_no_face(detector: FaceDetector, seed: int) -> None:
    assert detector.detect(np.random.default_rng(seed).integers(0, 255, (200, 300, 3), np.uint8)) == []
    assert detector.detect(np.full((64 + seed, 64, 3), 100, np.uint8)) == []


def test_a_picture_of_another_kind_is_refused(detector: FaceDetector) -> None:
    with pytest.raises(FaceExprError, match=r"float64 and shape \(64, 64, 3\)"):
        detector.detect(np.zeros((64, 64, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize("regions", ["face", "mouth"])
def test_a_large_faces_mask_is_a_small_ones_enlarged(face: Face, regions: str) -> None:
    """It is drawn small, on a part of the picture alone."""
    small, side = face.moved(200 / face.width), 700
    large, enlarged = (
        region_mask(small.moved(6), 6 * side, 6 * side, regions, 0.15, 0.08),
        region_mask(small, side, side, regions, 0.15, 0.08),
    )
    apart = np.abs(large - np.asarray(Image.fromarray(enlarged).resize((6 * side, 6 * side), Image.Resampling.BILINEAR)))
    assert large.max() > 0.99 and apart.mean() < 0.002 and apart.max() < 0.05
    assert not region_mask(small.moved(6, -9 * side), 6 * side, 6 * side, regions, 0.15, 0.08).any()  # outside the picture


def test_a_missing_model_file_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACEEXPR_MODELS")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(models, "_beside", lambda pack: [])
    with pytest.raises(FaceExprError, match=r"cli\.py models fetch face_landmarker"):
        FaceDetector()


def test_a_moved_face_is_where_it_is_found_in_the_crop(detector: FaceDetector, photo: Picture, face: Face) -> None:
    crop = np.asarray(Image.fromarray(photo[20:240, 110:330]).resize((440, 440), Image.Resampling.LANCZOS))
    moved, seen = face.moved(2.0, left=110, top=20), detector.detect(crop)[0]
    assert np.abs(moved.landmarks[:, :2] - seen.landmarks[:, :2]).mean() < 3
    assert moved.width == pytest.approx(2 * face.width)


def test_regions_lie_in_their_order_down_the_face(face: Face) -> None:
    rows = np.arange(512)
    middles = []
    for name in ("brows", "eyes", "nose", "mouth", "jaw"):
        mask = region_mask(face, 512, 512, name)
        assert mask.dtype == np.float32 and mask.shape == (512, 512) and mask.max() == 1 and mask.min() == 0
        middles.append(float((mask.sum(axis=1) * rows).sum() / mask.sum()))
    assert middles == sorted(middles)
    assert (region_mask(face, 512, 512, "eyes") > region_mask(face, 512, 512, "face")).sum() == 0


def test_a_union_is_the_greater_of_its_regions(face: Face) -> None:
    both = region_mask(face, 512, 512, ("eyes", "mouth"))
    assert np.array_equal(both, np.maximum(region_mask(face, 512, 512, "eyes"), region_mask(face, 512, 512, "mouth")))
    assert region_mask(face, 512, 512, ()).sum() == 0


def test_dilation_grows_by_the_share_of_the_width_and_feather_softens(face: Face) -> None:
    plain, grown = (region_mask(face, 512, 512, "mouth", dilate=share) for share in (0.0, 0.15))
    columns = [np.flatnonzero(mask.max(axis=0) > 0.5) for mask in (plain, grown)]
    assert columns[0][0] - columns[1][0] == pytest.approx(round(0.15 * face.width), abs=1)
    soft = region_mask(face, 512, 512, "mouth", feather=0.05)
    between = [((mask > 0.05) & (mask < 0.95)).sum() for mask in (plain, soft)]
    assert between[1] > 3 * between[0]


def test_the_face_mask_covers_the_landmarks_and_little_else(face: Face) -> None:
    mask = face_mask(face, 512, 512)
    points = np.clip(face.landmarks[:, :2].round().astype(int), 0, 511)
    assert mask[points[:, 1], points[:, 0]].min() > 0.5
    assert 0.6 * face.width * face.height < mask.sum() < 1.25 * face.width * face.height


def test_a_face_outside_the_picture_gives_an_empty_mask(face: Face) -> None:
    assert face_mask(face.moved(1.0, left=1000), 64, 64).sum() == 0


def test_an_unknown_region_lists_the_known_ones(face: Face) -> None:
    with pytest.raises(FaceExprError, match="brows, eyes, nose, mouth, jaw, face"):
        region_mask(face, 64, 64, "ears")


def test_nothing_is_written_to_the_console_and_the_process_ends_well(model_folder: Path) -> None:
    script = (
        "import sys; from skimage import data; from faceexpr_core.faces.detector import FaceDetector\n"
        "detector = FaceDetector([sys.argv[1]])\n"
        "print(len(detector.detect(data.astronaut())))\n"
        "detector.close(); detector.close()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(model_folder)], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")


def test_what_others_write_to_stderr_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    from faceexpr_core.faces.native import without_log_lines

    with pytest.raises(ZeroDivisionError), without_log_lines():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nout of memory\n")
        raise ZeroDivisionError
    assert capfd.readouterr().err == "out of memory\n"


def test_importing_the_module_loads_neither_mediapipe_nor_opencv() -> None:
    script = "import sys, faceexpr_core.photos.subject; print(sorted({'cv2', 'mediapipe', 'torch', 'PIL', 'scipy'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.strip() == "[]"
    assert faces.REGIONS[-1] == "face"
