#!/bin/sh
# Makes the Python environment that the baseline runs in: setup.sh [FOLDER], by default
# target/bench/venv of this workspace. Does nothing when it is there already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../target/bench/venv}
if [ -x "$venv/bin/gunicorn" ] && "$venv/bin/python" -c 'import flask'; then
    exit 0
fi
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
