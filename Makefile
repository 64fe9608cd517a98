# One word for each thing a person does here. Nothing needs an activated environment: every recipe
# calls the programs of .venv by path, and creates .venv when it is missing.

# The first interpreter that runs and is new enough.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
PANEL  := demo/panel.h5
RESULT := demo/result

# Two workers: a laptop has two cores at least. Each takes one thread, by tests/conftest.py.
PYTEST_ARGS ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test lock lint format types contracts dead-code docs docs-check figures screenshots wheels package check clean

help:
	@echo "make demo        build, scan and identify a virtual panel; says what to open"
	@echo "make test        create the environment and pass the tests"
	@echo "make check       lint, types, contracts, dead-code and docs-check in one"
	@echo "make lint        ruff and the vocabulary        make format     put the format right"
	@echo "make types       mypy, strict                  make contracts  who may import whom"
	@echo "make dead-code   what nothing uses (vulture)"
	@echo "make docs        the site, in docs/_build/html; notebooks and gallery are executed"
	@echo "make docs-check  links and pasted figures      make figures    paste the figures anew"
	@echo "make screenshots pictures of every view of the viewer, by Chromium"
	@echo "make package     sdist and wheel in dist, checked"
	@echo "make wheels      the plain install is wheels alone on Windows, macOS and Linux"
	@echo "make lock        renew constraints.txt: the newest releases that go together"
	@echo "make clean       remove the environment, the demo and all caches"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Creating $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "venv failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

# The stamps are older than pyproject.toml when a dependency changed, and only then pip runs again.
# What is installed is what was tested: constraints.txt names the release of every package.
$(VENV)/.installed-plain: pyproject.toml constraints.txt | $(BIN)/python
	@test -e $(VENV)/.installed-dev || echo "Installing underpaint and what it needs (no torch): a minute or two"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing underpaint with all that training and the tests need: some minutes"
	@$(PIP) install --constraint constraints.txt torch
	@$(PIP) install --constraint constraints.txt --editable '.[train,dev]'
	@touch $@ $(VENV)/.installed-plain

$(VENV)/.installed-docs: $(VENV)/.installed-plain
	@echo "Installing what the site is built with"
	@$(PIP) install --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(VENV)/.installed-plain
	@mkdir -p demo
	@test -s $(PANEL) || $(BIN)/underpaint mockup fig7 --out $(PANEL) --reflectance
	$(BIN)/underpaint identify $(PANEL) --out $(RESULT) --overwrite
	@echo
	@echo "Done. Open $(CURDIR)/$(RESULT)/report.html in a browser."
	@echo "The virtual scan is $(PANEL); the maps as TIFF files lie in $(RESULT)/pigments and $(RESULT)/elements."

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# For Pythons from 3.11 and all platforms. The releases of CUDA packages are left to torch, which names them itself.
lock: $(VENV)/.installed-plain
	@$(PIP) install uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade --no-annotate \
		--custom-compile-command "make lock" --output-file constraints.part pyproject.toml
	@grep -vE '^(nvidia|cuda|triton)' constraints.part > constraints.txt
	@rm constraints.part

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python tools/wording.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/.installed-dev
	$(BIN)/mypy

contracts: $(VENV)/.installed-dev
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.installed-docs
	$(BIN)/python tools/check_docs.py

docs-check: $(VENV)/.installed-dev
	$(BIN)/python tools/check_links.py
	$(BIN)/python tools/readme_figures.py --check
	$(BIN)/python tools/pigments_page.py --check

figures: $(VENV)/.installed-dev
	$(BIN)/python tools/readme_figures.py
	$(BIN)/python tools/pigments_page.py

screenshots: $(VENV)/.installed-dev
	$(BIN)/python tools/screenshots.py

wheels: $(VENV)/.installed-dev
	$(BIN)/python tools/check_wheels.py

package: $(VENV)/.installed-dev
	@$(PIP) install uv
	$(BIN)/python tools/check_package.py

dead-code: $(VENV)/.installed-dev
	$(BIN)/vulture

check: lint types contracts dead-code docs-check

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
