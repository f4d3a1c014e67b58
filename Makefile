# Two commands do everything on a fresh machine with Python 3.11 to 3.13:
#   make demo    the main job on the embedded kit: a table and runs/demo/report.html
#   make test    the tests
# for the impatient: make demo-quick (one seed, shorter runs, about a minute after the set-up)
# and while working: make test-fast (under 90 seconds), make lint, make docs; make bench (ten minutes
# of ratios, compared with the last committed ones); make release builds, checks and tags
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo demo-quick test test-fast lint bench docs clean release

demo: $(VENV)/.demo
	$(BIN)/ppflow run demo

demo-quick: $(VENV)/.demo
	$(BIN)/ppflow run demo --scale quick

# three at a time also on two cores: many tests wait for other programs
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
