# ./kd bench NAME: builds one benchmark of bench/ and runs it. Sourced by kd.

bench_help() {
  cat <<'END'
Builds and runs a benchmark (bench/README.md says what each measures).
Usage: ./kd bench NAME [ARGUMENT...]

Arguments after NAME are the benchmark's own; the head of bench/NAME.cpp states them.
END
  printf 'Names:%s\n' "$(bench_names)"
}

bench_names() {
  local file
  for file in "$root"/bench/*.cpp; do
    file=${file##*/}
    [ "$file" = '*.cpp' ] || printf ' %s' "${file%.cpp}"
  done
}

run_bench() {
  local name=${1-}
  case $name in
    -h | --help) bench_help; exit ;;
    '' | -* | */*) refuse 'bench: name a benchmark: see ./kd bench --help' ;;
  esac
  shift
  [ ! -f "$root/bench/$name.py" ] || refuse "bench: bench/$name.py is a script: run it directly"
  [ -f "$root/bench/$name.cpp" ] || refuse "bench: there is no bench/$name.cpp: name one of$(bench_names)"
  . "$root/tools/front/build.sh"
  program=$build/bench/bench_$name
  build_target "bench_$name" "${sources[@]}" "$root/bench"
  exec "$program" "$@"
}
