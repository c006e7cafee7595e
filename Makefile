# make demo, make test: each sets up what it needs in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*.hpp csrc/*.cpp)

.PHONY: demo test packages lint types benchmarks sanitize wheel clean

# Train a transformer on a real Passive T-Maze until it solves it.
demo: $(VENV)/.installed
	$(BIN)/fastmaze train --length 50 --max-minutes 5 --run-dir runs/demo-$$(date +%Y%m%d-%H%M%S)
	@echo "before these commands: source $(VENV)/bin/activate"

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# The packages that some tasks are from, replayed beside ours in an environment of their own.
packages:
	test -x $(VENV)-packages/bin/python || $(PYTHON) -m venv $(VENV)-packages
	$(VENV)-packages/bin/python -m pip install --disable-pip-version-check \
	  -Cbuild-dir=build/packages -e . pytest hypothesis pytest-benchmark -r tests/packages/requirements.txt
	$(VENV)-packages/bin/python -m pytest tests/packages

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

# Speed, as pytest-benchmark sees it; `fastmaze bench envs` prints the full table.
benchmarks: $(VENV)/.installed
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable

# The core's own test under AddressSanitizer and UndefinedBehaviorSanitizer, then ThreadSanitizer.
sanitize: $(VENV)/.installed
	for preset in asan tsan; do \
	  $(BIN)/cmake --preset $$preset && $(BIN)/cmake --build --preset $$preset -j 2 && \
	  $(BIN)/ctest --preset $$preset || exit 1; \
	done

wheel: $(VENV)/.installed
	$(BIN)/python -m build

clean:
	rm -rf build dist $(VENV)

$(VENV)/.installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "FastMaze needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@command -v c++ > /dev/null || command -v g++ > /dev/null || command -v clang++ > /dev/null || \
	  { echo "FastMaze needs a C++20 compiler, e.g. apt install g++"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@
