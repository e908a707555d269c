# Everything runs in .venv, which is made when it is missing or when pyproject.toml has changed.
PYTHON ?= python3.11
BIN := .venv/bin
# Where it is set, every process of the tests would compile every file again.
export PYTHONDONTWRITEBYTECODE :=
RUN := OMP_NUM_THREADS=1 $(BIN)/python

.PHONY: install quickstart board check test test-all bench clean

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# Trains SimCLR on 1,400 images of handwriting and measures it on 397 others.
quickstart: .venv/installed
	$(BIN)/python tools/quickstart.py

# Trains one seed of every method in recipes/small anew, two at a time; docs/board.md has five.
board: .venv/installed
	$(RUN) -m tools.board --docs runs/board

# What needs no run of the code.
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src recipes tests tools
	$(BIN)/python tools/check_layers.py
	$(BIN)/python tools/check_budgets.py

# What CI runs.
test: check
	$(RUN) -m pytest -q -n 2 --dist worksteal -m "not slow"

# The long proofs too.
test-all: check
	$(RUN) -m pytest -q -n 2

bench: .venv/installed
	for bench in tools/bench/*.py; do $(BIN)/python $$bench || exit 1; done

clean:
	rm -rf .venv runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
