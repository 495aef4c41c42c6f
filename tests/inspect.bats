load helpers

@test "gq-inspect: list --json has id, function, state, attempts, enqueued_at and size" {
  id=$(printf 12345 | gq-enqueue f --local)
  gq-inspect list --json | jq -e --arg id "$id" \
    '.id == $id and .function == "f" and .state == "queued" and .attempts == 0 and .size == 5 and (.enqueued_at | fromdateiso8601? // (.[0:19] + "Z" | fromdateiso8601)) > 0'
}

@test "gq-inspect: list keeps to --state, --function and --limit" {
  seq 5 | gq-enqueue f --local -l >/dev/null
  echo bad | gq-enqueue g --local
  gq-worker --local --drain -f g --max-attempts 1 -- false
  echo later | gq-enqueue h --local
  gq-flush -f h --backoff 1h -- false
  [[ $(gq-inspect list | wc -l) == 7 ]]
  [[ $(gq-inspect list --limit 2 | wc -l) == 2 ]]
  [[ $(jobs_in queued) == 5 && $(jobs_in dead) == 1 && $(jobs_in delayed) == 1 && $(jobs_in running) == 0 ]]
  [[ $(gq-inspect list -f h | cut -f2) == delayed ]]
  echo long | gq-enqueue i --local
  background gq-worker --local --grace 0s -f i -- sleep 60
  running() { [[ $(gq-inspect list --state running | cut -f3) == i && $(jobs_in queued) == 5 ]]; }
  eventually running
  kill "$PID"
  wait "$PID"
  gq-inspect stats --json | jq -se 'map(select(.function) | {(.function): .}) | add | .f.queued == 5 and .g.dead == 1 and .h.delayed == 1'
}

@test "gq-inspect: stats shows a serial key whose first job is due late, and how many wait behind it" {
  late=$(gq-enqueue f --local --serial s --delay 3d <<<late)
  gq-enqueue g --local --serial t --delay 3d <<<alone
  [[ -z $(gq-inspect stats | grep serial) ]]
  seq 3 | gq-enqueue g --local -l --serial s
  gq-inspect stats | grep -q "^serial key s: 3 jobs waiting for $late of f, due at 20"
  gq-inspect stats --json | jq -se --arg id "$late" 'map(select(.serial)) | length == 1 and (.[0] | .serial == "s" and .waits_for == $id and .function == "f" and .waiting == 3)'
  gq-flush --kick "$late"
  gq-flush --all -- true
  [[ $(gq-inspect list | wc -l) == 1 && -z $(gq-inspect stats | grep serial) ]]
}

@test "gq-inspect: show and cat; a job that is not there is 1" {
  id=$(echo hello | gq-enqueue f --local)
  [[ $(gq-inspect cat "$id") == hello ]]
  gq-inspect show "$id" | grep -qx 'state: queued'
  gq-inspect show "$id" --json | jq -e '.state == "queued"'
  head -c 3000000 /dev/urandom >"$T/big"
  gq-inspect cat "$(gq-enqueue f --local "$T/big")" | cmp - "$T/big"
  fails_with 1 gq-inspect show 01ARZ3NDEKTSV4RRFFQ69G5FAV
  fails_with 64 gq-inspect show xyz
  fails_with 64 gq-inspect list -f 'a b'
  [[ $(gq-inspect --json show "$id" | jq -r .state) == queued ]]
}

@test "gq-inspect: journal prints each record as a line of JSON" {
  id=$(echo hello | gq-enqueue f --local)
  gq-worker --local --drain -f f -- true
  [[ $(gq-inspect journal --json | jq -r .type | tr '\n' ' ') == "add claim start done " ]]
  [[ $(gq-inspect journal | jq -r 'select(.type == "done").id') == "$id" ]]
}

@test "gq-inspect: attempts counts alike for every end; exit status and signal are fields; a dropped job is shown as dropped" {
  for f in done killed; do gq-enqueue $f --local </dev/null >"$T/$f"; done
  gq-worker --local --drain -f done -- true
  gq-worker --local --drain -f killed --max-attempts 1 -- sh -c 'kill -9 $$' 2>/dev/null
  show() { gq-inspect show --json "$(cat "$T/$1")"; }
  show done | jq -e '.state == "finished" and .attempts == 1 and .exit_status == 0 and (has("signal") or has("dropped") | not)'
  show killed | jq -e '.state == "dead" and .attempts == 1 and .signal == 9 and (has("exit_status") | not)'
  gq-flush --drop "$(cat "$T/killed")"
  show killed | jq -e '.state == "finished" and .dropped and .attempts == 1 and (has("signal") | not)'
  gq-inspect show "$(cat "$T/killed")" | grep -qx 'state: dropped'
  gq-inspect stats --json | jq -se '.[1].function == "killed" and .[1].finished == 1'
  gq-inspect check
}

# bats test_tags=journal
@test "gq-inspect: check is 0 for a sound store and names a damaged blob" {
  head -c 100000 /dev/urandom >"$T/big"
  id=$(gq-enqueue f --local "$T/big")
  gq-inspect check
  blob=$(find "$GQ_STORE/blobs" -name "$id")
  flip "$blob" 50000
  not gq-inspect check >"$T/out"
  grep -q "$id" "$T/out"
  gq-worker --local --drain -f f -- sh -c 'echo ran >"$0"' "$T/ran" 2>/dev/null
  [[ ! -e $T/ran && $(jobs_in dead) == 1 ]]
}

@test "gq-inspect: never writes the journal" {
  gq-enqueue f --local </dev/null
  before=$(cat "$GQ_STORE"/journal/*.gqj | sha256sum)
  for what in list stats check journal; do gq-inspect $what >/dev/null; done
  [[ $(cat "$GQ_STORE"/journal/*.gqj | sha256sum) == "$before" ]]
}

@test "gq-inspect: with a million jobs, list --limit 10 and stats stay quick, and a worker stays under 64 MiB" {
  seq 1000000 | gq-enqueue f --local -l >"$T/ids"
  lines_are "$T/ids" 1000000
  gq-inspect stats --json | jq -se '.[0].queued == 1000000'  # makes the index
  # Reads, not seconds: what these touch must not grow with the store.
  for what in "list --limit 10" stats; do
    strace -f -c -e trace=pread64,read -o "$T/count" gq-inspect $what >/dev/null
    calls=$(awk '$NF == "total" { print $4 }' "$T/count")
    echo "$what: $calls reads"
    ((calls < 400))
  done
  # A worker that has to make the index anew, and then runs jobs.
  rm "$GQ_STORE/index.seal"
  background gq-worker --local -f f -j 2 -- true
  hundred() { (($(gq-inspect stats --json | jq -s '.[0].finished') >= 100)); }
  eventually hundred
  peak=$(awk '/VmHWM/ { print $2 }' "/proc/$PID/status")
  echo "peak RSS: $peak kB"
  ((peak < 65536))
  kill "$PID"; wait "$PID"
}

@test "gq-inspect: a reader that goes away, or is told to stop, leaves the index as others need it" {
  seq 20000 | gq-enqueue f --local -l >"$T/ids"
  gq-inspect stats
  gq-enqueue f --local </dev/null  # so that there is something to change
  status=$(gq-inspect list | head -n 1 >/dev/null; echo "${PIPESTATUS[0]}")
  [[ $status == 141 && -s $GQ_STORE/index.seal ]]
  gq-enqueue f --local </dev/null
  mkfifo "$T/pipe"
  exec 7<>"$T/pipe"
  background sh -c 'exec gq-inspect list >"$0" 7>&-' "$T/pipe"
  unsealed() { [[ ! -e $GQ_STORE/index.seal ]]; }
  eventually unsealed
  kill "$PID"
  got=0; wait "$PID" || got=$?
  exec 7>&-
  [[ $got == 143 && -s $GQ_STORE/index.seal ]]
}

# bats test_tags=journal
@test "gq-inspect: check makes its table where nobody else can put another file in its place [TMPDIR]" {
  local mode
  gq-enqueue f --local <<<x
  for mode in 1777 777; do
    mkdir -m "$mode" "$T/$mode"
    TMPDIR=$T/$mode strace -f -y -o "$T/trace.$mode" -e trace=openat gq-inspect check
  done
  grep -q "$T/1777>.*O_CREAT" "$T/trace.1777"
  not grep -q "$T/777>.*O_CREAT" "$T/trace.777"
}

@test "gq-inspect: check reads the journal a few times, and cleaning goes on meanwhile" {
  seq 5000 | gq-enqueue f --local -l >"$T/ids"
  gq-inspect stats
  size=$(cat "$GQ_STORE"/journal/*.gqj "$GQ_STORE/index.tcb" | wc -c)
  strace -f -qq -e trace=pread64,read -o "$T/reads" flock "$GQ_STORE/clean.lock" timeout 300 gq-inspect check
  read=$(awk '$NF ~ /^[0-9]+$/ { n += $NF } END { print n }' "$T/reads")
  echo "$read bytes read, for $size of journal and index"
  ((read < 6 * size))
}

@test "gq-inspect: an index is made anew from the heads of large records alone" {
  head -c 3000000 /dev/urandom | base64 -w 40000 | gq-enqueue f --local -l >"$T/ids"
  strace -f -qq -e trace=pread64 -o "$T/reads" gq-inspect stats
  read=$(awk '$NF ~ /^[0-9]+$/ { n += $NF } END { print n }' "$T/reads")
  echo "$read bytes read"
  ((read < 2000000))
}
