# make demo   install what assessing needs, assess an image, write its heatmap
# make test   install everything, check and test everything
# make check  format, lint, types, import contracts
# make bench  speed, as ratios measured in one run (benchmarks/)
# make lock   write constraints.txt anew from what is installed and tested
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
IMAGE ?= examples/drawn-lesion.png

.PHONY: demo test check bench lock clean

demo: $(VENV)/.core
	$(BIN)/melascope assess $(IMAGE) --heatmap out/heatmaps

test: check
	$(BIN)/python -m pytest --cov --cov-report=term

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/assess.py

lock: $(VENV)/.dev
	$(BIN)/pip freeze --exclude-editable | grep -v ' @ ' > constraints.txt

$(VENV)/.venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "melascope needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.core: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) out .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
