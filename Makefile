# Each target sets up what it needs by itself: an environment in .venv, with the versions of constraints.txt.
#   make test PYTHON=python3.13         with another Python, in an environment of its own
#   make test ARGS="--cpu-bf16 yes"     with options of pytest, or with a part of the tests
#   make test-lowest                    with the lowest versions that pyproject.toml allows
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
endif
VENV ?= .venv-$(notdir $(PYTHON))
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
# Bytecode is compiled when a module is first imported: compiling all of torch at install time takes longer than the rest.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: quickstart test test-lowest lint clean

quickstart: $(VENV)/.installed
	$(BIN)/ernie-m fit --config quickstart
	$(BIN)/ernie-m report runs/quickstart/*-* --output runs/quickstart.html
	$(BIN)/python examples/classify_sentences.py

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-lowest:
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=tests/lowest.txt

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv .venv-*

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing the project into $(VENV)"
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[test]'
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[lint]'
	touch $@
