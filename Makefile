# make demo   install what the web application needs and start it on this machine
# make test   install everything, check and test everything
# make check  format, lint, types, import contracts
# make bench  speed, as ratios measured in one run (benchmarks/)
# make lock   write constraints.txt anew from what is installed and tested
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000

.PHONY: demo test check bench lock clean

demo: $(VENV)/.web
	$(BIN)/melascope serve --port $(PORT)

test: check
	$(BIN)/python -m pytest --cov --cov-report=term

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/assess.py
	$(BIN)/python benchmarks/serve.py

lock: $(VENV)/.dev
	$(BIN)/pip freeze --exclude-editable | grep -v ' @ ' > constraints.txt

$(VENV)/.venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "melascope needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.web: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[web]'
	touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) out .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
