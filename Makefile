# Every target sets up what it needs. `make` alone says what there is.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint format types bench paper readme clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv with the pinned versions, the package installed editable

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "theory_sim needs Python 3.11 or newer; try: make PYTHON=python3.12 setup"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[data,export,cluster,dev]'
	@touch $@

reproduce: setup  ## simulate, measure, draw and judge every study; write the paper's numbers
	$(BIN)/theory-sim reproduce

test: setup  ## run all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: setup  ## look for mistakes
	$(BIN)/ruff check .

format: setup  ## rewrite the layout of the code
	$(BIN)/ruff format .

types: setup  ## check the types
	$(BIN)/mypy

bench: setup  ## measure the machine's peaks and every kernel's speed
	$(BIN)/theory-sim bench

paper: reproduce  ## build paper/main.pdf (needs latexmk)
	cd paper && latexmk -pdf -interaction=nonstopmode -halt-on-error main.tex

readme: reproduce  ## put the ledger and the figures of the last run into README.md
	$(BIN)/python paper/readme.py

clean:  ## remove results, figures and generated files, not the environment
	rm -rf results figures/out paper/generated .pytest_cache .hypothesis .mypy_cache .ruff_cache
