"""Load Subject Images in a running ComfyUI with albums as people have them: lists of images, groups, kohya's folders, the contact sheet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
from comfy_process import ComfyError, ComfyProcess
from PIL import Image
from rendered import rendered_people

NODE = "FaceExprLoadSubjectImages"
FACES = rendered_people()


def face(person: int, shown: int, side: int = 128) -> Image.Image:
    return Image.fromarray(FACES[person][shown]).resize((side, side))


def graph(folder: str, **inputs: Any) -> dict[str, dict[str, Any]]:
    chosen = {"trigger_word": "ohwx", "class_word": "person", "resolution": 64, "framing": "face crop", "padding": 0.75, "face": 0}
    return {"1": {"class_type": NODE, "inputs": {**chosen, "drop_small_faces": True, "drop_duplicates": True, "folder": folder, **inputs}}}


@pytest.fixture
def folder(comfy: ComfyProcess, request: pytest.FixtureRequest) -> Path:
    path = comfy.input_dir / str(request.node.name).split("[")[0]
    path.mkdir(parents=True, exist_ok=True)
    return path


def shown_picture(comfy: ComfyProcess, shown: dict[str, Any]) -> np.ndarray:
    (one,) = shown["images"]
    place = {"output": comfy.output_dir, "temp": comfy.output_dir.parent / "temp"}[one["type"]]
    return np.asarray(Image.open(place / one["subfolder"] / one["filename"]).convert("RGB"))


@pytest.mark.parametrize("sides", [(128, 128, 128), (128, 160, 192)])
def test_a_list_of_images_is_one_subject(comfy: ComfyProcess, folder: Path, sides: tuple[int, ...]) -> None:
    for number, side in enumerate(sides):
        face(0, number, side).save(folder / f"{number}.png")
    listed = graph("none", images=["2", 0])
    listed["2"] = {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": folder.name}}
    listed["3"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 1], "filename_prefix": "listed"}}
    shown = comfy.run(listed)
    assert len(shown["1"]["text"]) == 1, "the node ran once for each picture"
    assert shown["1"]["text"][0].startswith("3 of 3 pictures kept, 64 x 64")
    assert [f"kept     image {number}:" in shown["1"]["text"][0] for number in (1, 2, 3)] == [True] * 3
    assert len(shown["3"]["images"]) == 3


def test_a_list_joins_a_folder(comfy: ComfyProcess, folder: Path) -> None:
    for number in range(2):
        face(1, number).save(folder / f"{number}.png")
    (folder / "own").mkdir(exist_ok=True)
    face(1, 4).save(folder / "own" / "4.jfif", "JPEG")
    joined = graph(f"{folder.name}/own", images=["2", 0])
    joined["2"] = {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": folder.name}}
    (report,) = comfy.run(joined)["1"]["text"]
    assert report.startswith("3 of 3 pictures kept") and "kept     4.jfif:" in report and "kept     image 2:" in report


def test_a_list_of_other_values_is_refused(comfy: ComfyProcess, folder: Path) -> None:
    for number in range(2):
        face(0, number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"word{number}")
    listed = graph(folder.name, trigger_word=["2", 1])
    listed["2"] = {"class_type": "LoadImageTextDataSetFromFolder", "inputs": {"folder": folder.name}}
    with pytest.raises(ComfyError, match="2 different values of 'trigger_word' were given; one subject is made of one"):
        comfy.run(listed)


def test_the_person_in_most_photos_is_learned_and_another_can_be_chosen(comfy: ComfyProcess, folder: Path) -> None:
    for number in (0, 1, 2):
        face(0, number).save(folder / f"own{number}.png")
    face(2, 0).save(folder / "stranger.png")
    (report,) = comfy.run(graph(folder.name))["1"]["text"]
    assert report.startswith("3 of 4 pictures kept") and "dropped  stranger.png: shows another person: person 1" in report
    (report,) = comfy.run(graph(folder.name, person=1))["1"]["text"]
    assert report.startswith("1 of 4 pictures kept") and "kept     stranger.png" in report


def test_the_report_is_shown_as_a_picture_and_handed_on(comfy: ComfyProcess, folder: Path) -> None:
    for number in (0, 1):
        face(1, number).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xffbroken")
    sheet = graph(folder.name)
    sheet["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 4], "filename_prefix": "sheet"}}
    shown = comfy.run(sheet)
    previewed, saved = shown_picture(comfy, shown["1"]), shown_picture(comfy, shown["2"])
    assert np.array_equal(previewed, saved) and saved.shape[1] == 3 * 256 + 4 * 14
    kept, skipped = (np.array(colour) for colour in ((110, 205, 120), (235, 95, 85)))
    assert (saved == kept).all(axis=2).sum() > 2 * 4 * 256 and (saved == skipped).all(axis=2).sum() > 4 * 256


def test_folders_are_offered_down_to_three_levels_and_hidden_ones_not(comfy_modules: SimpleNamespace) -> None:
    root = Path(comfy_modules.folder_paths.get_input_directory())
    for path in ("levels/two/three/four", "levels/.hidden/three"):
        (root / path).mkdir(parents=True)
    folders = pack.node("load_subject_images").LoadSubjectImages.INPUT_TYPES()["required"]["folder"][1]["options"]
    assert [name for name in folders if name.startswith("levels")] == ["levels", "levels/two", "levels/two/three"]


def test_kohyas_folders_are_offered_and_read_and_their_changes_seen(comfy: ComfyProcess, folder: Path) -> None:
    inside = folder / "10_ohwx person"
    inside.mkdir(exist_ok=True)
    face(1, 0).save(inside / "1.png")
    assert folder.name in comfy.object_info()[NODE]["input"]["required"]["folder"][1]["options"]
    (report,) = comfy.run(graph(folder.name))["1"]["text"]
    assert "kept     10_ohwx person/1.png" in report and "(as given)" not in report
    (inside / "1.caption").write_text("ohwx at home")
    (report,) = comfy.run(graph(folder.name))["1"]["text"]
    assert 'caption "ohwx at home" (as given)' in report and "no photo 10_ohwx person/1.caption:" in report
