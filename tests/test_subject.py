"""Photos as users bring them to a Subject: the core, then the node in a running ComfyUI.

The photograph is skimage's astronaut (512 x 512, one smiling face of about 105 pixels).
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pack
import pytest
import torch
from comfy_process import ComfyError, ComfyProcess
from numpy.typing import NDArray
from PIL import Image, ImageCms
from rendered import rendered_people

from faceexpr_core.errors import FaceExprError
from faceexpr_core.faces.detector import FaceDetector
from faceexpr_core.faces.images import SourceImage, images_from_batches, read_images, read_rgb
from faceexpr_core.photos.subject import Subject, caption_for, prepare_subject
from faceexpr_core.photos.subject_files import read_subject, write_subject

Picture = NDArray[np.uint8]
Save = Callable[[Path, Image.Image], None]


@pytest.fixture(scope="module")
def people() -> list[list[Picture]]:
    """Three rendered people, nine expressions each."""
    return rendered_people()


def sources(*pictures: Picture) -> list[SourceImage]:
    return [SourceImage(f"{number}.png", picture) for number, picture in enumerate(pictures)]


def resized(picture: Picture, width: int, height: int) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def rotated_with_exif(path: Path, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)


def sixteen_bit_grey(path: Path, picture: Image.Image) -> None:
    Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257).save(path)


def with_profile(path: Path, picture: Image.Image) -> None:
    picture.save(path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


@pytest.mark.parametrize(
    ("name", "save", "grey", "tolerance"),
    [
        ("rotated.jpg", rotated_with_exif, False, 3),
        ("grey.png", lambda path, picture: picture.convert("L").save(path), True, 0.01),
        ("16 bit.png", sixteen_bit_grey, True, 0.01),
        ("16 bit.tif", sixteen_bit_grey, True, 0.01),
        ("cmyk.tif", lambda path, picture: picture.convert("CMYK").save(path), False, 0.01),
        ("cmyk.jpg", lambda path, picture: picture.convert("CMYK").save(path, quality=95), False, 3),
        ("rgba.png", lambda path, picture: picture.convert("RGBA").save(path), False, 0),
        ("palette.gif", lambda path, picture: picture.convert("P").save(path), False, 20),
        ("profile.png", with_profile, False, 1),
        ("float.tif", lambda path, picture: Image.fromarray(np.asarray(picture.convert("L"), np.float32) / 255).save(path), True, 0.6),
    ],
)
def test_any_file_becomes_the_same_upright_rgb(tmp_path: Path, photo: Picture, name: str, save: Save, grey: bool, tolerance: float) -> None:
    original = Image.fromarray(photo)
    save(tmp_path / name, original)
    expected = np.asarray(original.convert("L").convert("RGB") if grey else original, np.float64)
    read = read_rgb(tmp_path / name)
    assert read.dtype == np.uint8 and read.shape == photo.shape
    assert np.abs(read - expected).mean() <= tolerance


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (8, 8), (200, 200, 200, 255))
    picture.paste((10, 10, 10, 0), (0, 0, 4, 8))
    picture.convert(mode).save(tmp_path / "a.png")
    read = read_rgb(tmp_path / "a.png")
    assert (read[:, :4] == 255).all() and np.abs(read[:, 4:].astype(int) - 200).max() <= 3


def swapped_profile() -> bytes:
    """The profile of a space whose red is sRGB's green, its green sRGB's blue, its blue sRGB's red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {bytes(profile[at : at + 4]): at + 4 for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)}
    entries = [bytes(profile[places[name] : places[name] + 8]) for name in (b"gXYZ", b"bXYZ", b"rXYZ")]
    for name, entry in zip((b"rXYZ", b"gXYZ", b"bXYZ"), entries, strict=True):
        profile[places[name] : places[name] + 8] = entry
    return bytes(profile)


@pytest.mark.parametrize(("mode", "alpha"), [("RGBA", 0), ("P", 0), ("P", 255)])
def test_colours_of_pictures_with_alpha_or_a_palette_are_converted_from_their_profile(tmp_path: Path, mode: str, alpha: int) -> None:
    picture = Image.new("RGBA", (8, 8), (200, 30, 60, 255))
    picture.paste((200, 30, 60, alpha), (0, 0, 4, 8))
    picture = picture if alpha == 0 else picture.convert("RGB")
    (picture.quantize() if mode == "P" else picture).save(tmp_path / "a.png", icc_profile=swapped_profile())
    read = read_rgb(tmp_path / "a.png").astype(int)
    assert np.abs(read[:, 4:] - (60, 200, 30)).max() <= 3
    assert (read[:, :4] == (255 if alpha == 0 else read[:, 4:])).all()


def test_a_profile_that_is_broken_is_left_alone(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 30, 60)).save(tmp_path / "a.png", icc_profile=b"no profile")
    assert (read_rgb(tmp_path / "a.png") == (200, 30, 60)).all()


def test_a_folder_is_read_in_order_with_captions_and_damaged_files(tmp_path: Path, photo: Picture) -> None:
    Image.fromarray(photo).save(tmp_path / "b.PNG")
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("\ufeffa photo of ohwx woman,\n in a spacesuit\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("  \n")
    (tmp_path / "c.png").write_bytes((tmp_path / "b.PNG").read_bytes()[:20000])
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    (tmp_path / "e.heic").write_bytes(b"no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.md").write_text("no picture")
    read = read_images(tmp_path)
    assert [one.name for one in read] == ["a.jpg", "b.PNG", "c.png", "d.jpg", "e.heic"]
    assert [one.caption for one in read] == ["a photo of ohwx woman, in a spacesuit", None, None, None, None]
    assert [one.rgb is None for one in read] == [False, False, True, True, True]
    assert "truncated" in read[2].problem and read[3].problem == "is damaged or no picture" and "JPEG" in read[4].problem


def test_a_folder_without_pictures_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(FaceExprError, match="holds no pictures"):
        read_images(tmp_path)
    with pytest.raises(FaceExprError, match="There is no folder"):
        read_images(tmp_path / "nowhere")


def test_a_batch_becomes_numbered_sources(photo: Picture) -> None:
    batch = np.stack([photo, photo[:, ::-1]]).astype(np.float32) / 255
    read = images_from_batches([batch])
    assert [one.name for one in read] == ["image 1", "image 2"]
    assert read[0].rgb is not None and np.array_equal(read[0].rgb, photo)
    with pytest.raises(FaceExprError, match=r"\[N, H, W, 3\]"):
        images_from_batches([batch[0]])


def test_a_face_crop_is_square_and_keeps_the_face_in_the_middle(photo: Picture, detector: FaceDetector) -> None:
    subject = prepare_subject(sources(photo), detector=detector, resolution=256, padding=0.5)
    (one,) = subject.photos
    assert one.image.shape == (256, 256, 3) and one.image.dtype == np.uint8
    assert one.face.size == pytest.approx(256 / 2, rel=0.02)
    assert np.abs(np.array(one.face.centre) - 128).max() < 3
    seen = detector.detect(one.image)[0]
    assert np.abs(seen.landmarks[:, :2] - one.face.landmarks[:, :2]).mean() < 2
    mask = one.mask()
    assert mask.shape == (256, 256) and mask[128, 128] == 1 and mask[4, 4] == 0


@pytest.mark.parametrize("pixels", [(3000, 4000), (1300, 900)])
def test_a_face_crop_is_told_as_a_picture_of_its_own_size(photo: Picture, detector: FaceDetector, pixels: tuple[int, int]) -> None:
    """A small face that is enlarged: the ids lie where SDXL was trained, whatever the photo around it measures."""
    wide = np.full((*pixels, 3), 120, np.uint8)
    wide[-700:-188, 300:812] = photo
    (one,) = prepare_subject(sources(wide), detector=detector, resolution=1024, padding=0.75, drop_small=False).photos
    side = 2.5 * detector.detect(photo)[0].size
    assert one.original_size[0] == one.original_size[1] == pytest.approx(side, rel=0.06) and side < 512
    assert one.crop_top_left == (0, 0) and one.target_size == (1024, 1024)
    whole = prepare_subject(sources(wide), detector=detector, resolution=1024, framing="whole picture", drop_small=False).photos[0]
    assert whole.original_size == pixels and 0 <= max(whole.crop_top_left) <= 1024 * max(pixels) / min(pixels)


def test_the_whole_picture_is_the_largest_square_with_the_face(photo: Picture, detector: FaceDetector) -> None:
    square = prepare_subject(sources(photo), detector=detector, resolution=256, framing="whole picture").photos[0]
    assert (square.original_size, square.crop_top_left) == ((512, 512), (0, 0))
    assert np.abs(square.image.astype(float) - resized(photo, 256, 256)).max() == 0
    wide = prepare_subject(sources(np.pad(photo, ((0, 0), (600, 0), (0, 0)))), detector=detector, resolution=256, framing="whole picture")
    top, left = wide.photos[0].crop_top_left
    assert top == 0 and left == pytest.approx((600 + 225.5 - 256) / 2, abs=3)
    assert wide.photos[0].face.centre[0] == pytest.approx(128, abs=2)


def test_captions_name_the_photos_own_expression(people: list[list[Picture]], detector: FaceDetector) -> None:
    neutral, happy, sad = people[1][0], people[1][1], people[1][2]
    subject = prepare_subject(sources(neutral, happy, sad), detector=detector, resolution=128, class_word="man")
    assert [photo.caption for photo in subject.photos] == [
        "a photo of ohwx man, neutral expression",
        "a photo of ohwx man, happy expression",
        "a photo of ohwx man, sad expression",
    ]
    assert caption_for("contempt", "", "woman") == "a photo of woman, contemptuous expression"
    assert caption_for(None, "ohwx", "woman") == "a photo of ohwx woman"


def test_the_report_says_how_sure_the_expression_is_and_how_strong(people: list[list[Picture]], detector: FaceDetector) -> None:
    subject = prepare_subject(sources(*people[1][:3]), detector=detector, resolution=128)
    resting, _, sad = subject.report.splitlines()[1:]
    assert re.search(r"px, neutral \(9\d % sure\), caption", resting)
    assert re.search(r'px, sad \(9\d % sure, strength 1\.\d\), caption "a photo of ohwx person, sad expression"', sad)


def test_a_photo_on_which_the_judges_disagree_is_captioned_without_an_expression(
    people: list[list[Picture]], detector: FaceDetector
) -> None:
    """The first person's smile: turned aside it is one-sided to the blendshapes, the classifier calls it happy."""
    subject = prepare_subject(sources(*people[0]), detector=detector, resolution=128, trigger="ohwx", class_word="man")
    smile = subject.photos[1]
    assert smile.expression is None and smile.caption == "a photo of ohwx man"
    assert re.search(r"expression unclear \(most likely contempt, 9\d %, happy by the photo classifier\)", subject.report.splitlines()[2])


def test_an_unclear_expression_comes_through_the_subjects_file(people: list[list[Picture]], detector: FaceDetector, tmp_path: Path) -> None:
    subject = prepare_subject(sources(*people[2][:4]), detector=detector, resolution=64)
    unclear = replace(subject, photos=tuple(replace(photo, expression=None) for photo in subject.photos))
    write_subject(tmp_path / "subject.npz", unclear)
    assert [photo.expression for photo in read_subject(tmp_path / "subject.npz").photos] == [None] * 4


def test_a_text_file_replaces_the_caption_and_its_lack_of_the_trigger_is_told(photo: Picture, detector: FaceDetector) -> None:
    subject = prepare_subject([SourceImage("a.png", photo, "an astronaut")], detector=detector, resolution=512)
    assert subject.photos[0].caption == "an astronaut"
    assert "lacks the trigger word ohwx" in subject.report


def test_copies_are_dropped_and_other_photos_of_the_person_are_not(
    photo: Picture, people: list[list[Picture]], detector: FaceDetector, tmp_path: Path
) -> None:
    Image.fromarray(photo).save(tmp_path / "copy.jpg", quality=60)
    copies = sources(photo, read_rgb(tmp_path / "copy.jpg"), resized(photo, 640, 640), photo[:450, 40:])
    subject = prepare_subject(copies, detector=detector, resolution=512)
    assert [one.name for one in subject.photos] == ["0.png"]
    assert subject.report.count("nearly the same as 0.png") == 3
    kept = prepare_subject(copies, detector=detector, resolution=512, drop_duplicates=False)
    assert len(kept.photos) == 4 and kept.report.count("nearly the same as") == 3
    assert len(prepare_subject(sources(*people[0]), detector=detector, resolution=128).photos) == 9


def test_a_40_pixel_face_is_reported_and_by_choice_kept(photo: Picture, detector: FaceDetector) -> None:
    small = np.full((600, 900, 3), 120, np.uint8)
    small[200:390, 300:490] = resized(photo, 190, 190)
    subject = prepare_subject(sources(photo, small), detector=detector, resolution=256)
    assert [one.name for one in subject.photos] == ["0.png"]
    assert "dropped  1.png: face of 40 px is smaller than 48 px" in subject.report
    kept = prepare_subject(sources(photo, small), detector=detector, resolution=256, drop_small=False, drop_duplicates=False)
    assert len(kept.photos) == 2 and "smaller than 48 px" in kept.report
    with pytest.raises(FaceExprError, match=r"(?s)None of the 1 pictures can be used.*smaller than 128 px"):
        prepare_subject(sources(small), detector=detector)


def test_of_two_faces_the_largest_or_the_chosen_one_is_taken(photo: Picture, detector: FaceDetector) -> None:
    pair = np.concatenate([np.pad(resized(photo, 300, 300), ((0, 212), (0, 0), (0, 0))), photo], axis=1)
    largest = prepare_subject(sources(pair), detector=detector, resolution=128, padding=0)
    assert "2 faces found, the largest was taken" in largest.report
    second = prepare_subject(sources(pair), detector=detector, resolution=128, padding=0, face_index=1)
    assert "2 faces found, number 2 by size was taken" in second.report
    for number, one in enumerate((largest, second)):
        side = round(detector.detect(pair, every=True)[number].size)
        assert one.photos[0].original_size == (side, side)


def test_unusable_pictures_are_skipped_and_named(photo: Picture, detector: FaceDetector) -> None:
    bad = [SourceImage("bad.jpg", None, problem="cannot be read"), SourceImage("wall.png", np.full((300, 300, 3), 90, np.uint8))]
    subject = prepare_subject([*bad, *sources(photo)], detector=detector, resolution=256)
    assert subject.report.splitlines()[0].startswith("1 of 3 pictures kept, 256 x 256")
    assert "skipped  bad.jpg: cannot be read" in subject.report and "skipped  wall.png: no face found" in subject.report
    with pytest.raises(FaceExprError, match=r"(?s)None of the 2 pictures.*bad.jpg.*wall.png: no face found"):
        prepare_subject(bad, detector=detector)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resolution": 500}, "a multiple of 8 from 64 to 4096. The nearest is 496"),
        ({"framing": "portrait"}, "must be one of: face crop, whole picture"),
        ({"resolution": 8192}, "a multiple of 8 from 64 to 4096. The nearest is 4096"),
        ({"padding": -1.0}, "must lie between 0 and 100"),
        ({"padding": float("nan")}, "must lie between 0 and 100"),
        ({"face_index": -1}, "0 for the largest"),
        ({"trigger": " ", "class_word": ""}, "both empty"),
    ],
)
def test_settings_out_of_range_say_what_is_allowed(photo: Picture, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FaceExprError, match=message):
        prepare_subject(sources(photo), **fields)


def test_no_pictures_at_all_is_an_error() -> None:
    with pytest.raises(FaceExprError, match="No pictures were given"):
        prepare_subject([])


# The node


def loaded(**inputs: Any) -> tuple[Any, ...]:
    """What the node gives, in this process, for inputs as ComfyUI hands them over."""
    chosen = {"folder": "none", "trigger_word": "ohwx", "class_word": "woman", "resolution": 128, "framing": "face crop", "padding": 0.75}
    chosen |= {"face": 0, "drop_small_faces": False, "drop_duplicates": True, **inputs}
    images = chosen.pop("images", None)
    given = {name: [value] for name, value in chosen.items()}
    return pack.node("load_subject_images").LoadSubjectImages.execute(images=images, **given).args


def batch_of(*pictures: Picture) -> torch.Tensor:
    return torch.tensor(np.stack(pictures)).float() / 255


def test_the_nodes_trigger_word_is_in_the_captions_and_its_padding_in_the_pictures(comfy_modules: Any, photo: Picture) -> None:
    image, shares = batch_of(photo), {}
    for padding in (0.2, 0.75, 1.5):
        subject, pictures, masks, *_ = loaded(images=[image], trigger_word="sks", padding=padding)
        (one,) = subject.photos
        assert one.caption == "a photo of sks woman, happy expression" and pictures.shape == (1, 128, 128, 3)
        assert one.face.size == pytest.approx(128 / (1 + 2 * padding), rel=0.03)
        shares[padding] = float(masks.mean())
    assert shares[0.2] > 2 * shares[0.75] > 4 * shares[1.5]


def test_the_nodes_choices_of_a_face_and_of_what_is_dropped_reach_the_subject(comfy_modules: Any, photo: Picture) -> None:
    pair, sizes = np.concatenate([np.pad(resized(photo, 300, 300), ((0, 212), (0, 0), (0, 0))), photo], axis=1), []
    for face in (0, 1):
        report = loaded(images=[batch_of(pair)], face=face)[3]
        assert "2 faces found" in report
        sizes.append(int(re.search(r"face (\d+) px", report).group(1)))  # type: ignore[union-attr]
    assert sizes[0] > 1.2 * sizes[1]
    small = np.full((512, 512, 3), 120, np.uint8)
    small[100:290, 100:290] = resized(photo, 190, 190)
    for name, pictures in (("drop_small_faces", (photo, small)), ("drop_duplicates", (photo, photo))):
        free = {"drop_small_faces": False, "drop_duplicates": False}
        assert [len(loaded(images=[batch_of(*pictures)], **{**free, name: drop})[0].photos) for drop in (False, True)] == [2, 1], name


def test_the_node_stops_at_the_photo_that_it_reads_when_the_user_cancels(comfy_modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node, management = pack.node("load_subject_images"), importlib.import_module("comfy.model_management")
    say, told = node.say_or_stop, []

    def watch(text: str) -> None:
        told.append(text)
        say(text)

    monkeypatch.setattr(node, "say_or_stop", watch)
    management.interrupt_current_processing(True)
    with pytest.raises(pack.host().Interrupted):
        loaded(folder="example: a rendered person")
    assert told == ["reading photo_1.png"]


# In a running ComfyUI


NODE = "FaceExprLoadSubjectImages"


def graph(folder: str, **inputs: Any) -> dict[str, dict[str, Any]]:
    """The node with its pictures and masks saved; the report is what the node itself shows."""
    chosen = {"trigger_word": "ohwx", "class_word": "woman", "resolution": 256, "framing": "face crop", "padding": 0.75, "face": 0}
    chosen |= {"drop_small_faces": True, "drop_duplicates": True, "folder": folder, **inputs}
    return {
        "1": {"class_type": NODE, "inputs": chosen},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 1], "filename_prefix": "subject"}},
        "3": {"class_type": "MaskToImage", "inputs": {"mask": ["1", 2]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "mask"}},
    }


@pytest.fixture
def folder(comfy: ComfyProcess, photo: Picture, request: pytest.FixtureRequest) -> Path:
    """A folder of its own inside ComfyUI's input folder, with one photo."""
    path = comfy.input_dir / "people" / str(request.node.name)
    path.mkdir(parents=True)
    Image.fromarray(photo).save(path / "photo.png")
    return path


def test_the_node_prepares_a_folder_and_a_batch_together(comfy: ComfyProcess, folder: Path, photo: Picture) -> None:
    Image.fromarray(np.ascontiguousarray(photo[:, ::-1])).save(comfy.input_dir / "mirrored.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8broken")
    both = graph(folder.relative_to(comfy.input_dir).as_posix(), images=["5", 0])
    both["5"] = {"class_type": "LoadImage", "inputs": {"image": "mirrored.png"}}
    shown = comfy.run(both)
    report = shown["1"]["text"][0]
    assert report.startswith("2 of 3 pictures kept, 256 x 256")
    assert "skipped  broken.jpg: is damaged or no picture" in report
    assert "kept     image 1: face 10" in report
    smiles = r'happy \(\d\d % sure, strength \d\.\d\), caption "a photo of ohwx woman, happy expression"'
    assert len(re.findall(smiles, report)) == 2
    for node, least, most in (("2", 40, 200), ("4", 20, 120)):
        assert len(shown[node]["images"]) == 2
        for saved in shown[node]["images"]:
            picture = np.asarray(Image.open(comfy.output_dir / saved["subfolder"] / saved["filename"]).convert("RGB"))
            assert picture.shape == (256, 256, 3) and least < picture.mean() < most


def test_the_node_sees_changed_files_and_captions(comfy: ComfyProcess, folder: Path) -> None:
    name = folder.relative_to(comfy.input_dir).as_posix()
    assert "happy" in comfy.run(graph(name))["1"]["text"][0]
    (folder / "photo.txt").write_text("ohwx in a spacesuit")
    assert 'caption "ohwx in a spacesuit" (as given)' in comfy.run(graph(name))["1"]["text"][0]


@pytest.mark.parametrize("outside", ["..", "../../models", "people/../..", os.path.abspath(os.sep), "."])
def test_a_path_outside_the_input_folder_is_refused(comfy: ComfyProcess, outside: str) -> None:
    with pytest.raises(ComfyError, match="is not inside ComfyUI's input folder") as caught:
        comfy.run(graph(outside))
    assert caught.value.refused


def test_a_link_that_leads_outside_is_refused(comfy: ComfyProcess, folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ComfyError, match="is not inside ComfyUI's input folder"):
        comfy.run(graph((folder / "link").relative_to(comfy.input_dir).as_posix()))


def test_an_empty_folder_and_no_folder_at_all_say_what_is_needed(comfy: ComfyProcess) -> None:
    (comfy.input_dir / "empty").mkdir(exist_ok=True)
    with pytest.raises(ComfyError, match="holds no pictures"):
        comfy.run(graph("empty"))
    with pytest.raises(ComfyError, match="There is no folder 'missing'"):
        comfy.run(graph("missing"))
    with pytest.raises(ComfyError, match="No pictures were given"):
        comfy.run(graph("none"))


def test_the_node_offers_the_folders_inside_input_and_tips_on_every_input(comfy: ComfyProcess, folder: Path) -> None:
    (comfy.input_dir / ".hidden").mkdir(exist_ok=True)
    info = comfy.object_info()[NODE]
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    options = inputs["folder"][1]["options"]
    assert folder.relative_to(comfy.input_dir).as_posix() in options and "people" in options
    assert not any(option.startswith(".") for option in options)
    assert all(len(spec[1]["tooltip"]) > 20 for spec in inputs.values())
    assert info["output"] == ["FACEEXPR_SUBJECT", "IMAGE", "MASK", "STRING", "IMAGE"]


def test_a_subject_holds_what_training_reads(photo: Picture, detector: FaceDetector) -> None:
    subject = prepare_subject(sources(photo), detector=detector, resolution=128)
    assert isinstance(subject, Subject)
    assert (subject.trigger, subject.class_word, subject.resolution) == ("ohwx", "person", 128)
    assert len(subject.photos[0].face.blendshapes) == 52 and subject.photos[0].expression == "happy"
