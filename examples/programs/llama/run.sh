#!/usr/bin/env bash
# Builds klens-llama and runs it with the arguments given here. libllama is taken from where find_package(llama) sees it (set
# llama_ROOT to its prefix); otherwise it is built, once, from the source archive of llama-cpp-python, which comes from PyPI.
# Without arguments it ranks the shipped model, written as GGUF first. With --check it runs the adapter's tests and compares its
# scores, exhaustive and local, with those of klens on the same model. With --real it ranks SmolLM2-135M and Gemma 3 270M, which
# come from PyPI, every way it has, and prints a table; on a machine with nothing else to do that takes hours. With --tools it
# also builds llama-quantize and llama-perplexity, which plan --verify wants. Only the program writes to stdout.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." >/dev/null && pwd)
work=$root/build/llama
build=$work/klens
model=$work/wikitext-hybrid-4m-f16.gguf
tokens=$root/examples/data/wikitext2-calibration.safetensors
version=0.3.36  # of llama-cpp-python; carries llama.cpp 0.5.0
source "$root/scripts/setup.sh"

install_missing "${build_packages[@]}" python3 python3-pip
mkdir -p "$work"

# configure_engine [ARGUMENT...]: llama.cpp's own CMake project, CPU only.
configure_engine() {
  local source=$work/llama_cpp_python-$version/vendor/llama.cpp
  if [[ ! -d $source ]]; then
    say "fetching the source of llama.cpp (77 MB), once"
    python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" "llama-cpp-python==$version" >&2
    tar -xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
  fi
  cmake -G Ninja -S "$source" -B "$work/engine" -D CMAKE_BUILD_TYPE=Release -D GGML_NATIVE=ON -D GGML_OPENMP=OFF \
    -D LLAMA_OPENSSL=OFF -D LLAMA_BUILD_TESTS=OFF -D LLAMA_BUILD_EXAMPLES=OFF -D LLAMA_BUILD_SERVER=OFF -D LLAMA_BUILD_APP=OFF \
    -D LLAMA_TOOLS_INSTALL=OFF -D CMAKE_INSTALL_PREFIX="$work/prefix" "$@" >"$work/engine.log" 2>&1
}

build_engine() { cmake --build "$work/engine" --target "$@" -- --quiet >>"$work/engine.log" 2>&1; }

if [[ -z ${llama_ROOT-} ]]; then
  export llama_ROOT=$work/prefix
  if [[ ! -e $llama_ROOT/lib/libllama.so ]]; then
    say "building libllama; this takes about 5 minutes of a core, once"
    configure_engine -D LLAMA_BUILD_COMMON=OFF -D LLAMA_BUILD_TOOLS=OFF
    build_engine llama
    cmake --install "$work/engine" >>"$work/engine.log"
  fi
fi
if [[ ${1-} == --tools ]]; then
  say "building llama-quantize and llama-perplexity; this takes about 10 minutes of a core, once"
  configure_engine -D LLAMA_BUILD_COMMON=ON -D LLAMA_BUILD_TOOLS=ON
  build_engine llama-quantize llama-perplexity
  say "they are in $work/engine/bin"
  exit
fi
[[ -e $model ]] || python3 "$root/examples/programs/llama/make_gguf.py" "$root/examples/data/wikitext-hybrid-4m" "$model"
if [[ ! $build/build.ninja -nt $root/CMakePresets.json ]]; then
  cmake -S "$root" --preset release -B "$build" -D KLENS_BUILD_TESTS=OFF -D KLENS_BUILD_LLAMA=ON -D KLENS_LLAMA_MODEL="$model" >&2
fi
say "building; this takes minutes the first time"
cmake --build "$build" --target klens_llama -- --quiet | sed '/^ninja: no work to do/d' >&2

# compare NAME GGUF TOLERANCE OPTION...: holds the scores of a shipped model by both engines beside each other.
compare() {
  local name=$1 gguf=$2 tolerance=$3
  "$build/bin/klens-llama" rank "$gguf" "${scan[@]}" "${@:4}" --output "$build/llama-scores.json" >/dev/null
  "$root/examples/run.sh" rank "$root/examples/data/$name" "${scan[@]}" "${@:4}" --output "$build/klens-scores.json" >/dev/null
  python3 "$root/examples/programs/shared/compare_scores.py" "$build/klens-scores.json" "$build/llama-scores.json" "$tolerance"
}

if [[ ${1-} == --check ]]; then
  cmake --build "$build" --target llama_test -- --quiet >&2
  "$build/bin/llama_test" >&2
  scan=(--tokens "$tokens" --sequences 4 --length 128 --schemes "q4_0,q8_0" --metrics kl)
  parallel=$work/wikitext-parallel-2m-f16.gguf
  python3 "$root/examples/programs/llama/make_gguf.py" "$root/examples/data/wikitext-parallel-2m" "$parallel"
  say "ranking the shipped models by both engines, exhaustively and by what each candidate does to its own stage"
  for model_of in "wikitext-hybrid-4m $model" "wikitext-parallel-2m $parallel"; do
    compare "${model_of%% *}" "${model_of#* }" 0.01
    compare "${model_of%% *}" "${model_of#* }" 0.02 --method local
  done
  exit
fi
if [[ ${1-} == --real ]]; then
  exec python3 "$root/examples/programs/llama/real_models.py" "$build/bin/klens-llama" "$work/real" "${@:2}"
fi
if (($# == 0)); then
  set -- rank "$model" --tokens "$tokens" --types q4_0,q8_0  # K-quants do not divide its rows
fi
exec "$build/bin/klens-llama" "$@"
