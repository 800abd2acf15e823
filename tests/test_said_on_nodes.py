"""What a node says while it works and what it reports: on the node, as text, in the page that asked for it, and in no saved graph."""

from __future__ import annotations

import json
import logging
import re
import struct
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pack
import pytest
import websocket
from comfy_process import REPOSITORY, ComfyProcess, Graph, Progress
from editor import RENDERERS, keep_picture
from playwright.sync_api import Page, expect

from faceexpr_core import mini

EXAMPLE = "example: another person"
NASTY = "a <img src=x onerror=alert(1)> [[b|https:c d]].png"
REPORTING = {"FaceExprScore", "FaceExprLoadSubjectImages", "FaceExprChangeExpression", "FaceExprLoadLoRA", "FaceExprSaveFeatures"}
REPORTING |= {"FaceExprTrainLoRA"}
ADD = """async ([type, nodes2]) => {
    await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', nodes2)
    app.graph.clear()
    app.canvas.ds.scale = 0.8
    app.canvas.ds.offset = [120, 80]
    globalThis.node = LiteGraph.createNode(type)
    app.graph.add(node)
}"""
SENT = """([kind, detail]) => {
    const own = String(node.id)
    app.api.dispatchEvent(new CustomEvent(kind, {detail: {node: own, display_node: own, nodeId: own, prompt_id: 'x', ...detail}}))
}"""
RUNS = "app.api.dispatchEvent(new CustomEvent('executing', {detail: String(node.id)}))"
WITHIN = """element => {
    while (element && !/(auto|scroll)/.test(getComputedStyle(element).overflowY)) element = element.parentElement
    return element.scrollHeight <= element.clientHeight + 1
}"""
SAVED = "JSON.stringify(app.graph.serialize())"
ENCODE = """async ([nodes2, expression]) => {
    await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', nodes2)
    app.graph.clear()
    app.canvas.ds.scale = 0.6
    app.canvas.ds.offset = [120, 80]
    const [mini, encode, shown] = ['FaceExprLoadMini', 'FaceExprExpressionTextEncode', 'PreviewAny'].map(type => LiteGraph.createNode(type))
    for (const [at, node] of [mini, encode, shown].entries()) {
        node.pos = [at * 700, 50]
        app.graph.add(node)
    }
    mini.connect(mini.outputs.findIndex(output => output.type === 'CLIP'), encode, encode.inputs.findIndex(input => input.type === 'CLIP'))
    encode.connect(0, shown, 0)
    globalThis.node = encode
}"""
IDLE = """async () => {
    const queue = await (await app.api.fetchApi('/queue')).json()
    return !queue.queue_running.length && !queue.queue_pending.length
}"""
SET = "([name, value]) => { node.widgets.find(widget => widget.name === name).value = value }"
AGAIN = """async () => {
    const [file, outputs, id] = [app.graph.serialize(), {...app.nodeOutputs}, node.id]
    await app.loadGraphData(file)
    globalThis.node = app.graph.getNodeById(id)
    const before = node.widgets.some(widget => widget.name === 'faceexpr_report')
    app.nodeOutputs = outputs
    return before
}"""
REPORT = "textarea.fx-report"
TEXT = "$$node-text-preview"
PICTURE, TEXT_ON_NODE, PICTURE_OF_NODE = 1, 3, 4
"""ComfyUI's numbers of what its websocket brings."""


@pytest.fixture
def home(comfy_modules: SimpleNamespace) -> Path:
    return Path(comfy_modules.home)


def album(folder: str) -> dict[str, Any]:
    inputs = {"folder": folder, "trigger_word": "ohwx", "class_word": "person", "resolution": 192, "framing": "face crop"}
    more = {"padding": 0.75, "face": 0, "drop_small_faces": True, "drop_duplicates": True}
    return {"1": {"class_type": "FaceExprLoadSubjectImages", "inputs": {**inputs, **more}}}


def listen(comfy: ComfyProcess) -> websocket.WebSocket:
    """Another page that is open."""
    return websocket.create_connection(f"{comfy.url.replace('http', 'ws', 1)}/ws?clientId=somebody", timeout=60)


def heard(channel: websocket.WebSocket) -> list[bytes]:
    """The texts and the pictures on nodes that it was sent so far."""
    channel.settimeout(1)
    found: list[bytes] = []
    while True:
        try:
            message = channel.recv()
        except websocket.WebSocketTimeoutException:
            return found
        if isinstance(message, bytes) and struct.unpack(">I", message[:4])[0] in (PICTURE, TEXT_ON_NODE, PICTURE_OF_NODE):
            found.append(message)


def run_for_no_page(comfy: ComfyProcess, graph: Graph) -> None:
    """As a script without a websocket queues it."""
    name = comfy.post("/prompt", {"prompt": graph})["prompt_id"]
    deadline = time.monotonic() + 120
    while name not in json.loads(comfy.get(f"/history/{name}")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert json.loads(comfy.get(f"/history/{name}"))[name]["status"]["status_str"] == "success"


def test_the_page_that_asked_reads_it_and_no_other_does(comfy: ComfyProcess) -> None:
    told: list[tuple[str, str]] = []
    other = listen(comfy)
    comfy.run(album(EXAMPLE), on_text=lambda node, text: told.append((node, text)))
    assert ("1", "looking at photo 1 of 2") in told
    assert heard(other) == []
    other.close()


def fused(steps: int) -> Graph:
    words = {"prompt": "a photo of a young man", "expression": "happy", "intensity": 1.0, "second_expression": "none"}
    words |= {"second_weight": 0.5, "action_units": "", "clip": ["1", 1]}
    run = {"seed": 7, "steps": steps, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"positive": ["2", 0], "neutral": ["2", 1], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        "1": {"class_type": "FaceExprLoadMini", "inputs": {}},
        "2": {"class_type": "FaceExprExpressionTextEncode", "inputs": words},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 192, "height": 192, "batch_size": 1}},
        "5": {
            "class_type": "FaceExprSampler",
            "inputs": {**run, **wires, "model": ["1", 0], "base_model": ["1", 0], "vae": ["1", 2]},
        },
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}},
    }


@pytest.mark.parametrize("what", ["photos", "a face that is seen while it is drawn"])
def test_a_run_that_no_page_asked_for_says_and_shows_nothing_to_the_pages_that_are_open(comfy: ComfyProcess, what: str) -> None:
    other = listen(comfy)
    graph = album(EXAMPLE) if what == "photos" else fused(6)
    if what == "photos":
        graph["1"]["inputs"]["padding"] = 0.8  # or ComfyUI has it still
    run_for_no_page(comfy, graph)
    assert heard(other) == []
    other.close()


def test_the_page_that_asked_sees_the_face_that_is_drawn(comfy: ComfyProcess) -> None:
    seen: list[Progress] = []
    other = listen(comfy)
    comfy.run(fused(7), seen.append)
    assert [step for step in seen if step.preview is not None]
    assert heard(other) == []
    other.close()


def test_a_files_name_is_no_html(comfy: ComfyProcess) -> None:
    folder = comfy.input_dir / "nasty"
    folder.mkdir()
    try:
        (folder / NASTY).write_bytes((mini.donor_path() / "another_person_neutral.jpg").read_bytes())
    except OSError:
        pytest.skip("files cannot be called so here")
    told: list[str] = []
    comfy.run(album("nasty"), on_text=lambda node, text: told.append(text))
    (reading,) = (text for text in told if text.startswith("reading"))
    assert "img src=x" in reading
    assert not set("<>|") & set(reading)


class Server:
    """ComfyUI's server, as far as texts go."""

    def __init__(self, client_id: str | None) -> None:
        self.client_id = client_id
        self.sent: list[tuple[str, str, str]] = []
        self.announced: list[tuple[str, str, str]] = []

    def send_sync(self, event: str, data: dict[str, str], sid: str | None = None) -> None:
        assert event == "faceexpr_said" and sid is not None and len(self.announced) == len(self.sent), "it comes before the text"
        self.announced.append((data["text"], data["node"], sid))

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        assert sid is not None, "that is to everybody"
        self.sent.append((text, node_id, sid))
        assert self.sent == self.announced


@pytest.fixture
def server(comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Server:
    one = Server("me")
    progress = pack.node("host.progress")
    monkeypatch.setitem(progress.sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=one)))
    monkeypatch.setattr(progress, "_kept", [])
    now_runs(monkeypatch, "run")
    return one


def now_runs(monkeypatch: pytest.MonkeyPatch, run: str, item: int = 0) -> None:
    """Node 7, in a run, over an item of a list of inputs."""
    context = SimpleNamespace(prompt_id=run, node_id="7", list_index=item)
    monkeypatch.setattr(pack.node("host.progress"), "get_executing_context", lambda: context)


def test_folders_are_not_shown_but_what_lies_in_them(
    home: Path, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = home / "models" / "loras" / "people" / "her.safetensors"
    text = f"the LoRA so far is saved as {lora}"
    with caplog.at_level(logging.INFO):
        pack.node("host.training").Page(3, "Train").say(text)
    assert server.sent == [("the LoRA so far is saved as people/her.safetensors", "7", "me")]
    assert text in caplog.text  # the log is the user's own
    now_runs(monkeypatch, "next")
    say = pack.node("host.progress").say
    say(f"into {home / 'output' / 'faceexpr' / 'class_images' / '3f'} at 1.2 steps/s")
    say("a woman <b>&lt;</b> | [[x|http://y]]")
    assert [text for text, _, _ in server.sent[1:]] == [
        "into faceexpr/class_images/3f at 1.2 steps/s",
        "a woman \u2039b\u203a&lt;\u2039/b\u203a \xa6 [[x\xa6http://y]]",
    ]


def test_what_is_told_stays_above_what_the_node_says_next_and_above_its_report(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, widgets = pack.node("host.progress"), pack.node("host.widgets")
    sampler = pack.node("sampler").Sampler
    for text in ("no VAE is connected", "no mask is", "no VAE is connected"):
        widgets.tell(sampler, text)
    progress.say("step 1")
    assert [text for text, _, _ in server.sent[-2:]] == ["no mask is\nno VAE is connected", "no mask is\nno VAE is connected\nstep 1"]
    assert widgets.shown_report("two faces").as_dict()["text"] == ("no mask is\nno VAE is connected\ntwo faces",)
    now_runs(monkeypatch, "next")
    progress.say("step 1")
    assert server.sent[-1][0] == "step 1" and widgets.shown_report("two faces").as_dict()["text"] == ("two faces",)


def test_a_report_repeats_what_was_told_of_its_own_item_of_a_list(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    widgets, sampler = pack.node("host.widgets"), pack.node("sampler").Sampler
    told = (("no mask is", "it is small"), ("no mask is", "it is dark"), ())
    for item, (texts, report) in enumerate(zip(told, ("one face", "two faces", "three"), strict=True)):
        now_runs(monkeypatch, "run", item)
        for text in texts:
            widgets.tell(sampler, text)
        assert widgets.shown_report(report).as_dict()["text"] == ("\n".join([*texts, report]),)
    pack.node("host.progress").say("step 1")
    assert sorted(server.sent[-1][0].split("\n")) == ["it is dark", "it is small", "no mask is", "step 1"]  # the node is one


def test_what_the_training_warns_of_stays_above_its_steps(server: Server) -> None:
    page, progress = pack.node("host.training").Page(9, "Train"), pack.node("host.progress")
    page.warn("that would fit, but needs bitsandbytes")
    for passing in ("plan: 9 steps", "drawing 64 pictures of the class, 'a man', into class_images"):
        page.say(passing)
        assert server.sent[-1][0] == f"that would fit, but needs bitsandbytes\n{passing}"
    page.drawing(1, 64, "a man")
    left_out = "the preview of step {} is left out: the device has no memory for it ({} MiB)"
    page.warn(left_out.format(100, 20))
    page.warn(left_out.format(200, 7))
    progress.say("step 201 of 900")
    page.warn("stopped after 201 of 900 steps")
    kept = ["that would fit, but needs bitsandbytes", left_out.format(200, 7)]
    assert [text.split("\n") for text, _, _ in server.sent[-2:]] == [[*kept, "step 201 of 900"], [*kept, "stopped after 201 of 900 steps"]]


def test_that_memory_is_short_stays_above_the_steps(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    training = pack.node("host.training")
    monkeypatch.setattr(training, "short_of_ram", lambda *_: "it needs 9 GB of RAM")
    for name in ("export_unet", "weights_bytes", "_clear"):
        monkeypatch.setattr(training, name, lambda *_: None)
    host = object.__new__(training.TrainingHost)
    host.node, host.model, host._shape = "Train", None, None
    host.unet(None)
    pack.node("host.progress").say("step 1")
    assert server.sent[-1][0] == "it needs 9 GB of RAM\nstep 1"


@pytest.mark.parametrize("missing", ["page", "server"])
def test_where_nobody_asked_nobody_is_told(server: Server, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing == "page":
        server.client_id = None
    else:
        monkeypatch.setitem(pack.node("host.progress").sys.modules, "server", SimpleNamespace(PromptServer=object))
    pack.node("host.progress").say("at work")
    assert server.sent == []


def test_the_nodes_that_report_are_these() -> None:
    texts = {path.name: path.read_text() for path in (REPOSITORY / "nodes").glob("*.py")}
    named = {re.findall(r'node_id="(\w+)"', text)[0] for text in texts.values() if "shown_report(" in text}
    assert named == REPORTING


def tell(page: Page, text: str) -> None:
    """As `say` does, on `node`."""
    page.evaluate(SENT, ["faceexpr_said", {"text": text}])
    page.evaluate(SENT, ["progress_text", {"text": text}])


def has_text(page: Page) -> bool:
    page.wait_for_timeout(300)  # so that it is drawn, and the node is as tall as it needs
    return bool(page.evaluate("name => node.widgets.some(widget => widget.name === name)", TEXT))


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("kind", ["KSampler", "FaceExprSampler"])
def test_what_is_said_goes_when_the_node_runs_again_and_into_no_graph(opened: tuple[Page, list[str]], renderer: str, kind: str) -> None:
    page, errors = opened
    page.evaluate(ADD, [kind, RENDERERS[renderer]])
    page.wait_for_timeout(500)
    before, saved = page.evaluate("node.size[1]"), page.evaluate("JSON.stringify(node.serialize().widgets_values)")
    for text in ("fusion: connect a VAE", "fusion: connect a VAE\nand a mask"):
        tell(page, text)
    assert has_text(page) and page.evaluate("node.size[1]") > before
    assert page.get_by_text("connect a VAE").last.inner_text().split("\n") == ["fusion: connect a VAE", "and a mask"]
    assert page.evaluate("JSON.stringify(node.serialize().widgets_values)") == saved and "connect" not in page.evaluate(SAVED)
    assert "connect" not in page.evaluate("JSON.stringify(node.clone().serialize())")
    page.evaluate(SENT, ["execution_start", {}])
    page.evaluate("app.api.dispatchEvent(new CustomEvent('executing', {detail: '4711'}))")
    page.evaluate(SENT, ["execution_cached", {"nodes": []}])
    assert has_text(page)  # it is not run again, and what was told of it holds
    page.evaluate(RUNS)
    assert not has_text(page) and page.evaluate("node.size[1]") == before
    tell(page, "\n".join([*["fusion: again"] * 5, "step 1"]))
    assert has_text(page) and "again" not in page.evaluate(SAVED)
    last = page.get_by_text("step 1").last  # what it is at is seen below all that is kept
    assert last.evaluate(WITHIN)
    page.evaluate("app.graph.remove(node)")
    page.evaluate(RUNS)
    assert errors == []


@pytest.mark.parametrize("first", [True, False])
def test_what_other_packs_say_is_left_as_it_is(opened: tuple[Page, list[str]], first: bool) -> None:
    page, errors = opened
    page.evaluate(ADD, ["KSampler", False])
    if first:  # their text takes the place of ours
        tell(page, "fusion: connect a VAE")
    page.evaluate(SENT, ["progress_text", {"text": "what another pack says"}])
    assert has_text(page) and "another pack" in page.evaluate(SAVED)
    page.evaluate(RUNS)
    assert has_text(page)
    tell(page, "fusion: connect a VAE")
    page.evaluate(SENT, ["progress_text", {"text": "what another pack says"}])
    assert has_text(page) and "another pack" in page.evaluate(SAVED)
    assert errors == []


@pytest.mark.parametrize("renderer", RENDERERS)
def test_after_a_run_in_which_nothing_is_told_nothing_stands_there(opened: tuple[Page, list[str]], renderer: str) -> None:
    page, errors = opened
    nodes2 = RENDERERS[renderer]
    page.evaluate(ENCODE, [nodes2, "none"])
    strength = 0.9 if nodes2 else 0.8
    for name, value in {"prompt": "a man", "expression": "none", "intensity": strength}.items():
        page.evaluate(SET, [name, value])
    shown = "name => node.widgets.find(widget => widget.name === name)?.value"
    page.evaluate("app.queuePrompt(0)")
    page.wait_for_function(f"({shown})('{TEXT}')?.includes('intensity changed nothing')", timeout=120_000)
    wait_until_idle(page)
    keep_picture(page, f"told {renderer}")
    assert "changed nothing" not in page.evaluate(SAVED)
    page.evaluate("app.queuePrompt(0)")  # ComfyUI has it still
    wait_until_idle(page)
    assert has_text(page)
    page.evaluate(SET, ["expression", "happy"])
    page.evaluate("app.queuePrompt(0)")
    wait_until_idle(page)
    assert not has_text(page)
    assert errors == []


def wait_until_idle(page: Page) -> None:
    """Until the run that was asked for has ended."""
    page.wait_for_timeout(1000)
    page.wait_for_function(IDLE, timeout=120_000)


def test_a_node_that_is_deleted_while_it_runs_stands_in_no_later_runs_way(opened: tuple[Page, list[str]]) -> None:
    page, errors = opened
    page.evaluate(ADD, ["FaceExprChangeExpression", False])
    page.evaluate("node.addWidget('text', '$$canvas-image-preview', '', () => {}, {serialize: false})")
    page.evaluate(RUNS)
    page.evaluate("app.graph.remove(node)")
    for _ in range(2):
        page.evaluate(SENT, ["execution_start", {}])
    page.wait_for_timeout(300)
    assert errors == []


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("kind", sorted(REPORTING))
def test_a_report_can_be_read_on_its_node(opened: tuple[Page, list[str]], renderer: str, kind: str) -> None:
    page, errors = opened
    page.evaluate(ADD, [kind, RENDERERS[renderer]])
    height = page.evaluate("node.size[1]")
    tell(page, "reading his_secret_folder")
    assert has_text(page) and "secret" not in page.evaluate(SAVED)
    lines = ["line <b>one</b><img src=x onerror='globalThis.hit = 1'>", *(f"line {number}" for number in range(2, 30))]
    page.evaluate(SENT, ["executed", {"output": {"text": ["\n".join(lines)]}}])
    report = page.locator(REPORT)
    expect(report).to_be_visible()
    expect(report).to_have_value("\n".join(lines))
    box = report.bounding_box()
    assert box is not None and box["height"] > 30 and box["width"] > 150
    assert not report.is_editable()
    assert page.evaluate("globalThis.hit") is None
    queued = page.evaluate("app.graphToPrompt().then(prompt => JSON.stringify([prompt, app.graph.serialize()]))")
    assert "line 2" not in queued and "secret" not in queued
    assert page.evaluate("node.size[1]") >= max(height, page.evaluate("node.computeSize()[1]"))
    page.evaluate(SENT, ["executed", {"output": {"text": ["another run"]}}])
    expect(report).to_have_value("another run")
    expect(report).to_have_count(1)
    assert errors == []


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_report_is_there_again_when_its_tab_is(opened: tuple[Page, list[str]], renderer: str) -> None:
    page, errors = opened
    page.evaluate(ADD, ["FaceExprScore", RENDERERS[renderer]])
    page.evaluate(SENT, ["executed", {"output": {"text": ["picture 2: 0.91"]}}])
    expect(page.locator(REPORT)).to_have_value("picture 2: 0.91")
    assert page.evaluate(AGAIN) is False  # it is in no file
    expect(page.locator(REPORT)).to_have_value("picture 2: 0.91")
    assert errors == []


@pytest.mark.parametrize("renderer", RENDERERS)
def test_after_a_run_the_report_stands_on_the_node(comfy: ComfyProcess, opened: tuple[Page, list[str]], renderer: str) -> None:
    page, _ = opened
    page.evaluate(ADD, ["FaceExprLoadSubjectImages", RENDERERS[renderer]])
    padding = 0.6 if RENDERERS[renderer] else 0.65
    values = {"folder": EXAMPLE, "resolution": 192, "padding": padding}
    page.evaluate("values => node.widgets.forEach(widget => { if (widget.name in values) widget.value = values[widget.name] })", values)
    page.evaluate("app.queuePrompt(0)")
    kept = re.compile(r"2 of 2 pictures kept, 192 x 192.*another_person_happy", re.DOTALL)
    expect(page.locator(REPORT)).to_have_value(kept, timeout=120_000)
    if not RENDERERS[renderer]:  # the sheet, and not the last of the photos that were looked at
        page.wait_for_function("node.imgs?.length && node.imgs[0].src.includes('/view?') && node.imgs[0].naturalWidth")
    page.wait_for_timeout(1000)
    keep_picture(page, f"report {renderer}")
    assert "looking at photo" not in page.evaluate("JSON.stringify(app.graph.serialize())")
