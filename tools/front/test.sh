# ./kd test: builds everything and runs CTest. Sourced by kd.

test_help() {
  cat <<'END'
Builds and runs the tests, and names the ten that took longest.
Usage: ./kd test [--long] [-R REGEX]

  --long       also what takes minutes, the tests again under the sanitizers, and the fuzzers
  -R REGEX     only the tests whose names match

MLX_KD_STRESS_S     seconds that the stress of the runtime lasts, in each build (2; 600 with --long)
MLX_KD_FUZZ_RUNS    inputs of each fuzzer (100000)
MLX_KD_KERNEL_OPT   optimisation of the kernels that tests compile (1; with --long 3, as for users)

Exit status: that of CTest (0: all passed); 1 if something could not be built; 2 for misuse.
END
}

read_options() {
  long='' regex=''
  while [ $# -gt 0 ]; do
    case $1 in
      --long) long=1 ;;
      -R) [ $# -ge 2 ] || refuse 'test: -R takes a regular expression'; regex=$2; shift ;;
      -h | --help) test_help; exit ;;
      *) refuse "test: unknown option $1: see ./kd test --help" ;;
    esac
    shift
  done
}

# show_slowest <report>: the ten tests of a JUnit report that took longest, on stdout.
show_slowest() {
  [ -s "$1" ] || return 0
  printf '\nSlowest tests:\n'
  sed -n 's/.*<testcase name="\([^"]*\)".* time="\([0-9.]*\)".*/\2 \1/p' "$1" | LC_ALL=C sort -rn | head -n 10 |
    sed -e 's/&lt;/</g' -e 's/&gt;/>/g' -e 's/&quot;/"/g' -e 's/&amp;/\&/g' |
    while read -r seconds name; do LC_ALL=C printf '%9.2f s  %s\n' "$seconds" "$name"; done
}

# run_ctest <argument>...: in the build folder, progress and the summary on stdout.
run_ctest() {
  local ctest status=0 report=$front/tests.xml
  ctest=$(cached CMAKE_CTEST_COMMAND)
  rm -f "$report"
  set -- --test-dir "$build" --output-on-failure --parallel 2 --output-junit "$report" "$@"
  [ -z "$regex" ] || set -- "$@" -R "$regex"
  "$ctest" "$@" </dev/null || status=$?
  show_slowest "$report"
  return $status
}

# Under a sanitizer: what is MLX's or glibc's own is not reported; scripts are tested once, elsewhere.
# The executor leaves the handler of a kernel's fault by switching stacks; to the thread sanitizer all
# that follows is still a signal handler.
sanitizer_arguments() {
  # Since GCC 13: a compiled kernel that is unloaded leaves libstdc++'s pool for exceptions behind.
  export GLIBCXX_TUNABLES=glibcxx.eh_pool.obj_count=0
  export LSAN_OPTIONS="suppressions=$root/tools/front/lsan.supp"
  export TSAN_OPTIONS="suppressions=$root/tools/front/tsan.supp report_signal_unsafe=0"
  unset MLX_KD_LONG
  arguments=(-LE 'front|tools|python')
}

# run_preset <preset>: its tests, in a build folder of its own.
run_preset() {
  say "the tests again: $1"
  KD_PRESET=$1 KD_BUILD_DIR=${KD_BUILD_DIR:+$build-$1} "$root/kd" test ${regex:+-R "$regex"} || status=$?
}

run_sanitizers() {
  run_preset asan-ubsan
  run_preset tsan
  if command -v clang++ >/dev/null; then run_preset fuzz; else say 'skipped: the fuzzers need clang++'; fi
}

run_tests() {
  local status=0 arguments=(--no-tests=error)
  read_options "$@"
  . "$root/tools/front/build.sh"
  build_target all "${sources[@]}" "$root/tests"
  [ -z "$long" ] || export MLX_KD_LONG=1
  # Texts of kernels are what is tested; --long compiles them as they are compiled for users.
  [ -n "$long" ] || export MLX_KD_KERNEL_OPT=${MLX_KD_KERNEL_OPT:-1}
  # Kernels are compiled once for all tests, and the user's own objects stay as they are.
  export MLX_KD_CACHE_DIR=${MLX_KD_CACHE_DIR:-$build/tests/objects}
  case $preset in asan-ubsan | tsan | fuzz) sanitizer_arguments ;; esac
  run_ctest "${arguments[@]}" || status=$?
  [ -z "$long" ] || run_sanitizers
  exit $status
}
