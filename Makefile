# `make app` and `make test` work on a fresh clone: they make .venv first. A stamp keeps repeats quick.
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PORT   ?= 8501
HOST   ?= 127.0.0.1
PYTEST ?=
WORKERS ?= 4

# auto: the CPU build of torch where there is no NVIDIA GPU. TORCH_INDEX_URL names an index for it.
TORCH  ?= auto
export TORCH_INDEX_URL

.PHONY: help venv app test test-newest lint format browser clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

venv: $(STAMP) ## the environment in .venv, with everything for use, tests and training

# Tested with Python 3.11 to 3.13; a newer one is taken only where none of these is there.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml tools/install_torch.py
	@set -e; for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	  command -v $$python >/dev/null 2>&1 || continue; \
	  $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  found=$$python; break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No Python 3.11 or newer with its venv module was found. Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! $$found -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then \
	  echo "Stem was tested with Python 3.11 to 3.13; this is $$($$found --version). If it fails, name another: make PYTHON=/path/to/python3.12" >&2; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then $$found -m venv --clear $(VENV); fi
	$(BIN)/python tools/install_torch.py $(TORCH)
	$(BIN)/python -m pip install -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --no-deps -e .
	@touch $@

app: $(STAMP) ## start the app on http://$(HOST):$(PORT)
	$(BIN)/stem app --host $(HOST) --port $(PORT)

# The browser tests drive the system's Chromium. Only root on a Debian-like system can install it
# here; elsewhere they skip and say so (with CI=true a missing browser fails them).
browser:
	@if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "Installing Chromium for the browser tests …"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	    || echo "Chromium could not be installed; the browser tests will say so." >&2; \
	else echo "No Chromium here; the browser tests will skip." >&2; fi

test: $(STAMP) browser ## all tests, in four processes (PYTEST="-k name" for some)
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(PYTEST)

test-newest: $(STAMP) ## tests on Python 3.11 to 3.13 with the newest and the lowest dependencies
	$(BIN)/nox $(NOX)

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## write ruff's fixes and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and all caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
