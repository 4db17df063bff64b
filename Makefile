# natwalk. `make help` lists the targets. Everything lands in .venv; nothing outside this folder but Debian packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help install demo test check bench fuzz docs lock format clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 18

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml scripts/install.sh
	PYTHON="$(PYTHON)" sh scripts/install.sh "$(VENV)" runtime

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	PYTHON="$(PYTHON)" sh scripts/install.sh "$(VENV)" dev

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	PYTHON="$(PYTHON)" sh scripts/install.sh "$(VENV)" bench

$(VENV)/.fuzz: $(VENV)/.dev requirements/fuzz.txt
	PYTHON="$(PYTHON)" sh scripts/install.sh "$(VENV)" fuzz

install: $(VENV)/.dev ## Make .venv with natwalk and everything its tests and checks need

demo: $(VENV)/.runtime ## Two machines behind NATs, on this machine: connect and move a file (ARGS="--nat-b symmetric")
	@sh scripts/system-packages.sh demo
	@$(BIN)/natwalk demo $(ARGS)

test: $(VENV)/.dev ## Run the test suite (ARGS="-k turn")
	@sh scripts/system-packages.sh test
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench ## Measure, with a peer beside us in the same run
	@sh scripts/system-packages.sh demo
	@$(BIN)/python -m bench $(ARGS)

fuzz: $(VENV)/.fuzz ## Feed every decoder and core what no test thought of (ARGS="--seconds 600 --target codec")
	@$(BIN)/python -m fuzz $(ARGS)

docs: $(VENV)/.dev ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(VENV)/.dev ## Resolve requirements/*.txt afresh, with hashes
	$(BIN)/pip install --quiet uv
	UV=$(BIN)/uv sh scripts/lock.sh

clean: ## Remove what make made
	rm -rf $(VENV) docs/_build build .pytest_cache .mypy_cache .ruff_cache .hypothesis
