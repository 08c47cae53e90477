# One command each, on a machine with Python (3.11 or newer) and make; the rest lands in .venv.
# `make test ARGS="-k mover -x"` passes arguments on; `make PYTHON=/path/to/python3.12 ...` chooses.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # two pips in one environment would not do it good

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# The first that runs, is new enough and can make a virtual environment. The
# oldest supported comes first: it is the one that everybody's figures are for.
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3
USABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	"$$python" -c '$(USABLE)' >/dev/null 2>&1 && { echo "$$python"; break; }; done)

# The recipes say what is going on, pip (twice quiet) what went wrong.
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

# An editable install leaves the native library to `make native`, which has these, and keeps what
# it compiled: a changed source is rebuilt in seconds.
BUILDERS := scikit-build-core cmake ninja
EDITABLE := --no-build-isolation --config-settings=wheel.cmake=false --editable

# Where there is no GPU the CUDA library is compiled on request, `make native CUDA=ON`; here for
# one architecture, which takes a third of the time. Wheels have it for all.
GPU := $(wildcard /dev/nvidiactl)
CUDA ?= $(if $(GPU),AUTO,OFF)
CUDA_ARCHITECTURES ?= $(if $(GPU),native,90)
CONFIGURE := $(BIN)/cmake -S xla_ext -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	-DPython_EXECUTABLE=$(abspath $(BIN)/python) -DAQUA_WERROR=$(if $(CI),ON,OFF)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/run.stamp $(VENV)/native.stamp ## a burst of prompts, scheduler against scheduler; writes out/burst/
	@exec $(BIN)/python -m aqua_jax.run --config=configs/burst.py --workdir=out/burst $(ARGS)

.PHONY: test
test: $(VENV)/test.stamp $(VENV)/native.stamp ## every test that takes seconds
	@exec $(BIN)/python -m pytest $(ARGS)

.PHONY: test-long
test-long: $(VENV)/test.stamp $(VENV)/native.stamp ## the tests marked `long`: minutes
	@exec $(BIN)/python -m pytest -m "long and not device" --timeout=3600 $(ARGS)

.PHONY: parity
parity: $(VENV)/native.stamp ## logits and tokens of tiny models beside those of transformers
	@$(MAKE) --no-print-directory VENV=.venv-parity .venv-parity/parity.stamp
	@exec .venv-parity/bin/python -m tests.parity.compare $(ARGS)

.PHONY: lint
lint: $(VENV)/test.stamp ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/test.stamp ## pyright
	@$(BIN)/pyright

.PHONY: native
native: $(VENV)/run.stamp ## the native library, into aqua_jax/memory/; CUDA=ON: for GPUs too
	@$(build-native)

.PHONY: sanitize
sanitize: $(VENV)/run.stamp ## the native core under ThreadSanitizer and AddressSanitizer
	@for sanitizer in thread address,undefined; do \
		$(CONFIGURE) -B build/$$sanitizer -DAQUA_SANITIZE=$$sanitizer >/dev/null && \
		$(BIN)/cmake --build build/$$sanitizer && \
		echo "under -fsanitize=$$sanitizer" && build/$$sanitizer/aqua_harness $(ARGS) || exit; \
	done

.PHONY: gpu-check
gpu-check: ## on a machine with an NVIDIA GPU: builds, tests and measures with its own python3
	@exec python3 -m tests.gpu_check $(ARGS)

.PHONY: setup
setup: $(VENV)/test.stamp $(VENV)/native.stamp ## the environment and the native library, for development

.PHONY: clean
clean: ## removes environments, caches and results
	rm -rf .venv .venv-* .jax_cache .pytest_cache .ruff_cache .hypothesis build dist out *.egg-info
	rm -f aqua_jax/memory/*.so
	find aqua_jax models configs tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is as new as the last install that succeeded, so an interrupted one is taken up again.
$(VENV)/run.stamp: pyproject.toml | $(BIN)/pip
	@echo "installing aqua_jax into $(VENV): about a minute"
	@$(PIP_INSTALL) $(BUILDERS)
	@$(PIP_INSTALL) $(EDITABLE) .
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(BIN)/pip
	@echo "installing aqua_jax and what its tests need into $(VENV): about a minute"
	@$(PIP_INSTALL) $(BUILDERS)
	@$(PIP_INSTALL) $(EDITABLE) '.[test]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/native.stamp: $(shell find xla_ext -type f) $(VENV)/run.stamp
	@$(build-native)
	@touch $@

# TORCH_INDEX=https://download.pytorch.org/whl/cpu brings torch without CUDA, a tenth of the size.
TORCH_INDEX ?=
$(VENV)/parity.stamp: pyproject.toml | $(BIN)/pip
	@echo "installing aqua_jax, torch and transformers into $(VENV): minutes"
	@$(PIP_INSTALL) $(BUILDERS)
	@$(PIP_INSTALL) $(TORCH_INDEX:%=--extra-index-url=%) $(EDITABLE) '.[test,parity]'
	@touch $@

# Always configured anew, which takes a second: what was not there last time may be there now.
define build-native
$(CONFIGURE) -B build/native -DAQUA_CUDA=$(CUDA) -DAQUA_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES) \
	>/dev/null && $(BIN)/cmake --build build/native
endef

$(BIN)/pip:
	@test -n "$(PYTHON)" || { \
		echo "no usable Python: tried $(CANDIDATES), need 3.11 or newer with venv and ensurepip" \
			"(Debian: apt-get install python3-venv), or name one: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c '$(USABLE)' || { \
		echo "$(PYTHON) does not do: need Python 3.11 or newer with venv and ensurepip" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
