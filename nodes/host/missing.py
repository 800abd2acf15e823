"""What the pack needs and does not find, said once: in the log when ComfyUI starts, and in its page."""

from __future__ import annotations

import logging
import sys

PATH = "/faceexpr/missing"
"""Where the page asks (web/js/missing.js)."""


def announce() -> None:
    """Warn of packages that are missing or too old, and answer the page with the same sentences."""
    from ...faceexpr_core.requirements import lacking

    told = list(lacking())
    for sentence in told:
        logging.warning("FaceExpr: %s", sentence)
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is None:
        return
    from aiohttp import web

    @server.routes.get(PATH)
    async def missing(_: web.Request) -> web.Response:
        return web.json_response(told)
