load helpers

# A remote machine: a store and a worker of its own, which serves f.
start_remote() { start_worker --store "$T/remote" -f f "$@"; }
states() { gq-inspect list "$@" | cut -f2 | sort | uniq -c | xargs; }
in_store() { gq-inspect list --store "$1" | cut -f1; }
none_spooled() { [[ -z $(gq-inspect list --state spooled) ]]; }

@test "gq-enqueue: --spool keeps jobs here when no server answers; nothing runs them here, and the next --spool forwards them in order" {
  GQ_SERVERS=127.0.0.1:1 gq-enqueue f --spool <<<1 >"$T/ids" 2>"$T/err"
  grep -qx "gq-enqueue: warning: $(<"$T/ids"): spooled with copies=1: .*127.0.0.1:1.*" "$T/err"
  head -c 100000 /dev/zero | GQ_SERVERS=127.0.0.1:1 gq-enqueue f --spool >>"$T/ids" 2>/dev/null
  seq 3 20 | GQ_SERVERS=127.0.0.1:1 gq-enqueue f --spool -l --name s >>"$T/ids" 2>"$T/err"
  grep -q '^gq-enqueue: warning: 18 jobs spooled with copies=1: ' "$T/err"
  [[ $(states) == '20 spooled' && $(in_store "$GQ_STORE") == "$(<"$T/ids")" ]]
  gq-inspect stats --json | jq -es 'map(select(.function == "f"))[0] | .spooled == 20 and .pending == 0 and .queued == 0'
  gq-inspect show "$(head -n 1 "$T/ids")" | grep -qx 'waits: until it is forwarded to another store'
  [[ -z $(gq-flush --all -- echo ran) && $(states) == '20 spooled' ]]
  gq-worker --local --drain -f f -- echo ran
  [[ $(states) == '20 spooled' ]]
  # A server without a worker: the job queues behind them.
  start_gearmand
  gq-enqueue f --spool <<<21 >>"$T/ids" 2>"$T/err"
  grep -q 'no worker serves the function f' "$T/err"
  [[ $(states) == '21 spooled' ]]
  start_remote --queue-only
  gq-enqueue f --spool <<<22 >>"$T/ids" 2>"$T/err"
  [[ ! -s $T/err && -z $(in_store "$GQ_STORE") && $(in_store "$T/remote") == "$(<"$T/ids")" ]]
  gq-inspect list --store "$T/remote" --json | jq -es 'map(.name // "-") | add == "--" + "s" * 18 + "--"'
  [[ $(gq-inspect cat --store "$T/remote" "$(sed -n 2p "$T/ids")" | wc -c) == 100000 && -z $(find "$GQ_STORE/blobs" -type f) ]]
  gq-inspect check
  for bad in --local --wait '--after 01ARZ3NDEKTSV4RRFFQ6000001' '--from 01ARZ3NDEKTSV4RRFFQ6000001'; do fails_with 64 gq-enqueue f --spool $bad; done
}

@test "gq-flush: --forward sends what is spooled, of some functions or of all; a job that is refused for good is dead, and the next goes on" {
  local refused
  export GQ_SERVERS=127.0.0.1:1
  gq-enqueue g --spool <<<g >/dev/null 2>&1
  refused=$(gq-enqueue f --spool --id 01ARZ3NDEKTSV4RRFFQ6000001 <<<mine 2>/dev/null)
  seq 3 | gq-enqueue f --spool -l >"$T/ids" 2>/dev/null
  fails_with 75 gq-flush --forward
  grep -q 'cannot forward all spooled jobs: ' "$T/failed.err"
  fails_with 64 gq-flush --forward -f f -- true
  start_gearmand
  start_remote --queue-only
  gq-enqueue f --id "$refused" <<<another
  fails_with 1 gq-flush --forward -f f
  grep -q "$refused: spooled, and refused for good: another job has this ID or key; it is kept as dead" "$T/failed.err"
  [[ $(in_store "$T/remote") == "$refused"$'\n'"$(<"$T/ids")" && $(states) == '1 dead 1 spooled' ]]
  gq-inspect show "$refused" | grep -qx 'reason: another job has this ID or key'
  # A kick spools it again. A server without a worker for g does not delay it.
  gq-flush --kick "$refused"
  [[ $(states) == '2 spooled' ]]
  fails_with 75 gq-flush --forward
  grep -q 'no worker serves the function g' "$T/failed.err"
  [[ $(states) == '1 dead 1 spooled' ]]
  [[ $(gq-flush --drop "$refused") == '1 job dropped' ]]
  kill "$WORKER"; wait "$WORKER"
  start_worker --store "$T/remote" -f g --queue-only
  [[ -z $(gq-flush --forward 2>&1) && -z $(in_store "$GQ_STORE") ]]
  [[ -z $(gq-flush --forward 2>&1) ]]
}

@test "gq-worker: forwards what is spooled in its store when a server comes back; one that serves the function itself runs it" {
  local port id
  port=$(free_port)
  seq 5 | GQ_SERVERS=127.0.0.1:$port gq-enqueue f --spool -l >"$T/ids" 2>/dev/null
  id=$(GQ_SERVERS=127.0.0.1:$port gq-enqueue g --spool <<<x 2>/dev/null)
  export GQ_SERVERS=127.0.0.1:$port
  background gq-worker -f g -- sh -c 'echo "$GQ_JOB_ID" >>"$0"' "$T/out"
  eventually grep -q 'cannot forward the spooled jobs: ' "$T/bg.0.err"
  start_gearmand "$port"
  start_remote --queue-only
  in_order() { [[ $(in_store "$T/remote") == "$(<"$T/ids")" ]]; }
  eventually in_order
  eventually no_jobs
  [[ $(<"$T/out") == "$id" ]]
  gq-inspect show "$id" | grep -qx 'state: finished'
}

@test "gq-flush: --drop and --cancel act on spooled jobs, but not while they may be on their way" {
  local dropped cancelled
  export GQ_SERVERS=127.0.0.1:1
  dropped=$(gq-enqueue f --spool --key k <<<x 2>/dev/null)
  [[ $(gq-enqueue f --spool --key k <<<x 2>/dev/null) == "$dropped" ]]
  cancelled=$(gq-enqueue f --spool <<<x 2>/dev/null)
  flock "$GQ_STORE/forward.lock" sh -c 'gq-flush --drop "$1"; echo $?; gq-flush --cancel "$2"; echo $?; gq-flush --forward; echo $?' - "$dropped" "$cancelled" >"$T/out" 2>"$T/err"
  [[ $(grep -vE 'jobs? (dropped|cancelled)' "$T/out" | xargs) == '1 75 75' ]]
  [[ $(grep -c 'it may be on its way to another store now' "$T/err") == 2 ]]
  # A job that is spooled while another process forwards others is behind them, and is not left.
  [[ $(states) == '2 spooled' ]]
  [[ $(gq-flush --cancel "$cancelled") == '1 job cancelled' && $(gq-flush --drop "$dropped") == '1 job dropped' ]]
  [[ $(states) == '1 dead' ]]
}

# bats test_tags=long
@test "gq-enqueue: --spool loses nothing and keeps the order [kill -9 at each call, of the program that spools and of the one that forwards]" {
  local killed=0 calls=(1 2 3 5 8 13 21 34)
  dies_at() { strace -qq -f -o "$T/strace" -e "inject=$1:signal=SIGKILL:when=$2" "${@:3}" 2>/dev/null; [[ $? == 137 ]]; }
  spool() { GQ_SERVERS=127.0.0.1:1 "$@" gq-enqueue f --spool -l >>"$T/ids" 2>/dev/null; }
  for call in openat pwrite64 write fdatasync flock; do
    for i in "${calls[@]}"; do
      if seq 2 | spool dies_at "$call" "$i"; then killed=$((killed + 1)); else break; fi
    done
  done
  ((killed > 10))
  # What was printed is there, in this order.
  in_store "$GQ_STORE" >"$T/spooled"
  grep -xFf "$T/ids" "$T/spooled" | cmp - "$T/ids"
  start_gearmand
  start_remote --queue-only
  killed=0
  for call in openat pwrite64 fdatasync sendmsg recvfrom flock; do
    for i in "${calls[@]}"; do
      seq 2 | spool env
      if dies_at "$call" "$i" gq-flush --forward; then killed=$((killed + 1)); else break; fi
    done
  done
  ((killed > 10))
  gq-flush --forward
  [[ -z $(in_store "$GQ_STORE") ]]
  in_store "$T/remote" >"$T/forwarded"
  grep -xFf "$T/ids" "$T/forwarded" | cmp - "$T/ids"
  head -n "$(wc -l <"$T/spooled")" "$T/forwarded" | cmp - "$T/spooled"
  gq-inspect check
}

@test "gq-enqueue: --spool sends a job again that a worker had taken without an answer, and it is one job [a silent worker, a full disk, cleaning, a snapshot, an export]" {
  local id
  fake_gearmand f.gq silent
  id=$(GQ_SERVERS=$FAKE gq-enqueue f --spool --timeout 300ms <<<x 2>"$T/err")
  grep -q "$id: spooled with copies=1: " "$T/err"
  start_gearmand
  start_remote --queue-only
  gq-enqueue f --id "$id" <<<x
  rm "$GQ_STORE"/index.*
  gq-flush --clean
  gq-snapshot create "$T/snapshots" >/dev/null
  gq-snapshot export >"$T/stream"
  gq-flush --forward
  [[ -z $(in_store "$GQ_STORE") && $(in_store "$T/remote") == "$id" ]]
  gq-flush --clean
  rm "$GQ_STORE"/index.*
  [[ -z $(in_store "$GQ_STORE") ]]
  # The snapshot has it: it is forwarded once more, and is the same job. An import makes it a job of the store.
  gq-snapshot restore "$T/snapshots" --store "$T/restored" >/dev/null
  [[ $(GQ_STORE=$T/restored gq-inspect list --state spooled | cut -f1) == "$id" ]]
  GQ_STORE=$T/restored gq-flush --forward
  [[ $(in_store "$T/remote") == "$id" ]]
  GQ_STORE=$T/imported gq-snapshot import <"$T/stream"
  [[ $(GQ_STORE=$T/imported gq-inspect list --state queued | cut -f1) == "$id" ]]
  gq-inspect check
}

@test "gq-enqueue: --spool refuses the jobs with 74 when there is no room here either, and a store of a group with 78" {
  store_on_small_disk
  export GQ_SERVERS=127.0.0.1:1
  echo x | gq-enqueue f --spool >/dev/null 2>&1
  head -c 7000000 /dev/zero >"$T/large"
  fails_with 74 gq-enqueue f --spool "$T/large"
  [[ $(states) == '1 spooled' ]]
  export GQ_STORE=$T/node
  gq-replicate init --as rep_1 --group rep_1,rep_2 >/dev/null
  fails_with 78 gq-enqueue f --spool <<<x
}
