# Two commands do everything on a fresh machine with Python 3.11+, git and make:
#   make quickstart   environment, install, and the main job on the embedded world
#   make test         environment, install, tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test test-slow lint check leaderboard hpsv2 clean

quickstart: $(READY)
	$(BIN)/soar-bench quickstart

# One worker per core, each on one thread. A file's tests stay together, because they share
# fixtures; the longest files start first (tests/conftest.py), not those with the most tests.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n logical --dist loadfile --no-loadscope-reorder

# Everything, the long ones too; run before an issue is closed.
test-slow: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

leaderboard: $(READY)
	$(BIN)/soar-bench leaderboard

# HPSv2's own package, for hpsv21-package. Its own pins fit nothing else here.
hpsv2: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[hpsv2]'
	$(BIN)/python -m pip install --quiet --no-deps hpsv2x==1.2.0

# What CI runs.
check: lint test
	$(BIN)/soar-bench leaderboard --check

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "soar-bench needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ocr,dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) outputs
