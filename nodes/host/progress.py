"""ComfyUI's progress bar, the text below a node that works, and the user's cancel button."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from .folders import within_comfyui

if TYPE_CHECKING:
    from PIL import Image

    from ...faceexpr_core.fusion.donor_faces import Picture


Interrupted = comfy.model_management.InterruptProcessingException
"""Raised by `Progress.update` when the user pressed cancel."""

PREVIEW_SIDE = 512

HARMLESS = str.maketrans("<>|", "\u2039\u203a\xa6")
"""Angle quotes and a broken bar: ComfyUI's page takes such a text, with file names and words of the user in it, for HTML, and
[[word|address]] for a link."""


def stop_if_cancelled() -> None:
    """Raise `Interrupted` when the user pressed cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


SAID = "faceexpr_said"
"""The message that tells our page which text that comes next is ours: page/src/said.js takes it away again, and keeps it out of graphs."""

_kept: list[tuple[tuple[str, str], int | None, str]] = []
"""What is kept on a node that runs: the run, which item of a list of inputs, and the line."""


def _page_that_asked() -> tuple[Any, str | None]:
    """ComfyUI's server, and its name for the page that asked for the run; None where none did: then all that is sent, pictures of somebody
    too, would go to every page that is open."""
    server: Any = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    return server, getattr(server, "client_id", None)


def _preview(picture: Image.Image | None) -> tuple[str, Image.Image, int] | None:
    """As ComfyUI's progress bar takes it."""
    return None if picture is None or _page_that_asked()[1] is None else ("JPEG", picture, PREVIEW_SIDE)


def say(text: str) -> None:
    """Show `text` on the node that runs, in the page that asked for the run, if one did; of files, where they lie in ComfyUI's folders.
    It takes the place of what was said before, but of what `say_and_keep` said."""
    running, (server, page) = get_executing_context(), _page_that_asked()
    if running is not None and page is not None:
        kept = dict.fromkeys(line for run, _, line in _kept if run == _run_of(running))  # of every item: the node is one
        shown = within_comfyui("\n".join([*kept, *([text] if text else [])])).translate(HARMLESS)
        server.send_sync(SAID, {"node": running.node_id, "text": shown}, page)
        server.send_progress_text(shown, running.node_id, sid=page)


def say_and_keep(text: str, instead_of: str | None = None) -> None:
    """`say`, and it stays above what is said later while the node runs, and until it runs again; in the place of a line that is no more."""
    running = get_executing_context()
    if running is not None:
        run, item = _run_of(running), running.list_index
        gone = [(run, item, one) for one in (text, instead_of)]
        _kept[:] = [one for one in _kept if one[0] == run and one not in gone] + [(run, item, text)]
        say("")


def kept_lines() -> list[str]:
    """What `say_and_keep` said while the node runs that is running; over a list of inputs, of the item that it is at."""
    running = get_executing_context()
    here = None if running is None else (_run_of(running), running.list_index)
    return [line for run, item, line in _kept if (run, item) == here]


def _run_of(running: Any) -> tuple[str, str]:
    return running.prompt_id, running.node_id


def say_or_stop(text: str) -> None:
    """`say`, between pieces of work that may be cancelled: raises `Interrupted` when the user pressed cancel."""
    stop_if_cancelled()
    say(text)


def show(picture: Picture) -> None:
    """Show a picture, uint8 [H, W, 3], on the node that runs, in the page that asked for the run, if one did; its bar stays as it is.

    Raises `Interrupted` when the user pressed cancel.
    """
    from PIL import Image

    running = get_executing_context()
    if running is None:
        return
    state = get_progress_state().nodes.get(running.node_id)
    value, total = (0, 1) if state is None else (state["value"], state["max"])
    comfy.utils.ProgressBar(total).update_absolute(value, total, _preview(Image.fromarray(picture)))


class Progress:
    """ComfyUI's progress bar of the running node, with preview pictures and the user's cancel button."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)
        self._total = total

    def update(self, value: int, preview: Image.Image | None = None) -> None:
        """Show `value` of the total and, if given, a picture, as `show` does. Raises `Interrupted` when the user pressed cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(value, self._total, _preview(preview))
