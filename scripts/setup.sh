# shellcheck shell=bash
# Sourced by examples/run.sh and tests/run.sh: gives them `say`, `install_missing` and what a build needs.

# shellcheck disable=SC2034  # used by those who source this
build_packages=(g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev doctest-dev libdnnl-dev)

say() { printf 'klens: %s\n' "$*" >&2; }

# install_missing PACKAGE...: installs those of Debian's packages that are not there; asks nothing, prints to stderr only.
install_missing() {
  if ! command -v apt-get >/dev/null; then
    say "this is no Debian; going on with what is installed (wanted: $*)"
    return
  fi
  local missing=() as_root=() package
  for package in "$@"; do
    [[ " ${missing[*]} " == *" $package "* || $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      say "packages are missing and neither root nor sudo is at hand; have somebody run: apt-get install ${missing[*]}"
      return 1
    fi
    as_root=(sudo)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  say "installing ${missing[*]}"
  local output
  output=$("${as_root[@]}" update 2>&1) || say "the package lists could not be refreshed; trying with those that are there"
  if ! output=$("${as_root[@]}" install -y --no-install-recommends "${missing[@]}" 2>&1); then
    tail -n 5 <<<"$output" >&2
    say "the packages could not be installed; the reason stands above. By hand: apt-get install ${missing[*]}"
    return 1
  fi
}
