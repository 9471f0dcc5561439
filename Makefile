# Two commands on a fresh machine: `make demo` and `make test`. Both make a virtual environment of
# their own and install what they need into it.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Where tests put their files: in memory if there are 2 GB for them, which is quicker than a disk.
FREE_IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')
TEST_FILES := $(shell test "$(FREE_IN_MEMORY)" -gt 2000000 2>/dev/null && echo /dev/shm)

.PHONY: demo test slow night browser recipes airflow spark captures lint bench clean

demo: $(VENV)/.installed ## push 250,000 uids into the emulator at 300 requests a minute, and prove it
	$(BIN)/cohortsync demo

test: $(VENV)/.installed-for-tests ## what the default test run is, under 4 minutes
	PYTEST_DEBUG_TEMPROOT=$(TEST_FILES) $(BIN)/python -m pytest -n 2 \
		-o tmp_path_retention_policy=failed

slow: $(VENV)/.installed-for-tests ## minutes of real time: the ceiling, the kill loop
	$(BIN)/python -m pytest -m slow

night: $(VENV)/.installed-for-tests ## one night of six cohorts, compressed; what it leaves is in ./night
	$(BIN)/python -m pytest -n 0 -m slow -rs --basetemp night tests/system/test_one_night.py

browser: $(VENV)/.installed-for-tests ## the pages in Chromium; skipped if it is not installed
	$(BIN)/python -m pytest -m browser -rs tests/system

recipes: $(VENV)/.installed-for-recipes ## what is in docs/, by the tools of Kubernetes, Docker, TOML and uv
	$(BIN)/python -m pytest -m recipes -rs tests/system

airflow: $(VENV)/.installed-for-tests $(VENV)-airflow/.installed ## the recipe for Airflow, in one
	AIRFLOW_PYTHON=$(VENV)-airflow/bin/python $(BIN)/python -m pytest -m airflow -rs tests/system

spark: $(VENV)/.installed-for-spark ## the comparison on Spark, on this machine; skipped without Java
	$(BIN)/python -m pytest -n 0 -m "spark and not slow" -rs tests/shell tests/system

captures: $(VENV)/.installed-for-tests ## write what commands print into README.md and docs/ anew
	REWRITE_CAPTURES=1 $(BIN)/python -m pytest -k "commands_of_a_page or capture" tests/system/test_pages.py

lint: $(VENV)/.installed-for-tests ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-for-tests ## the quick figures of docs/benchmarks.md
	$(BIN)/python benchmarks/packing.py
	$(BIN)/python benchmarks/engine_speed.py

clean:
	rm -rf $(VENV) $(VENV)-airflow

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

$(VENV)/.installed-for-recipes: pyproject.toml $(VENV)/.installed-for-tests
	$(PIP) install --group recipes
	touch $@

$(VENV)/.installed-for-spark: pyproject.toml $(VENV)/.installed-for-tests
	$(PIP) install --editable ".[spark]"
	touch $@

# Airflow pins hundreds of packages: it has an environment of its own.
$(VENV)-airflow/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-airflow
	$(VENV)-airflow/bin/python -m pip --quiet --disable-pip-version-check install "apache-airflow>=3" --editable .
	touch $@
