"""A later pass over a picture whose face is where the features have it: known by the graph, whatever ran before."""

from __future__ import annotations

import copy
import importlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pack
import pytest
import torch
from comfy_process import ComfyProcess, Graph, comfyui, make_home
from PIL import Image

from faceexpr_core.mini import RESOLUTION

PERSON = "a photo of a young man, black hair, blue background"
STEPS, CFG, SEED = 4, 4.0, 7
PORTRAIT = (1, 4, RESOLUTION // 8, RESOLUTION // 8)
RUN = {"steps": STEPS, "cfg": CFG, "sampler_name": "euler", "scheduler": "normal"}


@pytest.fixture(scope="module")
def mini(comfy_modules: SimpleNamespace) -> Iterator[SimpleNamespace]:
    with torch.inference_mode():
        given = pack.mini_asked_to_smile(PERSON)
        run = {"positive": given["positive"], "neutral": given["neutral"], "negative": given["negative"], "latent_image": empty()}
        extract = pack.node("extract_expression_features").ExtractExpressionFeatures.execute
        bank = extract(given["model"], **run, seed=SEED, **RUN, denoise=1.0, expression="happy", vae=given["vae"]).args[0]
        assert bank.mask is not None
        yield SimpleNamespace(
            **given,
            bank=bank,
            apply=pack.node("apply_attention_focused_fusion").ApplyAttentionFocusedFusion.execute,
            draw=pack.node("sampler").Sampler.execute,
            nodes=comfy_modules.nodes,
            injection=importlib.import_module("faceexpr_pack.faceexpr_core.fusion.injection"),
        )


def empty(count: int = 1) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(count, *PORTRAIT[1:])}


class Passes:
    """Samplers of graphs, run one after the other as ComfyUI runs them: of each its latent, and whether all of its changes had a mask."""

    def __init__(self, mini: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        self.mini, self.kind = mini, kind
        self.fused = mini.apply(mini.model, mini.bank, 1.0).args[0]  # which ComfyUI keeps for the next prompt
        self.prompts = 0
        self._where: list[Any] = []
        add = mini.injection.Injection.add_context

        def watch(injection: Any, place: str, x: Any, grid: Any, call: Any, given: Any, *rest: Any) -> Any:
            self._where += [where for part in given for where in part.where]
            return add(injection, place, x, grid, call, given, *rest)

        monkeypatch.setattr(mini.injection.Injection, "add_context", watch)

    @contextmanager
    def prompt(self, graph: Graph) -> Iterator[None]:
        progress: Any = importlib.import_module("comfy_execution.progress")
        graphs = importlib.import_module("comfy_execution.graph")
        before, self.prompts = progress.global_progress_registry, self.prompts + 1
        progress.reset_progress_state(f"prompt {self.prompts}", graphs.DynamicPrompt(graph))
        yield
        progress.global_progress_registry = before

    def run(self, node: str, start: dict[str, Any], denoise: float, seed: int = SEED) -> tuple[dict[str, Any], bool]:
        mini, self._where = self.mini, []
        context = importlib.import_module("comfy_execution.utils").CurrentNodeContext
        given = (seed, STEPS, CFG, "euler", "normal", mini.neutral, mini.negative, start, denoise)
        with context(f"prompt {self.prompts}", node, 0):
            if self.kind == "KSampler":
                drawn = mini.nodes.KSampler().sample(self.fused, *given)[0]
            else:
                drawn = mini.draw(mini.model, *given, features=mini.bank).args[0]
        assert self._where
        return drawn, all(where.mask is not None for where in self._where)


@pytest.fixture(params=["KSampler", "FaceExprSampler"])
def passes(mini: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Passes:
    return Passes(mini, monkeypatch, request.param)


def chain(kind: str, seed: int = SEED, later_seed: int = 5, numbers: Sequence[str] = tuple("12345")) -> Graph:
    """Two passes over a picture, enlarged in between."""
    mini, features, first, larger, second = numbers
    model: dict[str, Any] = {"features": [features, 0]} if kind == "FaceExprSampler" else {}
    model["model"] = [mini if model else features, 0]
    return {
        mini: {"class_type": "FaceExprLoadMini", "inputs": {}},
        features: {"class_type": "FaceExprLoadFeatures", "inputs": {"name": "wide"}},
        first: {"class_type": kind, "inputs": {**model, **RUN, "seed": seed, "denoise": 1.0}},
        larger: {"class_type": "LatentUpscaleBy", "inputs": {"samples": [first, 0], "upscale_method": "bicubic", "scale_by": 1.5}},
        second: {"class_type": kind, "inputs": {**model, **RUN, "seed": later_seed, "denoise": 0.6, "latent_image": [larger, 0]}},
    }


def enlarged(passes: Passes, latent: dict[str, Any], method: str = "bicubic", size: float = 1.5) -> dict[str, Any]:
    larger: dict[str, Any] = passes.mini.nodes.LatentUpscaleBy().upscale(latent, method, size)[0]
    return larger


def test_a_later_pass_over_the_same_picture_keeps_the_features_mask_at_any_size(passes: Passes) -> None:
    for method, size in (("nearest-exact", 1.5), ("bicubic", 2.0)):
        with passes.prompt(chain(passes.kind)):
            first, held = passes.run("3", empty(), 1.0)
            assert held
            second, held = passes.run("5", enlarged(passes, first, method, size), 0.6, seed=5)
            assert held and second["samples"].shape[-1] == round(PORTRAIT[-1] * size)
    with passes.prompt(chain(passes.kind, seed=SEED + 1)):
        other, held = passes.run("3", empty(), 1.0, seed=SEED + 1)
        assert not held
        assert not passes.run("5", enlarged(passes, other), 0.6)[1]


def test_it_is_kept_over_three_passes_and_over_the_vae(passes: Passes) -> None:
    graph = chain(passes.kind)
    graph["6"] = copy.deepcopy(graph["5"])
    graph["6"]["inputs"] |= {"latent_image": ["5", 0], "seed": 6}
    vae = passes.mini.vae
    with passes.prompt(graph):
        first, _ = passes.run("3", empty(), 1.0)
        second, held = passes.run("5", {"samples": vae.encode(vae.decode(first["samples"]))}, 0.5, seed=5)
        assert held
        assert passes.run("6", enlarged(passes, second), 0.5, seed=6)[1]


def test_a_first_pass_that_comfyui_has_still_is_known_whatever_its_number(passes: Passes) -> None:
    """Another seed of the second pass alone: ComfyUI does not run the first one again."""
    with passes.prompt(chain(passes.kind)):
        first, _ = passes.run("3", empty(), 1.0)
    for graph in (chain(passes.kind, later_seed=6), chain(passes.kind, later_seed=6, numbers=tuple("98765"))):
        with passes.prompt(graph):
            assert passes.run(list(graph)[-1], enlarged(passes, first), 0.6, seed=6)[1]


def test_what_ran_before_changes_nothing(passes: Passes, caplog: pytest.LogCaptureFixture) -> None:
    """A picture that no sampler before it in its graph drew is another one, as it is after a restart."""
    graph = chain(passes.kind)
    with passes.prompt(graph):
        first, _ = passes.run("3", empty(), 1.0)
    loaded = {**graph, "4": {"class_type": "LoadLatent", "inputs": {"latent": "first.latent"}}}
    del loaded["3"]
    beside = {**loaded, "3": graph["3"]}  # drawn in the same graph, but not what goes in
    other = chain(passes.kind, seed=SEED + 1)  # has run before, says ComfyUI, but not with a fusion that knew its face
    for given in (loaded, beside, other):
        caplog.clear()
        with passes.prompt(given):
            assert not passes.run("5", enlarged(passes, first), 0.6)[1]
        assert sum("a picture that was given" in line for line in caplog.messages) == 1


def test_of_two_passes_in_one_node_the_second_is_known_and_in_its_next_run_nothing_is_left(passes: Passes) -> None:
    """As nodes of other packs draw both. Their next run may begin with the second."""
    graph = chain(passes.kind)
    with passes.prompt(graph):
        first, _ = passes.run("3", empty(), 1.0)
        assert passes.run("3", enlarged(passes, first), 0.6)[1]
    with passes.prompt(graph):
        assert not passes.run("3", enlarged(passes, first), 0.6)[1]


def test_a_first_pass_that_draws_another_picture_when_it_runs_again_is_forgotten(passes: Passes) -> None:
    """As where a file that it reads was replaced under its name."""
    graph = chain(passes.kind)
    with passes.prompt(graph):
        first, _ = passes.run("3", empty(), 1.0)
    with passes.prompt(graph):
        passes.run("3", empty(), 1.0, seed=SEED + 1)
        assert not passes.run("5", enlarged(passes, first), 0.6)[1]


# In ComfyUI


def whole(kind: str, later_seed: int, picture: str | None = None) -> Graph:
    """Two passes; or the second alone, over a picture."""
    words = {"prompt": PERSON, "expression": "happy", "intensity": 1.0, "second_expression": "none", "second_weight": 0.5}
    texts = {"neutral": ["words", 1], "negative": ["bad", 0]}
    extract = {"model": ["mini", 0], "positive": ["words", 0], **texts, "latent_image": ["empty", 0], "vae": ["mini", 2]}
    draw: dict[str, Any] = {**RUN, "positive": ["words", 1], "negative": ["bad", 0], "model": ["apply", 0]}
    if kind == "FaceExprSampler":
        draw |= {"model": ["mini", 0], "features": ["features", 0]}
    graph: Graph = {
        "mini": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "words": {"class_type": "FaceExprExpressionTextEncode", "inputs": {**words, "action_units": "", "clip": ["mini", 1]}},
        "bad": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["mini", 1]}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": RESOLUTION, "height": RESOLUTION, "batch_size": 1}},
        "features": {
            "class_type": "FaceExprExtractExpressionFeatures",
            "inputs": {**extract, **RUN, "seed": SEED, "denoise": 1.0, "expression": "happy"},
        },
        "apply": {
            "class_type": "FaceExprApplyAttentionFocusedFusion",
            "inputs": {"model": ["mini", 0], "features": ["features", 0], "strength": 1.0},
        },
        "second": {"class_type": kind, "inputs": {**draw, "seed": later_seed, "denoise": 0.6, "latent_image": ["from", 0]}},
        "seen": {"class_type": "VAEDecode", "inputs": {"samples": ["second", 0], "vae": ["mini", 2]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["seen", 0], "filename_prefix": "later"}},
    }
    if picture is not None:
        graph["load"] = {"class_type": "LoadImage", "inputs": {"image": picture}}
        graph["from"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["load", 0], "vae": ["mini", 2]}}
        return graph
    graph["first"] = {"class_type": kind, "inputs": {**draw, "seed": SEED, "denoise": 1.0, "latent_image": ["empty", 0]}}
    graph["from"] = {
        "class_type": "LatentUpscaleBy",
        "inputs": {"samples": ["first", 0], "upscale_method": "bicubic", "scale_by": 1.5},
    }
    graph["drawn"] = {"class_type": "VAEDecode", "inputs": {"samples": ["first", 0], "vae": ["mini", 2]}}
    graph["first save"] = {"class_type": "SaveImage", "inputs": {"images": ["drawn", 0], "filename_prefix": "first"}}
    return graph


def saved(comfy: ComfyProcess, graph: Graph, node: str = "save") -> bytes:
    return comfy.view(comfy.run(graph)[node]["images"][0])


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), int)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["KSampler", "FaceExprSampler"])
def test_after_a_restart_the_same_graph_draws_the_same_picture(comfy: ComfyProcess, tmp_path: Path, kind: str) -> None:
    """Before, a picture that was loaded was fused under the features' mask where the same MODEL had drawn it, and everywhere after a
    restart; and between two FaceExpr Samplers the mask was never kept."""
    first = saved(comfy, whole(kind, 11), "first save")
    name = f"later_{kind}.png"
    graphs = whole(kind, 12), whole(kind, 13, name)
    (comfy.input_dir / name).write_bytes(first)
    before = [pixels(saved(comfy, graph)) for graph in graphs]
    home = make_home(tmp_path / "restarted")
    (home / "input" / name).write_bytes(first)
    with comfyui(home) as restarted:
        after = [pixels(saved(restarted, graph)) for graph in reversed(graphs)]
    for one, other in zip(before, reversed(after), strict=True):
        assert np.array_equal(one, other)
