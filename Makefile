# Two commands on a fresh machine: `make demo` and `make test`. Both make a virtual environment of
# their own and install what they need into it.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test slow browser lint bench clean

demo: $(VENV)/.installed ## push 250,000 uids into the emulator at 300 requests a minute, and prove it
	$(BIN)/cohortsync demo

test: $(VENV)/.installed-for-tests ## what the default test run is, under 4 minutes
	$(BIN)/python -m pytest -n 2

slow: $(VENV)/.installed-for-tests ## minutes of real time: the ceiling, the kill loop
	$(BIN)/python -m pytest -m slow

browser: $(VENV)/.installed-for-tests ## the pages in Chromium; skipped if it is not installed
	$(BIN)/python -m pytest -m browser -rs tests/system

lint: $(VENV)/.installed-for-tests ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-for-tests ## the quick figures of the README
	$(BIN)/python benchmarks/packing.py
	$(BIN)/python benchmarks/engine_speed.py

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable .
	touch $@

# Dependency groups want a pip that is younger than some Python releases bring along.
$(VENV)/.installed-for-tests: pyproject.toml $(VENV)/.installed
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --group test
	touch $@
