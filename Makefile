# Each target sets up what it needs; `make help` lists them.
SHELL := /bin/bash -euo pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
BRIDGE := server/chinwag_server/envoy/lib/libchinwag_bridge.so
PAGE := server/chinwag_server/envoy/page/index.html
CODE := server/chinwag_server sdk/python/chinwag $(wildcard tests bench) tools k8s
VENV := .stamps/editable
NODE := .stamps/node
WEB := .stamps/web
LOAD := $(if $(wildcard bench/load/go.mod),bench/out/load)
LAST_RELEASE = $(shell ls proto/releases/*.binpb 2>/dev/null | sort -V | tail -n 1)

.PHONY: help setup run mesh test test-browser lint generate bench soak simulate dist lock clean front

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(VENV) ## make .venv with everything in requirements-dev.txt and both packages

run: $(VENV) front ## start a node, Envoy and the web page, with data in .chinwag/ (RUN_ARGS="...")
	$(BIN)/chinwag run --data .chinwag $(RUN_ARGS)

# What can be built of what stands before a node; `chinwag run` says what is missing.
front:
	@if command -v cargo >/dev/null; then $(MAKE) $(BRIDGE); \
	  else echo "no cargo: the WebSocket bridge is not built, and browsers have no streams" >&2; fi
	@if command -v npm >/dev/null; then $(MAKE) $(PAGE); \
	  else echo "no npm: the web page is not built" >&2; fi

mesh: $(VENV) ## start three nodes, etcd, Redis, PostgreSQL, Cassandra until Ctrl-C (MESH_ARGS="...")
	$(BIN)/python -m tools.mesh $(MESH_ARGS)

test: $(VENV) $(BRIDGE) $(PAGE) $(NODE) $(WEB) ## run the tests (PYTEST_ARGS="-k name": some of them, one after another)
	tools/chromium.sh
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	cargo test --quiet --locked --manifest-path envoy/bridge/Cargo.toml
	npm --prefix sdk/typescript test --silent
	npm --prefix web test --silent
	$(BIN)/python -m pytest -m "alone and not soak"
	$(BIN)/python -m pytest -m "not alone and not soak" -n 2 --dist loadfile
endif

test-browser: $(VENV) $(BRIDGE) $(PAGE) ## run the tests in Chromium alone
	tools/chromium.sh
	$(BIN)/python -m pytest tests/browser

soak: $(VENV) $(LOAD) $(BRIDGE) $(PAGE) ## run the long tests (PYTEST_ARGS="...")
	$(BIN)/python -m pytest -m soak --timeout=0 $(PYTEST_ARGS)

simulate: $(VENV) ## run seeds of the mesh's simulation and print what happens (SEED=n COUNT=n)
	$(BIN)/python -m tests.simulation $(or $(SEED),1) $(or $(COUNT),1)

bench: $(VENV) $(LOAD) $(BRIDGE) $(PAGE) ## measure (NAME="group idle" BENCH_ARGS="...")
	$(BIN)/python -m bench $(NAME) $(BENCH_ARGS)

lint: $(VENV) $(NODE) $(WEB) ## check everything that can be checked without running it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/buf lint
	$(BIN)/buf format proto -d --exit-code
	$(BIN)/buf format proto_etcd -d --exit-code
	$(BIN)/buf format proto_xds -d --exit-code
	tools/breaking.sh $(LAST_RELEASE)
	$(BIN)/python tools/generate.py --check
	$(BIN)/python -m tools.k8s
	tests/wire/interop/generate.sh --check
	npm --prefix sdk/typescript run --silent check
	[[ -d sdk/typescript/dist ]] || npm --prefix sdk/typescript run --silent build
	npm --prefix web run --silent check
	cargo fmt --manifest-path envoy/bridge/Cargo.toml --check
	cargo clippy --quiet --locked --manifest-path envoy/bridge/Cargo.toml --all-targets -- -D warnings

generate: $(VENV) $(NODE) ## format proto/ and write the code generated from it
	$(BIN)/buf format proto -w
	$(BIN)/buf format proto_etcd -w
	$(BIN)/buf format proto_xds -w
	$(BIN)/python tools/generate.py
	tests/wire/interop/generate.sh
	tests/wire/compat/generate.sh

dist: $(VENV) $(BRIDGE) $(PAGE) ## build the wheels, with the bridge and the page in them, into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist ./sdk/python ./server

lock: ## resolve requirements/*.in again into the hash-locked requirements*.txt
	tools/lock.sh $(PYTHON)

clean: ## remove all that can be made again, and the data in .chinwag/
	rm -rf .venv .stamps .chinwag .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out
	rm -rf {sdk/typescript,web}/{node_modules,dist} {server,sdk/python}/{build,dist} dist
	rm -rf envoy/bridge/target server/chinwag_server/envoy/{lib,page}
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

$(WEB): web/package-lock.json $(NODE)
	npm --prefix web ci --silent --no-audit --no-fund
	@mkdir -p $(@D) && touch $@

bench/out/load: $(shell find bench/load -name '*.go' -o -name 'go.*' 2>/dev/null)
	@command -v go >/dev/null || { echo "the load generator needs Go" >&2; exit 1; }
	cd bench/load && go build -o ../out/load .

$(BRIDGE): $(shell find envoy/bridge/src envoy/bridge/Cargo.* -type f 2>/dev/null)
	@command -v cargo >/dev/null || { echo "the WebSocket bridge needs cargo (Rust)" >&2; exit 1; }
	cargo build --quiet --release --locked --manifest-path envoy/bridge/Cargo.toml
	@mkdir -p $(@D)
	cp envoy/bridge/target/release/libchinwag_bridge.so $@

$(PAGE): $(WEB) $(shell find web/src web/public web/index.html web/vite.config.ts sdk/typescript/src sdk/typescript/scripts -type f 2>/dev/null)
	npm --prefix sdk/typescript run --silent build
	npm --prefix web run --silent build
	@rm -rf $(@D) && cp -r web/dist $(@D)
