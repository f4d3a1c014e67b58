# On a fresh machine with Python 3.11 to 3.13:
#   make demo         run the method on the embedded kit: prints a table, writes runs/demo/report.html
#   make demo-quick   the same with one seed and shorter runs, about a minute after the set-up
#   make test         all tests
# While you work: make test-fast (under 90 seconds), make lint, make docs,
# make bench (ten minutes; compares speed ratios with the last committed ones), make release (builds, checks, tags)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo demo-quick test test-fast lint bench docs clean release

demo: $(VENV)/.demo
	$(BIN)/ppflow run demo

demo-quick: $(VENV)/.demo
	$(BIN)/ppflow run demo --scale quick

# three processes also on two cores: many tests wait for other programs
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m 'not slow'

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/quick.py

release: $(VENV)/.dev
	$(BIN)/python scripts/release.py

clean:
	rm -rf $(VENV) build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "error: Python 3.11, 3.12 or 3.13 is needed; set one with make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[generate,train]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@
