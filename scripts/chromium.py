"""A headless Chromium, driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # it needs kernel rights that containers lack; only ComfyUI on this machine is opened
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
)


class PageError(RuntimeError):
    """An expression that failed in the page; the text is the page's own."""


def find_chromium() -> str | None:
    """The browser's path: `CHROMIUM`, else the first of the usual names on PATH; None when there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. Make one with `chromium(...)`."""

    def __init__(self, channel: websocket.WebSocket) -> None:
        self._channel = channel
        self._count = 0
        self.events: list[dict[str, Any]] = []
        self.command("Page.enable")
        self.command("Runtime.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one DevTools command and return its result; events that come before it are appended to `events`."""
        self._count += 1
        self._channel.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._channel.recv())
            if "id" not in message:
                self.events.append(message)
            elif message["id"] == self._count:
                if "error" in message:
                    raise PageError(f"{method}: {message['error']['message']}")
                return dict(message["result"])

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, as JSON; a promise is awaited. Raises PageError when it throws."""
        answer = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def call(self, function: str, *arguments: Any) -> Any:
        """`run` for a JavaScript function and its arguments."""
        return self.run(f"({function})(...{json.dumps(arguments)})")

    def wait_for(self, expression: str, timeout: float = 60) -> Any:
        """Repeat `run` until the value is true, and return it. What throws counts as not yet. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        last: Any = None
        while time.monotonic() < deadline:
            try:
                last = self.run(expression)
            except PageError as error:
                last = error
            else:
                if last:
                    return last
            time.sleep(0.2)
        raise TimeoutError(f"after {timeout:.0f} s the page still gives {last!r} for {expression}")

    def errors(self) -> list[str]:
        """The exceptions that the page did not catch so far."""
        self.run("0")
        found = [event["params"]["exceptionDetails"] for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        return [details.get("exception", {}).get("description") or details["text"] for details in found]

    def screenshot(self) -> bytes:
        """The window's contents as PNG."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def chromium(width: int = 1600, height: int = 1000) -> Iterator[Page]:
    """Start a browser with a new profile and one empty tab, and end it at the end of the block. Raises FileNotFoundError without one."""
    program = find_chromium()
    if program is None:
        raise FileNotFoundError(f"no Chromium: none of {', '.join(NAMES)} is on PATH. Install one, or set CHROMIUM to its path.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Page(_first_tab(process, Path(profile)))
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _first_tab(process: subprocess.Popen[bytes], profile: Path, timeout: float = 60) -> websocket.WebSocket:
    """A channel to the browser's tab; its port and address come from the file that Chromium writes into its profile."""
    written = profile / "DevToolsActivePort"
    deadline = time.monotonic() + timeout
    while not (written.is_file() and len(lines := written.read_text().split()) == 2):
        if process.poll() is not None:
            raise ChildProcessError(f"Chromium ended while starting (exit code {process.returncode})")
        if time.monotonic() > deadline:
            raise TimeoutError(f"Chromium did not open its debugging port within {timeout:.0f} s")
        time.sleep(0.1)
    port, browser_path = lines
    # suppress_origin: Chromium refuses a channel that names an origin
    browser = websocket.create_connection(f"ws://127.0.0.1:{port}{browser_path}", suppress_origin=True, timeout=timeout)
    browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
    targets = json.loads(browser.recv())["result"]["targetInfos"]
    browser.close()
    tab = next(target["targetId"] for target in targets if target["type"] == "page")
    return websocket.create_connection(f"ws://127.0.0.1:{port}/devtools/page/{tab}", suppress_origin=True, timeout=timeout)
