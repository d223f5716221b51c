# Needs Python >= 3.11 and make; everything else goes to VENV. Another PYTHON wants another VENV:
# make test PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
# Not from the environment of the shell, where it may name an environment of something else.
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= demo
# Of compile-check: JAX's extra for NVIDIA GPUs, and arguments of `plan`.
CUDA ?= cuda12
CHECK ?=
# It keeps the tests' bytecode whatever the shell says: else each process compiles all anew.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-fast test-fuzz test-wheel test-plan test-hosts test-parity benchmark-gpu compile-check lint format clean

help:
	@echo "make demo         install, draw street scenes, train a small DANet, write demo/report/index.html"
	@echo "make test         install, run all tests"
	@echo "make test-fast    the tests that take seconds, for daily work"
	@echo "make test-fuzz    install, try 2000 cases of hostile input, which takes half an hour"
	@echo "make test-wheel   build the wheel, use it in an empty environment without a network"
	@echo "make test-plan    install the compiler for TPUs, plan a toy for four absent chips"
	@echo "make test-hosts   train on hosts that are killed, frozen and cut off; needs root"
	@echo "make test-parity  install PyTorch and mmsegmentation, compare with them"
	@echo "make benchmark-gpu  measure on a GPU, in the environment of $(PYTHON)"
	@echo "make compile-check  compile training for absent NVIDIA GPUs, in an environment of 7 GB"
	@echo "make lint         ruff and mypy"
	@echo "make format       ruff format and safe fixes"
	@echo "make clean        remove environments, caches and what pip left, no run and no data"

demo: $(VENV)/.installed
	$(BIN)/python main.py prepare --config=configs/synthetic_scenes.py
	$(BIN)/python main.py train --config=configs/synthetic_scenes.py --workdir=$(WORKDIR)

test: $(VENV)/.installed-dev
	$(PYTEST) --numprocesses=3 --dist=loadfile --no-loadscope-reorder --ignore=tests/parity

test-fast: $(VENV)/.installed-dev
	$(PYTEST) --numprocesses=2 --dist=worksteal -m "not slow" --ignore=tests/parity

test-fuzz: $(VENV)/.installed-dev
	$(PYTEST) --numprocesses=2 --dist=worksteal tests/fuzz --fuzz-cases=2000

# The wheel's own environment is made by the same Python, in a temporary folder.
test-wheel: $(VENV)/.installed-dev
	$(BIN)/python -m tests.wheel

# In an environment of its own: where libtpu is installed, JAX looks for TPUs at each start.
test-plan: $(VENV)-tpu/.installed
	JAX_PLATFORMS=cpu PYTHONDONTWRITEBYTECODE= $(VENV)-tpu/bin/python -m pytest tests/planning/test_tpu.py

# Hosts are network namespaces.
test-hosts: $(VENV)/.installed-dev
	$(BIN)/python -m tests.hosts

test-parity: $(VENV)/.installed-parity
	$(PYTEST) --numprocesses=2 --dist=loadfile tests/parity

# Not in .venv, whose JAX is the CPU's: PYTHON is that of an environment with the GPU's.
benchmark-gpu:
	$(PYTHON) -m benchmarks.gpu --json=benchmark-gpu.json

# In an environment of its own, as what else is tested needs no CUDA. Other programs:
# make compile-check CHECK="--config=cityscapes:backbone=resnet50 --topology h100:1"
compile-check: $(VENV)-$(CUDA)/.installed
ifneq ($(CHECK),)
	$(VENV)-$(CUDA)/bin/python main.py plan --no-remedies $(CHECK)
else
	set -e; for network in resnet50 resnet101; do for type in float32 bfloat16; do \
	for gpus in 1 8; do \
	  $(VENV)-$(CUDA)/bin/python main.py plan --no-remedies --topology h100:$$gpus \
	    --config=cityscapes:backbone=$$network --config.model.dtype=$$type \
	    --config.train.batch_size=$$((8 * gpus)); \
	done; done; done
endif

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	@for folder in $(VENV) $(VENV)-tpu $(VENV)-cuda1?; do \
	  if [ -e "$$folder/pyvenv.cfg" ]; then echo "rm -rf $$folder"; rm -rf "$$folder"; fi; done
	rm -rf .pytest_cache .ruff_cache .mypy_cache build danet_jax.egg-info

define new-environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
@[ ! -e $(1) ] || [ -e $(1)/pyvenv.cfg ] || \
  { echo "$(1) is there already, and is no environment: name another VENV"; exit 1; }
$(PYTHON) -m venv $(1) || { rm -rf $(1); exit 1; }
endef

$(VENV)/bin/python:
	$(call new-environment,$(VENV))

$(VENV)-$(CUDA)/bin/python:
	$(call new-environment,$(VENV)-$(CUDA))

$(VENV)-$(CUDA)/.installed: requirements.txt constraints.txt | $(VENV)-$(CUDA)/bin/python
	$(VENV)-$(CUDA)/bin/python $(PIP_INSTALL) -r requirements.txt "jax[$(CUDA)]" -c constraints.txt
	@touch $@

$(VENV)-tpu/bin/python:
	$(call new-environment,$(VENV)-tpu)

$(VENV)-tpu/.installed: requirements.txt requirements-tpu.txt requirements-dev.txt constraints.txt \
		| $(VENV)-tpu/bin/python
	$(VENV)-tpu/bin/python $(PIP_INSTALL) -r requirements.txt -r requirements-tpu.txt \
	  -r requirements-dev.txt -c constraints.txt
	@touch $@

$(VENV)/.installed: requirements.txt constraints.txt | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.installed-parity: requirements-parity.txt requirements-interop.txt \
		requirements-mmsegmentation.txt $(VENV)/.installed-dev
	$(BIN)/python $(PIP_INSTALL) -r requirements-parity.txt -c constraints.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps -r requirements-mmsegmentation.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements-hub.txt $(VENV)/.installed
	$(BIN)/python $(PIP_INSTALL) -r requirements-dev.txt -r requirements-hub.txt -c constraints.txt
	@touch $@
