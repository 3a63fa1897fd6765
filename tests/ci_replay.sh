#!/usr/bin/env bash
# A real conversation through real clients, the server killed in between: part of .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
file=tests/data/conversation.txt
[[ -f ../shared/data/ubuntu-irc/2016-06-08_07.txt ]] && file=../shared/data/ubuntu-irc/2016-06-08_07.txt
.venv/bin/chinwag replay "$file" --people 40 --devices 2 --kill-every 3
