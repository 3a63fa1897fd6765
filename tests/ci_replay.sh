#!/usr/bin/env bash
# A conversation through real clients, the server killed in between: part of .ci/run. A real one
# where the shared data lies beside the checkout, else the one that was made up for it.
set -euo pipefail
cd "$(dirname "$0")/.."
file=../shared/data/ubuntu-irc/2007-01-11_12.txt
speed=1200
if [[ ! -f $file ]]; then
  file=tests/data/conversation.txt
  speed=300
fi
.venv/bin/chinwag replay "$file" --people 20 --devices 2 --speed "$speed" --kill-every 3
