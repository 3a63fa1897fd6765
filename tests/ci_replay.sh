#!/usr/bin/env bash
# A real conversation through real clients, the server killed in between: part of .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
file=tests/data/conversation.txt
[[ -f ../shared/data/ubuntu-irc/2007-01-11_12.txt ]] && file=../shared/data/ubuntu-irc/2007-01-11_12.txt
.venv/bin/chinwag replay "$file" --people 20 --devices 2 --speed 1200 --kill-every 3
