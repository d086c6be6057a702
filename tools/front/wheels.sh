# The virtual environment with MLX (CMake, where the system's is too old; what the tests need). Sourced by build.sh.

# Names of the wheels for pip in $wheels, of the distributions that must then be there in $parts.
choose_wheels() {
  if [ "$(uname)" = Darwin ]; then
    wheels='mlx' parts='mlx mlx-metal'
  elif command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    wheels='mlx[cuda13]' parts='mlx mlx-cuda-13'
  else
    wheels='mlx[cpu]' parts='mlx mlx-cpu'
  fi
  if with_python; then wheels="$wheels nanobind mypy" parts="$parts nanobind mypy"; fi
  find_cmake || { wheels="$wheels cmake" parts="$parts cmake"; }
}

# True if the environment holds every part in the pinned version.
wheels_present() {
  # shellcheck disable=SC2086
  "$venv/bin/python" - "$root/requirements.txt" $parts 2>/dev/null <<'END'
import sys
from importlib.metadata import version
lines = [line.strip() for line in open(sys.argv[1])]
pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
sys.exit(any(version(part) != pins[part] for part in sys.argv[2:]))
END
}

# A broken environment is made again only in the clone's own place.
make_venv() {
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    find_python || return
    if [ "$venv" = "$root/.venv" ]; then rm -rf "$venv"; fi
    "$python" -m venv "$venv" || return
  fi
  # shellcheck disable=SC2086
  "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
    -c "$root/requirements.txt" $wheels
}

install_wheels() {
  run_step "getting $wheels for $venv" wheels make_venv ||
    stop_failed "Getting $wheels from PyPI" wheels "no network? Connect and call again; or put the wheels into a folder \
and set PIP_NO_INDEX=1 PIP_FIND_LINKS=<folder>; or set KD_VENV to an environment that has $parts as requirements.txt pins them"
}

# After install_wheels: PyPI's CMake, called without its wrapper (which breaks when the clone moves).
use_cmake_wheel() {
  cmake=$("$venv/bin/python" -c 'import cmake; print(cmake.CMAKE_BIN_DIR)')/cmake
}
