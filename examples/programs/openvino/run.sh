#!/usr/bin/env bash
# Builds klens-openvino and runs it with the arguments given here; OpenVINO's wheel goes into a virtual environment under build/.
# Without arguments it runs the demonstration on the shipped IR, into build/openvino/demo. With --check it runs the adapter's tests,
# tries bad input, padded and generated tokens, and compares its scores with those of klens, its files with those of NNCF and its
# latencies with those of benchmark_app.
# Only the program writes to stdout.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." >/dev/null && pwd)
build=$root/build/openvino
python=$root/build/openvino-venv/bin/python3
model=$root/examples/data/wikitext-parallel-2m
tokens=$root/examples/data/wikitext2-calibration.safetensors
source "$root/scripts/setup.sh"

install_missing "${build_packages[@]}" python3-venv
[[ -x $python ]] || python3 -m venv "${python%/bin/python3}" >&2
if ! "$python" -c 'import openvino' 2>/dev/null; then
  say "fetching OpenVINO's wheel, once"
  "$python" -m pip install --quiet openvino==2026.4.1 >&2
fi
if [[ ! $build/build.ninja -nt $root/CMakePresets.json ]]; then
  cmake -S "$root" --preset release -B "$build" -D KLENS_BUILD_TESTS=OFF -D KLENS_BUILD_OPENVINO=ON \
    -D OpenVINO_DIR="$("$python" -c 'import openvino.utils; print(openvino.utils.get_cmake_path())')" >&2
fi
say "building; this takes minutes the first time"
cmake --build "$build" --target klens_openvino -- --quiet | sed '/^ninja: no work to do/d' >&2

if [[ ${1-} == --check ]]; then
  cmake --build "$build" --target openvino_test -- --quiet >&2
  "$build/bin/openvino_test" >&2
  "$python" "$root/examples/programs/openvino/check_bad_input.py" "$build/bin/klens-openvino" "$root/examples/data"
  "$python" "$root/examples/programs/openvino/check_masks.py" "$build/bin/klens-openvino" "$model/ov/model.xml" "$tokens"
  "$python" "$root/examples/programs/openvino/check_generate.py" "$build/bin/klens-openvino" "$model/ov/model.xml"
  scan=(--tokens "$tokens" --sequences 4 --length 128 --schemes "int4-g64,int8-channel" --metrics kl)
  say "ranking the same model by both engines"
  "$build/bin/klens-openvino" rank "$model/ov/model.xml" "${scan[@]}" --output "$build/openvino-scores.json" >/dev/null
  "$root/examples/run.sh" rank "$model" "${scan[@]}" --output "$build/klens-scores.json" >/dev/null
  "$python" "$root/examples/programs/shared/compare_scores.py" "$build/klens-scores.json" "$build/openvino-scores.json"
  if ! "$python" -c 'import nncf' 2>/dev/null; then
    say "fetching NNCF, once"
    "$python" -m pip install --quiet nncf==3.4.0 >&2
  fi
  say "compressing the same model by NNCF"
  "$python" "$root/examples/programs/openvino/check_nncf.py" "$build/bin/klens-openvino" "$model/ov/model.xml" "$tokens"
  say "timing the same models by benchmark_app"
  "$build/bin/klens-openvino" demo --synthetic llama-130m --budgets 5bpw --runs 1 --output "$build/synthetic" >/dev/null
  exec "$python" "$root/examples/programs/openvino/check_latency.py" "$build/bin/klens-openvino" 128 "$model/ov/model.xml" \
    "$build/synthetic/fp16.xml" "$build/synthetic/exact-5bpw.xml"
fi
if (($# == 0)); then
  set -- demo "$model/ov/model.xml" --tokens "$tokens" --held-out "$root/examples/data/wikitext2-held-out.safetensors" \
    --output "$build/demo"
fi
exec "$build/bin/klens-openvino" "$@"
