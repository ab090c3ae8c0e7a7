# `make smoke` and `make test` need only Python 3.11+, make and a C library; each sets up `.venv` itself.
PYTHON ?= python3
RUN ?= runs/smoke
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity

.PHONY: help setup smoke test browser test-slow test-faults test-gpu test-parity test-adapters test-harnesses lint lock guest native bench bench-peers soak clean

help:
	@echo "make smoke       the whole pipeline on a CPU; RUN=runs/smoke names the output folder"
	@echo "make test        linters, type checker, import contract, tests"
	@echo "make test-slow   the tests that take minutes; property tests on a thousand new examples"
	@echo "make test-faults a run killed at twenty random points, damaged checkpoints, another mesh; part of test-slow"
	@echo "make test-gpu    the tests that need an accelerator"
	@echo "make test-parity beside transformers, on the pretrained model of 98 MB; sets up .venv-parity"
	@echo "make test-adapters the environments in packages that the lock cannot hold; each in build/adapters/NAME"
	@echo "make test-harnesses BFCL's and tau2's own commands against \`codegym serve\`; environments in build/harnesses"
	@echo "make lock        pin the newest allowed versions into requirements.lock"
	@echo "make bench       the sandbox beside its peers, as JSON lines; needs the extra \`bench\`"
	@echo "make bench-peers the environments of PyTorch, Tunix and TRL, for the benchmarks of the policy's engines"
	@echo "make soak        half an hour of random episodes, traps and killed workers; MINUTES=30"
	@echo "make guest       rebuild the Wasm guest artefacts (see BUILD.md)"
	@echo "make native      rebuild the guest that is written in C"

setup: $(VENV)/.installed

# The lock is complete, so nothing is resolved: --no-deps also keeps out dependencies that need a compiler.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

smoke: setup
	$(BIN)/codegym run configs/smoke_cpu.py --run $(RUN)

test: lint browser
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu and not parity"

# Chromium for the tests of pages, where PATH has none.
browser: setup
	$(BIN)/python -m tests.browser

test-slow: setup browser
	$(BIN)/python -m pytest -m "slow and not parity"
	$(BIN)/python -m pytest -n 2 -m "hypothesis and not slow and not gpu and not parity" --hypothesis-profile=explore

test-faults: setup
	$(BIN)/python -m pytest tests/pipelines/test_fault_injection.py

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

# An environment of its own: PyTorch and transformers are no part of the lock.
$(PARITY)/.installed: requirements.lock tests/parity/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --no-deps -r requirements.lock
	$(PARITY)/bin/python -m pip install --quiet --no-deps -r tests/parity/requirements.txt
	$(PARITY)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test-parity: $(PARITY)/.installed
	$(PARITY)/bin/python -m pytest -m parity -s tests/parity

# An environment of its own for each package that asks for other versions than the lock's.
build/adapters/%/.installed: tests/adapters/requirements-%.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv build/adapters/$*
	build/adapters/$*/bin/python -m pip install --quiet --no-deps -r requirements.lock
	build/adapters/$*/bin/python -m pip install --quiet --no-deps -r $<
	build/adapters/$*/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test-adapters: build/adapters/openenv/.installed build/adapters/verifiers/.installed
	build/adapters/openenv/bin/python -m pytest tests/adapters/test_openenv.py
	build/adapters/verifiers/bin/python -m pytest tests/adapters/test_verifiers.py

# The commands of others that ask a served policy; each as its package brings it.
build/harnesses/%/.installed: tests/adapters/harnesses/requirements-%.txt
	$(PYTHON) -m venv build/harnesses/$*
	build/harnesses/$*/bin/python -m pip install --quiet --no-deps -r $<
	touch $@

test-harnesses: setup build/harnesses/bfcl/.installed build/harnesses/tau2/.installed
	$(BIN)/python -m pytest tests/adapters/harnesses

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

lock:
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip compile pyproject.toml --universal --extra dev --extra problems --extra synth --extra hub --extra gguf --extra tensorboard --extra gcs --extra view --extra serve --extra mcp --no-annotate --no-header -o requirements.lock

guest: setup
	$(BIN)/python -m envs_wasm.python_guest.build

native: setup
	$(BIN)/python -m envs_wasm.native.build

bench: setup
	$(BIN)/python -m benchmarks.env_runtime

# What the policy's engines are measured beside; each has an environment of its own.
bench-peers: build/peers/torch/.installed build/peers/tunix/.installed build/peers/trl/.installed

build/peers/%/.installed: benchmarks/peers/requirements-%.txt
	$(PYTHON) -m venv build/peers/$*
	build/peers/$*/bin/python -m pip install --quiet -r $<
	touch $@

soak: setup
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

clean:
	rm -rf $(VENV) $(PARITY) build *.egg-info .pytest_cache .ruff_cache
