# make demo     learn a person from six photos and draw eight expressions: output/demo/sheet.png
# make comfyui  ComfyUI's web page with these nodes and their workflows
# make test     lint, types, tests
#
# COMFYUI_PATH=/path/to/ComfyUI uses your ComfyUI instead of fetching one; nothing is written into it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo comfyui test lint types tests venv comfyui-files clean

demo: comfyui-files
	$(BIN)/python scripts/demo.py

comfyui: comfyui-files
	$(BIN)/python scripts/comfyui_page.py $(ARGS)

test: lint types tests

lint: venv
	$(BIN)/ruff check .

types: comfyui-files
	cd .comfyui/home/custom_nodes && ../../../$(BIN)/mypy --config-file faceexpr/pyproject.toml --cache-dir ../../../.mypy_cache/pack \
		-p faceexpr.faceexpr_core -p faceexpr.nodes
	MYPYPATH=scripts:tests $(BIN)/mypy --explicit-package-bases scripts tests lab

tests: comfyui-files
	$(BIN)/pytest

venv: $(INSTALLED)

$(INSTALLED): requirements-lock.txt pyproject.toml
	@if command -v uv > /dev/null; then \
		[ -x $(BIN)/python ] || uv venv --quiet --seed --python 3.11 .venv; \
		uv pip install --quiet --python $(BIN)/python -r requirements-lock.txt; \
	else \
		[ -x $(BIN)/python ] || "$$(command -v python3.11 || command -v python3)" -m venv .venv; \
		echo "Installing into .venv: about 6 GB, a few minutes"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-lock.txt; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

comfyui-files: venv
	@$(BIN)/python scripts/get_comfyui.py

clean:
	rm -rf .venv .comfyui build output *.egg-info .mypy_cache .ruff_cache .pytest_cache
