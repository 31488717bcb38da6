# shellcheck shell=sh
# What stands in for docker on a rig's machine. It writes down each call of the host program that changes something,
# and kills the program, or docker itself, at one of them. REAL is docker, and FOLDER has these files:
#   calls   the calls so far, one a line
#   kill    NUMBER WHO WHEN: the number of a call; program or docker; before, within or after it. Empty: nobody
#   struck  is there when somebody was killed
case "$(tr '\0' ' ' <"/proc/$PPID/cmdline")" in
*bin/deploy*) ;;
*) exec "$REAL" "$@" ;; # a call of the test's own
esac
case " $* " in
*" pull "* | *" rename "* | *" stop "* | *" start "* | *" rm "* | *" update "*) ;;
*" network connect "* | *" network disconnect "* | *" run "* | *" up "* | *" create "*) ;;
*) exec "$REAL" "$@" ;; # it only asks
esac
echo "$*" >>"$FOLDER/calls"
number="" who="" when=""
read -r number who when <"$FOLDER/kill"
[ "$number" = "$(wc -l <"$FOLDER/calls")" ] || exec "$REAL" "$@"

strike() { # PROCESS
  : >"$FOLDER/struck"
  kill -KILL "$1"
}

case "$who $when" in
"program before")
  strike "$PPID"
  ;;
"program within") # docker goes on alone
  strike "$PPID"
  exec "$REAL" "$@"
  ;;
"program after")
  "$REAL" "$@"
  strike "$PPID"
  ;;
"docker before")
  strike "$$"
  ;;
"docker within") # with the plugin that it has started
  exec 3<&0
  setsid "$REAL" "$@" <&3 &
  sleep 0.3
  kill -KILL "-$!"
  strike "$$"
  ;;
"docker after")
  "$REAL" "$@"
  strike "$$"
  ;;
esac
