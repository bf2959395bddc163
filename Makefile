# `make test` sets everything up; see `make help`. A virtual environment that is there is reused.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs clean

help:  ## list what there is to make
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 8

demo: $(READY)  ## make a small folder of pictures, index it and search it
	$(BIN)/embedsearch demo

test: lint  ## lint, then run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)  ## ruff, the import layers, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(READY)  ## run the benchmarks; DATA=FOLDER holds captions/captions.jsonl and its photos
	$(BIN)/python benchmarks/cold_query.py
	$(BIN)/python benchmarks/throughput.py $(if $(DATA),--captions $(DATA)/captions/captions.jsonl)
	$(BIN)/python benchmarks/rescan.py
	$(BIN)/python benchmarks/encoder_cost.py
	$(if $(DATA),$(BIN)/python benchmarks/duplicates.py $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/clusters.py $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/maps.py $(DATA))

docs: $(READY)  ## write docs/commands.md, tables and, where Chromium is, screenshots anew
	$(BIN)/python docs/generate_commands.py
	$(BIN)/python docs/generate_mixtures.py
	$(BIN)/python docs/generate_screenshots.py

clean:  ## remove the virtual environment, the caches and the demo
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "embedsearch needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@
