# ./kd hooks: has git run the hooks of tools/hooks. Sourced by kd.

hooks_help() {
  cat <<'END'
Installs the commit-msg hook of tools/hooks, which checks the form of commit messages.
Usage: ./kd hooks

A hook of your own is left alone, and its path is printed.
END
}

run_hooks() {
  local folder hook mark='runs tools/hooks/commit-msg of mlx-kd'
  case ${1-} in
    '') ;;
    -h | --help) hooks_help; exit ;;
    *) refuse "hooks: unknown option $1: see ./kd hooks --help" ;;
  esac
  folder=$(git -C "$root" rev-parse --git-path hooks 2>/dev/null) || refuse "hooks: $root is not a git clone"
  case $folder in /*) ;; *) folder=$root/$folder ;; esac
  hook=$folder/commit-msg
  if [ -e "$hook" ] && ! grep -qs "$mark" "$hook"; then
    refuse "hooks: $hook is a hook of your own: call tools/hooks/commit-msg from it"
  fi
  mkdir -p "$folder" && cat >"$hook" <<END && chmod +x "$hook" || refuse "hooks: cannot write $hook"
#!/bin/sh
# $mark, if the checked-out tree has it.
hook=\$(git rev-parse --show-toplevel)/tools/hooks/commit-msg
[ ! -x "\$hook" ] || exec "\$hook" "\$@"
END
  say "git runs tools/hooks/commit-msg from now on"
}
