# Every target sets up what it needs, so each works alone on a fresh clone; study, ablation,
# bench-accuracy and bench-peers need data beside it (docs/configuration.md). `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Installed without bytecode: each module is compiled when it is first imported, and must be kept.
# Without, every command compiles TensorFlow anew, which takes longer than most commands.
unexport PYTHONDONTWRITEBYTECODE

CONFIG ?= configs/samples.yaml
ARGS ?=
EXTRAS := dev,pdf,openvino
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
JAX_VENV := .venv-jax
JAX_INSTALLED := $(JAX_VENV)/.installed
JAX_TESTS := tests/losses tests/train/test_trainer.py
SAMPLES := data_samples/dataset.json
SCANS ?= "$(ROOT)/imagesTs"
PREDICTIONS = $(OUTPUT)/predictions/$(NAME)
JUDGES := .venv-oracle
JUDGES_INSTALLED := $(JUDGES)/.installed
PEERS := .venv-peers
PEERS_INSTALLED := $(PEERS)/.installed

.PHONY: help setup samples train evaluate report ui test test-jax faults lint imports bench \
  bench-accuracy bench-peers oracle study ablation gallery clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'CONFIG=FILE (now $(CONFIG)) is that of train, evaluate and report; ARGS="..." reaches the (last) command of a target.'

setup: $(INSTALLED) ## create .venv with the locked versions

samples: $(SAMPLES) ## make the sample scans where they are missing

train: setup samples ## train CONFIG, track it, write the bundle
	$(BIN)/segpipe train $(CONFIG) $(ARGS)

evaluate: setup samples ## evaluate CONFIG on its test cases; trains the samples first if need be
	@$(NEED_CHAMPION)
	$(BIN)/segpipe evaluate $(CONFIG) --split test $(ARGS)

report: setup samples ## patient reports of the imagesTs of CONFIG's dataset, or of SCANS=FOLDER, by its champion
	@$(BIN)/segpipe config $(CONFIG) > /dev/null
	@$(NEED_CHAMPION)
	$(BIN)/segpipe predict --bundle models:/$(NAME)@champion $(SCANS) --store "$(OUTPUT)" \
	  --regions "$(ROOT)" -o "$(PREDICTIONS)" --overwrite
	$(BIN)/segpipe report "$(PREDICTIONS)" $(ARGS)

ui: setup ## MLflow in the browser, on this machine only
	$(BIN)/segpipe ui $(ARGS)

test: setup imports ## all tests but those that need a browser and those of make faults
	$(BIN)/pytest -n 2 --dist worksteal -m "not browser and not faults" $(ARGS)

faults: setup ## kill train and prepare at 20 random moments: a quarter of an hour
	$(BIN)/pytest -m faults tests $(ARGS)

test-jax: $(JAX_INSTALLED) ## the losses and the training step on JAX, in an environment of its own
	SEGPIPE_TEST_BACKEND=jax $(JAX_VENV)/bin/python -m pytest -n 2 --dist worksteal -m jax \
	  $(JAX_TESTS) $(ARGS)

imports: setup
	$(BIN)/lint-imports

lint: setup imports ## style, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup ## our benchmarks: a table, and JSON
	$(BIN)/python -m benchmarks $(ARGS)

bench-accuracy: setup $(PEERS_INSTALLED) ## train beside nnU-Net what is missing: hours; ARGS=--tables does not
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

bench-peers: setup $(PEERS_INSTALLED) ## speed and memory beside nnU-Net: an hour
	$(BIN)/python -m benchmarks.peers $(ARGS)

oracle: setup $(JUDGES_INSTALLED) ## our scores beside those of other programs, in their own environment
	$(BIN)/python -m benchmarks.oracle $(ARGS)

study: setup samples ## train what the study of the penalties lacks, then its tables
	$(BIN)/python -m benchmarks.study $(ARGS)

ablation: setup ## train what the ablation of the defaults lacks, then its tables
	$(BIN)/python -m benchmarks.ablation $(ARGS)

gallery: setup samples ## photograph reports and MLflow into docs/img; needs Chromium
	$(BIN)/python -m benchmarks.gallery $(ARGS)

clean: ## remove the virtual environments, caches and build files; runs and data stay
	rm -rf $(VENV) $(JUDGES) $(PEERS) $(JAX_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find segpipe tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# What CONFIG says, asked once and not before a recipe needs it: the program is installed by then.
SETTINGS = $(eval SETTINGS := $(shell "$(BIN)/python" -c 'import sys; from segpipe.config import load; \
  config = load(sys.argv[1]); root = config.data.root; \
  root = root.parent if root.is_file() else root; \
  print(*(str(part).replace(" ", "%20") for part in (config.name, config.output, root)))' \
  "$(CONFIG)" 2> /dev/null))$(SETTINGS)
BLANK = $(subst %20, ,$(1))
NAME = $(word 1,$(SETTINGS))
OUTPUT = $(call BLANK,$(word 2,$(SETTINGS)))
ROOT = $(call BLANK,$(word 3,$(SETTINGS)))

# The folder of CONFIG's champion on stdout; fails where there is none.
CHAMPION = $(BIN)/python -c 'import sys; from segpipe.config import load; \
  from segpipe.tracking import resolve; config = load(sys.argv[1]); \
  print(resolve(f"models:/{config.name}@champion", config.output))' $(CONFIG)

# Only the samples are trained unasked: they take minutes, other configurations may take days.
ifeq ($(CONFIG),configs/samples.yaml)
NEED_CHAMPION = $(CHAMPION) > /dev/null 2>&1 || $(MAKE) --no-print-directory train ARGS=
else
NEED_CHAMPION = :
endif

$(SAMPLES): | $(INSTALLED)
	$(BIN)/segpipe samples data_samples

# The first of these that runs and is Python 3.11, 3.12 or 3.13; PYTHON=... chooses another.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
  "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
  && echo "$$name" && break; done)

define NEED_PYTHON
	@if [ -z "$(PYTHON)" ]; then \
	  echo "make: expected Python 3.11, 3.12 or 3.13; received $$(python3 -V 2>&1 || true)." \
	    "Install one of them, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments." \
	    "Install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
endef

$(INSTALLED): requirements.lock pyproject.toml
	$(NEED_PYTHON)
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV): some minutes, 3.5 GB."
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -q \
	  -r requirements.lock -e '.[$(EXTRAS)]'
	@touch $@

$(JUDGES_INSTALLED): benchmarks/oracle/requirements.txt | $(INSTALLED)
	[ -x $(JUDGES)/bin/python ] || $(BIN)/python -m venv $(JUDGES)
	@echo "Installing the judges into $(JUDGES): some minutes, 2 GB."
	$(JUDGES)/bin/python -m pip install --disable-pip-version-check --no-compile -q \
	  -r benchmarks/oracle/requirements.txt
	@touch $@

$(PEERS_INSTALLED): benchmarks/accuracy/requirements.txt | $(INSTALLED)
	[ -x $(PEERS)/bin/python ] || $(BIN)/python -m venv $(PEERS)
	@echo "Installing nnU-Net into $(PEERS): some minutes, 2 GB."
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-compile -q \
	  -r benchmarks/accuracy/requirements.txt
	@touch $@

# What the losses and the training step need: neither TensorFlow nor the package's other parts.
$(JAX_INSTALLED): requirements.lock requirements-jax.lock pyproject.toml
	$(NEED_PYTHON)
	[ -x $(JAX_VENV)/bin/python ] || $(PYTHON) -m venv $(JAX_VENV)
	@echo "Installing JAX and Keras into $(JAX_VENV): 0.7 GB."
	$(JAX_VENV)/bin/python -m pip install --disable-pip-version-check --no-compile -q \
	  -c requirements.lock -r requirements-jax.lock
	@touch $@
