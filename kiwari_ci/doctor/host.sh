#!/usr/bin/env bash
# Prints what a doctor wants to know of this server, a fact a line, its words between tabs. It changes nothing.
# Of env files only the names of keys leave the server. Read by `bash -s`, so it begins when all of it is here.
# Words: FOLDER, then, below it: file:PATH  env:PATH:KEY,KEY...  stack:NAME  database:CONTAINER
set -u
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

fact() { # WORD...
  local line=$1 word
  for word in "${@:2}"; do line+=$'\t'${word//[$'\t\r\n']/ }; done
  printf '%s\n' "$line"
}

docker() { timeout -k 1 8 docker "$@"; }

machine() {
  fact login "$(id -un)" "$(id -nG)"
  fact python "$(python3 -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
  fact curl "$(command -v curl)"
  fact memory "$(awk '/^(Mem(Total|Available)|Swap(Total|Free)):/ {print $1 int($2 / 1024)}' /proc/meminfo | xargs)"
  fact addresses "$(ip -o address show scope global 2>/dev/null | awk '{sub("/.*", "", $4); print $4}' | xargs)"
  cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | while read -r kind key _; do fact hostkey "$kind" "$key"; done
  if [ -r "$HOME/.ssh/authorized_keys" ]; then
    while IFS= read -r line || [ -n "$line" ]; do fact authorized "$line"; done <"$HOME/.ssh/authorized_keys"
  fi
}

engine() { # what runs, and what answers
  local said id name image status started restarts code oom health project networks ports label address where expected
  local domain header
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
    range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}|{{index .Config.Labels "deploy.health"}}|{{
    index .Config.Labels "deploy.host"}}' "$@" 2>/dev/null |
    { while IFS='|' read -r name image status started restarts code oom health project networks ports address label \
      domain; do
      fact container "${name#/}" "$image" "$status" "$started" "$restarts" "$code" "$oom" "$health" "$project" \
        "$networks" "$ports" "$label"
      read -r where expected <<<"$label "
      header=()
      [ -z "$domain" ] || header=(--header "Host: $domain" --header 'X-Forwarded-Proto: https')
      [ "$status" != running ] || [ -z "$where" ] || fact answer "${name#/}" "$(curl -qgs -o /dev/null -m 5 \
        --noproxy '*' "${header[@]}" -w '%{http_code}' "http://${address%% *}$where")" "${expected:-200}" &
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
    awk -v path="$1" -v keys=",$2," '
      NR == 1 {sub(/^\357\273\277/, "")}
      {sub(/\r$/, "")}
      open {if (index($0, open)) open = ""; next}
      /^[ \t]*(#|$)/ {next}
      {
        at = index($0, "="); key = at ? substr($0, 1, at - 1) : $0; value = at ? substr($0, at + 1) : ""
        sub(/^[ \t]*(export[ \t]+)?/, "", key); sub(/[ \t]+$/, "", key); sub(/^[ \t]+/, "", value)
        quote = substr(value, 1, 1)
        if ((quote == "\047" || quote == "\"") && !index(substr(value, 2), quote)) open = quote
        known = index(keys, "," key ",")
        if (!known && (key !~ /^[A-Z][A-Z0-9_]*$/ || !at || value ~ /^=*$/)) {others++; next}
        flags = ""
        if ($0 ~ /^[^#]*change-me/) flags = flags " change-me"
        if ($0 ~ /^[^#\047=]*=[^\047#]*[$]/) flags = flags " dollar"
        if (value ~ /^(\047\047|"")?[ \t]*(#.*)?$/) flags = flags " empty"
        printf "key\t%s\t%s\t%s\n", path, key, substr(flags, 2)
      }
      END {if (others) printf "others\t%s\t%d\n", path, others}' "$1"
  fi
}

stack() { # NAME: what bin/deploy has written there
  local file line service image
  for file in "$1"/.deploys/*; do
    [ ! -f "$file" ] || fact record "$1" "${file##*/}" \
      "$(grep -xE '[^ ]+@sha256:[0-9a-f]{64} [0-9]+ [^ ]+ [^ ]+' "$file" | tail -n 1)"
    [ ! -f "$file" ] || tail -n 50 "$file" | while read -r line; do fact served "$1" "${file##*/}" "$line"; done
  done
  file=$1/docker-compose.override.yml
  [ -f "$file" ] || return
  grep -q '^# Written by bin/deploy' "$file" || fact foreign "$file"
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
    esac
  done 2>/dev/null
  fact end
}

main "$@" </dev/null
