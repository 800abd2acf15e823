"""`faceexpr evaluate` on Mini, in small: killed and shared among processes it gives the same table; its page opens from disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import killed_evaluation
import pytest
from browser import OPTIONS, require_chromium
from forks import fork
from PIL import Image
from playwright.sync_api import sync_playwright

from faceexpr_core.commands.cli import main as faceexpr
from faceexpr_core.evaluation.run import read_picture
from faceexpr_core.provenance import DRAWN_BY_A_MODEL, XMP_KEY

pytestmark = pytest.mark.long

ARMS = ("base", "lora", "fusion:strength=1.5")
TABLES = ("pictures", "summary", "differences", "people")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `whole`, evaluated by one process, and `shared`, by two of which the first was killed."""
    folder = tmp_path_factory.mktemp("evaluated")
    told = json.loads(fork(folder, killed_evaluation.main, folder).printed())
    assert 4 <= told["killed"] < 15 and not told["page_before_all"]
    return folder


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_killed_resumed_and_shared_gives_the_same_tables_page_and_pictures(evaluated: Path) -> None:
    whole, shared = evaluated / "whole", evaluated / "shared"
    for name in (*(f"{table}.csv" for table in TABLES), *(f"{table}.parquet" for table in TABLES), "report.html"):
        assert (whole / name).read_bytes() == (shared / name).read_bytes(), name
    pictures = sorted(path.relative_to(whole) for path in whole.glob("pictures/**/*.png"))
    assert len(pictures) == 30
    assert all((read_picture(whole / path) == read_picture(shared / path)).all() for path in pictures)
    assert not [*evaluated.rglob("*.part")]


def test_pictures_say_that_a_model_drew_them_and_photos_do_not(evaluated: Path) -> None:
    drawn, photos = (list((evaluated / "whole").glob(f"{kind}/**/*.png")) for kind in ("pictures", "people"))
    assert drawn and all(DRAWN_BY_A_MODEL in Image.open(path).info[XMP_KEY] for path in drawn)
    assert photos and not any(XMP_KEY in Image.open(path).info for path in photos)


def test_every_arm_draws_every_expression_at_every_intensity_from_every_seed(evaluated: Path) -> None:
    found = rows(evaluated / "whole", "pictures")
    wanted = {("neutral", "1.0"), *((name, step) for name in ("happy", "contempt") for step in ("0.6", "1.0"))}
    for arm in ARMS:
        for seed in ("3", "4"):
            mine = [(one["expression"], one["intensity"]) for one in found if (one["arm"], one["seed"]) == (arm, seed)]
            assert sorted(mine) == sorted(wanted)
    assert {one["person"] for one in found} == {"anna"}
    assert all(one["right"] in ("True", "False") for one in found)
    assert all(one["right_classifier"] == "" for one in found if one["expression"] == "contempt")  # which it does not know


def test_arms_differ_but_share_what_they_draw_alike(evaluated: Path) -> None:
    def picture(arm: str, expression: str) -> Any:
        (one,) = (
            row
            for row in rows(evaluated / "whole", "pictures")
            if (row["arm"], row["expression"], row["intensity"], row["seed"]) == (arm, expression, "1.0", "3")
        )
        return read_picture(evaluated / "whole" / one["picture"]).astype(int)

    base, lora, fusion = ARMS
    assert (picture(lora, "neutral") == picture(fusion, "neutral")).all()
    assert abs(picture(lora, "neutral") - picture(base, "neutral")).mean() > 0.5
    assert abs(picture(lora, "happy") - picture(fusion, "happy")).mean() > 0.5
    assert abs(picture(lora, "happy") - picture(lora, "neutral")).mean() > 0.5


def test_an_arms_picture_is_what_generate_draws(evaluated: Path, tmp_path: Path) -> None:
    (lora,) = (evaluated / "whole" / "loras").glob("*.safetensors")
    options = f"--expression happy --intensity 0.6 --steps 2 --cfg 4 --seed 3 --device cpu --output_dir {tmp_path} --fusion_strength 1.5"
    assert faceexpr(["generate", "--model", "mini", "--prompt", "a photo of ohwx woman", "--lora", str(lora), *options.split()]) == 0
    (drawn,) = tmp_path.glob("*.png")
    (one,) = (
        row
        for row in rows(evaluated / "whole", "pictures")
        if (row["arm"], row["expression"], row["intensity"], row["seed"]) == (ARMS[2], "happy", "0.6", "3")
    )
    apart = read_picture(drawn).astype(int) - read_picture(evaluated / "whole" / one["picture"])
    assert abs(apart).max() <= 1  # another number of threads adds up in another order


def test_parquet_holds_the_rows_of_the_csv(evaluated: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(evaluated / "whole" / "pictures.parquet").to_pylist()
    plain = rows(evaluated / "whole", "pictures")
    assert [list(one) for one in table] == [list(one) for one in plain]
    assert [str(one["likeness"]) for one in table] == [one["likeness"] for one in plain]
    assert isinstance(table[0]["likeness"], float) and isinstance(table[0]["face"], bool)


def test_the_folder_refuses_pictures_drawn_in_another_way(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"evaluate --model mini --photos {evaluated}/people --output_dir {evaluated}/whole --cfg 4"
    assert faceexpr([*words.split(), "--steps", "3", "--arms", "base"]) == 2
    assert "holds pictures for which 'drawing' was" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_disk_asks_for_nothing_and_fits_a_narrow_window(evaluated: Path, scheme: Any) -> None:
    program = require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        page = browser.new_context(color_scheme=scheme, viewport={"width": 420, "height": 900}, offline=True).new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((evaluated / "whole" / "report.html").as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [(evaluated / "whole" / "report.html").as_uri()]
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        images = page.evaluate("[...document.images].map(one => [one.naturalWidth, one.alt])")
        assert len(images) == 2 + 2 * 9 + 12 and all(width > 0 and words for width, words in images)
        assert page.evaluate("[...document.querySelectorAll('svg')].every(one => one.role || one.getAttribute('aria-label'))")
        assert page.evaluate(
            "new Set([...document.querySelectorAll('[id]')].map(one => one.id)).size === document.querySelectorAll('[id]').length"
        )
        ink, paper = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        brightness = [sum(map(int, colour[4:-1].split(","))) / 3 for colour in (ink, paper)]
        assert (brightness[0] < 60 and brightness[1] > 240) if scheme == "light" else (brightness[0] > 200 and brightness[1] < 40)
        browser.close()
