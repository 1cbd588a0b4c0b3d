# Sourced by the tools: a virtual environment with locked versions, made once per lock.
# usage: . tools/environment.sh LOCK...   sets $python and $venv
# With STREAMER_TRAIN=1 what trains networks (torch) is installed too, with STREAMER_COMPILE=1 what
# compiles them for GPUs (TensorRT for RTX, which needs no GPU for that).

set -euo pipefail
# An array, not `set --`: bash would leave the caller's own arguments replaced.
locks=("$@")
[ -z "${STREAMER_TRAIN:-}" ] || locks+=(locks/train.txt)
[ -z "${STREAMER_COMPILE:-}" ] || locks+=(locks/compile.txt)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${STREAMER_VENV:-.venv}
python=$venv/bin/python

wanted=$(cat pyproject.toml "${locks[@]}" | cksum)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted ${locks[*]}" ]; then
  for base in python3 python3.13 python3.12 python3.11; do
    if "$base" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      break
    fi
    base=
  done
  if [ -z "$base" ]; then
    echo "tools: Python 3.11 or newer with venv is needed; install it (Debian: python3-venv)" >&2
    exit 1
  fi
  echo "tools: installing into $venv" >&2
  "$base" -m venv "$venv"
  for lock in "${locks[@]}"; do
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$lock"
  done
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
  echo "$wanted ${locks[*]}" >"$venv/installed"
fi
