# Needs Python >= 3.11 and make; everything else goes to .venv.
PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= demo

.PHONY: help demo test test-parity benchmark-gpu lint format clean

help:
	@echo "make demo         install, draw street scenes, train a small DANet, write demo/report/index.html"
	@echo "make test         install, run all tests"
	@echo "make test-parity  install PyTorch and mmsegmentation, compare with them"
	@echo "make benchmark-gpu  measure on a GPU, in the environment of $(PYTHON)"
	@echo "make lint         ruff and mypy"
	@echo "make format       ruff format and safe fixes"
	@echo "make clean        remove .venv and caches, no run and no data"

demo: .venv/.installed
	$(BIN)/python main.py prepare --config=configs/synthetic_scenes.py
	$(BIN)/python main.py train --config=configs/synthetic_scenes.py --workdir=$(WORKDIR)

test: .venv/.installed-dev
	$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder --ignore=tests/parity

test-parity: .venv/.installed-parity
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile tests/parity

# Not in .venv, whose JAX is the CPU's: PYTHON is that of an environment with the GPU's.
benchmark-gpu:
	$(PYTHON) -m benchmarks.gpu --json=benchmark-gpu.json

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.installed: requirements.txt constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	@touch $@

.venv/.installed-parity: requirements-parity.txt requirements-interop.txt \
		requirements-mmsegmentation.txt .venv/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-parity.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-mmsegmentation.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@touch $@
