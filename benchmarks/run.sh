#!/usr/bin/env bash
# Builds and runs the benchmarks of the kernels in a few minutes, and holds their medians against the bounds in bounds.py.
#   bash benchmarks/run.sh            for this machine's instruction set, and where that is AVX-512 for AVX2 as well
#   bash benchmarks/run.sh --peers    also against torch, NumKong and NumPy, in a virtual environment of their own (from PyPI)
# Prints each loop's ratio, its bound and whether it holds; exits with 1 where one does not. What is printed also goes to
# benchmarks/results/<processor>.txt, with machine, compiler and command. Machines that have other work to do give ratios that
# nobody can rely on.
set -uo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
cd -- "$root" || exit
source scripts/setup.sh
install_missing "${build_packages[@]}" libbenchmark-dev python3 || exit

options=(--benchmark_repetitions=7 --benchmark_min_time=0.03 --benchmark_enable_random_interleaving=true
  --benchmark_report_aggregates_only=true --benchmark_format=json)
model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
file=benchmarks/results/$(tr -cs 'A-Za-z0-9' '-' <<<"${model:-$(uname -m)}" | tr '[:upper:]' '[:lower:]' | sed 's/^-//;s/-$//').txt

# measure INSTRUCTION_SET [CMAKE ARGUMENT...]: builds both programs in a folder of their own, runs them, prints the table.
measure() {
  local set=$1 build=build/benchmarks-$1
  cmake --preset release -B "$build" -D KLENS_BUILD_BENCHMARKS=ON -D KLENS_BUILD_TESTS=OFF -D KLENS_BUILD_EXAMPLES=OFF "${@:2}" >&2 &&
    cmake --build "$build" --target metric_rows quant_round_trips >&2 || return 2
  "$build/benchmarks/metric/metric_rows" "${options[@]}" >"$build/metric.json" &&
    "$build/benchmarks/quant/quant_round_trips" "${options[@]}" >"$build/quant.json" || return 2
  echo
  echo "$set"
  python3 benchmarks/bounds.py "$set" "$build/metric.json" "$build/quant.json" "${peers[@]}"
}

peers=()
if [[ ${1-} == --peers ]]; then
  mkdir -p build
  python3 benchmarks/peers.py build/peers.json >&2 && peers=(build/peers.json)
fi

mkdir -p benchmarks/results
{
  echo "machine   ${model:-$(uname -m)}, $(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg)"
  echo "compiler  $(c++ --version | head -n 1)"
  echo "command   bash benchmarks/run.sh${1:+ $1}"
  echo "Ratios of medians (CPU time) of 7 repetitions, interleaved in one run, one thread."
  status=0
  if grep -qw avx512dq /proc/cpuinfo; then
    measure avx512 || status=1
    measure avx2 -D KLENS_NATIVE=OFF -D CMAKE_CXX_FLAGS=-march=x86-64-v3 || status=1
  elif grep -qw avx2 /proc/cpuinfo; then
    measure avx2 || status=1
  else
    measure "$(uname -m)" || status=1
  fi
  exit "$status"
} | tee "$file"
exit "${PIPESTATUS[0]}"
