#!/usr/bin/env bash
# refused.sh COMPILER INCLUDE EIGEN: refused.cpp does not compile, and for each mistake in it the compiler says klens' own sentence.
set -u
compiler=$1 include=$2 eigen=$3
here=$(cd "$(dirname "$0")" && pwd)
said=$("$compiler" -std=c++20 -fsyntax-only -I"$include" -isystem "$eigen" "$here/refused.cpp" 2>&1) && { echo "refused.cpp compiles"; exit 1; }
missing=0
while IFS= read -r sentence; do
  grep -qF "$sentence" <<<"$said" || { echo "the compiler does not say: $sentence"; missing=1; }
done <<'SENTENCES'
klens: a forward must return a plain float matrix
klens: this is no forward
klens: a staged forward needs: void advance(state&, std::size_t stage)
klens: the forward's cost must be: double cost(std::size_t stage)
klens: the forward's residual must be
klens: these weights are column-major
klens: a layer does not keep its weights, and this matrix is gone
klens: a layer views weights that it can write
klens: say what these 16 bits are
klens: a layer views float, klens::half (fp16), klens::bfloat16 or uint16_t weights
klens: a metric's finish must be: double finish(double mean) const
klens: a stopping rule's doubts_of must be
klens: logits and weights are float, klens::half or klens::bfloat16
klens: a forward with positions(const state&) also needs logits(const state&, std::span<const std::size_t> rows)
a quantizer's stores must be: bool stores(std::size_t columns) const
klens: a progress callback returns bool (false: stop) or nothing
SENTENCES
exit $missing
