# Sourced by the tools: a virtual environment with the exact versions of the locks.
# usage: . tools/environment.sh LOCK...   sets $python and $venv
# STREAMER_TRAIN=1 adds what trains networks (torch), STREAMER_COMPILE=1 what compiles them for GPUs
# (TensorRT for RTX, which compiles without a GPU). STREAMER_VENV names another folder than .venv.

set -euo pipefail
# An array, not `set --`: bash would leave the caller's own arguments replaced.
locks=("$@")
[ -z "${STREAMER_TRAIN:-}" ] || locks+=(locks/train.txt)
[ -z "${STREAMER_COMPILE:-}" ] || locks+=(locks/compile.txt)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${STREAMER_VENV:-.venv}
python=$venv/bin/python

# Two markers: the packages follow the locks, the program itself this checkout.
packages="$(cat "${locks[@]}" | sha256sum) ${locks[*]}"
program="$(sha256sum <pyproject.toml) $PWD"
pip() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }
if [ "$(cat "$venv/packages" 2>/dev/null)" != "$packages" ]; then
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
  rm -f "$venv/packages" "$venv/program"
  "$base" -m venv "$venv"
  for lock in "${locks[@]}"; do pip --requirement "$lock"; done
  echo "$packages" >"$venv/packages"
fi
if [ "$(cat "$venv/program" 2>/dev/null)" != "$program" ]; then
  pip --no-deps --editable .
  echo "$program" >"$venv/program"
fi
