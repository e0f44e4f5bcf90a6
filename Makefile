# Two commands for a fresh machine: `make serve` and `make test`. The others are for working on it.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: serve test torch check format bench bench-peers bench-mlperf soak examples docs lock clean

serve: .venv/base.stamp
	$(BIN)/forwardpass serve examples/models $(ARGS)

test: .venv/dev.stamp
	$(BIN)/python -m pytest $(ARGS)

# PyTorch and what prunes its models; tests that need them skip without. It is not in the lock: which build is right
# depends on the machine (ARGS goes to pip: an index with the build for the CPU, say, which is a tenth of the size).
torch: .venv/torch.stamp

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev.stamp
	$(BIN)/python -m bench $(ARGS)

bench-peers: .venv/dev.stamp
	$(BIN)/python -m bench.peers $(ARGS)

bench-mlperf: .venv/dev.stamp
	$(BIN)/python -m bench.mlperf $(ARGS)

soak: .venv/dev.stamp
	$(BIN)/python -m bench.faults all $(ARGS)

examples: .venv/dev.stamp
	for program in examples/training/[a-z]*.py; do $(BIN)/python $$program || exit 1; done

docs: .venv/dev.stamp
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python -m forwardpass.server.grpc.generated.generate

# Needs uv. Writes what both commands install, with hashes.
lock:
	uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" -o requirements-dev.lock
	uv pip compile -q pyproject.toml --group build --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" -c requirements-dev.lock -o requirements.lock

.venv/base.stamp: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

.venv/dev.stamp: .venv/base.stamp requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

.venv/torch.stamp: .venv/dev.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 torch-pruning==1.6.1 $(ARGS)
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
