# Everything a newcomer types. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint format bench soak clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rootlake needs Python 3.11 or newer; name one with 'make demo PYTHON=python3.12'." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "cannot make $(VENV); on Debian and Ubuntu install the package python3-venv." >&2; exit 1; }

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing rootlake into $(VENV) (once, about a minute) …"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing rootlake and its test tools into $(VENV) (once, a minute or two) …"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.user

demo: $(VENV)/.user ## install, then run the whole pipeline on sample_data/
	@$(BIN)/rootlake demo

test: $(VENV)/.dev ## install, then run every test
	@$(BIN)/python -m pytest -n auto --dist loadscope

lint: $(VENV)/.dev ## ruff and mypy, as CI runs them
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## let ruff put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## the benchmarks, each beside a named alternative
	@for file in bench/[a-z]*.py; do echo "== $$file"; \
	  $(BIN)/python -m bench.$$(basename $$file .py) || exit 1; done

soak: $(VENV)/.dev ## tests with more examples (FUZZ=5), 500 runs against failing servers (RUNS=, SEED=)
	@FUZZ=$(or $(FUZZ),5) $(BIN)/python -m pytest -n auto --dist loadscope
	@$(BIN)/python -m tests.soak --runs $(or $(RUNS),500) --seed $(or $(SEED),0)

clean: ## remove the environment, caches and the demo's folder
	rm -rf $(VENV) rootlake-demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
