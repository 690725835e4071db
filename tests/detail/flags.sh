#!/usr/bin/env bash
# flags.sh WORK COMPILER...: what the compiler's flags do to the namespace that klens lives in. WORK is a scratch folder.
set -euo pipefail
work=$1
compile=("${@:2}" -std=c++20 -I "$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../include" && pwd)")
rm -rf -- "$work"
mkdir -p -- "$work"
cd -- "$work"

# Two translation units of one program call the same inline function. Were it one function for the linker, it would keep either's.
cat >unit.cpp <<'CODE'
#include <klens/detail/text.hpp>
using text_of = std::string (*)(double, int);
text_of NAME() { return klens::detail::number_text; }
CODE
cat >main.cpp <<'CODE'
#include <string>
using text_of = std::string (*)(double, int);
text_of first();
text_of second();
int main(int words, char**) { return (first() == second()) == (words == 2) ? 0 : 1; }  // one word: they differ
CODE
"${compile[@]}" -c main.cpp
"${compile[@]}" -D NAME=first -c unit.cpp -o first.o
"${compile[@]}" -D NAME=second -c unit.cpp -o same.o
"${compile[@]}" main.o first.o same.o -o shared
./shared equal || { echo "two units of the same flags do not share a function"; exit 1; }
if [[ $(uname -m) == x86_64 ]]; then
  "${compile[@]}" -march=x86-64 -D NAME=first -c unit.cpp -o first.o
  for flags in -mavx -mavx2 "-mavx2 -mfma" "-mavx2 -mfma -mf16c" "-mavx512f -mfma -mf16c" "-mavx512f -mavx512dq -mavx512bw"; do
    # shellcheck disable=SC2086  # flags are words
    "${compile[@]}" -march=x86-64 $flags -D NAME=second -c unit.cpp -o second.o
    "${compile[@]}" main.o first.o second.o -o apart
    ./apart || { echo "a unit with $flags shares its function with the one before"; exit 1; }
    # shellcheck disable=SC2086
    "${compile[@]}" -march=x86-64 $flags -D NAME=first -c unit.cpp -o first.o
  done
fi

# Flags that take infinities, NaNs or the order of sums away are refused in words, by whatever header comes first.
for flag in -ffast-math -ffinite-math-only; do
  for header in error detail/text metric/metric stats/student_t; do
    echo "#include <klens/$header.hpp>" >one_line.cpp
    if "${compile[@]}" "$flag" -c one_line.cpp 2>errors; then
      echo "$header.hpp compiles with $flag"
      exit 1
    fi
    grep -q "compile without -ffast-math and -ffinite-math-only, or link klens::compiled" errors
  done
done
