"""What is missing or too old is said with what to type, from the packages' metadata alone."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
from importlib.metadata import requires
from types import SimpleNamespace

import pack
import pytest
from aiohttp import web
from comfy_process import ComfyProcess

from faceexpr_core.requirements import NEEDED, lacking
from faceexpr_core.typed import installing, typed

GOOD = {"opencv-contrib-python": "4.12.0.88", "mediapipe": "1.0.1", "diffusers": "0.35.2", "peft": "0.17", "accelerate": "1.11.0"}
GOOD |= {"transformers": "4.57.1", "safetensors": "0.6", "scipy": "1.16", "matplotlib": "3.10"}
GOOD |= {"psutil": "7.0", "jinja2": "3.1", "rich": "14.0"}


def said(versions: dict[str, str], absent: tuple[str, ...] = ()) -> tuple[str, ...]:
    return lacking(lambda module: module not in absent, versions.get)


def test_nothing_is_said_where_all_is_there() -> None:
    assert said(GOOD) == () and lacking() == ()


@pytest.mark.parametrize("package", NEEDED, ids=lambda package: package.module)
def test_each_missing_package_is_said_with_what_to_type(package) -> None:
    name = package.distributions[0]
    versions = {key: value for key, value in GOOD.items() if key not in package.distributions}
    (sentence,) = said(versions, (package.module,))
    assert sentence.startswith(f"{name} is missing (")
    assert installing(name).removesuffix(name) in sentence and name in sentence.split("install")[1]


def test_what_is_to_be_typed_where_opencv_and_mediapipe_are_missing_leaves_one_opencv() -> None:
    """mediapipe brings one itself: that one, or there would be two."""
    named = {name.split(">=")[0] for sentence in said({}, ("cv2", "mediapipe")) for name in re.findall(r'install "?([\w-]+)', sentence)}
    brought = {name for one in requires("mediapipe") or () for name in re.findall(r"^[\w-]+", one)}
    assert {"opencv-contrib-python", "mediapipe"} <= named
    assert {one for one in named | brought if one.startswith("opencv")} == {"opencv-contrib-python"}


@pytest.mark.parametrize("distribution", ["opencv-python", "opencv-python-headless", "opencv-contrib-python"])
def test_any_opencv_from_4_8_will_do_and_an_older_one_is_told_by_its_own_name(distribution: str) -> None:
    others = {key: value for key, value in GOOD.items() if "opencv" not in key}
    for version in ("4.8.0.74", "4.10.0", "5.0.0rc1"):
        assert said({**others, distribution: version}) == ()
    (sentence,) = said({**others, distribution: "4.7.0.72"})
    assert sentence.startswith(f"{distribution} 4.7.0.72 is older than 4.8") and f'install "{distribution}>=4.8"' in sentence


def test_mediapipe_0_10_will_do_and_older_will_not() -> None:
    assert said({**GOOD, "mediapipe": "0.10.21"}) == ()
    assert "mediapipe 0.9.3 is older than 0.10.14" in said({**GOOD, "mediapipe": "0.9.3"})[0]


def test_an_opencv_without_metadata_is_left_in_peace_and_two_that_differ_are_said() -> None:
    others = {key: value for key, value in GOOD.items() if "opencv" not in key}
    assert said(others) == ()
    (sentence,) = said({**GOOD, "opencv-python-headless": "4.9.0.80"})
    assert "overwrite each other: opencv-contrib-python 4.12.0.88, opencv-python-headless 4.9.0.80" in sentence
    assert said({**GOOD, "opencv-python-headless": "4.12.0.88"}) == ()


def test_bitsandbytes_may_be_missing_but_not_be_old() -> None:
    assert said(GOOD, ("bitsandbytes",)) == () and said({**GOOD, "bitsandbytes": "0.45.2"}) == ()
    (sentence,) = said({**GOOD, "bitsandbytes": "0.44.1"})
    assert sentence.startswith("bitsandbytes 0.44.1 is older than 0.45.2") and '"bitsandbytes>=0.45.2"' in sentence


def test_each_sentence_says_to_close_comfyui_first() -> None:
    """Windows lets nobody replace a package's files while ComfyUI has them open."""
    told = [*said({**GOOD, "opencv-python-headless": "4.9.0.80"}), *said({**GOOD, "mediapipe": "0.9.3"}, ("scipy",))]
    assert len(told) == 3
    for sentence in told:
        before, command = sentence.split(sys.executable)
        assert re.search(r"[Cc]lose ComfyUI, then type: $", before) and command.startswith(" -m pip install")


def test_powershell_is_told_how_to_run_a_path_in_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    hint = "(in PowerShell, put & and a space before it)"
    monkeypatch.setattr(sys, "executable", r"C:\my python\python.exe")
    assert installing("scipy", windows=True) == rf'"{sys.executable}" -m pip install scipy {hint}'
    assert typed("-m", "pip", windows=False) == rf'"{sys.executable}" -m pip'
    monkeypatch.setattr(sys, "executable", r"C:\python\python.exe")
    assert installing("opencv-python>=4.8", windows=True) == rf'{sys.executable} -m pip install "opencv-python>=4.8"'


def test_looking_loads_none_of_them() -> None:
    code = "import sys; from faceexpr_core.requirements import lacking; lacking(); assert not {'cv2', 'mediapipe'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_the_page_can_ask_and_the_log_is_silent_where_nothing_is_missing(comfy: ComfyProcess) -> None:
    assert json.loads(comfy.get("/faceexpr/missing")) == []
    assert "FaceExpr: " not in comfy.log().split("got prompt")[0]  # other tests may have run graphs


@pytest.mark.parametrize("sentences", [("diffusers is missing (drawing). Type: pip install diffusers",), ()])
def test_what_is_missing_is_in_the_log_and_in_what_the_page_is_told(
    comfy_modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sentences: tuple[str, ...]
) -> None:
    routes = web.RouteTableDef()
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace(routes=routes)))
    monkeypatch.setitem(sys.modules, "server", server)  # type: ignore[arg-type]
    monkeypatch.setattr("faceexpr_pack.faceexpr_core.requirements.lacking", lambda: sentences)
    with caplog.at_level(logging.WARNING):
        pack.node("host.missing").announce()
    assert caplog.messages == [f"FaceExpr: {sentence}" for sentence in sentences]
    (route,) = routes
    assert isinstance(route, web.RouteDef) and (route.method, route.path) == ("GET", "/faceexpr/missing")
    answer: web.Response = asyncio.run(route.handler(None))  # type: ignore[arg-type]
    assert json.loads(answer.text or "") == [*sentences]
