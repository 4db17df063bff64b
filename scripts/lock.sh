#!/bin/sh
# Locks the requirements of pyproject.toml with hashes. Needs uv in the environment.
set -eu
cd "$(dirname "$0")/.."
compile() {
    out=$1
    shift
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-annotate --custom-compile-command "make lock" --output-file "requirements/$out" "$@"
}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
echo "setuptools>=77" > "$build/build.in"
compile runtime.txt pyproject.toml "$build/build.in" --extra server
compile dev.txt pyproject.toml "$build/build.in" --extra server --constraints requirements/runtime.txt \
    --group test --group check --group docs
compile fuzz.txt pyproject.toml "$build/build.in" --extra server --constraints requirements/dev.txt \
    --group test --group fuzz
compile bench.txt pyproject.toml "$build/build.in" --extra server --constraints requirements/dev.txt \
    --group bench
