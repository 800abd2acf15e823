"""The documentation as a site: it is built without a warning and without a network, and holds every document, node, workflow and room."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_process import REPOSITORY
from locales_en import LOCALES

import faceexpr_core.text

pytestmark = pytest.mark.long

FETCHED = r"""<(?:script|img|iframe)[^>]+src="?https?:|<link[^>]+rel="?(?:stylesheet|preconnect|preload)"?[^>]+https?:"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_document_node_workflow_and_room_has_its_page(site: Path) -> None:
    nodes = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    wanted = [f"nodes/{node}{language}" for node in nodes for language in ("", ".zh", ".ja", ".ko")]
    wanted += [f"recipes/{path.stem}" for path in (REPOSITORY / "workflows").glob("*.json")]
    wanted += [path.stem for path in (REPOSITORY / "docs").glob("*.md")]
    wanted += [f"python/{name}" for name in ("text", "fusion", "training", "measure")]
    assert [page for page in wanted if not (site / f"{page}.html").is_file()] == []


def test_pages_hold_the_repositorys_own_words(site: Path) -> None:
    assert "Show ComfyUI a few photos of a person" in text_of(site / "index.html")
    python = text_of(site / "python" / "text.html")
    assert (faceexpr_core.text.mix.__doc__ or "-").split("\n")[0] in python
    recipe = text_of(site / "recipes" / "faceexpr_mini_expression.html")
    assert "Click a face in Expression" in recipe
    assert "A second expression to blend in." in text_of(site / "nodes" / "FaceExprExpressionTextEncode.html")


def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert re.findall(FETCHED, page.read_text(encoding="utf-8")) == [], page.relative_to(site)


def test_links_between_documents_lead_to_files_of_the_repository_too() -> None:
    """They are read on GitHub as well as on the site. A translated help page's pictures are the English page's, as ComfyUI shows them."""
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "faceexpr_core" / "mini" / "README.md"]
    pages += [*(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "web" / "docs").rglob("*.md")]
    for page in pages:
        links = [link for link in re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8")) if not link.startswith("http")]
        places = (page.parent, REPOSITORY / "web" / "docs") if "web" in page.parts else (page.parent,)
        assert [link for link in links if not any((place / link).exists() for place in places)] == [], page
