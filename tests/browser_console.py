"""What stands on the browser's console, with the files that had a part in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

PACK = re.compile(r"/faceexpr/|FaceExpr")  # in the address of each of its files and templates; in the names of its nodes and settings


@dataclass(frozen=True)
class Told:
    level: str
    text: str
    files: tuple[str, ...]

    @property
    def ours(self) -> bool:
        """Whether it is about this pack, or a file of it called what told it."""
        return PACK.search(" ".join((self.text, *self.files))) is not None


def listen(page: Page) -> list[Told]:
    """All that is told from now on, added as it happens: console calls, errors nobody caught, and the browser's own words."""
    heard: list[Told] = []
    session = page.context.new_cdp_session(page)

    def called(event: dict[str, Any]) -> None:
        words = (str(given.get("value", given.get("description", ""))) for given in event["args"])
        heard.append(Told(event["type"], " ".join(words), _files(event.get("stackTrace"))))

    def thrown(event: dict[str, Any]) -> None:
        details = event["exceptionDetails"]
        heard.append(Told("exception", details.get("exception", {}).get("description", details["text"]), _files(details.get("stackTrace"))))

    def added(event: dict[str, Any]) -> None:
        entry = event["entry"]
        heard.append(Told(entry["level"], entry["text"], (entry.get("url", ""), *_files(entry.get("stackTrace")))))

    session.on("Runtime.consoleAPICalled", called)
    session.on("Runtime.exceptionThrown", thrown)
    session.on("Log.entryAdded", added)
    session.send("Runtime.enable")
    session.send("Log.enable")
    return heard


def _files(stack: dict[str, Any] | None) -> tuple[str, ...]:
    """Addresses of the files of a call stack, and of what it was started from."""
    files: list[str] = []
    while stack:
        files += [frame["url"] for frame in stack["callFrames"]]
        stack = stack.get("parent")
    return tuple(files)
