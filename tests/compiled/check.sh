#!/usr/bin/env bash
# check.sh LIBRARY PROGRAMS SET...: klens::compiled, the folder of the programs that use it, the instruction sets it has.
set -euo pipefail
library=$1 programs=$2
sets=("${@:3}")
fail() { printf '%s\n' "$*"; exit 1; }

# What another translation unit could share with the library's own, which may be code for another processor: nothing but klens' own.
# (scan.cpp is compiled for any processor.)
shared=$(nm --extern-only --defined-only "$library" | awk '/:$/ { shares = /scan/ } NF == 3 && !shares { print $3 }' |
  grep -v -e '^_ZN5klens8compiled' -e '5klens[0-9]*on_' -e '^DW\.ref\.__gxx_personality_v0$' -e '^__clang_call_terminate$' || true)
[[ -z $shared ]] || fail "klens::compiled leaves functions that others could share:"$'\n'"$(c++filt <<<"$shared")"

# The same bits as the headers give, for every set that this machine has; and the widest of them by itself.
known() { [[ $1 == sse2 || $1 == baseline ]] || grep -qw -- "${1/avx512/avx512dq}" /proc/cpuinfo; }
for set in "${sets[@]}"; do
  known "$set" || continue
  "$programs/compiled_headers_$set" >"$programs/headers_$set.txt"
  KLENS_INSTRUCTION_SET=$set "$programs/compiled_program" >"$programs/compiled_$set.txt"
  cmp "$programs/headers_$set.txt" "$programs/compiled_$set.txt" || fail "klens::compiled and the headers differ for $set"
  [[ $(wc -l <"$programs/headers_$set.txt") == 69 ]] || fail "the program prints $(wc -l <"$programs/headers_$set.txt") lines"
  "$programs/compiled_program" >"$programs/chosen.txt"
  widest=$set
done
cmp "$programs/chosen.txt" "$programs/compiled_$widest.txt" || fail "not $widest, the widest, was chosen"
if [[ $widest != "${sets[0]}" ]]; then
  cmp -s "$programs/chosen.txt" "$programs/compiled_${sets[0]}.txt" && fail "$widest and ${sets[0]} give the same: which of them runs?"
fi

# A unit for any processor takes the scan out of the library, and finds the same bits.
if [[ ${sets[0]} == sse2 ]]; then
  for form in scan scan_headers; do KLENS_INSTRUCTION_SET=sse2 "$programs/compiled_$form" >"$programs/$form.txt"; done
  cmp "$programs/scan.txt" "$programs/scan_headers.txt" || fail "the scan of klens::compiled and that of the headers differ"
  grep -q " 0 32:" "$programs/scan.txt" || fail "the scan measured nothing: $(cat "$programs/scan.txt")"
  nm --demangle "$programs/compiled_scan" | grep ' [Tt] .*::detail::run_scan(' >/dev/null || fail "the scan is not that of the library"
fi

# With -ffast-math what is not finite is still refused.
expected='1.099
reference logit 1 of 3 is NaN; logits must be finite, or -inf where masked
reference logit 2 of 3 is +inf; logits must be finite, or -inf where masked
0.693
every reference logit is -inf; leave at least one token unmasked'
said=$("$programs/compiled_fast_math" nan inf)
[[ $(head -n 5 <<<"$said") == "$expected" ]] || fail "-ffast-math: $said"
[[ $(sed -n 6p <<<"$said") == scored ]] || fail "-ffast-math, finite logits: $said"
[[ $(sed -n 7p <<<"$said") == *"logit 2 of 4 is NaN"* ]] || fail "-ffast-math, a NaN logit: $said"
[[ $(sed -n 8p <<<"$said") == *"weight [3, 1] is nan"* ]] || fail "-ffast-math, a NaN weight: $said"
