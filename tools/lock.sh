#!/usr/bin/env bash
# Resolves requirements/*.in into the hash-locked files at the top, for every platform and Python.
# The lock names neither an index nor a path. Pinned versions move only by editing requirements/.
#
# usage: tools/lock.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
"$1" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet uv

for pair in base:requirements.txt dev:requirements-dev.txt; do
  "$venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --annotation-style line \
    "requirements/${pair%%:*}.in" -o "${pair##*:}"
done
