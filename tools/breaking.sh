#!/usr/bin/env bash
# Compares the public contract with the image of the last release, if there is one.
# The images are made with: .venv/bin/buf build proto --exclude-source-info -o proto/releases/VERSION.binpb
#
# usage: tools/breaking.sh [IMAGE]
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ $# -eq 0 ]]; then
  echo "buf breaking: SKIPPED, there is no proto/releases/*.binpb to compare with yet" >&2
  exit 0
fi
.venv/bin/buf breaking proto --exclude-imports --against "$1"
