# Compiler, Python, ninja and the libraries: what is missing, and how to get it. Sourced by build.sh.
#
# A missing thing is known by its Debian package; brew_names maps it for macOS.

compiler() { printf '%s' "${CXX:-c++}"; }

# What the preprocessor sees is what the build will see, on every system.
probe_source() {
  cat <<'END'
#if defined(__clang__) ? __clang_major__ < 14 : __GNUC__ < 11
kd_missing g++
#endif
#if !__has_include(<CLI/CLI.hpp>)
kd_missing libcli11-dev
#endif
#if !__has_include(<nlohmann/json.hpp>)
kd_missing nlohmann-json3-dev
#endif
#if !__has_include(<zlib.h>)
kd_missing zlib1g-dev
#endif
#if !__has_include(<toml++/toml.h>)
kd_missing libtomlplusplus-dev
#endif
#if !__has_include(<gtest/gtest.h>)
kd_missing libgtest-dev
#endif
#if !__has_include(<benchmark/benchmark.h>)
kd_missing libbenchmark-dev
#endif
END
}

include_flags() { command -v brew >/dev/null && printf -- '-I%s/include' "$(brew --prefix)"; }

# The first Python >= 3.10 that can make a virtual environment, in $python; false if there is none.
find_python() {
  for python in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' \
      2>/dev/null && return
  done
  return 1
}

# CMake >= 3.25 of the system in $cmake; false if there is none. ($cmake is then PyPI's.)
find_cmake() {
  cmake=$(command -v cmake) && "$cmake" --version 2>/dev/null |
    awk 'NR == 1 { split($3, v, "."); exit !(v[1] > 3 || (v[1] == 3 && v[2] >= 25)) }'
}

# Whether the Python of the environment, or the one that will make it, can be extended.
has_python_headers() {
  local interpreter=$venv/bin/python
  [ -x "$interpreter" ] || { find_python && interpreter=$python; } || return
  "$interpreter" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

# Debian package names of all that is missing, in $missing.
find_missing() {
  local probe
  missing=''
  if command -v "$(compiler)" >/dev/null; then
    # shellcheck disable=SC2046
    probe=$(probe_source | "$(compiler)" -std=c++17 -E -P $(include_flags) -x c++ - 2>/dev/null)
  else
    probe=$(printf 'kd_missing g++\n'; probe_source)
  fi
  missing=$(printf '%s\n' "$probe" | awk '$1 == "kd_missing" && !seen[$2]++ { printf " %s", $2 }')
  command -v ninja >/dev/null || missing="$missing ninja-build"
  # A venv that is there already needs no ensurepip.
  [ -x "$venv/bin/python" ] || find_python || missing="$missing python3-venv"
  if with_python && ! has_python_headers; then missing="$missing python3-dev"; fi
  missing=${missing# }
}

brew_names() {
  printf '%s\n' "$@" | sed -e 's/^g++$/llvm/' -e 's/^libcli11-dev$/cli11/' -e 's/^libgtest-dev$/googletest/' \
    -e 's/^nlohmann-json3-dev$/nlohmann-json/' -e 's/^zlib1g-dev$/zlib/' \
    -e 's/^libtomlplusplus-dev$/tomlplusplus/' \
    -e 's/^libbenchmark-dev$/google-benchmark/' -e 's/^ninja-build$/ninja/' -e 's/^python3-venv$/python/' \
    -e 's/^python3-dev$/python/' |
    tr '\n' ' '
}

stop_missing() {
  say "these are missing: $missing"
  if command -v apt-get >/dev/null; then
    say "install them, then call again:  sudo apt-get install -y $missing"
  elif [ "$(uname)" = Darwin ]; then
    # shellcheck disable=SC2086
    say "install them, then call again:  brew install $(brew_names $missing)"
  else
    say 'these are the names that Debian uses; install them with your package manager, then call again'
  fi
  exit 1
}

# True if packages may be installed; $sudo then says how.
may_install() {
  sudo=''
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" -eq 0 ] && return
  command -v sudo >/dev/null || return 1
  sudo=sudo
  if [ "${KD_YES:-}" != 1 ]; then
    [ -t 0 ] && [ -t 2 ] || return 1
    printf 'kd: these packages are missing: %s\nkd: install them with sudo apt-get? [y/N] ' "$missing" >&2
    local answer
    read -r answer || return 1
    case $answer in [yY]*) ;; *) return 1 ;; esac
  fi
  sudo -v  # the password is asked here, before the progress begins
}

apt_install() {
  $sudo apt-get update -q
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    -o DPkg::Lock::Timeout=300 $missing
}

install_missing() {
  local wanted=$missing
  run_step "installing $missing" install apt_install ||
    stop_failed 'Installing packages' install "no network? Connect and call again, or install by hand: $wanted"
  find_missing
  [ -z "$missing" ] || stop_missing
}
