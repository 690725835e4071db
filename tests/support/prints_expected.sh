#!/usr/bin/env bash
# prints_expected.sh PROGRAM FILE: PROGRAM succeeds and prints exactly what FILE holds.
set -euo pipefail
"$1" | diff "$2" -
