# What bash reads before bin/deploy ($BASH_ENV), whose bytes stay as they are: writes down each command that the script
# is about to execute, in every shell of it, and kills the script at one of them; what the script has started goes on.
#   KILL_LOG=FILE KILL_PAUSE=SECONDS [KILL_AT=COMMAND KILL_COUNT=N [KILL_ALL=SECONDS]]   COMMAND as printf %q writes it
# With KILL_ALL it kills the script's whole process group, so many seconds after the command has begun.
[[ $0 == */bin/deploy ]] || return 0
strike() { # LINE COMMAND
  local at times
  [ "${BASH_SOURCE[1]}" != "${BASH_SOURCE[0]}" ] || return 0 # the sleep below is ours
  printf -v at %q "$2" && echo "$1 $at" >>"$KILL_LOG"
  [ "$at" = "${KILL_AT-}" ] || return 0
  echo >>"$KILL_LOG.times" && mapfile -t times <"$KILL_LOG.times"
  [ "${#times[@]}" = "$KILL_COUNT" ] || return 0
  if [ "${KILL_ALL-}" ]; then (command sleep "$KILL_ALL" && kill -KILL 0) & else kill -KILL $$; fi
}
sleep() { command sleep "${1/11/$KILL_PAUSE}"; } # the proxies' memory for names is then as much shorter
set -T
trap 'strike "$LINENO" "$BASH_COMMAND"' DEBUG
