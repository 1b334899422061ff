# SPDX-License-Identifier: Apache-2.0
# What the scripts share. Each gets the program in $PATCHBAY, exits 0 if all held, and leaves nothing behind.
set -uo pipefail
: "${PATCHBAY:?set PATCHBAY to the patchbay binary}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "FAILED: $*"
  for log in "$work"/*; do
    echo "--- $log"
    tail -n 30 "$log"
  done
  exit 1
}

# expect STATUS COMMAND…: runs it and checks its exit status; output in $work/out and $work/err.
expect() {
  local wanted=$1 got=0
  shift
  "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
  [ "$got" -eq "$wanted" ] || fail "'$*' exited with $got, not $wanted"
}

said() { grep -q -- "$1" "$work/out" "$work/err" || fail "nothing was said of '$1'"; }

# await SECONDS COMMAND…: polls until the command succeeds.
await() {
  local tries=$(($1 * 20))
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "waited in vain for: $*"
    sleep 0.05
  done
}

# The id that a lab prints when it starts, from its log.
lab_id() { sed -n 's/.* lab \([a-z0-9]\{6\}\): .*/\1/p' "$1" | head -n 1; }
has_namespace() { ip netns list | grep -q "^pblab-$1-$2"; }
gone() { ! ip netns list | grep -q "^pblab-$1-" && [ ! -e "/run/patchbay-lab/$1" ]; }

# A lab that stays while a script works with it: $id, and $state, its folder.
id=''
started=()
end_lab() {
  for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null; done
  [ -z "$id" ] || "$PATCHBAY" lab down --lab "$id" >/dev/null 2>&1
  rm -rf "$work"
}
lab_up() {
  trap end_lab EXIT
  expect 0 "$PATCHBAY" lab up "$@"
  id=$(lab_id "$work/err")
  [ -n "$id" ] || fail 'the lab has no id'
  state=/run/patchbay-lab/$id
}
pid_of() {
  python3 -c 'import json, sys; print(next(p["pid"] for p in json.load(open(sys.argv[1]))["processes"] if p["name"] == sys.argv[2]))' \
    "$state/state.json" "$1"
}

# again NAME [VARIABLE=VALUE…]: kill -9, then the same program, with the same environment and these, in the same namespace.
again() {
  local name=$1 pid
  pid=$(pid_of "$name")
  shift
  local -a environment command
  mapfile -d '' environment <"/proc/$pid/environ"
  mapfile -d '' command <"/proc/$pid/cmdline"
  command[0]=$PATCHBAY
  local netns
  netns=$(ip netns identify "$pid")
  kill -9 "$pid"
  while [ -e "/proc/$pid/exe" ] && [ "$(cut -d' ' -f3 <"/proc/$pid/stat" 2>/dev/null)" != Z ]; do sleep 0.01; done
  ip netns exec "$netns" env -i "${environment[@]}" "$@" "${command[@]}" >>"$work/$name.log" 2>&1 &
  started+=($!)
}
