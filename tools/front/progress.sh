# Steps with their progress on stderr and their output in a log. Sourced by build.sh.
#
#   total_steps=2; run_step "building" build cmake --build ...
#
# On a terminal one line is rewritten five times a second; elsewhere a line is written at the start,
# the end and every ten seconds.

step_number=0
total_steps=1
child=''

[ -t 2 ] && [ "${TERM:-dumb}" != dumb ] && live=1 || live=''

show_live() {
  local columns
  columns=$(stty size 2>/dev/null <&2) && columns=${columns#* } || columns=80
  [ "$columns" -gt 20 ] || columns=80
  printf '\r\033[K%s' "$(printf '%s' "$1" | cut -c "1-$((columns - 1))")" >&2
}

# Waits for the child; the last line of its log says how far it is.
follow() {
  local head=$1 log=$2 start=$SECONDS told=$SECONDS text
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    if [ -n "$live" ]; then
      text="$head, $((SECONDS - start)) s: $(tail -n 1 "$log" 2>/dev/null)"
      show_live "$text"
    elif [ $((SECONDS - told)) -ge 10 ]; then
      told=$SECONDS
      printf '%s, %s s: %s\n' "$head" "$((SECONDS - start))" "$(tail -n 1 "$log")" >&2
    fi
  done
  wait "$child"
}

# run_step <what it does> <name of the log> <command>...: returns the command's status. The command
# has a process group of its own, so that an interrupt reaches all that it started.
run_step() {
  local doing=$1 log=$front/$2.log status start=$SECONDS
  shift 2
  step_number=$((step_number + 1))
  local head="[$step_number/$total_steps] $doing"
  [ -n "$live" ] && show_live "$head" || printf '%s (log: %s)\n' "$head" "$log" >&2
  set -m
  "$@" >"$log" 2>&1 </dev/null 9>&- &
  child=$!
  set +m
  follow "$head" "$log"
  status=$?
  child=''
  [ -n "$live" ] && printf '\r\033[K' >&2
  [ $status -eq 0 ] && printf '%s: done, %s s\n' "$head" "$((SECONDS - start))" >&2
  return $status
}

# stop_failed <step> <name of its log> [<what to do>]
stop_failed() {
  say "$1 failed. The last lines of $front/$2.log:"
  tail -n 20 "$front/$2.log" | sed 's/^/  | /' >&2
  [ -z "${3-}" ] || say "$3"
  exit 1
}

stop_interrupted() {
  trap '' INT TERM HUP
  if [ -n "$child" ]; then
    kill -TERM -- "-$child" 2>/dev/null
    wait "$child" 2>/dev/null
  fi
  [ -n "$live" ] && printf '\n' >&2
  say 'interrupted; the next call continues from here'
  exit "$1"
}
trap 'stop_interrupted 130' INT
trap 'stop_interrupted 143' TERM
trap 'stop_interrupted 129' HUP
