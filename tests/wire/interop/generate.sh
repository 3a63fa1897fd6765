#!/usr/bin/env bash
# Writes the Python code generated from proto/ into gen/; it is committed. Needs `make setup`.
#
# The files get the names that they have as modules of this repository: as grpc/testing/*.proto
# their modules would be looked for inside the installed package `grpc`.
#
# usage: generate.sh [--check]  (with it: writes nothing, fails if gen/ is not up to date)
set -euo pipefail
cd "$(dirname "$0")/../../.."

here=tests/wire/interop
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

.venv/bin/python -m grpc_tools.protoc \
  -I "$here/gen=$here/proto/grpc/testing" \
  -I "$here/gen=$here/proto/xds/service/orca/v3" \
  -I "$(.venv/bin/python -c 'import grpc_tools; print(grpc_tools.__path__[0])')/_proto" \
  --plugin=protoc-gen-mypy=.venv/bin/protoc-gen-mypy \
  --plugin=protoc-gen-mypy_grpc=.venv/bin/protoc-gen-mypy_grpc \
  --python_out="$fresh" --grpc_python_out="$fresh" \
  --mypy_out=quiet:"$fresh" --mypy_grpc_out=quiet:"$fresh" \
  "$here/gen/testing.proto" "$here/gen/orca.proto"

if [[ ${1:-} == --check ]]; then
  diff -r --exclude=__pycache__ "$here/gen" "$fresh/$here/gen" ||
    { echo "$here/gen is not up to date: run $here/generate.sh" >&2; exit 1; }
else
  rm -rf "$here/gen"
  cp -r "$fresh/$here/gen" "$here/gen"
fi
