# `make demo` and `make test` do everything on a fresh Debian machine. `make help` lists the rest.
SHELL := /bin/bash
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The environment remembers the Python and the MPI that it was made for.
PYTHON ?= $(or $(shell sed -n 1p .venv/made-for 2>/dev/null),python3)
# Directory of an MPI installation; empty is Open MPI from its Python wheel.
MPI ?= $(shell sed -n 3p .venv/made-for 2>/dev/null)
HPCSGD_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hpcsgd

BIN := $(CURDIR)/.venv/bin
export PATH := $(if $(MPI),$(MPI)/bin:)$(BIN):$(PATH)
export OMP_NUM_THREADS ?= 1
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
endif

# Keyed by content: a clone's file times say nothing.
SETUP_FILES := setup.cfg pyproject.toml constraints.txt .ci/setup .ci/horovod-wheel
STAMP := .venv/setup-$(shell (cat $(SETUP_FILES); echo "$(PYTHON) $(MPI)") | sha256sum | cut -c 1-16)

DEMOS := sync_sgd local_sgd post_local_sgd
DEMO_DIRS := $(DEMOS:%=runs/demo/%)
DEMO_MODELS := $(DEMO_DIRS:%=%/model.pt)
FIGURES := runs/demo/figures
REPORT := runs/demo/report.html

# Tests of one process run two at a time; those that start ranks of their own have the machine to themselves.
TESTS := $(shell sed -n 's/^testpaths = //p' setup.cfg)
TESTS_OF_ONE := tests/single tests/fuzz
TWO_AT_A_TIME := -n 2 --dist loadfile

.PHONY: help setup data demo check test soak fuzz fresh lint bench gpu-check clean

help:
	@echo 'make demo    train three recipes on Fashion-MNIST with 2 ranks, then draw their figures'
	@echo 'make check   lint, types, and the tests of one process that are quick: minutes, for the hand'
	@echo 'make test    all tests, those under mpirun too'
	@echo 'make soak    stop, kill and break runs in every way and place: tables in runs/soak (an hour; tests take a sample)'
	@echo 'make fuzz    odd recipes, data, logs, checkpoints and environments, hundreds of each (minutes; tests take a sample)'
	@echo 'make fresh   what a new user meets on bare Debian 12 and 13, with times and sizes (root; debootstrap; an hour)'
	@echo 'make lint    format, style, types, shell scripts'
	@echo 'make bench   side by side with the peers: ratios with intervals'
	@echo 'make gpu-check  is the package right and fast on the GPU here? In 520 s, without network; tests/gpu/results says more'
	@echo 'make setup   only the virtual environment .venv (the others do it when needed)'
	@echo 'make data    only Fashion-MNIST'
	@echo 'make clean   remove .venv, runs/demo and what tools left'
	@echo
	@echo 'MPI=/path/to/mpi      a site MPI in place of the Open MPI wheel'
	@echo 'PYTHON=python3.12     the Python of the environment (3.11 or later)'
	@echo 'HPCSGD_CACHE=DIR      where the Horovod wheel is kept'

setup: $(STAMP)

$(STAMP):
	.ci/setup "$(PYTHON)" "$(HPCSGD_CACHE)" "$(MPI)"
	@rm -f .venv/setup-*
	@touch $@

data: | $(STAMP)
	@# A bare Debian image has no package lists.
	@if [ "$$(id -u)" = 0 ] && command -v apt-cache >/dev/null && ! apt-cache show dataset-fashion-mnist >/dev/null 2>&1; then apt-get update -qq || true; fi
	$(BIN)/hpcsgd data fetch fashion_mnist

runs/demo/%/model.pt: jobs/demo_%.yaml | $(STAMP) data
	@mkdir -p runs/demo
	@flags='-bind-to none'; if mpirun --version | grep -q 'Open MPI'; then flags='--oversubscribe --bind-to none'; fi; \
	set -x; mpirun $$flags -n 2 $(BIN)/hpcsgd train $< --run_dir $(@D) --overwrite true

$(FIGURES)/said: $(DEMO_MODELS) $(wildcard analysis/*.py analysis/*/*.py analysis/page/report.*) | $(STAMP)
	$(BIN)/python analysis/timing_curves.py $(DEMO_DIRS) -o $(FIGURES) >/dev/null
	$(BIN)/python analysis/learning_curves.py $(DEMO_DIRS) -o $(FIGURES) >>/dev/null
	$(BIN)/python analysis/report.py $(DEMO_DIRS) -o $(REPORT) >$@

demo: $(FIGURES)/said
	@echo; cat $(FIGURES)/learning_results.md; echo
	@echo 'The figures (PNG, SVG) and the tables behind them (CSV, Markdown) are in $(FIGURES). All on one page:'
	@cat $<

test: | $(STAMP) data
	@if [ "$$(id -u)" = 0 ]; then .ci/system; fi
	@failed=; set -x; \
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) $(TESTS_OF_ONE) || failed=1; \
	$(BIN)/python -m pytest $(filter-out $(TESTS_OF_ONE),$(TESTS)) || failed=1; \
	[ -z "$$failed" ]

check: lint | $(STAMP)
	$(BIN)/python -m pytest -q $(TWO_AT_A_TIME) tests/single $(addprefix --ignore=tests/single/,analysis launch trials record)

soak: | $(STAMP)
	$(BIN)/python -m tests.soak.run
	$(BIN)/python -m tests.soak.study 10

fuzz: | $(STAMP)
	$(BIN)/python -m tests.fuzz.run

fresh: | $(STAMP)
	$(BIN)/python -m tests.fresh.run $(ARGS)

lint: | $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@command -v shellcheck >/dev/null || { echo 'make lint: no shellcheck: install it (Debian: apt-get install shellcheck)' >&2; exit 2; }
	shellcheck .ci/* slurm/containers/install slurm/examples/*

bench: | $(STAMP)
	$(BIN)/python tests/bench/run.py
	$(BIN)/python tests/bench/trials.py
	$(BIN)/python tests/bench/tuner.py

# A machine with a GPU may have no network to make .venv by: its own Python, with torch, is taken then.
gpu-check:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m tests.gpu $(ARGS)

clean:
	rm -rf .venv runs/demo build dist *.egg-info
	find . -type d -regex '.*/\(__pycache__\|\.\(mypy_cache\|pytest_cache\|ruff_cache\|hypothesis\)\)' -prune -exec rm -rf {} +
