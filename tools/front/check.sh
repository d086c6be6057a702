# ./kd check and ./kd format: the checks of the tree that need no build. Sourced by kd.

check_help() {
  cat <<'END'
Checks the tree without building it; ./kd test does the same and more.
Usage: ./kd check

  layers      every room includes only what its rank allows
  format      C++ is formatted (skipped if clang-format 14 is not installed)
  lengths     no file has more than 400 lines, no function of mlx_kd/ more than 40
  language    texts are in plain English
  docs        links, length and width of the documents
  generated   docs/results.md, docs/rooms.svg, docs/cpp-api.md and README's tables are up to date
  commands    the documents show commands that exist (skipped if nothing is built)

Exit status: 0 if all pass, 1 if one does not.
END
}

format_help() {
  cat <<'END'
Formats the C++ files with clang-format 14.
Usage: ./kd format

Exit status: 0; 77 if clang-format 14 is not installed.
END
}

# tool <name> <argument>...: a script of tools/, with the environment's Python if there is one.
tool() {
  local python=$venv/bin/python script=$root/tools/$1.py
  shift
  [ -x "$python" ] || python=python3
  "$python" "$script" "$@"
}

# check_step <what> <tool> <argument>...: its output after its name; remembers a failure in $failed.
check_step() {
  local what=$1 status=0
  shift
  printf '%s: ' "$what"
  tool "$@" || status=$?
  case $status in 0 | 77) ;; *) failed=1 ;; esac
}

# no_arguments <verb> <argument>...: its help, or a refusal.
no_arguments() {
  case ${2-} in
    '') ;;
    -h | --help) "$1_help"; exit ;;
    *) refuse "$1: unknown option $2: see ./kd $1 --help" ;;
  esac
}

run_check() {
  local failed=''
  no_arguments check "$@"
  check_step layers check_layers
  check_step format check_format
  check_step lengths check_lengths
  check_step language check_language
  check_step docs check_docs
  check_step results results_page --check
  check_step rooms room_figure --check
  check_step api api_reference --check "$root/docs/cpp-api.md"
  if [ -x "$program" ]; then check_step commands check_commands "$program"; fi
  [ -z "$failed" ]
}

run_format() {
  no_arguments format "$@"
  tool check_format --fix
}
