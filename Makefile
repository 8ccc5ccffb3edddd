# Everything needs Linux on x86-64 and Python 3.11, 3.12 or 3.13; nothing needs an NPU, but for setup-npu.
#   make serve   set-up, then the server; Ctrl-C stops all that it started
#   make setup   the set-up alone
#   make setup-npu  the set-up of an NPU node, into .venv: vLLM, vllm-ascend and the rest; ARGS="0.30.0rc2" for that release
#   make test    set-up, then the tests
#   make test-all  the tests, and those that take many engine starts
#   make environments  starts in odd environments, and ends at every moment: an hour
#   make test-cann  set-up, torch_npu, the simulated CANN, then the tests on it (docs/simulator.md)
#   make test-npu  the same, and vllm-ascend on top
#   make test-planner  the tests that need neither vLLM nor torch, where neither is installed, with any Python
#   make faults  set-up, then every scripted fault on a real engine, and pairs of them: hours; tables in .cache/fault*.md
#   make features  set-up, then every feature in every graph mode on real engines: an hour; writes docs/features.md
#   make bench   set-up, then this and other ways to serve the same model, compared: results in .cache/bench
#   make bench-peers  set-up, and the environment of what `make bench` compares with: Ray Serve LLM
#   make lint    set-up, then ruff and mypy
#   make docs    the documentation site, into .cache/site; every link has to lead somewhere
#   make lock    pins the requirements anew

# The first of these that is a Python of a supported version.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null && echo $$python && break; done)
# Pip takes the CPU build where it is offered one, else the larger build for GPUs, which works too (README, "Installation").
TORCH ?= torch==2.13.0
# What `make serve` serves; ARGS are overrides, for example ARGS="graph.mode=FULL".
CONFIG ?= configs/demo.yaml
ARGS ?=
PYTEST_ARGS ?=
# Options of `make bench`, for example BENCH_ARGS="--rounds 1 --systems ours-tp1,stock-eager-tp1 --clients 8".
BENCH_ARGS ?=

# torch_npu for the torch above; it runs on the simulated CANN of tests/cann_sim, in an environment of its own.
TORCH_NPU := 2.13.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development
CANN := .cache/cann
CANN_PYTHON := $(CANN)/venv/bin/python
COMPILE = .cache/lock/bin/uv pip compile --quiet --no-header --no-annotate --python-version

.PHONY: setup setup-npu serve test test-all environments test-cann test-npu test-planner faults features bench bench-peers lint docs lock
.DEFAULT_GOAL := serve
.DELETE_ON_ERROR:

setup: $(RUNTIME)

# Ours first, at the versions that the set-up then brings, since it is what runs it.
setup-npu: $(BIN)/python
	@echo "install: ascend-serve"
	@$(PIP) --constraint requirements/npu-0.23.0.lock --editable .
	@exec $(BIN)/ascend-serve install $(ARGS)

serve: setup
	@exec $(BIN)/ascend-serve serve $(CONFIG) $(ARGS)

test: $(DEVELOPMENT)
	@$(BIN)/pytest $(PYTEST_ARGS)

test-all: $(DEVELOPMENT)
	@$(BIN)/pytest -m "slow or not slow" $(PYTEST_ARGS)

environments: $(DEVELOPMENT)
	@$(BIN)/pytest -m "slow or not slow" --verbose tests/e2e/test_environments.py $(PYTEST_ARGS)

# Forked ranks share the machine, so each computes in one thread; a call that is not simulated must reach the terminal.
CANN_PYTEST = library=$$(TORCH_DEVICE_BACKEND_AUTOLOAD=0 $(CANN_PYTHON) tests/cann_sim/build.py $(CANN)/build) || exit 1; \
	LD_LIBRARY_PATH=$$library OMP_NUM_THREADS=1 $(CANN_PYTHON) -m pytest --capture=sys $(PYTEST_ARGS)

test-cann: $(CANN)/.torch-npu-$(TORCH_NPU)
	@$(CANN_PYTEST) tests/npu tests/conformance --ignore-glob="*/test_vllm_ascend*"

test-npu: test-cann $(CANN)/.vllm-ascend
	@$(CANN_PYTEST) tests/npu/test_vllm_ascend*.py

# What `pip install ascend-serve` brings, at the versions of the lock, and the test tools. Tests of the other packages count
# on what comes with vLLM.
PLANNER_TESTS := capture cli graph launch planning telemetry
test-planner:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; give one as PYTHON=..."; exit 1; }
	@rm -rf build .cache/planner
	@$(PYTHON) -m venv .cache/planner
	@echo "install: ascend-serve without extras for $$(.cache/planner/bin/python --version)"
	@.cache/planner/bin/python -m pip install -qq --disable-pip-version-check --no-compile \
		--constraint requirements/cpu.lock --constraint requirements/dev.lock . hypothesis jsonschema pytest pytest-asyncio pytest-timeout
	@rm -rf build
	@.cache/planner/bin/python -m pytest $(PLANNER_TESTS:%=tests/unit/%) $(PYTEST_ARGS)

faults: $(DEVELOPMENT)
	@$(BIN)/python -m tests.integration.fault_matrix .cache/faults.md
	@$(BIN)/python -m tests.integration.fault_pairs .cache/fault-pairs.md

features: $(DEVELOPMENT)
	@$(BIN)/python -m tests.integration.features docs/features.md

bench: $(DEVELOPMENT)
	@$(BIN)/python -m benchmarks.serving $(BENCH_ARGS)

# Ray Serve LLM is in Ray's wheel. Its extra pins another vLLM; here it runs on the one of .venv, and what it imports
# beside that is added.
RAY_LLM := .cache/bench/ray-llm
bench-peers: $(RAY_LLM)/.installed

$(RAY_LLM)/.installed: | $(DEVELOPMENT)
	@echo "install: what Ray Serve LLM imports"
	@rm -rf $(RAY_LLM)
	@$(BIN)/python -m venv --without-pip $(RAY_LLM)
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$($(RAY_LLM)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/shared.pth
	@$(BIN)/python -m pip --python $(RAY_LLM)/bin/python install -qq --disable-pip-version-check --no-deps jsonref==1.1.0 pyarrow==26.0.1
	@$(RAY_LLM)/bin/python -c "import ray.serve.llm" 2>/dev/null || { echo "error: ray.serve.llm cannot be imported"; exit 1; }
	@touch $@

lint: $(DEVELOPMENT)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

docs: .cache/docs/.installed
	@NO_MKDOCS_2_WARNING=1 .cache/docs/bin/mkdocs build --strict > .cache/docs/log 2>&1 || { cat .cache/docs/log; exit 1; }
	@echo "docs: .cache/site/index.html"

.cache/docs/.installed: requirements/docs.lock
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; give one as PYTHON=..."; exit 1; }
	@echo "install: what builds the documentation site"
	@$(PYTHON) -m venv .cache/docs
	@.cache/docs/bin/python -m pip install -qq --disable-pip-version-check --no-compile --no-deps -r requirements/docs.lock
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null || \
		{ echo "error: '$(PYTHON)' is not Python 3.11, 3.12 or 3.13; install one, or give it as PYTHON=..."; exit 1; }
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

$(CANN)/.vllm-ascend: tests/npu/vendor.py tests/npu/vllm_ascend.py | $(CANN)/.torch-npu-$(TORCH_NPU)
	@echo "install: Python sources of releases of vllm-ascend, each with its vLLM"
	@rm -rf $(CANN)/vllm-ascend
	@$(BIN)/python -m tests.npu.vendor
	@touch $@

# One lock for all Pythons: the newer ones must come to the same.
lock:
	@$(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install -qq --disable-pip-version-check uv
	$(COMPILE) 3.11 --overrides requirements/left-out.txt requirements/cpu.in --output-file requirements/cpu.lock
	$(COMPILE) 3.11 --constraints requirements/cpu.lock requirements/dev.in --output-file requirements/dev.lock
	$(COMPILE) 3.11 --constraints requirements/cpu.lock requirements/docs.in --output-file requirements/docs.lock
	$(COMPILE) 3.11 --generate-hashes --constraints requirements/npu-0.23.0.lock requirements/image.in pyproject.toml \
		--output-file requirements/image.lock
	@for version in 3.12 3.13; do \
		cp requirements/*.lock .cache/lock || exit 1; \
		$(COMPILE) $$version --overrides requirements/left-out.txt requirements/cpu.in --output-file .cache/lock/cpu.lock || exit 1; \
		for name in dev docs; do $(COMPILE) $$version --constraints requirements/cpu.lock requirements/$$name.in \
			--output-file .cache/lock/$$name.lock || exit 1; done; \
		for name in cpu dev docs; do cmp requirements/$$name.lock .cache/lock/$$name.lock || \
			{ echo "error: Python $$version needs other packages than 3.11; split the lock"; exit 1; }; done; done
