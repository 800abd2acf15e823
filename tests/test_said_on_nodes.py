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
from comfy_process import REPOSITORY, ComfyProcess
from editor import RENDERERS, keep_picture
from playwright.sync_api import Page, expect

from faceexpr_core import mini

EXAMPLE = "example: another person"
NASTY = "a <img src=x onerror=alert(1)> [[b|https:c d]].png"
REPORTING = {"FaceExprScore", "FaceExprLoadSubjectImages", "FaceExprChangeExpression", "FaceExprLoadLoRA"}
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
AGAIN = """async () => {
    const [file, outputs, id] = [app.graph.serialize(), {...app.nodeOutputs}, node.id]
    await app.loadGraphData(file)
    globalThis.node = app.graph.getNodeById(id)
    const before = node.widgets.some(widget => widget.name === 'faceexpr_report')
    app.nodeOutputs = outputs
    return before
}"""
REPORT = "textarea.fx-report"


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
    """The texts on nodes that it was sent so far."""
    channel.settimeout(1)
    found: list[bytes] = []
    while True:
        try:
            message = channel.recv()
        except websocket.WebSocketTimeoutException:
            return found
        if isinstance(message, bytes) and struct.unpack(">I", message[:4]) == (3,):
            found.append(message[8:])


def test_the_page_that_asked_reads_it_and_no_other_does(comfy: ComfyProcess) -> None:
    told: list[tuple[str, str]] = []
    other = listen(comfy)
    comfy.run(album(EXAMPLE), on_text=lambda node, text: told.append((node, text)))
    assert ("1", "looking at photo 1 of 2") in told
    assert heard(other) == []
    other.close()


def test_a_run_that_no_page_asked_for_says_nothing_to_the_pages_that_are_open(comfy: ComfyProcess) -> None:
    other = listen(comfy)
    graph = album(EXAMPLE)
    graph["1"]["inputs"]["padding"] = 0.8  # or ComfyUI has it still
    name = comfy.post("/prompt", {"prompt": graph})["prompt_id"]
    deadline = time.monotonic() + 120
    while name not in json.loads(comfy.get(f"/history/{name}")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert json.loads(comfy.get(f"/history/{name}"))[name]["status"]["status_str"] == "success"
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

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        assert sid is not None, "that is to everybody"
        self.sent.append((text, node_id, sid))


@pytest.fixture
def server(comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Server:
    one = Server("me")
    progress = pack.node("host.progress")
    monkeypatch.setitem(progress.sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=one)))
    monkeypatch.setattr(progress, "get_executing_context", lambda: SimpleNamespace(prompt_id="run", node_id="7"))
    return one


def test_folders_are_not_shown_but_what_lies_in_them(home: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    lora = home / "models" / "loras" / "people" / "her.safetensors"
    text = f"the LoRA so far is saved as {lora}"
    with caplog.at_level(logging.INFO):
        pack.node("host.training").Page(3, "Train").say(text)
    assert server.sent == [("the LoRA so far is saved as people/her.safetensors", "7", "me")]
    assert text in caplog.text  # the log is the user's own
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
    for text in ("no VAE is connected", "no mask is", "no VAE is connected"):  # the last as for the second item of a list
        widgets.tell(sampler, text)
    progress.say("step 1")
    assert [text for text, _, _ in server.sent[-2:]] == ["no mask is\nno VAE is connected", "no mask is\nno VAE is connected\nstep 1"]
    assert widgets.shown_report("two faces").as_dict()["text"] == ("no mask is\nno VAE is connected\ntwo faces",)
    monkeypatch.setattr(progress, "get_executing_context", lambda: SimpleNamespace(prompt_id="next", node_id="7"))
    progress.say("step 1")
    assert server.sent[-1][0] == "step 1" and widgets.shown_report("two faces").as_dict()["text"] == ("two faces",)


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


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("kind", sorted(REPORTING))
def test_a_report_can_be_read_on_its_node(opened: tuple[Page, list[str]], renderer: str, kind: str) -> None:
    page, errors = opened
    page.evaluate(ADD, [kind, RENDERERS[renderer]])
    height = page.evaluate("node.size[1]")
    page.evaluate(SENT, ["progress_text", {"text": "reading his_secret_folder"}])
    page.wait_for_function("node.widgets.some(widget => widget.name === '$$node-text-preview')")
    assert "secret" not in page.evaluate("JSON.stringify(app.graph.serialize())")
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
