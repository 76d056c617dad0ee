# Every target does its own set-up: environment, packages, and (as root) the peers from Debian.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PYTEST_ARGS ?=

.PHONY: help demo test soak lint bench serve lock format docs peers clean

help:
	@echo "make demo   a synthetic patient through the whole line: table, SR, SEG, CSV"
	@echo "make test   all tests (installs Orthanc, DCMTK and validators when root)"
	@echo "make soak   the tests that take minutes: installed anew with every Python there is"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make bench  speed, as ratios to named rivals in the same run"
	@echo "make serve  the node, with mirv.yaml if there is one"

$(STAMP): requirements.lock pyproject.toml analysis/features/_texture.c
	# Left by an earlier build, they would count as an installed node or enter the next wheel.
	rm -rf build *.egg-info src/*.egg-info
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

peers:
	./tests/install_peers.sh

demo: $(STAMP)
	$(BIN)/mirv demo

test: $(STAMP) peers
	$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(STAMP) peers
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pages and tables of the documentation that are made from the program.
docs: $(STAMP)
	$(BIN)/python -m tests.doc_tables

bench: $(STAMP) peers
	$(BIN)/python -m tests.bench

serve: $(STAMP)
	$(BIN)/mirv serve $(if $(wildcard mirv.yaml),--config mirv.yaml)

# Exact versions and hashes, no download addresses.
lock: $(STAMP)
	$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info analysis/features/*.so .mypy_cache .ruff_cache .pytest_cache demo-out bench-out
