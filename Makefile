# Everything runs from .venv, which the first target that needs it sets up.
PYTHON ?= python3
EXTRAS ?= dev
TESTS ?= not slow
PYTEST_OPTIONS ?= -n 2
PIP_OPTIONS ?=

VENV  := .venv
BIN   := $(VENV)/bin
SETUP := $(VENV)/.installed-$(EXTRAS)
RAY   := $(VENV)/.installed-ray
CODE  := mpfl clients server benchmarks

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
unexport PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format ray-demo deploy-demo bench gpu clean

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || true

setup: $(SETUP) ## install everything into .venv

demo: $(SETUP) ## compare methods on digits; nothing to download
	$(BIN)/mpfl compare demo

test: $(SETUP) ## tests and the examples in the documentation; TESTS= adds the slow ones
	$(BIN)/python -m pytest $(PYTEST_OPTIONS) -m "$(TESTS)" --doctest-modules tests $(CODE)

check: $(SETUP) ## format, lint, types, tests; continuous integration adds EXTRAS=dev,ray TESTS=
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test

format: $(SETUP) ## format the code and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ray-demo: $(RAY) ## the demo's experiment on Flower's simulation engine
	$(BIN)/mpfl run demo --engine ray

deploy-demo: $(SETUP) ## SuperLink and three SuperNodes on this machine, with TLS and keys
	$(BIN)/python -m benchmarks.engines.deployment

bench: $(SETUP) ## speed of votes, codecs and engine, beside the naive way
	for part in votes codec compact engine; do $(BIN)/mpfl bench $$part || exit 1; done

gpu: $(SETUP) ## tests that need a GPU, and clients trained together there, as a table and gpu.json
	$(BIN)/python -m pytest -m gpu tests
	$(BIN)/mpfl bench engine --device cuda --rounds 1 --out gpu.json

clean: ## remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One version of torch, so that results are the documented ones; PIP_OPTIONS names the index of another build.
PIP_INSTALL = $(BIN)/python -m pip --disable-pip-version-check install $(PIP_OPTIONS) \
	-c constraints.txt torch==2.13.0

SAY = @echo "Installing into $(VENV): a few minutes; 2 GB with a CPU build of torch, 5.4 GB with CUDA."

$(SETUP): pyproject.toml constraints.txt $(wildcard mpfl/*/*.c mpfl/*/*/*.[ch]) | $(BIN)/python
	$(SAY)
	$(PIP_INSTALL) -e '.[$(EXTRAS)]'
	@touch $@

$(RAY): $(SETUP)
	$(PIP_INSTALL) -e '.[$(EXTRAS),ray]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "mpfl needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
