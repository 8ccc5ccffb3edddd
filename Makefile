# Everything needs Linux on x86-64 and Python 3.11; nothing needs an NPU.
#   make serve   set-up, then the server; Ctrl-C stops all that it started
#   make setup   the set-up alone
#   make test    set-up, then the tests
#   make test-all  the tests, and those that take many engine starts
#   make test-cann  set-up, torch_npu, the simulated CANN, then the tests on it (docs/simulator.md)
#   make test-npu  the same, and vllm-ascend on top
#   make faults  set-up, then every scripted fault on a real engine: over an hour; the table is .cache/faults.md
#   make lint    set-up, then ruff and mypy
#   make lock    pins the requirements anew

PYTHON ?= python3.11
# Pip takes the CPU build where it is offered one, else the larger build for GPUs, which works too (README, "Installation").
TORCH ?= torch==2.13.0
# What `make serve` serves; ARGS are overrides, for example ARGS="graph.mode=FULL".
CONFIG ?= configs/demo.yaml
ARGS ?=
PYTEST_ARGS ?=

# torch_npu for the torch above; it runs on the simulated CANN of tests/cann_sim, in an environment of its own.
TORCH_NPU := 2.13.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development
CANN := .cache/cann
CANN_PYTHON := $(CANN)/venv/bin/python
LEFT_OUT := torch torchvision torchaudio torchcodec triton
COMPILE = .cache/lock/bin/uv pip compile --quiet --python-version 3.11 --no-header --no-annotate

.PHONY: setup serve test test-all test-cann test-npu faults lint lock
.DEFAULT_GOAL := serve
.DELETE_ON_ERROR:

setup: $(RUNTIME)

serve: setup
	@exec $(BIN)/ascend-serve serve $(CONFIG) $(ARGS)

test: $(DEVELOPMENT)
	@$(BIN)/pytest $(PYTEST_ARGS)

test-all: $(DEVELOPMENT)
	@$(BIN)/pytest -m "slow or not slow" $(PYTEST_ARGS)

# Forked ranks share the machine, so each computes in one thread; a call that is not simulated must reach the terminal.
CANN_PYTEST = library=$$(TORCH_DEVICE_BACKEND_AUTOLOAD=0 $(CANN_PYTHON) tests/cann_sim/build.py $(CANN)/build) || exit 1; \
	LD_LIBRARY_PATH=$$library OMP_NUM_THREADS=1 $(CANN_PYTHON) -m pytest --capture=sys $(PYTEST_ARGS)

test-cann: $(CANN)/.torch-npu-$(TORCH_NPU)
	@$(CANN_PYTEST) tests/npu tests/conformance --ignore-glob="*/test_vllm_ascend*"

test-npu: test-cann $(CANN)/.vllm-ascend
	@$(CANN_PYTEST) tests/npu/test_vllm_ascend.py tests/npu/test_vllm_ascend_serve.py

faults: $(DEVELOPMENT)
	@$(BIN)/python -m tests.integration.fault_matrix .cache/faults.md

lint: $(DEVELOPMENT)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; install it, or give another 3.11 as PYTHON=..."; exit 1; }
	@echo "install: Python environment in .venv"
	@$(PYTHON) -m venv .venv

$(RUNTIME): requirements/cpu.lock pyproject.toml | $(BIN)/python
	@echo "install: $(TORCH)"
	@$(PIP) "$(TORCH)" || { echo "error: pip offers no $(TORCH); see README.md, section Installation"; exit 1; }
	@echo "install: $$(wc -l < requirements/cpu.lock) packages of requirements/cpu.lock"
	@$(PIP) --no-deps -r requirements/cpu.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOPMENT): requirements/dev.lock $(RUNTIME)
	@echo "install: test and lint tools of requirements/dev.lock"
	@$(PIP) --no-deps -r requirements/dev.lock
	@touch $@

# Sees all packages of .venv, which knows nothing of torch_npu: whatever imports torch would load it.
$(CANN)/.torch-npu-$(TORCH_NPU): | $(DEVELOPMENT)
	@echo "install: torch-npu $(TORCH_NPU)"
	@rm -rf $(CANN)/venv
	@$(PYTHON) -m venv --without-pip $(CANN)/venv
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$($(CANN_PYTHON) -c "import sysconfig; print(sysconfig.get_path('purelib'))")/shared.pth
	@$(BIN)/python -m pip --python $(CANN_PYTHON) install -qq --disable-pip-version-check --no-deps "torch-npu==$(TORCH_NPU)"
	@touch $@

$(CANN)/.vllm-ascend: tests/npu/vendor.py tests/contract/vendors.py | $(CANN)/.torch-npu-$(TORCH_NPU)
	@echo "install: Python sources of vllm-ascend and its vLLM"
	@rm -rf $(CANN)/vllm-ascend
	@mkdir $(CANN)/vllm-ascend
	@$(BIN)/python -m tests.npu.vendor $(CANN)/vllm-ascend
	@touch $@

# uv must find the CPU build of torch too: UV_TORCH_BACKEND=cpu, or UV_FIND_LINKS=<folder with the wheel>.
lock:
	@$(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install -qq --disable-pip-version-check uv
	$(COMPILE) $(LEFT_OUT:%=--no-emit-package %) requirements/cpu.in --output-file requirements/cpu.lock
	$(COMPILE) --constraints requirements/cpu.lock requirements/dev.in --output-file requirements/dev.lock
