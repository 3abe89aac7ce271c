# The three commands most people need: `make demo`, `make test`, `make testnet`.
PYTHON ?= python3
# Files of tests run side by side; one may start a network of eight processes, so more than four at once gain nothing.
PYTEST ?= .venv/bin/python -m pytest
# In the order of tests/conftest.py, in which what takes long comes first.
SPREAD := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo testnet test heavy interop kubernetes abuse test-all coverage check format bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) node/preflight.py --setup
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing fondaco into $(VENV) (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip setuptools wheel
	@$(BIN)/python -m pip install --quiet -c constraints.txt --editable . --group dev
	@# libp2p pulls in stale stubs that hide trio's own types from mypy.
	@rm -rf $(VENV)/lib/python3*/site-packages/trio_typing-stubs $(VENV)/lib/python3*/site-packages/trio-stubs
	@touch $@

demo: setup
	@$(PYTHON) node/preflight.py
	@$(BIN)/fondaco demo

testnet: setup
	@$(PYTHON) node/preflight.py
	@$(BIN)/fondaco testnet up

test: setup
	@$(PYTEST) $(SPREAD) -m "not heavy and not interop and not kubernetes and not abuse"

# What takes too long for every day: CI runs it after the rest.
heavy: setup
	@$(PYTEST) $(SPREAD) --dist worksteal -m heavy --durations=10

# Our nodes and js-libp2p, which npm brings; without Node.js these tests are skipped and say so.
interop: setup
	@if command -v npm >/dev/null; then cd tests/interop && npm ci --no-progress; fi
	@$(PYTEST) -m interop tests/interop

# Workloads in the cluster that FONDACO_KUBERNETES tells of; see docs/how-to/use-kubernetes.md.
kubernetes: setup
	@$(PYTEST) -m kubernetes --durations=5 tests/kubernetes

# Attackers beside a network that does its job; one after the other, since what they cost is looked at.
abuse: setup
	@$(PYTEST) -m abuse --durations=10 tests/abuse

test-all: test heavy interop abuse

# After `make test PYTEST="$(BIN)/coverage run -m pytest"`: everything together, then what is owed in full.
coverage:
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=90
	@$(BIN)/coverage report --fail-under=100 --include='protocol/*,consensus/*'

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup
	@$(BIN)/fondaco bench all --table docs/reference/benchmarks.md

clean:
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/interop/node_modules
