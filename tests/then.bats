load helpers

# gq-worker --then: what a command prints becomes jobs of another function.

field() { gq-inspect show "$1" --json | jq -r ".$2"; }
# Runs the jobs of a function until none is left, and turns what they print into jobs: feed FUNCTION OPTIONS... -- COMMAND...
feed() { gq-worker --local --drain -q -f "$@"; }
# Prints the workloads of all jobs of a function, in the order in which they run, each in < and >, and ends the jobs.
eat() { gq-flush -f "$1" -- sh -c 'printf "<"; cat; printf ">"'; }
# The IDs of the jobs of a function that are in a state.
ids_of() { gq-inspect list --json -f "$1" --state "$2" | jq -r .id; }
# Runs a worker that is killed at its n-th call of a system call: killed_at CALL N gq-worker...
killed_at() {
  local call=$1 n=$2
  shift 2
  strace -f -b execve -o "$T/trace" -e "trace=$call" -e "inject=$call:signal=SIGKILL:when=$n" "$@" >/dev/null 2>&1
}

# bats test_tags=database
@test "gq-worker: --then makes a job of what a command prints, --then-lines and --then-null of each item; of nothing, and with exit status 99, none" {
  local out
  gq-enqueue f --local <<<one
  gq-enqueue f --local -0 < <(printf 'two\0three')
  out=$(feed f --then g -- sh -c 'echo "got $(cat)"')
  [[ -z $out && $(eat g) == $'<got one\n><got two\n><got three\n>' ]]
  gq-enqueue f --local </dev/null
  feed f --then-lines --then g -- printf 'a\n\nb'
  [[ $(eat g) == '<a><><b>' ]]
  gq-enqueue f --local </dev/null
  feed f --then-null --then g -- printf 'a\nb\0c\0'
  [[ $(eat g) == $'<a\nb><c>' ]]
  printf '%s\n' 0 1 99 100 | gq-enqueue f --local -l
  feed f --then g --max-attempts 1 -- sh -c 'read -r status; [ "$status" = 0 ] || echo lost; exit "$status"'
  [[ -z $(gq-inspect list -f g) && $(ids_of f dead | wc -l) == 2 ]]
  gq-inspect check
  rm "$GQ_STORE"/index.*
  gq-inspect check
}

# bats test_tags=database
@test "gq-worker: --then takes outputs of any size, and they stay when the parent is kept, forgotten or its output is kept, too" {
  local size kept
  gq-enqueue idle --local --delay 1d </dev/null
  settings '{segment_size: "20K", clean_after: "0s", remember: "0s"}'
  for size in 1 65536 65537 3000000; do gq-enqueue f --local <<<$size; done
  kept=$(gq-enqueue f --local --result <<<70000)
  feed f --then g -- sh -c 'head -c "$(cat)" /dev/zero | tr "\0" x'
  [[ $(gq-inspect output "$kept" | wc -c) == 70000 && $(find "$GQ_STORE/blobs" -type f | wc -l) == 4 ]]
  for _ in 1 2 3; do
    seq -f '%060000g' 10 | gq-enqueue h --local -l >/dev/null
    gq-flush -f h -- true
    sleep 0.2
    gq-flush --clean
    gq-inspect check
  done
  rm "$GQ_STORE"/index.*
  [[ $(gq-flush -f g -- wc -c | tr '\n' ' ') == '1 65536 65537 3000000 70000 ' ]]
  for _ in 1 2 3; do
    seq -f '%060000g' 10 | gq-enqueue h --local -l >/dev/null
    gq-flush -f h -- true
    sleep 0.2
    gq-flush --clean
    gq-inspect check
  done
  fails_with 1 gq-inspect show "$kept"
  gq-inspect stats --json | jq -se 'map(select(.function == "f" or .function == "g")) | map(.finished) | add // 0 | . == 0'
}

@test "gq-worker: children inherit priority and serial key of their parent, and not its key, delay or expiry; their IDs follow from the parent's" {
  local id child
  gq-enqueue f --local --priority low <<<slow
  id=$(gq-enqueue f --local --priority high --serial s --key k --delay 1ms --expire 1h --name n --result --max-attempts 7 <<<x)
  feed f --then g -- cat
  child=$(gq-inspect list --json -f g | jq -r 'select(.serial == "s") | .id')
  [[ ${child::10} == "${id::10}" && $child != "$id" && $(field "$child" parent) == "$id" ]]
  gq-inspect show --json "$child" | jq -e '.priority == "high" and .serial == "s" and ([.key, .due_at, .expires_at, .name, .result, .max_attempts] | all(. == null))'
  [[ $(eat g) == $'<x\n><slow\n>' ]]
}

@test "gq-worker: an output of more than 10,000 items, or larger than --max-workload, makes the job dead, with the reason; the next start makes what it prints then" {
  local id
  id=$(gq-enqueue f --local <<<x)
  fed() { feed f --then g --then-lines --max-workload 100K -- "$@" 2>/dev/null; }
  fed seq 10001
  [[ $(field "$id" state) == dead && $(field "$id" reason) == 'its output has 10001 items, and at most 10000 become jobs' ]]
  gq-flush --kick "$id"
  fed head -c 102401 /dev/zero
  [[ $(field "$id" state) == dead && $(field "$id" reason) == *'larger than --max-workload'* && -z $(gq-inspect list -f g) ]]
  gq-flush --kick "$id"
  fed seq 10000
  [[ $(field "$id" state) == finished && $(gq-inspect stats -f g --json | jq .queued) == 10000 ]]
  gq-inspect check
}

# bats test_tags=long
@test "gq-worker: a worker that dies before it has recorded the end leaves children that nothing runs; the next start makes its own [kill -9 at each write, sync and rename]" {
  local call n id ended
  for call in pwrite64 fdatasync fsync rename,renameat,renameat2; do
    for ((n = 1; ; ++n)); do
      rm -rf "$GQ_STORE"
      new_store "$GQ_STORE"
      id=$(gq-enqueue f --local <<<x)
      ended=0
      killed_at $call $n gq-worker --local --drain -f f --then-lines --then g -- sh -c 'echo 1; echo 2; head -c 70000 /dev/zero | tr "\0" x' || ended=$?
      gq-inspect check
      if [[ $(field "$id" state) == finished ]]; then
        [[ $(ids_of g queued | wc -l) == 3 && $(gq-flush -f g -- wc -c | tr '\n' ' ') == '1 1 70000 ' ]]
      else
        [[ -z $(gq-flush -f g -- cat) ]]
        # It is not drained: the unborn children of a crashed parent are unfinished. The second start makes others, larger ones.
        feed f --then-lines --then g -- sh -c 'echo 3; head -c 80000 /dev/zero | tr "\0" y'
        [[ $(gq-flush -f g -- wc -c | tr '\n' ' ') == '1 80000 ' ]]
      fi
      settings '{clean_after: "0s"}'
      gq-flush --clean
      [[ -z $(gq-inspect list) && -z $(find "$GQ_STORE/blobs" -type f -not -name 'tmp.*') ]]
      gq-inspect check
      rm "$GQ_STORE"/index.*
      gq-inspect check
      ((ended)) || break
    done
    ((n > 2))
  done
}

@test "gq-flush: --drop of a parent whose worker died takes its unborn children along; an unborn child is shown with its parent, and a stream leaves it out" {
  local id child n=0
  until [[ -n $(gq-inspect list -f g --state pending) ]]; do
    rm -rf "$GQ_STORE"
    new_store "$GQ_STORE"
    id=$(gq-enqueue f --local <<<x)
    ((++n < 60))
    killed_at write,pwrite64,fdatasync $n gq-worker --local --drain -f f --then g -- head -c 70000 /dev/zero && return 1
  done
  child=$(ids_of g pending)
  gq-inspect list -f g | grep "until the end of $id is recorded"
  [[ $(field "$child" parent) == "$id" ]]
  gq-snapshot export >"$T/stream"
  GQ_STORE=$T/other gq-snapshot import <"$T/stream"
  [[ $(GQ_STORE=$T/other gq-inspect list | wc -l) == 1 ]]
  gq-flush --drop "$id"
  [[ -z $(gq-inspect list) && -z $(find "$GQ_STORE/blobs" -type f -name "$child") ]]
  fails_with 1 gq-inspect show "$child"
  gq-inspect check
}

@test "gq-flush: --cancel of a job makes no children of what its command prints then, even if the command succeeds" {
  local id
  id=$(gq-enqueue f --local <<<x)
  background gq-worker --local -f f --then g -- bash -c 'trap "echo late; exit 0" TERM; echo begun >"$0"; while :; do sleep 0.1; done' "$T/begun"
  eventually test -s "$T/begun"
  gq-flush --cancel "$id"
  is_dead() { [[ $(field "$id" state) == dead ]]; }
  eventually is_dead
  [[ $(field "$id" reason) == cancelled && -z $(gq-inspect list -f g) ]]
  gq-inspect check
}

@test "gq-worker: an output for whose jobs there is no room is made again later, and no attempt is spent [a small disk]" {
  local id
  store_on_small_disk
  id=$(gq-enqueue f --local <<<x)
  background gq-worker --local -f f --then g --backoff 1s:1s -- sh -c 'head -c 9000000 /dev/zero'
  eventually grep -q 'cannot become jobs now' "$T/bg.0.err"
  is_delayed() { [[ $(field "$id" state) == delayed ]]; }
  eventually is_delayed
  [[ $(field "$id" attempts) == 0 && $(field "$id" reason) == *'cannot become jobs now'* ]]
  kill "$PID"
  wait "$PID"
  [[ -z $(gq-inspect list -f g) ]]
  gq-flush --kick "$id"
  feed f --then g -- echo small
  [[ $(eat g) == $'<small\n>' ]]
  gq-inspect check
}

@test "gq-worker: starts no job while the function of --then has more unfinished jobs than --backlog" {
  seq 10 | gq-enqueue f --local -l >/dev/null
  background gq-worker --local -f f --then g --backlog 3 -- cat
  more_than_3() { (($(gq-inspect stats -f g --json | jq .queued) > 3)); }
  eventually more_than_3
  sleep 0.5
  (($(gq-inspect stats -f g --json | jq .queued) == 4))
  # shellcheck disable=SC2046
  gq-flush $(ids_of g queued | sed "s/^/--drop=/")
  eventually more_than_3
  # Jobs that make jobs of their own function are not held back by these.
  gq-enqueue h --local <<<x
  gq-worker --local -f h --then h --backlog 1 --then-lines -q --drain -- sh -c 'read -r x; if [ "$x" = x ]; then seq 9; fi'
}

@test "gq-worker: --then says at its start that no worker of the store runs the function, and gq-inspect stats says so while that is true" {
  background gq-worker --local -f f --then g -- cat
  eventually grep -q 'no worker of this store runs g now' "$T"/bg.0.err
  gq-inspect stats 2>"$T/err"
  grep -q 'no worker of this store runs g, ' "$T/err"
  background gq-worker --local -f g -f h --then h -- cat
  served_now() { gq-inspect stats 2>"$T/err"; [[ ! -s $T/err ]]; }
  eventually served_now
  [[ ! -s $T/bg.1.err ]]
}

@test "gq-worker: --then with --stream, --queue-only or a bad name is 64, as is --then-lines without --then; in a replication group that runs jobs once it is 78" {
  fails_with 64 gq-worker --local -f f --then g --stream -- cat
  fails_with 64 gq-worker -f f --then g --queue-only
  fails_with 64 gq-worker --local -f f --then 'g h' -- cat
  fails_with 64 gq-worker --local -f f --then '' -- cat
  fails_with 64 gq-worker --local -f f --then-lines -- cat
  fails_with 64 gq-worker --local -f f --then g --then-lines --then-null -- cat
  gq-replicate init --as rep_1 --group rep_1,rep_2 --run once
  fails_with 78 gq-worker --local -f f --then g -- cat
  grep -q 'belongs to a replication group that runs each job once' "$T/failed.err"
}

@test "gq-worker: --then in a group whose nodes all run each job keeps the children on the node that has run their parent" {
  local node
  start_gearmand
  for node in rep_1 rep_2; do
    gq-replicate init --store "$T/$node" --as $node --group rep_1,rep_2 --run all --copies 2
    background gq-worker --store "$T/$node" -f f --then-lines --then g -- sh -c 'echo "$1 $(cat)"; echo more' sh $node
  done
  eventually served "$PORT" f.gq
  # Until each node has found the other one, this is 75.
  eventually gq-enqueue f --id 01J0000000000000000000000A <<<x
  has_two() { [[ $(gq-inspect --store "$T/$1" list -f g --state queued | wc -l) == 2 ]]; }
  for node in rep_1 rep_2; do
    eventually has_two $node
    [[ $(gq-inspect --store "$T/$node" list -f g --json | jq -s 'map(select(.node)) | length') == 0 ]]
    [[ $(gq-flush --store "$T/$node" -f g -- cat) == "$node x"more ]]
    gq-inspect --store "$T/$node" check
  done
}

# bats test_tags=long
@test "scripts/pipeline: each line of some files is delivered once, while workers and commands are killed at random [kill -9]" {
  "$BATS_TEST_DIRNAME/../scripts/pipeline" 10 "$BATS_TEST_DIRNAME"/../lib/base/{ulid,thread}.hpp
}
