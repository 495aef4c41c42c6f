# Every .bats file loads this. Each test has its own store, servers and programs, and ends these by their pids.
# GQ_BUILD names the directory with the programs.

bats_require_minimum_version 1.5.0
source "$BATS_TEST_DIRNAME/../scripts/servers.bash"

setup() {
  # The programs of the packages come first: another python3 may be a script that takes ten times as long to start.
  PATH="${GQ_BUILD:?}:$BATS_TEST_DIRNAME/../scripts:/usr/bin:$PATH:/usr/sbin"
  unset GQ_SERVERS GQ_CONFIG NOTIFY_SOCKET
  PRELOAD=$GQ_BUILD/gq-preload.so  # see tests/preload.cpp
  T=$BATS_TEST_TMPDIR
  export GQ_STORE=$T/store
  PIDS=()
  # With GQ_TEST_DATABASE=exec:PROGRAM ARG..., the same tests have their stores in databases; @ stands for a path.
  DATABASE=${GQ_TEST_DATABASE:-}
  unset GQ_TEST_DATABASE
  new_store "$GQ_STORE"
}

# Prepares a store's directory before its first use.
new_store() {
  [[ -n $DATABASE ]] || return 0
  mkdir -m 700 "$1"
  name_database "$1" "${DATABASE//@/$1.database}"
}

# Writes the file database of a store as `gq-inspect confirm` does: name_database STORE exec:PROGRAM...
name_database() {
  { echo "$2"; stat -c 'directory %d %i %.9W' "$1"; } >"$1/database"
}

teardown() { end_programs; }

end_programs() {
  local pid
  if [[ -v BATS_TIMED_OUT ]]; then ps -eo pid,ppid,stat,wchan:20,etime,args | grep -E 'gq-|gearmand' | cut -c 1-200; fi  # the test hung
  for pid in "${PIDS[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
  if mountpoint -q "$T/disk"; then umount -l "$T/disk"; fi
}

# Starts a program in the background. Its output is in $T/bg.N.*, its pid in $PID.
background() {
  local n=${#PIDS[@]}
  "$@" >"$T/bg.$n.out" 2>"$T/bg.$n.err" 3>&- 4>&- &
  PID=$!
  PIDS+=("$PID")
}

# Starts a gearmand on a free loopback port, or on the port that is given. The port is in $PORT, its pid in $GEARMAND.
start_gearmand() {
  local _ port
  for _ in $(seq 20); do
    port=${1:-$(free_port)}
    answers "$port" && continue
    background gearmand -L 127.0.0.1 -p "$port" -l "$T/gearmand.log"
    GEARMAND=$PID PORT=$port
    export GQ_SERVERS=127.0.0.1:$port
    answers_or_ended() { answers "$PORT" || ! kill -0 "$GEARMAND"; }
    eventually answers_or_ended
    kill -0 "$GEARMAND" 2>/dev/null && return  # else another program took the port in between
  done
  return 1
}

# Starts a gq-worker with these arguments, and waits until it serves its first function; fails with its exit status if it ends before.
# Its pid is in $WORKER.
start_worker() {
  background gq-worker "$@"
  WORKER=$PID
  local previous='' argument
  for argument in "$@"; do
    if [[ $previous == -f ]]; then
      served_or_ended() { served "$PORT" "$argument.gq" || ! kill -0 "$WORKER" 2>/dev/null; }
      eventually served_or_ended
      kill -0 "$WORKER" 2>/dev/null || wait "$WORKER"
      return
    fi
    previous=$argument
  done
}

# Changes settings in gq.json: settings OBJECT [STORE].
settings() {
  local path=${2:-$GQ_STORE}/gq.json
  jq ". + $1" "$path" >"$T/json"
  cp "$T/json" "$path"
}

# Builds a target of the build that is tested. Tests run at the same time, and two builds must not write one file.
build_target() {
  flock "$GQ_BUILD/tests.lock" cmake --build "$GQ_BUILD" --target "$1" >"$T/build"
}

# Puts the store on a file system of 8 MiB.
store_on_small_disk() {
  ((EUID == 0)) || skip "needs root, for a small file system"
  mkdir "$T/disk"
  mount -t tmpfs -o size=8m tmpfs "$T/disk"
  export GQ_STORE=$T/disk/store
}

# Starts a worker for a function, and kills it and its command while it runs a job: die_at_work FUNCTION.
die_at_work() {
  local command
  background gq-worker --local -f "$1" -- sh -c 'echo $$ >"$0"; exec sleep 60' "$T/at-work"
  eventually test -s "$T/at-work"
  command=$(<"$T/at-work")
  kill -9 "$PID" "$command"
  eventually no_process "$PID" "$command"  # kill returns before the signal has arrived
}

jobs_in() { gq-inspect list --state "$1" | wc -l; }
no_jobs() { [[ -z $(gq-inspect list) ]]; }
lines_are() { [[ $(wc -l <"$1") -eq $2 ]]; }
# Like `!`, but it also counts if it is not the last command of a test.
not() { if "$@"; then return 1; fi; }
# Runs a command without the descriptors that the test suite has open.
without_descriptors() {
  (for n in {3..20}; do eval "exec $n>&-"; done; exec "$@")
}
# Whether a program has locked a file. (An attempt to lock it would take the lock from a program that does not wait for
# it.)
locked() { grep -qE "^[0-9]+: FLOCK .*:$(stat -c %i "$1") " /proc/locks; }
fails_with() {
  local wanted=$1 got=0
  shift
  "$@" >"$T/failed.out" 2>"$T/failed.err" || got=$?
  [[ $got == "$wanted" ]] || { echo "exit $got, not $wanted: $*: $(cat "$T/failed.err")" >&2; return 1; }
  [[ $wanted == 0 || -s $T/failed.err ]] || { echo "no message: $*" >&2; return 1; }
}
segment() { ls "$GQ_STORE"/journal/*.gqj | tail -n 1; }
# Flips a bit of one byte: flip FILE OFFSET.
flip() {
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf '%b' "\\x$(printf %x $((byte ^ 4)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
# Prints the offset of a text in a file: offset_of FILE TEXT.
offset_of() { grep -abo -- "$2" "$1" | head -n 1 | cut -d: -f1; }

# Starts servers that accept connections and never answer: sinks N. $SINKS names them.
sinks() {
  background python3 -c 'import socket, sys, time
held = [socket.create_server(("127.0.0.1", 0), backlog=50) for i in range(int(sys.argv[1]))]
print(",".join("127.0.0.1:%d" % s.getsockname()[1] for s in held), flush=True)
time.sleep(600)' "$1"
  local out=$T/bg.$((${#PIDS[@]} - 1)).out
  eventually test -s "$out"
  SINKS=$(<"$out")
}

# Runs a program at another time: at +SECONDS|-SECONDS|'2026-03-01 10:00' PROGRAM... With a date, its clock stands
# still.
at() {
  local when=$1
  shift
  [[ $when == [+-]* ]] || when==$(date -ud "$when" +%s)
  LD_PRELOAD=$PRELOAD GQ_TEST_TIME=$when "$@"
}

# Starts tests/fake-gearmand: fake_gearmand FUNCTION [silent | ANSWER]. $FAKE is its address, and $FAKE_LOG the file
# with its output.
fake_gearmand() {
  background "$BATS_TEST_DIRNAME/fake-gearmand" "$@"
  FAKE_LOG=$T/bg.$((${#PIDS[@]} - 1)).out
  eventually test -s "$FAKE_LOG"
  FAKE=127.0.0.1:$(head -n 1 "$FAKE_LOG")
}
# A simulator's seed, made from the tree, so that a commit's result repeats.
seed() {
  local hash
  hash=$(git -C "$BATS_TEST_DIRNAME" rev-parse 'HEAD^{tree}' 2>"$T/git") || hash=1
  echo "$((16#${hash:0:12}))"
}
