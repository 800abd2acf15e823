"""The workflows open on the page as they run in the tests: both forms agree with each other and with the nodes."""

from __future__ import annotations

import io
import itertools
import json
import re
from typing import Any

import numpy as np
import pytest
from comfy_process import ComfyProcess, Graph, Progress, comfyui_path
from mini_graphs import difference, drawn, ids, put_mini_in, shortened
from PIL import Image
from workflow_api import NOTES, WORKFLOWS, input_specs, to_api, with_sources

from faceexpr_core.mini import RESOLUTION
from lab.benchmarks import frowns

NAMES = sorted(path.name for path in WORKFLOWS.glob("*.json"))
FUSIONS = ("text", "photo")
TRAIN, SHEET, EXTRACT, APPLY, SAMPLER = (
    "FaceExprTrainLoRA",
    "FaceExprExpressionSheet",
    "FaceExprExtractExpressionFeatures",
    "FaceExprApplyAttentionFocusedFusion",
    "FaceExprSampler",
)
TRAINING = [name for name in NAMES if TRAIN in (WORKFLOWS / name).read_text()]
MINIS = [name.removesuffix(".json") for name in NAMES if "_mini_" in name]
EDITED = ("FaceExprExpressionTextEncode", "FaceExprChangeExpression")
LORAS, FILES = {"FaceExprLoadLoRA", "CreateHookLora"}, {"ckpt_name", "lora_name", "control_net_name", "image"}
UNFUSED = ("_change.json", "_expression.json", "_intensity_and_blend.json", "_quick_start.json", "_sdxl.json", "_sheet.json")
"""How the names of those end that fuse nothing."""


@pytest.fixture(scope="module")
def object_info(comfy: ComfyProcess) -> dict[str, Any]:
    return comfy.object_info()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(name: str) -> dict[str, Any]:
    return dict(json.loads((WORKFLOWS / name).read_text()))


def api(kind: str) -> Graph:
    graph: Graph = json.loads((WORKFLOWS / "api" / f"faceexpr_mini_fusion_{kind}.json").read_text())
    return graph


def small(name: str, **inputs: dict[str, Any]) -> Graph:
    """A workflow, small enough for a test; `inputs` are changes by class of node."""
    graph = shortened(json.loads((WORKFLOWS / "api" / f"{name}.json").read_text()))
    for node in graph.values():
        node["inputs"] |= {TRAIN: {"lora_name": "test/fusion"}, **inputs}.get(node["class_type"], {})
    return graph


def both(comfy: ComfyProcess, graph: Graph) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """The pictures without and with fusion, and the nodes that worked."""
    told: list[Progress] = []
    pictures = drawn(comfy, graph, told.append)
    return pictures["Without fusion"], pictures["With fusion"], {step.node_id for step in told}


def test_all_workflows_are_there() -> None:
    assert NAMES == [
        "faceexpr_mini_best_of_four.json",
        "faceexpr_mini_change.json",
        "faceexpr_mini_expression.json",
        "faceexpr_mini_fusion_photo.json",
        "faceexpr_mini_fusion_text.json",
        "faceexpr_mini_intensity_and_blend.json",
        "faceexpr_mini_my_lora_frowns.json",
        "faceexpr_mini_quick_start.json",
        "faceexpr_mini_sheet.json",
        "faceexpr_mini_small_faces.json",
        "faceexpr_mini_two_people.json",
        "faceexpr_sdxl.json",
        "faceexpr_sdxl_best_of_four.json",
        "faceexpr_sdxl_change.json",
        "faceexpr_sdxl_controlnet.json",
        "faceexpr_sdxl_few_steps.json",
        "faceexpr_sdxl_fusion_photo.json",
        "faceexpr_sdxl_fusion_text.json",
        "faceexpr_sdxl_intensity_and_blend.json",
        "faceexpr_sdxl_my_lora_frowns.json",
        "faceexpr_sdxl_sheet.json",
        "faceexpr_sdxl_small_faces.json",
        "faceexpr_sdxl_two_people.json",
    ]
    assert sorted(path.name for path in (WORKFLOWS / "api").glob("*.json")) == NAMES


def test_the_api_twin_has_the_same_nodes_links_and_values(name: str, page: dict[str, Any], object_info: dict[str, Any]) -> None:
    assert json.loads((WORKFLOWS / "api" / name).read_text()) == to_api(page, object_info)


def test_training_on_sdxl_takes_what_fits_the_card(object_info: dict[str, Any]) -> None:
    """Any value but the node's own would stand against what the preset auto chooses."""
    (trained,) = (name for name in TRAINING if "_sdxl" in name)
    free = {"preset", "steps", "learning_rate", "rank", "prior", "gradient_checkpointing", "base", "batch_size", "train_text_encoder"}
    own = {option: how["default"] for option, _, how in input_specs(object_info[TRAIN]) if option in free}
    (values,) = (node["inputs"] for node in json.loads((WORKFLOWS / "api" / trained).read_text()).values() if node["class_type"] == TRAIN)
    assert own["preset"] == "auto" and {option: values[option] for option in free} == own


def test_links_are_the_same_seen_from_either_end(page: dict[str, Any], object_info: dict[str, Any]) -> None:
    nodes = {node["id"]: node for node in page["nodes"]}
    for number, source, output, target, slot, kind in page["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][slot]["type"] in (kind, "*")
    assert sum(len(output["links"]) for node in page["nodes"] for output in node["outputs"]) == len(page["links"])
    assert page["last_node_id"] == max(nodes)
    assert page["last_link_id"] == max(link[0] for link in page["links"])


def test_slots_are_those_of_the_nodes(page: dict[str, Any], object_info: dict[str, Any]) -> None:
    for node in page["nodes"]:
        if node["type"] in NOTES:
            continue
        info = object_info[node["type"]]
        types = {name: kind for name, kind, _ in input_specs(info)}
        assert {slot["name"]: slot["type"] for slot in node["inputs"]}.items() <= types.items()
        outputs = [(output["type"], output["name"]) for output in node["outputs"]]
        known = list(zip(info["output"], info["output_name"], strict=True))
        own = node["type"].startswith("FaceExpr")
        assert outputs == (known if own else known[: len(outputs)]), node["type"]  # newer ComfyUI gives some of its nodes one more


def test_every_value_is_one_that_its_widget_allows(name: str, page: dict[str, Any], object_info: dict[str, Any]) -> None:
    for node in to_api(page, object_info).values():
        specs = {name: (kind, options) for name, kind, options in input_specs(object_info[node["class_type"]])}
        for key, value in node["inputs"].items():
            kind, options = specs[key]
            if isinstance(value, list):
                continue
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], (node, key)
            elif node["class_type"].startswith("FaceExpr") and (choices := kind if isinstance(kind, list) else options.get("options")):
                assert value in choices or key in ("folder", "lora_name"), (node, key)


def test_no_two_nodes_overlap_and_every_node_lies_in_a_group_or_is_a_note(page: dict[str, Any]) -> None:
    title = 30

    def box(node: dict[str, Any]) -> tuple[float, float, float, float]:
        (x, y), (width, height) = node["pos"], node["size"]
        return x, y - title, x + width, y + height

    for one, other in itertools.combinations(page["nodes"], 2):
        a, b = box(one), box(other)
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (one["type"], other["type"], one["pos"], other["pos"])
    groups = [(x, y, x + width, y + height) for x, y, width, height in (group["bounding"] for group in page["groups"])]
    for node in page["nodes"]:
        left, top, right, bottom = box(node)
        held = any(x <= left and y <= top and right <= x2 and bottom <= y2 for x, y, x2, y2 in groups)
        assert held or node["type"] in NOTES, node["type"]


def test_the_template_browser_finds_each_once(comfy: ComfyProcess, name: str) -> None:
    stem = name.removesuffix(".json")
    assert json.loads(comfy.get("/workflow_templates"))["faceexpr"].count(stem) == 1
    assert json.loads(comfy.get(f"/api/workflow_templates/faceexpr/{name}")) == json.loads((WORKFLOWS / name).read_text())


def test_each_workflow_has_a_small_picture_in_the_template_browser(comfy: ComfyProcess) -> None:
    for stem in (name.removesuffix(".json") for name in NAMES):
        picture = comfy.get(f"/api/workflow_templates/faceexpr/{stem}.jpg")
        assert len(picture) < 60_000 and Image.open(io.BytesIO(picture)).format == "JPEG", stem


def test_app_mode_asks_for_widgets_and_shows_pictures_that_are_there(name: str, page: dict[str, Any]) -> None:
    """`linearData` is what the page's app mode shows: `[node, widget]` for each input, and the nodes whose pictures are the result."""
    graph: Graph = json.loads((WORKFLOWS / "api" / name).read_text())
    told = page["extra"]["linearData"]
    assert told["inputs"] and told["outputs"]
    for number, widget in told["inputs"]:
        assert not isinstance(graph[str(number)]["inputs"][widget], list), (number, widget)
    assert [str(number) for number in told["outputs"]] == ids(graph, "SaveImage")
    files = {(int(number), key) for number, node in graph.items() if node["class_type"] != TRAIN for key in FILES & node["inputs"].keys()}
    assert {one for one in files if not isinstance(graph[str(one[0])]["inputs"][one[1]], list)} <= {tuple(one) for one in told["inputs"]}


def test_app_mode_does_not_ask_for_a_name_that_changes_no_picture(name: str, page: dict[str, Any]) -> None:
    """Features call themselves by their node's *expression*; the texts say what is fused and where."""
    graph: Graph = json.loads((WORKFLOWS / "api" / name).read_text())
    assert not {(int(number), "expression") for number in ids(graph, EXTRACT)} & {
        tuple(one) for one in page["extra"]["linearData"]["inputs"]
    }


def test_the_face_is_seen_wherever_an_expression_is_fused(name: str) -> None:
    """Without a VAE the expression acts on the whole picture, and the console warns."""
    graph: Graph = json.loads((WORKFLOWS / "api" / name).read_text())
    fusing = [
        node["inputs"] for node in graph.values() if node["class_type"] == APPLY or {"features", "base_model"} & node["inputs"].keys()
    ]
    assert bool(fusing) != name.endswith(UNFUSED)
    assert all("vae" in inputs for inputs in fusing)


def test_pictures_of_a_template_have_one_noise_and_one_prompt_to_change(name: str, page: dict[str, Any]) -> None:
    """Pictures that are compared differ by what they are there to show alone, whatever the user changes."""
    graph: Graph = json.loads((WORKFLOWS / "api" / name).read_text())
    asked = [tuple(one) for one in page["extra"]["linearData"]["inputs"]]
    drawing = [node["inputs"] for node in graph.values() if node["class_type"] in (SAMPLER, SHEET)]
    if len(drawing) > 1:
        ((seed, _),) = {tuple(inputs["seed"]) for inputs in drawing}
        assert graph[seed]["class_type"] == "PrimitiveInt" and (int(seed), "value") in asked
    texts = [node["inputs"]["prompt"] for node in graph.values() if isinstance(node["inputs"].get("prompt"), str)]
    assert len(texts) == len(set(texts))
    for number in ids(graph, "PrimitiveStringMultiline"):
        assert (int(number), "value") in asked


def told_in(page: dict[str, Any]) -> str:
    """The note of a template."""
    (text,) = (node["widgets_values"][0] for node in page["nodes"] if node["type"] in NOTES)
    return str(text)


def test_the_note_says_what_is_to_be_chosen_and_written(name: str, page: dict[str, Any]) -> None:
    graph: Graph = json.loads((WORKFLOWS / "api" / name).read_text())
    kinds, text = {node["class_type"] for node in graph.values()}, told_in(page)
    if kinds & LORAS or "connect its model to" in text.lower():
        assert "trigger word and class word" in text or "trigger and class word" in text
    if "CheckpointLoaderSimple" in kinds:
        assert "Choose an SDXL checkpoint (SDXL base," in text or "Choose the SDXL checkpoint that your LoRA was made for" in text
    if "LoadImage" in kinds:
        assert "`example.png`" in text
    if "FaceExprScore" in kinds:
        assert "Four others: change **Seed**" in text
    if "click" in text.lower():
        opened = [node["properties"].get("faceexpr_editor", False) for node in page["nodes"] if node["type"] in EDITED]
        assert all(opened) or "open *Set it on a face*" in text
    for other in re.findall(r"`(faceexpr_(?:mini|sdxl)\w*)`", text):
        assert f"{other}.json" in NAMES


def test_a_controlnets_outlines_are_shown_and_the_shape_of_the_picture_is_asked_for() -> None:
    """ComfyUI cuts it to the shape of the latent, from the middle."""
    graph: Graph = json.loads((WORKFLOWS / "api" / "faceexpr_sdxl_controlnet.json").read_text())
    ((held,), (shown,), (size,)) = (ids(graph, kind) for kind in ("ControlNetApplyAdvanced", "PreviewImage", "EmptyLatentImage"))
    assert graph[held]["inputs"]["image"] == graph[shown]["inputs"]["images"]
    asked = json.loads((WORKFLOWS / "faceexpr_sdxl_controlnet.json").read_text())["extra"]["linearData"]["inputs"]
    assert [int(size), "width"] in asked and [int(size), "height"] in asked


@pytest.mark.parametrize("model", ["mini", "sdxl"])
def test_two_people_overlap_and_stand_in_one_picture(model: str) -> None:
    """ComfyUI draws each area as a picture of its own: without a text over the whole there is a seam between two backgrounds."""
    graph: Graph = json.loads((WORKFLOWS / "api" / f"faceexpr_{model}_two_people.json").read_text())
    *_, fused = (graph[number]["inputs"] for number in ids(graph, SAMPLER))
    parts = {key: with_sources(graph, fused[key][0]) for key in ("positive", "neutral")}
    for part in parts.values():
        areas = [part[number]["inputs"] for number in ids(part, "ConditioningSetAreaPercentage")]
        left, right = sorted(areas, key=lambda area: float(area["x"]))
        assert left["x"] + left["width"] > right["x"] + 0.05 and right["x"] + right["width"] == pytest.approx(1)
    (whole,) = {number for number in parts["positive"] if number in ids(parts["neutral"], "ConditioningSetAreaStrength")}
    assert graph[graph[whole]["inputs"]["conditioning"][0]]["class_type"] == "CLIPTextEncode"


@pytest.mark.parametrize("name", MINIS)
def test_minis_workflows_ask_for_no_file_that_a_plain_comfyui_lacks(name: str, object_info: dict[str, Any]) -> None:
    lies_there = {path.name for path in (comfyui_path() / "input").iterdir()}
    graph: Graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
    for node in graph.values():
        for key, kind, options in input_specs(object_info[node["class_type"]]):
            choices = kind if isinstance(kind, list) else options.get("options")
            if choices is None or (value := node["inputs"].get(key)) is None or isinstance(value, list):
                continue
            assert value in (lies_there if options.get("image_upload") else choices), (node["class_type"], key, value)


def test_the_photo_is_looked_at_as_the_person_is_drawn() -> None:
    graph = api("photo")
    (extract,) = ids(graph, EXTRACT)
    run = ["steps", "cfg", "sampler_name", "scheduler", "denoise", "latent_image"]

    def avoided(number: str) -> str:
        return str(graph[graph[number]["inputs"]["negative"][0]]["inputs"]["text"])

    for sampler in ids(graph, SAMPLER):
        assert {key: graph[extract]["inputs"][key] for key in run} == {key: graph[sampler]["inputs"][key] for key in run}
        assert avoided(extract) == avoided(sampler)


@pytest.mark.parametrize("name", TRAINING)
def test_the_person_is_drawn_with_what_the_text_encoders_learned_and_the_photo_is_read_without(name: str) -> None:
    graph: Graph = json.loads((WORKFLOWS / "api" / name).read_text())
    (train,) = ids(graph, TRAIN)
    for number in ids(graph, SAMPLER):
        words = [graph[source[0]] for key in ("positive", "negative", "neutral") if (source := graph[number]["inputs"].get(key))]
        assert all(node["inputs"]["clip"] == [train, 3] for node in words)
    for number in ids(graph, EXTRACT):
        words = [graph[graph[number]["inputs"][key][0]] for key in ("positive", "negative", "neutral")]
        assert all(node["inputs"]["clip"] == graph[train]["inputs"]["clip"] for node in words)
        assert train not in with_sources(graph, number)


@pytest.mark.parametrize("kind", FUSIONS)
def test_what_is_advanced_is_as_the_nodes_have_it(kind: str, object_info: dict[str, Any]) -> None:
    graph = api(kind)
    for number in (*ids(graph, EXTRACT), *ids(graph, APPLY), *ids(graph, SAMPLER)):
        node = graph[number]
        for key, _, options in input_specs(object_info[node["class_type"]]):
            if options.get("advanced") and key in node["inputs"]:
                assert node["inputs"][key] == options["default"], (node["class_type"], key)


@pytest.mark.parametrize("kind", FUSIONS)
def test_both_pictures_differ_by_the_fusion_and_its_neutral_text_alone(kind: str) -> None:
    graph = api(kind)
    without, fused = (graph[number]["inputs"] for number in ids(graph, SAMPLER))
    (train,) = ids(graph, TRAIN)
    trained = graph[train]["inputs"]
    person, _ = without["positive"]
    assert (without["model"], without["positive"]) == ([train, 0], [person, 0])
    differing = {key: fused[key] for key in fused if fused[key] != without.get(key)}
    assert without.keys() <= fused.keys()
    if kind == "text":
        assert differing == {"neutral": [person, 1], "base_model": trained["model"], "vae": trained["vae"]}
        return
    (extract,), (apply,) = ids(graph, EXTRACT), ids(graph, APPLY)
    assert differing == {"model": [apply, 0], "positive": [person, 1]}
    assert graph[apply]["inputs"]["model"] == [train, 0]
    assert graph[extract]["inputs"]["model"] == trained["model"]


@pytest.mark.parametrize("kind", FUSIONS)
def test_the_fusion_workflow_changes_the_picture_and_strength_0_leaves_the_text_alone(comfy: ComfyProcess, kind: str) -> None:
    graph = small(f"faceexpr_mini_fusion_{kind}")
    without, fused, _ = both(comfy, graph)
    assert without.shape == fused.shape == (RESOLUTION, RESOLUTION, 3)
    assert difference(without, fused) > 0.5

    off = small(f"faceexpr_mini_fusion_{kind}", **{APPLY: {"strength": 0.0}})
    words, other = (off[number]["inputs"] for number in ids(off, SAMPLER))
    if kind == "text":
        other["fusion_strength"] = 0.0
    else:
        words["positive"] = other["positive"]
    expected, given, worked = both(comfy, off)
    assert np.array_equal(given, expected)
    assert np.array_equal(expected, without) == (kind == "text")
    assert difference(fused, given) > 0.5
    assert worked == set(ids(graph, SAMPLER)[1 if kind == "text" else 0 :])  # neither trained nor extracted again


def test_the_picture_follows_the_photos(comfy: ComfyProcess) -> None:
    without, fused, _ = both(comfy, small("faceexpr_mini_fusion_photo"))
    graph = small("faceexpr_mini_fusion_photo")
    photos = graph[ids(graph, EXTRACT)[0]]["inputs"]
    photos["photo"], photos["neutral_photo"] = photos["neutral_photo"], photos["photo"]
    _, exchanged, _ = both(comfy, graph)
    assert difference(exchanged, fused) > 0.2  # of the face alone
    assert difference(exchanged, without) > 0.5


@pytest.mark.parametrize("model", [pytest.param("mini", marks=pytest.mark.long), "sdxl"])
def test_the_best_of_four_is_saved_and_all_four_are_shown_best_first(comfy: ComfyProcess, model: str) -> None:
    graph = small(f"faceexpr_{model}_best_of_four")
    if model == "sdxl":
        graph = put_mini_in(comfy, graph)
    (score,), (best,), (every,) = (ids(graph, kind) for kind in ("FaceExprScore", "SaveImage", "PreviewImage"))
    shown = comfy.run(graph)
    pictures = {
        number: [np.asarray(Image.open(io.BytesIO(comfy.view(one))).convert("RGB")) for one in shown[number]["images"]]
        for number in (best, every)
    }
    assert len(pictures[best]) == 1 and len(pictures[every]) == 4
    assert np.array_equal(pictures[best][0], pictures[every][0])
    assert all(difference(one.astype(float), other.astype(float)) > 0.5 for one, other in itertools.combinations(pictures[every], 2))
    assert [line.split(".")[0] for line in shown[score]["text"][0].splitlines()] == ["1", "2", "3", "4"]


def test_the_template_for_a_picture_changes_one_of_the_photos(comfy: ComfyProcess) -> None:
    graph: Graph = json.loads((WORKFLOWS / "api" / "faceexpr_mini_change.json").read_text())
    (change,) = ids(graph, "FaceExprChangeExpression")
    graph[change]["inputs"]["steps"] = 3
    shown = comfy.run(graph)
    pictures = {
        kind: np.asarray(Image.open(io.BytesIO(comfy.view(shown[number]["images"][0]))).convert("RGB"), float)
        for kind in ("PreviewImage", "SaveImage")
        for number in ids(graph, kind)
    }
    given, made = pictures["PreviewImage"], pictures["SaveImage"]
    assert "a face of" in shown[change]["text"][0]
    assert np.array_equal(made[:, :4], given[:, :4])
    assert difference(given, made) > 0.5


def test_the_template_of_a_sheet_draws_the_vocabulary_and_frames(comfy: ComfyProcess) -> None:
    graph: Graph = json.loads((WORKFLOWS / "api" / "faceexpr_mini_sheet.json").read_text())
    for number in ids(graph, "FaceExprExpressionSheet"):
        graph[number]["inputs"]["steps"] = 1
    shown = comfy.run(graph)
    count = {graph[number]["_meta"]["title"]: len(shown[number]["images"]) for number in ids(graph, "SaveImage")}
    assert count == {"The sheet": 1, "The frames": 5}


@pytest.mark.parametrize(("model", "loader"), [("mini", "FaceExprLoadMini"), ("sdxl", "CheckpointLoaderSimple")])
def test_a_frowning_lora_is_drawn_twice_that_differ_by_fusion_alone(model: str, loader: str) -> None:
    graph: Graph = json.loads((WORKFLOWS / "api" / f"faceexpr_{model}_my_lora_frowns.json").read_text())
    without, fused = (graph[number]["inputs"] for number in ids(graph, SAMPLER))
    (words, always), (checkpoint,) = ids(graph, "FaceExprExpressionTextEncode"), ids(graph, loader)
    differing = {key: fused[key] for key in fused if fused[key] != without.get(key)}
    wired = {"neutral": [always, 0], "base_model": [checkpoint, 0], "vae": [checkpoint, 2]}
    assert differing == {**wired, "fusion_text": "positive", "fusion_strength": frowns.SETTINGS.strength}  # as it was measured
    assert graph[always]["inputs"]["expression"] == "sad" != graph[words]["inputs"]["expression"]
    assert graph[always]["inputs"]["prompt"] == graph[words]["inputs"]["prompt"]  # one text for both
