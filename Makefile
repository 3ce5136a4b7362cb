# Every command of the project. `make` alone explains them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PURELIB = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
LISTEN ?= 127.0.0.1:50051
DATA ?= data
T ?= tests
MINUTES ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup protos serve demo test test-slow bench bench-soak check lint types contract protos-check format lock clean

help:  ## explain the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

serve: setup  ## set up, then serve on $(LISTEN), keeping everything in $(DATA)
	$(BIN)/ims serve --listen $(LISTEN) --data $(DATA)

test: setup  ## set up, then run the tests; T=path for some of them
	$(BIN)/pytest -n auto -m "not slow" $(T)

test-slow: setup  ## run the tests that take long
	$(BIN)/pytest -n auto -m slow $(T)

demo: setup  ## set up, then play the main job against a server that it starts itself
	$(BIN)/python tests/demo/main_job.py

bench: setup $(VENV)/bench-installed  ## measure speed and memory; QUICK=1 in under three minutes, ONLY=lists a part
	PYTHONPATH=tests $(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

bench-soak: setup $(VENV)/bench-installed  ## watch the memory of workers under load for MINUTES=60
	PYTHONPATH=tests $(BIN)/python -m bench --soak-minutes $(MINUTES)

$(VENV)/bench-installed: $(VENV)/installed requirements/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

check: setup lint types contract protos-check  ## format, lint, types, import contract, protos

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

contract: setup
	$(BIN)/lint-imports

protos-check: setup
	mkdir -p build
	mkdir -p build/borrowed/google/longrunning
	cp "$(PURELIB)/google/longrunning/operations_proto.proto" build/borrowed/google/longrunning/operations.proto
	$(BIN)/python -m grpc_tools.protoc -I protos -I build/borrowed -I "$(PURELIB)" \
	  --include_imports --include_source_info -o build/api.binpb protos/ims/v1/*.proto
	$(BIN)/buf lint build/api.binpb --path ims --config protos/buf.yaml
	$(BIN)/buf format --diff --exit-code protos

format: setup  ## format the code and the protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

setup: $(VENV)/installed  ## make the environment, with everything pinned

$(VENV)/installed: requirements/dev.txt pyproject.toml hatch_build.py $(wildcard protos/ims/v1/*.proto)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed; say which: make PYTHON=python3.12' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

protos: setup  ## generate src/ims/v1 anew
	$(BIN)/python hatch_build.py

lock: setup  ## choose versions anew: requirements/
	for group in dev bench; do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header \
	    --group $$group pyproject.toml --output-file requirements/$$group.txt; \
	done

clean:  ## remove everything that was made, but the data
	rm -rf $(VENV) build dist src/ims/v1 .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
