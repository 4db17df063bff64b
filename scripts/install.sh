#!/bin/sh
# Usage: install.sh VENV runtime|dev|bench
# Makes the virtual environment where it is missing and installs the locked requirements of one level into it.
set -eu
venv=$1
level=$2
python=${PYTHON:-python3}

say() { printf 'install: %s\n' "$1" >&2; }

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "natwalk needs Python 3.11 or later, and '$python' is not that."
    say "Install one and say which: make PYTHON=python3.11 install"
    exit 1
fi

if [ ! -x "$venv/bin/python" ]; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian splits these out of python3.
        package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            say "installing the system package $package"
            apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
        else
            say "this Python cannot make virtual environments."
            say "Install the package that can, as root: apt-get install $package"
            exit 1
        fi
    fi
    say "making $venv"
    "$python" -m venv "$venv"
fi

say "installing the $level requirements (first time: a minute)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement "requirements/$level.txt"
# setuptools is in the lock, so the build needs nothing that is not hashed.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$venv/.$level"
