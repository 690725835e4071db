#!/usr/bin/env bash
# check.sh WAY PREFIX WORK: WAY to use the klens that is installed in PREFIX, tried in the scratch folder WORK.
#   headers        PREFIX has every public header of these sources, and no other
#   program        PREFIX has the program klens, and it runs
#   find_package   a CMake project finds the package
#   pkg_config     a compiler command takes its flags from pkg-config
#   fetch_content  a CMake project takes these sources into its build (PREFIX is not used)
#   subproject     a Meson project does so
#   find_compiled, pkg_config_compiled    as the first two, with klens::compiled
# fetch_content and subproject take klens::compiled from the sources.
set -euo pipefail
way=$1 prefix=$2 work=$3
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
consumer=$root/tests/consumer

build_with_cmake() {
  cmake -S "$consumer" -B "$work" -G Ninja "$@"
  cmake --build "$work"
}

# is_compiled PROGRAM: fails unless it has the loops of klens::compiled.
is_compiled() { nm --demangle "$1" | grep 'klens::compiled::chosen()' >/dev/null; }

rm -rf -- "$work"
mkdir -p -- "$work"
case $way in
  headers)
    diff <(cd "$root/include" && find . -type f | sort) <(cd "$prefix/include" && find . -type f | sort)
    exit
    ;;
  program)
    version=$(sed -n 's/^#define KLENS_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$root/include/klens/version.hpp" | paste -sd.)
    [[ $("$prefix/bin/klens" --version) == "klens $version" ]]
    "$prefix/bin/klens" layers "$root/examples/data/wikitext-hybrid-4m" | grep lm_head.weight
    exit
    ;;
  find_package) build_with_cmake -D CMAKE_PREFIX_PATH="$prefix" ;;
  find_compiled)
    build_with_cmake -D CMAKE_PREFIX_PATH="$prefix" -D KLENS_LIBRARY=klens::compiled
    is_compiled "$work/consumer"
    ;;
  fetch_content)
    build_with_cmake -D FETCHCONTENT_SOURCE_DIR_KLENS="$root" -D KLENS_LIBRARY=klens::compiled
    is_compiled "$work/consumer"
    ;;
  pkg_config | pkg_config_compiled)
    folders=$(find "$prefix" -name pkgconfig -type d | paste -sd:)
    package=klens
    [[ $way == pkg_config ]] || package=klens-compiled
    flags=$(PKG_CONFIG_PATH=$folders pkg-config --cflags --libs $package)
    eval '"${CXX:-c++}" -std=c++20 "$consumer/main.cpp" -o "$work/consumer"' "$flags" # pkg-config quotes its folders for the shell
    [[ $way == pkg_config ]] || is_compiled "$work/consumer"
    ;;
  subproject)
    mkdir -- "$work/subprojects"
    ln -s -- "$root" "$work/subprojects/klens"
    cp -- "$consumer/main.cpp" "$consumer/meson.build" "$work"
    meson setup "$work" "$work"/build --wrap-mode=nodownload
    meson compile -C "$work/build"
    work=$work/build
    is_compiled "$work/consumer_compiled"
    "$work/consumer_compiled"
    ;;
  *)
    echo "check.sh: unknown way '$way'" >&2
    exit 2
    ;;
esac
"$work/consumer"
