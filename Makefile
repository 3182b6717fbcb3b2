# Every target works from a fresh clone: what it needs of `setup` it makes first.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
MINUTES ?= 5
SEED ?= 1
WORKERS ?= 3
RATE ?= 800
BROKER ?= kafka
MUTANT ?=
BENCH ?=
RUNS ?= 3
EXPORTERS := $(patsubst tests/exporters/%.txt,.exporters/%,$(wildcard tests/exporters/*.txt)) .exporters/node
# The uv on the PATH when it runs there, else one of our own.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)

.DEFAULT_GOAL := help
.PHONY: help setup run test check screenshots bench chaos chaos-mutants exporters clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/streamlens  ## Install the locked dependencies into .venv (PYTHON=python3.12 chooses another Python)

run: setup  ## Run StreamLens with demo traffic, on http://127.0.0.1:8080
	$(BIN)/streamlens up --demo

test: setup  ## Run all tests
	$(BIN)/pytest

check: setup  ## Check style, types, the direction of imports and the documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest --quiet tests/test_repo_imports.py tests/test_repo_docs.py

screenshots: setup  ## Take the pictures in docs/img of the page with demo traffic (needs Chromium)
	PYTHONPATH=tests $(BIN)/python -m browser.screenshots

bench: setup .bench/bin/py-spy  ## Measure, beside Faust and others; build/bench.json has all (BENCH="pipeline ingest" RUNS=3)
	$(BIN)/python -m compileall -q agents streamlens tables web
	PYTHONPATH=tests $(BIN)/python -m bench.run $(BENCH) --runs $(RUNS)

chaos: setup  ## Break a cluster under traffic and check every row (MINUTES=60 SEED=7 WORKERS=3 RATE=800 BROKER=local)
	PYTHONPATH=tests $(BIN)/python -m chaos.run --minutes $(MINUTES) --seed $(SEED) --broker $(BROKER) \
	  --workers $(WORKERS) --rate $(RATE)

chaos-mutants: setup  ## Take the safeguards out one by one, and stock Faust: each must be caught (MUTANT="no fence")
	PYTHONPATH=tests $(BIN)/python -m chaos.mutate --only "$(MUTANT)"

exporters: setup $(EXPORTERS:=/installed)  ## Install what the tests send with, from Node too; they do it themselves

clean:  ## Remove what make has made; data in .streamlens stays
	rm -rf .venv .uv .bench .exporters .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find agents streamlens tables tests web -name __pycache__ -type d -prune -exec rm -rf {} +

# Exactly the locked versions: `--locked` fails where uv.lock and pyproject.toml disagree, and never resolves anew.
$(BIN)/streamlens: uv.lock pyproject.toml setup.cfg | $(filter .uv/%,$(UV))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  'StreamLens needs Python 3.11 or newer; $(PYTHON) is not. Name another one: make setup PYTHON=python3.12' >&2; exit 1; }
	UV_PYTHON_DOWNLOADS=never $(UV) sync --locked --all-extras --compile-bytecode --python $(PYTHON)
	@touch $@

# What benchmarks compare with can't live beside our own dependencies.
.bench/bin/py-spy: tests/bench/peers.txt | $(BIN)/streamlens
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .bench
	@echo '*' > .bench/.gitignore
	$(UV) pip install --quiet --python .bench/bin/python --requirement $<
	@touch $@

# Nor can exporters of other ages, or what brings half of the world along. Called by tests: without `setup`.
.exporters/%/installed: tests/exporters/%.txt
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(@D)
	$(UV) pip install --quiet --python $(@D)/bin/python --requirement $<
	@touch $@

.exporters/node/installed: tests/exporters/package.json tests/exporters/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

.uv/bin/uv:
	@$(PYTHON) -m venv .uv || { rm -rf .uv; echo \
	  'no virtual environment: Debian and Ubuntu keep ensurepip apart, apt-get install python3-venv' >&2; exit 1; }
	@echo '*' > .uv/.gitignore
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
