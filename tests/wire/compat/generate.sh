#!/usr/bin/env bash
# Writes the code generated from proto/ into gen/ (Python) and go/gen (Go); both are committed.
# Needs `make setup`, and Go. Java, Rust and TypeScript generate theirs when they are built.
set -euo pipefail
cd "$(dirname "$0")/../../.."

here=tests/wire/compat
bin="$PWD/.stamps/wire-compat/bin"
mkdir -p "$bin" $here/gen $here/go/gen
GOBIN="$bin" go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN="$bin" go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

# Python: the file is named by where its code lies, so that the imports in it are right.
find $here/gen -name 'compat*' -delete
PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m grpc_tools.protoc \
  -I $here/gen=$here/proto/compat/v1 --python_out=. --mypy_out=quiet:. --grpc_python_out=. \
  --mypy_grpc_out=quiet:. --grpclib_python_out=. $here/gen/compat.proto
sed -i '1i # ruff: noqa\n# fmt: off' $here/gen/compat_grpc.py # the name is not one of those that ruff passes by

find $here/go/gen -name '*.go' -delete
PATH="$bin:$PATH" .venv/bin/python -m grpc_tools.protoc -I $here/proto \
  --go_out=$here/go/gen --go-grpc_out=$here/go/gen \
  --go_opt=module=chinwag/tests/wire/compat/gen --go-grpc_opt=module=chinwag/tests/wire/compat/gen \
  $here/proto/compat/v1/compat.proto
