# Sets up, configures and builds, under a lock. Sourced by kd when something may be missing or stale.

. "$root/tools/front/progress.sh"
. "$root/tools/front/tools.sh"
. "$root/tools/front/wheels.sh"

# One builder per build folder. flock is released by the system however this process ends; where there
# is none (macOS), a folder that holds the owner's process id does.
take_lock() {
  if command -v flock >/dev/null; then
    exec 9>"$front/lock"
    flock -n 9 && return
    say "another kd builds in $build: waiting for it"
    flock 9
    return
  fi
  local owner told=''
  until mkdir "$front/lock.d" 2>/dev/null; do
    owner=$(cat "$front/lock.d/pid" 2>/dev/null)
    if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then rm -rf "$front/lock.d"; fi
    [ -n "$told" ] || say "another kd builds in $build: waiting for it"
    told=1
    sleep 0.2
  done
  echo $$ >"$front/lock.d/pid"
  trap 'rm -rf "$front/lock.d"' EXIT
}

release_lock() {
  if command -v flock >/dev/null; then exec 9>&-; else rm -rf "$front/lock.d"; fi
}

# Value of an entry of the CMake cache, in the build folder.
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt" 2>/dev/null; }

# As many jobs as there are cores, but 1.5 GiB of memory for each.
count_jobs() {
  local cores kib limit
  cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
  kib=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo 2>/dev/null)
  : "${kib:=$(sysctl -n hw.memsize 2>/dev/null | awk '{ print int($1 / 1024) }')}"
  limit=$(awk '$1 != "max" { print int($1 / 1024) }' /sys/fs/cgroup/memory.max 2>/dev/null)
  if [ -n "$limit" ] && [ "$limit" -lt "${kib:=$limit}" ]; then kib=$limit; fi
  jobs=$((${kib:-0} / 1572864))
  [ "$jobs" -le "${cores:-1}" ] || jobs=$cores
  [ "$jobs" -ge 1 ] || jobs=1
}

# A folder that was configured for a clone elsewhere: the clone's own is configured again (the clone
# moved), another one is not touched.
check_build_folder() {
  local home
  fresh=''
  grep -qs "\"name\": *\"$preset\"" "$root/CMakePresets.json" "$root/CMakeUserPresets.json" ||
    refuse "KD_PRESET=$preset is not a preset of CMakePresets.json"
  home=$(cached CMAKE_HOME_DIRECTORY)
  [ -n "$home" ] && [ "$home" != "$root" ] || return
  [ -z "${KD_BUILD_DIR:-}" ] || refuse "KD_BUILD_DIR=$build belongs to the clone in $home: name another folder"
  fresh=--fresh
}

# The tests need the Python extension; the program does without, and a sanitizer does not fit into Python.
with_python() {
  [ "$target" = all ] || return
  case $preset in asan-ubsan | tsan | fuzz) false ;; esac
}

configure() {
  local mlx extension=''
  mlx=$("$venv/bin/python" -m mlx --cmake-dir) || { echo "MLX in $venv does not say where it is"; return 1; }
  with_python && extension=-DMLX_KD_BUILD_PYTHON=ON
  case $target in bench_*) extension=-DMLX_KD_BUILD_BENCH=ON ;; esac
  "$cmake" -S "$root" -B "$build" --preset "$preset" $fresh -U 'MLX_KD_MLX*' "-DMLX_KD_MLX_DIR=$mlx" \
    "-DPython_EXECUTABLE=$venv/bin/python" $extension
}

# Tools, wheels, a configured build folder; all that is there already costs nothing.
set_up() {
  local needs_wheels=''
  check_build_folder
  say "setting up $build"
  find_missing
  if [ -n "$missing" ] && ! may_install; then stop_missing; fi
  choose_wheels
  wheels_present || needs_wheels=1
  total_steps=$((2 + (${#missing} > 0) + ${#needs_wheels}))
  [ -z "$missing" ] || install_missing
  [ -z "$needs_wheels" ] || install_wheels
  case $parts in *' cmake') use_cmake_wheel ;; esac
  rm -f "$front"/configured-*
  run_step "configuring $build" configure configure || stop_failed 'Configuring' configure
  write_stamp "configured-${target%%_*}"
  [ "$target" = kd ] || write_stamp configured-kd
}

# The stamp bears the time at which the work began: what changes meanwhile is younger.
begin_stamp() { printf '%s\n' "$places" >"$front/begun"; }
write_stamp() { cp -p "$front/begun" "$front/$1.new" && mv -f "$front/$1.new" "$front/$1"; }

# build_target <cmake target> <path it is made from>...
build_target() {
  local target=$1
  shift
  mkdir -p "$front" 2>/dev/null || refuse "cannot write $build: set KD_BUILD_DIR to a folder that can be written"
  take_lock
  if ! { [ -x "$program" ] && is_current "$front/built-$target" "$@"; }; then
    begin_stamp
    is_current "$front/configured-${target%%_*}" "$root/kd" "$root/tools/front" "$root/requirements.txt" \
      "$root/CMakePresets.json" && [ -f "$build/build.ninja" ] || set_up
    count_jobs
    run_step "building $target with $jobs jobs" build \
      "$(cached CMAKE_COMMAND)" --build "$build" --target "$target" --parallel "$jobs" ||
      stop_failed 'Building' build
    write_stamp "built-$target"
    [ "$target" != all ] || write_stamp built-kd
  fi
  release_lock
}
