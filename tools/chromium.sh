#!/usr/bin/env bash
# Installs what the tests in a browser need, where it is missing and may be installed.
set -euo pipefail

command -v chromium >/dev/null && exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "the tests in a browser need chromium: install it" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium >/dev/null
