"""The repository as a package: what it depends on, what it may not do, how its command answers."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_process import REPOSITORY

import faceexpr_core
from faceexpr_core.requirements import NEEDED, OLDEST_OPENCV, OPENCVS, OPTIONAL

SHIPPED = sorted(
    path for path in [REPOSITORY / "__init__.py", *(REPOSITORY / "nodes").rglob("*.py"), *(REPOSITORY / "faceexpr_core").rglob("*.py")]
)
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "latent_preview", "node_helpers", "nodes", "server", "execution"}
LIGHT = sys.stdlib_module_names | COMFYUI | {"torch"}
COMFYUI_BRINGS = {"torch", "numpy", "pillow", "filelock", "safetensors", "transformers"}
"""What a ComfyUI has itself, so that requirements.txt does not name it."""
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "__import__"}


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def requirements_in(lines: list[str]) -> dict[str, str]:
    """Name -> bound, `>=1.0` or ``, of a requirements file's lines; what follows a `;` does not count."""
    told = (line.partition(";")[0].strip() for line in lines if line.strip() and not line.startswith("#"))
    split = (re.fullmatch(r"([\w.-]+)(?:\[\w,]+)?\s*(.*)", one) for one in told)
    return {found[1].lower().replace("_", "-"): found[2] for found in split if found}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    """Absolute imports that run when the module is imported; those under `if TYPE_CHECKING` do not."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
            yield statement.module or ""


def all_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def test_the_version_is_said_once_and_the_same() -> None:
    assert project()["project"]["version"] == faceexpr_core.__version__


def test_every_requirement_of_the_pack_is_one_of_the_core_and_is_pinned_in_the_lock() -> None:
    core = requirements_in(project()["project"]["dependencies"])
    pack = requirements_in((REPOSITORY / "requirements.txt").read_text().splitlines())
    lock = requirements_in((REPOSITORY / "requirements-lock.txt").read_text().splitlines())
    assert core.keys() - pack.keys() == COMFYUI_BRINGS
    assert {name: core[name] for name in pack} == pack
    assert core.keys() <= lock.keys()


def test_what_is_looked_for_at_start_up_is_what_is_required_with_the_same_bounds() -> None:
    core = requirements_in(project()["project"]["dependencies"])
    looked_for = {one.distributions[0]: "" if one.least == "0" else f">={one.least}" for one in (*NEEDED, *OPTIONAL)}
    assert looked_for.pop(OPENCVS[0]) == f">={OLDEST_OPENCV}"  # which mediapipe brings
    assert core.keys() - looked_for.keys() == {"torch", "numpy", "pillow", "filelock"}  # without which no ComfyUI starts
    assert {name: core[name] for name in looked_for} == looked_for


def test_the_lock_pins_exact_versions_of_matching_torch_packages() -> None:
    lines = [line for line in (REPOSITORY / "requirements-lock.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.match(r"^[\w.-]+==[\w.+]+( ; .+)?$", line)] == []
    assert {"torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"} <= set(lines)


def test_the_registry_finds_its_fields() -> None:
    told = project()
    assert told["tool"]["comfy"]["PublisherId"] == "faceexpr"
    assert told["tool"]["comfy"]["DisplayName"] == "FaceExpr"
    assert told["tool"]["comfy"]["requires-comfyui"] == ">=0.3.75"
    for picture in ("Icon", "Banner"):
        repository, path = told["tool"]["comfy"][picture].split("/main/")
        assert told["project"]["urls"]["Repository"].removeprefix("https://github.com") in repository
        assert (REPOSITORY / path).is_file()
    assert told["project"]["license"] == {"file": "LICENSE"}
    assert "comfyui" not in told["project"]["name"].lower()


def test_the_registrys_own_client_and_its_security_check_have_nothing_to_say() -> None:
    """What `comfy node validate` of comfy-cli 1.23 looks at (`make registry` runs the client itself): fields of pyproject.toml, then ruff
    with S102, S307 and E702. Beside them what the registry forbids: eval, exec, shells, pickle, pip at run time, hidden code."""
    told = project()["project"]
    assert re.fullmatch(r"[a-z][a-z0-9._-]{0,99}", told["name"]) and not told["name"].endswith("-")
    assert re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", told["version"])
    assert told["urls"]["Repository"].startswith("https://")
    rules = ["S102", "S307", "E702", "S301", "S302", "S601", "S602", "S604", "S605", "S609", "S310", "S323", "S501", "S506"]
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--isolated", "--select", ",".join(rules), "--output-format", "concise"]
    command += ["__init__.py", "nodes", "faceexpr_core"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    said = run.stdout.splitlines()
    assert run.returncode == 1 and said, run.stderr  # 2: ruff does not know a rule
    assert [line for line in said if not line.startswith("faceexpr_core/faces/models.py")] == []
    assert all("S310" in line for line in said)  # the explicit download of a model file, from a fixed address, checked by sha256


DOWNLOADERS = {"from_pretrained", "from_single_file", "snapshot_download", "hf_hub_download"}
NETWORK = {"urllib.request", "http", "requests", "httpx", "aiohttp", "socket", "ftplib", "huggingface_hub"}
MAY_CONNECT = {
    "faceexpr_core/faces/models.py": {"urllib.request"},
    "faceexpr_core/commands/hub_cache.py": {"huggingface_hub"},
    "nodes/host/missing.py": {"aiohttp"},
}
"""The explicit download of a model file, from a fixed address and checked by sha256; what finds folders that were downloaded before; and an
answer of ComfyUI's own server."""


def within(name: str, modules: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in modules)


def may_reach_out(path: Path) -> Iterator[str]:
    """What in a file could use the network, install packages or unpickle: the line with what stands there."""
    known = MAY_CONNECT.get(path.relative_to(REPOSITORY).as_posix(), set())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (f"{node.lineno}: import {name}" for name in names if within(name, NETWORK) and not within(name, known))
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            said = {one.arg: getattr(one.value, "value", None) for one in node.keywords}
            if called in DOWNLOADERS and said.get("local_files_only") is not True:
                yield f"{node.lineno}: {called} without local_files_only=True"
            if said.get("allow_pickle") or said.get("weights_only") is False or said.get("trust_remote_code"):
                yield f"{node.lineno}: {called} of what may run code"
            if ast.unparse(node.func).startswith("subprocess.") and any(
                isinstance(one, ast.Constant) and one.value in ("pip", "uv", "conda") for one in ast.walk(node)
            ):
                yield f"{node.lineno}: {called} of an installer"


def test_nothing_is_downloaded_installed_or_unpickled() -> None:
    assert not {path.relative_to(REPOSITORY).as_posix(): found for path in SHIPPED if (found := [*may_reach_out(path)])}


def test_what_would_be_downloaded_installed_or_unpickled_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "REPOSITORY", tmp_path)
    lines = [
        "import http.client",
        "from urllib import request, parse",
        "from urllib.request import urlopen",
        "subprocess.run([sys.executable, '-m', 'pip', 'install', name])",
        "np.load(file, allow_pickle=True)",
        "torch.load(file, weights_only=False)",
        "CLIPTokenizer.from_pretrained(name)",
        "snapshot_download(name, local_files_only=offline)",
    ]
    for line in lines:
        (tmp_path / "one.py").write_text(line)
        assert [*may_reach_out(tmp_path / "one.py")], line
    (tmp_path / "one.py").write_text("import http_status\nfrom .http import x\nnp.load(file, allow_pickle=False)\nsubprocess.run(['pip2'])")
    assert not [*may_reach_out(tmp_path / "one.py")]


def test_in_ci_no_test_of_the_page_is_skipped() -> None:
    """Without Chromium `browser.require_chromium` skips them, but where CI is set."""
    assert "export CI=true" in (REPOSITORY / ".ci" / "run").read_text().splitlines()


def test_a_change_of_version_has_its_lines_in_the_changelog() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", changelog, re.M)
    assert versions[0] == faceexpr_core.__version__
    assert versions == sorted(versions, key=lambda text: [int(number) for number in text.split(".")], reverse=True)


def test_installing_the_core_does_not_put_the_packs_nodes_folder_in_the_way_of_comfyuis_nodes_module() -> None:
    code = "import importlib.util as u, faceexpr_core; print(u.find_spec('nodes'))"
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert found.stdout.strip() == "None"


def runs_text(path: Path) -> Iterator[str]:
    """What in a file runs text as code, starts a shell or unpickles: the line with what stands there."""
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in FORBIDDEN_CALLS or keywords.get("shell") == "True":
            yield f"{node.lineno}: {name}"
        if name == "torch.load" and keywords.get("weights_only") != "True":
            yield f"{node.lineno}: torch.load without weights_only=True"


def test_no_file_runs_text_as_code_or_unpickles() -> None:
    assert not {path.relative_to(REPOSITORY).as_posix(): found for path in SHIPPED if (found := [*runs_text(path)])}


@pytest.mark.parametrize("line", ["eval(text)", "os.system(text)", "run(text, shell=True)", "torch.load(file)", "pickle.loads(data)"])
def test_what_runs_text_is_seen(tmp_path: Path, line: str) -> None:
    (tmp_path / "one.py").write_text(f"pass\n{line}\n")
    assert [*runs_text(tmp_path / "one.py")]


def test_the_core_never_imports_comfyui() -> None:
    for path in SHIPPED:
        if "faceexpr_core" in path.relative_to(REPOSITORY).parts:
            roots = {name.split(".")[0] for name in all_imports(parsed(path))}
            assert not roots & COMFYUI, path


def test_the_nodes_import_nothing_heavy_when_comfyui_starts() -> None:
    for path in SHIPPED:
        if "nodes" in path.relative_to(REPOSITORY).parts:
            roots = {name.split(".")[0] for name in top_level_imports(parsed(path))}
            assert roots <= LIGHT, f"{path}: {roots - LIGHT}"


def test_the_command_says_an_error_in_one_line_and_exits_with_2() -> None:
    answer = faceexpr("models", "fetch", "no-such-model")
    assert answer.returncode == 2
    assert answer.stderr.startswith("faceexpr: ")
    assert "no-such-model" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_the_command_knows_its_verbs_and_its_version() -> None:
    assert faceexpr("--version").stdout.strip() == f"faceexpr {faceexpr_core.__version__}"
    told = faceexpr("--help").stdout
    assert all(verb in told for verb in ("models", "train", "generate"))


def test_help_is_printed_without_loading_torch_or_what_looks_at_faces() -> None:
    code = """
import contextlib, io, sys
from faceexpr_core.commands.cli import _parser, main
from faceexpr_core.commands.train import main as paper

def told(run, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        run([*arguments, "--help"])
    assert "usage:" in said.getvalue(), arguments
    heavy = {"torch", "diffusers", "transformers", "cv2", "mediapipe", "peft"} & sys.modules.keys()
    assert not heavy, (arguments, heavy)

verbs = next(action.choices for action in _parser()._actions if action.dest == "verb")
for verb in ("", *verbs):
    told(main, *filter(None, [verb]))
told(paper)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def test_letters_that_the_terminal_lacks_do_not_stop_a_command(tmp_path: Path) -> None:
    """As on Windows, where what is piped has the encoding of the system's language."""
    folder = tmp_path / "фото"
    command = [sys.executable, "-m", "faceexpr_core.cli", "models", "list", "--dir", str(folder)]
    done = subprocess.run(command, capture_output=True, cwd="/", env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert ascii("фото")[1:-1].encode() in done.stdout.splitlines()[-1]


def test_the_command_runs_as_a_file_in_a_python_that_looks_into_no_folder(tmp_path: Path) -> None:
    """As that of ComfyUI's portable. The file brings its own package, under a path with a blank, and no module of it is found under its
    bare name."""
    pack = tmp_path / "my nodes" / "faceexpr"
    shutil.copytree(REPOSITORY / "faceexpr_core", pack / "faceexpr_core", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    cli = pack / "faceexpr_core" / "cli.py"
    (cli.parent / "socket.py").write_text("raise SystemExit('found under its bare name')")
    bare = {name: value for name, value in os.environ.items() if name not in ("FACEEXPR_MODELS", "COMFYUI_PATH")} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-I", str(cli), "models", "verify", "sface", "--dir", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, env=bare | {"XDG_DATA_HOME": str(tmp_path)})
    (told,) = done.stderr.splitlines()
    assert done.returncode == 1 and f'{sys.executable} "{cli}" models fetch sface --dir {tmp_path / "nowhere"}' in told, done.stderr


def faceexpr(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "faceexpr_core.cli", *arguments], capture_output=True, text=True, cwd="/")
