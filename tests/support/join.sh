#!/usr/bin/env bash
# join.sh OUTPUT TEST...: makes one source of several tests, so that what they include is compiled once. Each keeps its names in a
# namespace of its own; what they include stands before.
set -euo pipefail
output=$1
shift
{
  for test in "$@"; do
    folder=$(CDPATH='' cd -- "$(dirname -- "$test")" && pwd)
    while read -r _ header _; do
      beside=${header//\"/}
      if [[ $header == \"* && -e $folder/$beside ]]; then header=\"$folder/$beside\"; fi
      echo "#include $header"
    done < <(grep '^#include ' "$test")
  done | awk '!seen[$0]++'
  for test in "$@"; do
    name=${test##*/}
    printf 'namespace joined_%s {\n#include "%s"\n}\n' "${name%.cpp}" "$(realpath -- "$test")"
  done
} >"$output"
