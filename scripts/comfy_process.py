"""A real ComfyUI in a process of its own, spoken to as its web page does: over HTTP and its websocket."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import websocket

REPOSITORY = Path(__file__).resolve().parent.parent
PRIVATE_HOME = REPOSITORY / ".comfyui" / "home"
Graph = dict[str, dict[str, Any]]


class ComfyError(RuntimeError):
    """A graph that ComfyUI refused or that failed while it ran.

    `exception_message` is the text the user reads, `node_id` the node it is about (None: the graph as a whole), `refused` True when
    ComfyUI rejected the graph before running it, and `traceback` the server's own, empty for a refusal.
    """

    def __init__(self, exception_message: str, node_id: str | None = None, *, refused: bool = False, traceback: str = "") -> None:
        super().__init__(exception_message if node_id is None else f"node {node_id}: {exception_message}")
        self.exception_message = exception_message
        self.node_id = node_id
        self.refused = refused
        self.traceback = traceback


class ComfyInterrupted(ComfyError):
    """The run was interrupted by the user."""


@dataclass(frozen=True)
class Progress:
    """One message while a graph runs: a step of a node (`preview` None), or a preview picture as JPEG or PNG bytes."""

    node_id: str
    value: int
    total: int
    preview: bytes | None = None


def comfyui_path() -> Path:
    """Where ComfyUI's own code is: `COMFYUI_PATH`, else the copy that `make comfyui-files` brought."""
    chosen = os.environ.get("COMFYUI_PATH")
    path = Path(chosen).expanduser().resolve() if chosen else REPOSITORY / ".comfyui" / "ComfyUI"
    if not (path / "main.py").is_file():
        needed = "COMFYUI_PATH must name ComfyUI's folder" if chosen else "run `make comfyui-files`, or set COMFYUI_PATH"
        raise FileNotFoundError(f"no ComfyUI in {path}: there is no main.py. {needed}.")
    return path


def let_import_comfyui() -> None:
    """From here on this process finds ComfyUI's own code, and writes no bytecode beside it: it may be the user's own ComfyUI."""
    sys.dont_write_bytecode = True
    if (folder := str(comfyui_path())) not in sys.path:
        sys.path.insert(0, folder)


def models_path() -> Path:
    """The folder of FaceExpr's model files: `FACEEXPR_MODELS`, else the one that `make comfyui-files` filled."""
    chosen = os.environ.get("FACEEXPR_MODELS")
    return Path(chosen).expanduser().resolve() if chosen else PRIVATE_HOME / "models" / "faceexpr"


def make_home(home: Path, pack: Path = REPOSITORY) -> Path:
    """Prepare a base directory for ComfyUI (models, input, output, ...) in which the pack in the folder `pack` is the only custom node."""
    for name in ("custom_nodes", "models/loras", "input", "output", "temp", "user"):
        (home / name).mkdir(parents=True, exist_ok=True)
    links = [(home / "custom_nodes" / "faceexpr", pack), (home / "models" / "faceexpr", models_path())]
    for link, target in links:
        if link != target and not (link.is_symlink() and link.resolve() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target, target_is_directory=True)
    return home


def command_line(home: Path, port: int) -> list[str]:
    """The command that starts ComfyUI with everything it writes under `home`, nothing in its own folder."""
    return [
        *(sys.executable, "-B"),
        str(comfyui_path() / "main.py"),
        *("--base-directory", str(home)),
        *("--database-url", f"sqlite:///{home / 'user' / 'comfyui.db'}"),
        *("--port", str(port)),
        *("--disable-auto-launch", "--disable-api-nodes"),
    ]


def device_options() -> list[str]:
    """`--cpu` where ComfyUI would find no accelerator and refuse to start."""
    import torch

    return [] if torch.cuda.is_available() or torch.backends.mps.is_available() else ["--cpu"]


def copy_subject(input_dir: Path) -> str:
    """Copy the photos of the shipped subject, and the donor's, into ComfyUI's input directory; returns the subject's folder there."""
    from faceexpr_core import mini

    folder = "faceexpr_subject"
    shutil.rmtree(input_dir / folder, ignore_errors=True)
    shutil.copytree(mini.subject_path(), input_dir / folder)
    for photo in mini.donor_path().glob("*.jpg"):
        shutil.copy(photo, input_dir)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ComfyProcess:
    """A running ComfyUI. Make one with `comfyui(...)`."""

    def __init__(self, home: Path, port: int, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.home = home
        self.input_dir = home / "input"
        self.output_dir = home / "output"
        self.temp_dir = home / "temp"
        self.lora_dir = home / "models" / "loras"
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = log_path
        self._process = process
        self._client_id = uuid.uuid4().hex

    def run(
        self,
        graph: Graph,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float = 900,
        on_text: Callable[[str, str], None] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Run a graph in API format to its end.

        Returns what ComfyUI's history holds for each output node: node id -> {"images": [{filename, subfolder, type}], "text": [...], ...}.
        `on_progress` is called for every progress message and preview picture, `on_text` with the node and the text that is shown on it
        while it works; both may call `interrupt()`.
        Raises ComfyError for a refused or failed graph, ComfyInterrupted after an interrupt, TimeoutError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        channel = websocket.create_connection(f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self._client_id}", timeout=timeout)
        try:
            prompt_id = self._queue(graph)
            failure = self._follow(channel, prompt_id, on_progress, on_text, deadline)
        finally:
            channel.close()
        if failure is not None:
            raise failure
        return self._outputs(prompt_id)

    def interrupt(self) -> None:
        """Ask ComfyUI to stop what it runs, as the page's button does."""
        self.post("/interrupt", {})

    def object_info(self) -> dict[str, Any]:
        """Every node that ComfyUI offers, with its inputs and outputs."""
        return dict(self._get_json("/object_info"))

    def get(self, path: str) -> bytes:
        """The body of a GET request, for example `/workflow_templates`."""
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return bytes(response.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer to a POST request with a JSON body; None when the answer is empty."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read()
        return json.loads(text) if text else None

    def view(self, image: dict[str, str]) -> bytes:
        """The file behind an entry of a node's `images`."""
        return self.get("/view?" + urllib.parse.urlencode(image))

    def log(self) -> str:
        """All that ComfyUI wrote to its console so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self, timeout: float = 300) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ComfyError(f"ComfyUI ended while starting (exit code {self._process.returncode}):\n{self.log()[-4000:]}")
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                return
            time.sleep(0.2)
        raise TimeoutError(f"ComfyUI did not answer within {timeout:.0f} s:\n{self.log()[-4000:]}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _queue(self, graph: Graph) -> str:
        try:
            return str(self.post("/prompt", {"prompt": graph, "client_id": self._client_id})["prompt_id"])
        except urllib.error.HTTPError as refusal:
            raise _refusal(json.loads(refusal.read())) from None

    def _follow(
        self,
        channel: websocket.WebSocket,
        prompt_id: str,
        on_progress: Callable[[Progress], None] | None,
        on_text: Callable[[str, str], None] | None,
        deadline: float,
    ) -> ComfyError | None:
        failure: ComfyError | None = None
        step = Progress("", 0, 0)
        while True:
            if time.monotonic() > deadline:
                self.interrupt()
                raise TimeoutError(f"the graph still ran when its time was up:\n{self.log()[-2000:]}")
            message = channel.recv()
            if isinstance(message, bytes):
                preview = _preview(message)
                if preview is not None and on_progress is not None:
                    on_progress(Progress(step.node_id, step.value, step.total, preview))
                told = _text(message)
                if told is not None and on_text is not None:
                    on_text(*told)
                continue
            event = json.loads(message)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "progress":
                step = Progress(str(data["node"]), int(data["value"]), int(data["max"]))
                if on_progress is not None:
                    on_progress(step)
            elif kind == "execution_error":
                trace = "".join(data.get("traceback", []))
                failure = ComfyError(str(data["exception_message"]).strip(), str(data["node_id"]), traceback=trace)
            elif kind == "execution_interrupted":
                failure = ComfyInterrupted("interrupted", str(data["node_id"]))
            elif kind == "executing" and data["node"] is None:
                return failure

    def _outputs(self, prompt_id: str) -> dict[str, dict[str, Any]]:
        return dict(self._get_json(f"/history/{prompt_id}")[prompt_id]["outputs"])

    def _get_json(self, path: str) -> Any:
        return json.loads(self.get(path))


@contextlib.contextmanager
def comfyui(home: Path, extra: Sequence[str] = ("--cpu",), pack: Path = REPOSITORY) -> Iterator[ComfyProcess]:
    """Start ComfyUI on a free port with `home` as its base directory, and end it at the end of the block.

    `extra` are further options of ComfyUI's command line, `pack` is the folder of the nodes. What it prints goes to `home/comfyui.log`.
    It does not see COMFYUI_PATH and FACEEXPR_MODELS, so that the pack finds its files as it does for a user who has set neither.
    """
    make_home(home, pack)
    port = free_port()
    log_path = home / "comfyui.log"
    environment = {name: value for name, value in os.environ.items() if name not in ("COMFYUI_PATH", "FACEEXPR_MODELS")}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command_line(home, port), *extra], cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    running = ComfyProcess(home, port, process, log_path)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


def _refusal(answer: dict[str, Any]) -> ComfyError:
    """What /prompt says about a graph it does not run, as one error about the first node that it names."""
    for node_id, about in (answer.get("node_errors") or {}).items():
        text = "; ".join(f"{error['message']}: {error['details']}" for error in about["errors"])
        return ComfyError(text, str(node_id), refused=True)
    error = answer["error"]
    return ComfyError(error if isinstance(error, str) else f"{error['message']}: {error['details']}", refused=True)


def _preview(message: bytes) -> bytes | None:
    """The picture in a binary message: event 1 is (event, format, picture), numbers in big-endian 32 bit (ComfyUI's server.py)."""
    (event,) = struct.unpack(">I", message[:4])
    return message[8:] if event == 1 else None


def _text(message: bytes) -> tuple[str, str] | None:
    """The node and the text in a binary message: event 3 is (event, length of the node's id, id, text)."""
    event, length = struct.unpack(">II", message[:8])
    return (message[8 : 8 + length].decode(), message[8 + length :].decode()) if event == 3 else None
