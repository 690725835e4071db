#!/usr/bin/env bash
# Builds the program klens, installing what is missing from Debian's packages first, and runs it with the arguments given here.
# Without arguments it ranks the layers of the embedded model. Only the program writes to stdout.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/release
program=$build/bin/klens
source "$root/scripts/setup.sh"

install_missing "${build_packages[@]}"
if [[ ! $build/build.ninja -nt $root/CMakePresets.json ]]; then
  cmake -S "$root" --preset release -D CMAKE_UNITY_BUILD=ON >&2  # half the time of a first build
fi
if [[ -e $program ]]; then
  cmake --build "$build" --target klens_program -- --quiet | sed '/^ninja: no work to do/d' >&2
else
  say "building; this takes a minute or two, once"
  cmake --build "$build" --target klens_program >&2
fi

if (($# == 0)); then
  data=$root/examples/data
  set -- rank "$data/wikitext-hybrid-4m" --tokens "$data/wikitext2-calibration.safetensors"
fi
exec "$program" "$@"
