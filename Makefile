# Each target sets up what it needs; `make help` lists them.
SHELL := /bin/bash -euo pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
CODE := server/chinwag_server sdk/python/chinwag $(wildcard tests bench) tools k8s
VENV := .stamps/editable
NODE := .stamps/node
LOAD := $(if $(wildcard bench/load/go.mod),bench/out/load)
LAST_RELEASE = $(shell ls proto/releases/*.binpb 2>/dev/null | sort -V | tail -n 1)

.PHONY: help setup run mesh test lint generate bench soak simulate lock clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(VENV) ## make .venv with everything in requirements-dev.txt and both packages

run: $(VENV) ## start a node with its data in .chinwag/ (RUN_ARGS="...")
	$(BIN)/chinwag serve --data .chinwag $(RUN_ARGS)

mesh: $(VENV) ## start three nodes, etcd, Redis, PostgreSQL, Cassandra until Ctrl-C (MESH_ARGS="...")
	$(BIN)/python -m tools.mesh $(MESH_ARGS)

test: $(VENV) ## run the tests (PYTEST_ARGS="-k name": some of them, one after another)
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	$(BIN)/python -m pytest -m "alone and not soak"
	$(BIN)/python -m pytest -m "not alone and not soak" -n 2 --dist loadfile
endif

soak: $(VENV) $(LOAD) ## run the long tests (PYTEST_ARGS="...")
	$(BIN)/python -m pytest -m soak --timeout=0 $(PYTEST_ARGS)

simulate: $(VENV) ## run seeds of the mesh's simulation and print what happens (SEED=n COUNT=n)
	$(BIN)/python -m tests.simulation $(or $(SEED),1) $(or $(COUNT),1)

bench: $(VENV) $(LOAD) ## measure (NAME="group idle" BENCH_ARGS="...")
	$(BIN)/python -m bench $(NAME) $(BENCH_ARGS)

lint: $(VENV) $(NODE) ## check everything that can be checked without running it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/buf lint
	$(BIN)/buf format proto -d --exit-code
	$(BIN)/buf format proto_etcd -d --exit-code
	tools/breaking.sh $(LAST_RELEASE)
	$(BIN)/python tools/generate.py --check
	$(BIN)/python -m tools.k8s
	tests/wire/interop/generate.sh --check
	npm --prefix sdk/typescript run --silent check

generate: $(VENV) $(NODE) ## format proto/ and write the code generated from it
	$(BIN)/buf format proto -w
	$(BIN)/buf format proto_etcd -w
	$(BIN)/python tools/generate.py
	tests/wire/interop/generate.sh
	tests/wire/compat/generate.sh

lock: ## resolve requirements/*.in again into the hash-locked requirements*.txt
	tools/lock.sh $(PYTHON)

clean: ## remove all that can be made again, and the data in .chinwag/
	rm -rf .venv .stamps .chinwag .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out
	rm -rf sdk/typescript/{node_modules,dist} {server,sdk/python}/{build,dist}
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.stamps/venv: requirements-dev.txt
	@[[ -n "$(PYTHON)" ]] || { echo "chinwag needs Python 3.11 or newer; none of python3.13," \
	  "python3.12, python3.11, python3 is. Install one, or run: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	@mkdir -p $(@D) && touch $@

$(VENV): .stamps/venv server/pyproject.toml sdk/python/pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e sdk/python -e server
	@touch $@

$(NODE): sdk/typescript/package-lock.json
	@command -v npm >/dev/null || { echo "this needs Node 20 or newer with npm" >&2; exit 1; }
	npm --prefix sdk/typescript ci --silent --no-audit --no-fund
	@mkdir -p $(@D) && touch $@

bench/out/load: $(shell find bench/load -name '*.go' -o -name 'go.*' 2>/dev/null)
	@command -v go >/dev/null || { echo "the load generator needs Go" >&2; exit 1; }
	cd bench/load && go build -o ../out/load .
