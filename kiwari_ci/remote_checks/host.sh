#!/usr/bin/env bash
# Prints what a doctor wants to know of this server, a fact a line, its words between tabs. It changes nothing.
# Of env files only the names of keys leave the server. Read by `bash -s`, so it begins when all of it is here.
# Words: FOLDER, then, below it: file:PATH  env:PATH:KEY,KEY...  stack:NAME  database:CONTAINER
set -u
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
python=/usr/bin/python3 # the one that runs bin/deploy

fact() { # WORD...
  local line=$1 word
  for word in "${@:2}"; do line+=$'\t'${word//[$'\t\r\n']/ }; done
  printf '%s\n' "$line"
}

docker() { timeout -k 1 8 docker "$@"; }

machine() {
  fact login "$(id -un)" "$(id -nG)"
  fact python "$($python -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
  fact memory "$(awk '/^(Mem(Total|Available)|Swap(Total|Free)):/ {print $1 int($2 / 1024)}' /proc/meminfo | xargs)"
  fact addresses "$(ip -o address show scope global 2>/dev/null | awk '{sub("/.*", "", $4); print $4}' | xargs)"
  cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | while read -r kind key _; do fact hostkey "$kind" "$key"; done
  if [ -r "$HOME/.ssh/authorized_keys" ]; then
    while IFS= read -r line || [ -n "$line" ]; do fact authorized "$line"; done <"$HOME/.ssh/authorized_keys"
  fi
}

answer() { # WHERE STATUS DOMAIN SCHEME ADDRESS...: what a container answers when bin/deploy asks it
  # WHERE is :PORT/PATH for a request over HTTP, whose status is printed, or tcp:PORT for a connection: `open`
  $python -I - "$@" <<'END'
import http.client
import socket
import sys

where, expected, domain, scheme, *addresses = sys.argv[1:]
kind, _, place = where.partition(":")
port, _, path = place.partition("/")
headers = {"User-Agent": "kiwari-ci", "Connection": "close"}
if domain:
    headers.update({"Host": domain, "X-Forwarded-Proto": scheme})
status = ""
for address in addresses:
    if "." not in address and ":" not in address:
        continue  # newer engines print words for an address that is none
    if kind == "tcp":
        try:
            socket.create_connection((address, int(port)), timeout=5).close()
        except OSError:
            continue
        status = "open"
        break
    connection = http.client.HTTPConnection(address, int(port), timeout=5)
    try:
        connection.request("GET", "/" + path, headers=headers)
        status = str(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        continue
    if status == expected:
        break
print(status)
END
}

engine() { # what runs, and what answers
  local said id name image status started restarts code oom health project networks ports addresses label domain
  local scheme where expected
  said=$(docker version -f '{{.Server.Version}}' 2>&1) || {
    [ $? != 124 ] || said='no answer within 8 s'
    fact engine '' "$(tail -n 1 <<<"$said")"
    return 1
  }
  fact engine "$said"
  fact compose "$(docker compose version --short 2>/dev/null)"
  said=$(docker info -f '{{.DockerRootDir}}')
  fact disk "$said" "$(df -m --output=avail "$said" 2>/dev/null | tail -n 1 | tr -d ' ')"
  docker network ls --format '{{.Name}}' | while read -r name; do fact network "$name"; done
  set --
  for id in $(docker ps -aq); do set -- "$@" "$id"; done
  [ $# = 0 ] || docker inspect -f '{{.Name}}|{{.Config.Image}}|{{.State.Status}}|{{.State.StartedAt}}|{{.RestartCount
    }}|{{.State.ExitCode}}|{{.State.OOMKilled}}|{{if .State.Health}}{{.State.Health.Status}}{{end}}|{{
    index .Config.Labels "com.docker.compose.project"}}|{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}|{{
    range .NetworkSettings.Ports}}{{range .}}{{.HostPort}} {{end}}{{end}}|{{
    range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{end}}|{{index .Config.Labels "deploy.health"}}|{{
    index .Config.Labels "deploy.host"}}|{{index .Config.Labels "deploy.scheme"}}' "$@" 2>/dev/null |
    { while IFS='|' read -r name image status started restarts code oom health project networks ports addresses label \
      domain scheme; do
      fact container "${name#/}" "$image" "$status" "$started" "$restarts" "$code" "$oom" "$health" "$project" \
        "$networks" "$ports" "$label"
      read -r where expected <<<"$label "
      case $status/$where in
        running/:* | running/tcp:*) ;;
        *) continue ;;
      esac
      # shellcheck disable=SC2086 # each address is a word
      fact answer "${name#/}" "$(answer "$where" "${expected:-200}" "$domain" "${scheme:-https}" \
        $addresses)" "${expected:-200}" &
    done && wait; }
}

env_file() { # PATH KEYS
  if [ ! -e "$1" ]; then
    fact env "$1" missing
  elif [ ! -r "$1" ]; then
    fact env "$1" unreadable
  else
    fact env "$1" "$(stat -Lc %a "$1")"
    # A key that nobody expects is named when it cannot be a part of a value; other lines are counted.
    # The flags are what bin/deploy refuses: whatever Compose reads in another way than a person does.
    awk -v path="$1" -v keys=",$2," '
      NR == 1 {sub(/^\357\273\277/, "")}
      {sub(/\r$/, "")}
      open {if (index($0, open)) open = ""; next}
      /^[ \t]*(#|$)/ {next}
      {
        line = $0; sub(/^[ \t]*(export[ \t]+)?/, "", line); sub(/[ \t]+$/, "", line)
        at = match(line, /[ \t]*[=:][ \t]*/)
        key = at ? substr(line, 1, at - 1) : line; value = at ? substr(line, at + RLENGTH) : ""
        is_set = at && substr(line, at, RLENGTH) ~ /=/
        quote = substr(value, 1, 1); rest = substr(value, 2); flags = ""
        if (quote == "\047" || quote == "\"") {
          end = index(rest, quote); inside = end ? substr(rest, 1, end - 1) : rest
          if (!end) {open = quote; flags = flags " lines"}
          if (end && end < length(rest)) flags = flags " comment"
          if (quote == "\"" && index(inside, "$")) flags = flags " dollar"
          if (quote == "\"" && index(inside, "\\")) flags = flags " backslash"
        } else {
          if (value ~ /[ \t]#/) flags = flags " comment"
          sub(/[ \t]#.*/, "", value)
          if (index(value, "$")) flags = flags " dollar"
        }
        known = index(keys, "," key ",")
        if (!known && (key !~ /^[A-Z][A-Z0-9_]*$/ || !is_set || value ~ /^=*$/)) {others++; next}
        if (line ~ /change-me/) flags = flags " change-me"
        if (value ~ /^(\047\047|"")?[ \t]*(#.*)?$/) flags = flags " empty"
        printf "key\t%s\t%s\t%s\n", path, key, substr(flags, 2)
      }
      END {if (others) printf "others\t%s\t%d\n", path, others}' "$1"
  fi
}

is_of_deploy() { # FILE: whether bin/deploy wrote all of an override file
  local head=$'# Written by bin/deploy: what serves. Compose reads it by itself.\nservices:'
  [ "$(head -n 2 "$1")" = "$head" ] &&
    ! tail -n +3 "$1" | grep -qvxE '  [A-Za-z0-9][A-Za-z0-9._-]*: \{(image: "[^"\]+")?\}'
}

stack() { # NAME: what bin/deploy has written there
  local file line service image
  for file in "$1"/.deploys/*; do
    [ ! -f "$file" ] || fact record "$1" "${file##*/}" \
      "$(grep -xE '[^ ]+@sha256:[0-9a-f]{64} [0-9]+ [^ ]+ [^ ]+' "$file" | tail -n 1)"
    [ ! -f "$file" ] || tail -n 50 "$file" | while read -r line; do fact served "$1" "${file##*/}" "$line"; done
  done
  for file in compose.y{a,}ml {docker-,}compose.override.yaml compose.override.yml docker-compose.yaml; do
    [ ! -e "$1/$file" ] || fact unwanted "$1/$file"
  done
  file=$1/docker-compose.override.yml
  [ -f "$file" ] || return
  is_of_deploy "$file" || fact foreign "$file"
  sed -n 's/^  \([^ ]*\): {image: "\(.*\)"}$/\1 \2/p' "$file" |
    while read -r service image; do fact pin "$1" "$service" "$image"; done
}

database() { # CONTAINER
  local said kind one two
  # shellcheck disable=SC2016 # expanded in the container
  said=$(docker exec "$1" sh -c 'export PGCONNECT_TIMEOUT=5 PGOPTIONS="-c default_transaction_read_only=on"
    exec psql -XAtqw -U "${POSTGRES_USER:-postgres}" -d postgres -c "$1"' sh "
    SELECT 'owner', datname, pg_get_userbyid(datdba) FROM pg_database UNION ALL
    SELECT 'role', rolname, CASE WHEN rolcanlogin THEN 'login' ELSE '' END FROM pg_roles UNION ALL
    SELECT 'reach', rolname, datname FROM pg_roles r, pg_database d
      WHERE has_database_privilege(r.oid, d.oid, 'CONNECT')" 2>&1) || {
    fact unasked "$1" "$(tail -n 1 <<<"$said")"
    return
  }
  while IFS='|' read -r kind one two; do fact "$kind" "$1" "$one" "$two"; done <<<"$said"
}

schedule() { # what bin/database says of backups and jobs
  local said line
  said=$(bin/database status 2>&1)
  fact schedule "$?"
  grep '^FAILURE: ' <<<"$said" | while read -r line; do fact failure "${line#FAILURE: }"; done
}

main() {
  local folder=$1 word runs=
  fact begin
  machine
  ! engine || runs=yes
  if ! cd || ! cd -- "$folder"; then fact nofolder "$folder" && folder=; fi 2>/dev/null
  for word in "${@:2}"; do
    case $word in
      database:*) [ -z "$runs" ] || database "${word#*:}" ;;
      *) [ -n "$folder" ] || continue ;;&
      file:*) word=${word#*:} && fact file "$word" "$(sha256sum <"$word" | cut -d ' ' -f 1)" "$(stat -Lc %a "$word")" ;;
      env:*) word=${word#*:} && env_file "${word%%:*}" "${word#*:}" ;;
      stack:*) stack "${word#*:}" ;;
      schedule:) [ -z "$runs" ] || schedule ;;
    esac
  done 2>/dev/null
  fact end
}

main "$@" </dev/null
