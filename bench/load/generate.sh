#!/usr/bin/env bash
# Writes the Go code generated from proto/ into bench/load/gen; it is committed.
# Needs Go and `make setup` (buf). The plugins are installed into bench/out/bin.
set -euo pipefail
cd "$(dirname "$0")/../.."

export GOBIN="$PWD/bench/out/bin"
mkdir -p "$GOBIN"
go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

rm -rf bench/load/gen
PATH="$GOBIN:$PATH" .venv/bin/buf generate --template bench/load/buf.gen.yaml -o .
