#!/usr/bin/env bash
# Runs the tests; installs what is missing from Debian's packages first. Ends with "N passed, N failed" (test programs and checks
# over all stages) and fails if one failed. What is run:
#   bash tests/run.sh            what continuous integration runs each time
#     format      clang-format leaves the sources as they are
#     release     g++ for this machine, CMake, oneDNN's products where it is found: every test; the package, and projects that use it
#     meson       clang for this machine, Meson, Eigen's products: every test; its package, and projects that use it
#     headers     clang, newest xsimd (14): each header compiles alone
#     locale      what reads and writes numbers, in a locale whose decimal point is a comma
#     python      the Python package: its wheel is built, installed and tested with NumPy alone
#   bash tests/run.sh --all      these as well
#     sanitizers  g++ with the address and undefined-behaviour sanitizers: files, the engine and the fuzzers' corpus
#     threads     g++ with the thread sanitizer: what runs on several threads, of the library and of the engine
#     mpi         klens-mpi, on one process and on three
#     onednn      the engine with oneDNN's matrix products
#     xsimd14     g++ for this machine, newest xsimd: the tests of the kernels
#     aarch64     cross g++, NEON under qemu: the tests of the kernels
#     clang       clang for this machine, CMake: every source alone, every test
#     x86-64, avx2, avx512        g++ for that instruction set: the library's tests
#     libcxx      clang with libc++: each header compiles alone; the examples
#     xsimd14-all, aarch64-all    the library's tests, both with the newest xsimd
#     sanitizers-all, tidy        every test with sanitizers; clang-tidy over the headers
#     exports     an exported plan in the hands of NNCF, which comes from PyPI
#     torch       the wheel of the stage python with PyTorch and transformers, which come from PyPI
#     openvino, llama             the adapters, beside their engines' own tools
#   bash tests/run.sh STAGE...   only these
# Each stage leaves its output in build/logs/STAGE.log.
set -uo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
cd -- "$root" || exit
source scripts/setup.sh

usual=(format release locale meson headers python)
further=(sanitizers threads mpi onednn xsimd14 aarch64 clang x86-64 avx2 avx512 libcxx xsimd14-all aarch64-all sanitizers-all tidy exports torch openvino llama)
kernels=(-D KLENS_TEST_FOLDERS="detail;metric;quant;compiled")
library=(-D KLENS_BUILD_EXAMPLES=OFF -D KLENS_INSTALL=OFF)
clang=(-D CMAKE_CXX_COMPILER=clang++-14)

skipped=77
skip() { echo "$*"; return $skipped; }

# configure FOLDER PRESET [ARGUMENT...]: configures build/FOLDER, for as little to compile as can be.
configure() { cmake --preset "$2" -B "build/$1" -D CMAKE_UNITY_BUILD=ON -D KLENS_JOIN_TESTS=ON "${@:3}"; }

# with_cmake FOLDER PRESET [ARGUMENT...]: configures build/FOLDER, builds what can be built, runs what was built.
with_cmake() {
  local folder=build/$1 status=0
  configure "$@" || return
  cmake --build "$folder" -j "$(nproc)" -- -k 0 || status=1
  ctest --test-dir "$folder" -j "$(nproc)" --timeout 900 --output-on-failure || status=1
  return $status
}

# for_target FOLDER ARCHITECTURE FLAG: the library's tests for one x86 instruction set, where this machine has it.
for_target() {
  grep -qw -- "$3" /proc/cpuinfo || skip "this machine lacks $3" || return
  with_cmake "$1" release "${library[@]}" -D KLENS_NATIVE=OFF -D CMAKE_CXX_FLAGS="-march=$2"
}

# newest_xsimd: sets the array xsimd to what makes CMake take xsimd 14, whose headers a wheel carries.
newest_xsimd() {
  local folder=$root/build/xsimd14
  if [[ ! -e $folder/cmake/xsimdConfig.cmake ]]; then
    mkdir -p "$folder/cmake"
    python3 -m pip download --quiet --no-deps --dest "$folder" pythran==0.19.0 || skip "xsimd 14 (in the wheel pythran 0.19.0) could not be had" || return
    python3 -m zipfile -e "$folder"/pythran-0.19.0-*.whl "$folder/wheel" || return
    cat >"$folder/cmake/xsimdConfig.cmake" <<'CONFIG'
set(xsimd_VERSION 14.1)
add_library(xsimd INTERFACE IMPORTED)
target_include_directories(xsimd INTERFACE ${CMAKE_CURRENT_LIST_DIR}/../wheel/pythran)
CONFIG
  fi
  xsimd=(-D xsimd_DIR="$folder/cmake")
}

# for_aarch64 FOLDER [ARGUMENT...]: the library's tests, cross-compiled. xsimd has no such package, but nothing but headers either.
for_aarch64() {
  [[ $(uname -m) == x86_64 ]] || skip "only set up for an x86-64 machine" || return
  with_cmake "$1" release -D xsimd_DIR="$(echo /usr/lib/*/cmake/xsimd)" "${library[@]}" -D KLENS_NATIVE=OFF \
    -D CMAKE_SYSTEM_NAME=Linux -D CMAKE_SYSTEM_PROCESSOR=aarch64 -D CMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
    -D CMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64;-L;/usr/aarch64-linux-gnu" "${@:2}"
}

stage_format() {
  local source status=0
  while IFS= read -r source; do
    clang-format-14 "$source" | cmp -s - "$source" && continue
    echo "$source: not formatted; run clang-format-14 -i $source"
    status=1
  done < <(find include examples tests benchmarks python -name '*.[ch]pp')
  return $status
}
stage_release() { with_cmake release release; }
# In the build of the stage release; the locale is made here, so that the machine keeps those it has.
stage_locale() {
  local folder=$root/build/locales
  if [[ ! -e $folder/de_DE.UTF-8 ]]; then
    mkdir -p "$folder" && localedef -i de_DE -f UTF-8 "$folder/de_DE.UTF-8" || skip "there is no localedef to make de_DE.UTF-8 with" || return
  fi
  configure release release && cmake --build build/release --target klens_tests -j "$(nproc)" &&
    LOCPATH=$folder KLENS_TEST_LOCALE=de_DE.UTF-8 ctest --test-dir build/release -R '^(stats|rank|plan|io|users)_|_(any_metric|scheme)_' \
      -E '_refused$' -j "$(nproc)" --timeout 900 --output-on-failure
}
stage_sanitizers() {
  configure debug debug -D KLENS_INSTALL=OFF -D KLENS_ONEDNN=OFF -D KLENS_TEST_FOLDERS="io;engine;fuzz" &&
    cmake --build build/debug --target klens_tests -j "$(nproc)" &&
    ctest --test-dir build/debug -R '^(io|engine|fuzz)_' -E random_configs -j "$(nproc)" --timeout 900 --output-on-failure
}
# Without randomized addresses, which the thread sanitizer of g++ 12 does not always come to terms with.
stage_threads() {
  configure threads release -D KLENS_INSTALL=OFF -D KLENS_ONEDNN=OFF -D KLENS_TEST_FOLDERS="detail;metric;quant;rank;engine" -D CMAKE_CXX_FLAGS="-fsanitize=thread -g1" &&
    cmake --build build/threads --target klens_tests_of_parts -j "$(nproc)" -- -k 0 &&
    setarch -R ctest --test-dir build/threads -j "$(nproc)" --timeout 900 --output-on-failure \
      -R 'detail_parallel_for|metric_measure|quant_round_trip|rank_(scan|rank_layers|noise_floor)|engine_(staged|golden|parts)'
}
stage_mpi() {
  configure release release -D KLENS_BUILD_MPI=ON && cmake --build build/release --target klens_program klens_mpi -j "$(nproc)" &&
    ctest --test-dir build/release -R '^program_mpi$' --timeout 900 --output-on-failure
}
stage_onednn() {
  configure onednn release -D KLENS_ONEDNN=ON -D KLENS_INSTALL=OFF -D KLENS_TEST_FOLDERS=engine &&
    cmake --build build/onednn --target klens_tests_of_parts -j "$(nproc)" -- -k 0 &&
    ctest --test-dir build/onednn -R '^engine_' -E 'packed|random_configs' -j "$(nproc)" --timeout 900 --output-on-failure
}
stage_headers() {
  local xsimd=()
  newest_xsimd || echo "headers: xsimd 14 could not be had; taking the installed one"
  cmake --preset release -B build/headers "${library[@]}" "${clang[@]}" "${xsimd[@]}" -D KLENS_BUILD_TESTS=OFF \
    -D CMAKE_BUILD_TYPE=None -D CMAKE_CXX_FLAGS="-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror" -D CMAKE_VERIFY_INTERFACE_HEADER_SETS=ON &&
    cmake --build build/headers --target all_verify_interface_header_sets -j "$(nproc)" -- -k 0
}
stage_meson() {
  local status=0 way prefix=$root/build/meson-prefix
  [[ -e build/meson/build.ninja ]] || CXX=clang++-14 meson setup build/meson --werror --unity on --unity-size 100 || return
  ninja -C build/meson -j "$(nproc)" -k 0 || status=1
  meson test -C build/meson --no-rebuild --print-errorlogs --no-suite program || status=1
  meson test -C build/meson --no-rebuild --print-errorlogs program/commands_test.cpp || status=1  # g++ had the rest
  rm -rf "$prefix"
  meson install -C build/meson --no-rebuild --quiet --destdir "$prefix" || status=1
  for way in headers pkg_config pkg_config_compiled subproject program; do
    if CXX=clang++-14 bash tests/package/check.sh "$way" "$prefix/usr/local" "build/meson-$way"; then
      echo "check passed: $way"
    else
      echo "check failed: $way"
      status=1
    fi
  done
  return $status
}
stage_xsimd14() { local xsimd && newest_xsimd && with_cmake xsimd14-release release "${library[@]}" "${kernels[@]}" "${xsimd[@]}"; }
stage_aarch64() { for_aarch64 aarch64 "${kernels[@]}"; }
stage_clang() { with_cmake clang release "${clang[@]}" -D CMAKE_UNITY_BUILD=OFF -D KLENS_JOIN_TESTS=OFF; }
stage_x86-64() { for_target x86-64 x86-64 sse2; }
stage_avx2() { for_target avx2 x86-64-v3 avx2; }
stage_avx512() { for_target avx512 x86-64-v4 avx512dq; }
stage_xsimd14-all() { local xsimd && newest_xsimd && with_cmake xsimd14-all release "${library[@]}" "${xsimd[@]}"; }
stage_aarch64-all() { local xsimd && newest_xsimd && for_aarch64 aarch64-all "${xsimd[@]}"; }
stage_sanitizers-all() { with_cmake debug-all debug -D KLENS_ONEDNN=OFF; }
stage_tidy() {
  cmake --preset release -B build/tidy "${clang[@]}" -D CMAKE_EXPORT_COMPILE_COMMANDS=ON &&
    find include -name '*.hpp' -print0 | xargs -0 -P "$(nproc)" -n 1 clang-tidy-14 --quiet -p build/tidy
}
stage_libcxx() {
  local folder=$root/build/libcxx compile name status=0
  compile="clang++-14 -std=c++20 -stdlib=libc++ -Wall -Wextra -Wno-unused-const-variable -Werror -I $root/include $(pkg-config --cflags-only-I eigen3 | sed s/-I/-isystem/g)"
  mkdir -p "$folder"
  find include -name '*.hpp' -print0 | xargs -0 -P "$(nproc)" -I {} $compile -fsyntax-only -include {} -x c++ /dev/null || status=1
  for name in own_engine own_metric own_quantizer plan_two_layers rank_two_layers raw_pointers; do
    if $compile -O1 "examples/$name.cpp" -o "$folder/$name" -pthread &&
      bash tests/support/prints_expected.sh "$folder/$name" "examples/$name.expected"; then
      echo "check passed: $name"
    else
      echo "check failed: $name"
      status=1
    fi
  done
  return $status
}
stage_exports() {
  local python=$root/build/exports-venv/bin/python3
  "$python" -c 'import nncf, openvino' 2>/dev/null ||
    { python3 -m venv "${python%/bin/python3}" && "$python" -m pip install --quiet nncf==3.4.0 openvino==2026.4.1; } ||
    skip "nncf 3.4.0 and openvino 2026.4.1 could not be had" || return
  cmake --preset release -D KLENS_PYTHON="$python" && cmake --build build/release --target klens -j "$(nproc)" &&
    ctest --test-dir build/release -R '^program_nncf$' --timeout 900 --output-on-failure
}
# python_wheel: builds the wheel of this checkout into build/wheel and installs it into the virtual environment build/python.
python_wheel() {
  local python=build/python/bin/python3
  [[ -x $python ]] || python3 -m venv build/python || return
  "$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "numpy", "pytest", sep="\n")' >build/python/needs &&
    "$python" -m pip install --quiet -r build/python/needs || skip "the wheels that its build needs could not be had" || return
  rm -rf build/wheel
  "$python" -m pip wheel --quiet --no-deps --no-build-isolation --config-settings=build-dir=build/wheel-build --wheel-dir build/wheel . &&
    "$python" -m pip install --quiet --force-reinstall --no-deps build/wheel/*.whl
}
stage_python() { python_wheel && build/python/bin/python3 -m pytest -q tests/python -m 'not torch'; }
stage_torch() {
  python_wheel || return
  build/python/bin/python3 -c 'import torch, transformers' 2>/dev/null ||
    build/python/bin/python3 -m pip install --quiet torch==2.15.0 transformers==5.24.0 safetensors ||
    skip "torch 2.15.0 and transformers 5.24.0 could not be had" || return
  build/python/bin/python3 -m pytest -q tests/python
}
stage_openvino() { bash examples/programs/openvino/run.sh --check; }
stage_llama() { bash examples/programs/llama/run.sh --check; }

packages_of() {
  case $1 in
    format) echo clang-format-14 ;;
    headers) echo clang-14 python3-pip ;;
    locale) echo locales ;;
    mpi) echo openmpi-bin libopenmpi-dev ;;
    meson) echo meson clang-14 pkgconf ;;
    xsimd14*) echo python3-pip ;;
    aarch64*) echo g++-aarch64-linux-gnu qemu-user python3-pip ;;
    clang) echo clang-14 pkgconf ;;
    libcxx) echo clang-14 libc++-14-dev libc++abi-14-dev pkgconf ;;
    tidy) echo clang-14 clang-tidy-14 ;;
    exports) echo python3-venv python3-pip ;;
    python | torch) echo python3-venv python3-dev ;;
    release) echo pkgconf ;;
    onednn) echo libdnnl-dev ;;
  esac
}

# counts LOG: prints how many test programs and checks passed and failed in it.
counts() {
  awk '/^[0-9]+% tests passed, / { failed += $4; passed += $NF - $4 }  # ctest
       /^[0-9]+ passed.* in [0-9.]+s/ { passed += $1 }                  # pytest
       /^[0-9]+ failed.* in [0-9.]+s/ { failed += $1; passed += $3 }
       /^Ok: / { passed += $NF }                                        # meson
       /^(Fail|Timeout|Unexpected Pass): / { failed += $NF }
       /^check passed: / { ++passed }
       /^check failed: / { ++failed }
       END { print passed + 0, failed + 0 }' "$1"
}

case ${1-} in
  '') stages=("${usual[@]}") ;;
  --all) stages=("${usual[@]}" "${further[@]}") ;;
  *) stages=("$@") ;;
esac
wanted=("${build_packages[@]}")
for stage in "${stages[@]}"; do
  if ! declare -F "stage_$stage" >/dev/null; then
    say "there is no stage '$stage'; there are: ${usual[*]} ${further[*]}"
    exit 2
  fi
  read -ra packages <<<"$(packages_of "$stage")"
  wanted+=("${packages[@]}")
done
install_missing "${wanted[@]}" || exit

all_passed=0 all_failed=0
mkdir -p build/logs
for stage in "${stages[@]}"; do
  log=build/logs/$stage.log start=$SECONDS
  printf '%-16s' "$stage"
  ("stage_$stage") >"$log" 2>&1 </dev/null
  status=$?
  if ((status == skipped)); then
    printf '%21s %s\n' skipped: "$(tail -n 1 "$log")"
    continue
  fi
  read -r passed failed <<<"$(counts "$log")"
  ((status == 0 && passed + failed == 0)) && passed=1  # a stage that is one check
  ((status != 0 && failed == 0)) && failed=1           # broke before it could count
  printf '%4d passed, %d failed %6d s\n' "$passed" "$failed" $((SECONDS - start))
  ((failed == 0)) || tail -n 200 "$log"
  ((all_passed += passed, all_failed += failed))
done
echo "$all_passed passed, $all_failed failed"
((all_failed == 0))
