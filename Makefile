# make demo     learn a person from six photos and draw eight expressions: output/demo/sheet.png
# make comfyui  ComfyUI's web page with these nodes and their workflows
# make test     lint, types, tests (as root on Debian it installs Chromium for the tests of the page; elsewhere see tests/browser.py)
# make long-tests  what takes too long for make test: whole runs, killed and resumed, in processes of their own
# make page-tests  every template run by the page's button, and app mode where the page has it; COMFYUI_PATH=... for a newer page
# make registry  what the ComfyUI registry's own client says of the pack, and what it would upload
# make oldest   faces with the oldest OpenCV and MediaPipe that work, beside those of .venv
# make evidence the tables of docs/measurements.md and docs/speed_and_memory.md that Mini makes, in pieces, resumable: a day on two cores (ARGS=--list says what is done)
# make card     the tests of a graphics card, on a pretended one
# make sdxl-size  the whole path on a checkpoint of SDXL's size with random weights
# make page     the bundle of the expression editor, web/js, from page/ (needs npm)
# make page-pictures  the documents' pictures of ComfyUI's page (needs Chromium)
# make site     the documentation as web pages: build/site/index.html
# make locales  the nodes' words in English, locales/en, from the nodes
#
# COMFYUI_PATH=/path/to/ComfyUI uses your ComfyUI instead of fetching one; nothing is written into it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

BIN := .venv/bin
INSTALLED := .venv/.installed

TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 60 --durations-min 4

.PHONY: demo comfyui test lint types tests long-tests browser page evidence card sdxl-size page-tests registry page-pictures oldest venv comfyui-files clean locales site

demo: comfyui-files
	$(BIN)/python scripts/demo.py

comfyui: comfyui-files
	$(BIN)/python scripts/comfyui_page.py $(ARGS)

test: lint types tests

lint: venv
	$(BIN)/ruff check .

types: comfyui-files
	MYPYPATH=scripts:tests $(BIN)/mypy --explicit-package-bases scripts tests lab & others=$$!; \
	cd .comfyui/home/custom_nodes && ../../../$(BIN)/mypy --config-file faceexpr/pyproject.toml --cache-dir ../../../.mypy_cache/pack \
		-p faceexpr.faceexpr_core -p faceexpr.nodes && wait $$others

tests: comfyui-files browser
	$(TESTS) -m "not long"

long-tests: comfyui-files browser
	$(TESTS) -m long

# Where it cannot, the tests of the page say so: they are skipped, or fail where CI is set.
browser: venv
	@if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
		PYTHONPATH=scripts:tests $(BIN)/python -c "import browser, sys; sys.exit(browser.find_chromium() is not None)"; then \
		echo "Installing Chromium for the tests of the page"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } > /dev/null || true; \
	fi

page:
	cd page && npm ci --silent && npm run --silent build

site: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

locales: comfyui-files
	PYTHONPATH=scripts $(BIN)/python scripts/locales_en.py

card: comfyui-files
	$(BIN)/pytest tests/on_card/test_training_on_a_card.py tests/on_card/test_commands_on_a_card.py tests/on_card/test_drawing_on_a_card.py
	PYTHONPATH=. $(BIN)/python -m pytest -p lab.pretended.plugin -p no:cacheprovider tests/on_card/test_low_vram_nodes.py \
		tests/on_card/test_training_node.py tests/on_card/test_sampler_waits.py \
		tests/test_sampler.py tests/test_fusion_comfy.py tests/test_load_lora_node.py

oldest: comfyui-files
	$(BIN)/python scripts/oldest_faces.py

sdxl-size: comfyui-files
	$(BIN)/python -m lab.card.sdxl_size $(ARGS)

evidence: comfyui-files
	FACEEXPR_MODELS=$${FACEEXPR_MODELS:-$(CURDIR)/.comfyui/home/models/faceexpr} $(BIN)/python -m lab.benchmarks.evidence $(ARGS)

page-tests: comfyui-files browser
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/on_page/test_*.py $(ARGS)

registry: venv
	@[ -x build/comfy-cli/bin/comfy ] || { $(BIN)/python -m venv build/comfy-cli && build/comfy-cli/bin/python -m pip install --quiet comfy-cli==1.23.0; }
	$(BIN)/pytest tests/on_registry/test_*.py

page-pictures: comfyui-files browser
	PYTHONPATH=scripts:tests $(BIN)/python scripts/page_pictures.py
	PYTHONPATH=scripts:tests $(BIN)/python scripts/sdxl_cards.py
	PYTHONPATH=scripts:tests $(BIN)/python scripts/quick_start_picture.py

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
