load helpers

# What commands print, kept with the ends of their jobs.

limits() {
  gq-enqueue idle --local --delay 1d </dev/null >/dev/null
  settings "{segment_size: \"20K\", clean_after: \"0s\"} + ${1:-{\}}"
}
# Other jobs, so long that segments are worth cleaning.
others() { seq -f '%060000g' 10 | gq-enqueue g --local -l >/dev/null; gq-flush -f g -- true; sleep 0.3; }
field() { gq-inspect show "$1" --json | jq -r ".$2"; }
# Outputs of 0 and 1 bytes, the longest in the journal, and blobs.
sizes=(0 1 65536 65537 3000000)
print_as_many() { head -c "$(cat)" /dev/zero | tr '\0' x; }
export -f print_as_many

# bats test_tags=database
@test "gq-enqueue: --result keeps what the command prints, small or large, and gq-inspect output prints it in the order of the IDs; it still reaches the worker's standard output" {
  local ids i
  mapfile -t ids < <(printf '%s\n' "${sizes[@]}" | gq-enqueue f --local --result -l)
  gq-worker --local --drain -f f -- bash -c print_as_many >"$T/out"
  for i in 0 1 2 3 4; do
    gq-inspect output "${ids[i]}" >"$T/one"
    (($(wc -c <"$T/one") == sizes[i] && $(field "${ids[i]}" output_size) == sizes[i]))
  done
  (($(wc -c <"$T/out") == 0 + 1 + 65536 + 65537 + 3000000))
  echo last | gq-enqueue g --local --result >"$T/last"
  gq-flush -f g -- cat >"$T/out"
  [[ $(<"$T/out") == last ]]
  [[ $({ cat "$T/last"; echo "${ids[1]}"; } | gq-inspect output - "${ids[0]}" "${ids[1]}") == last$'\n'xx ]]
  gq-inspect check
  rm "$GQ_STORE"/index.*
  [[ $(gq-inspect output "${ids[4]}" | wc -c) == 3000000 ]]
  gq-inspect check
}

# bats test_tags=database
@test "gq-inspect: output says why there is none [1], and prints the others; what is no ID is 64, and 65 on standard input" {
  local plain kept queued missing=01J0000000000000000000000A
  plain=$(gq-enqueue f --local <<<plain) kept=$(gq-enqueue f --local --result <<<kept)
  gq-flush -f f -- cat >/dev/null
  queued=$(gq-enqueue f --local --result <<<x)
  says() { fails_with 1 gq-inspect output "$1" "$kept"; grep -q "cannot show the output of $1: $2" "$T/failed.err"; [[ $(<"$T/failed.out") == kept ]]; }
  says "$plain" 'its output was not asked for'
  says "$queued" 'it has not ended'
  says "$missing" 'there is no such job'
  gq-flush --drop "$queued"
  says "$queued" 'it was dropped'
  fails_with 64 gq-inspect output "$kept" nonsense
  echo nonsense >"$T/in"
  fails_with 65 gq-inspect output - <"$T/in"
  fails_with 64 gq-inspect output
}

@test "gq-worker: --keep-output keeps outputs of all jobs up to a size; a larger one is done without it; with --stream it is 64" {
  local small large asked
  small=$(gq-enqueue f --local <<<5) large=$(gq-enqueue f --local <<<101) asked=$(gq-enqueue f --local --result <<<101)
  gq-worker --local --drain --keep-output 100 -f f -- bash -c print_as_many >"$T/out"
  (($(wc -c <"$T/out") == 5 + 101 + 101))
  [[ $(gq-inspect output "$small" "$asked" | wc -c) == 106 ]]
  [[ $(field "$large" state) == finished && $(field "$large" output_lost) == 'too large' ]]
  fails_with 1 gq-inspect output "$large"
  grep -q 'larger than its worker keeps' "$T/failed.err"
  # Also an output that stands in a file by then.
  large=$(gq-enqueue f --local <<<200000)
  gq-worker --local --drain --keep-output 150000 -f f -- bash -c print_as_many >"$T/out"
  [[ $(field "$large" output_lost) == 'too large' && $(wc -c <"$T/out") == 200000 ]]
  [[ -z $(ls "$GQ_STORE"/blobs | grep tmp) ]]
  fails_with 64 gq-worker --local --drain --keep-output 1M --stream -f f -- cat
  asked=$(gq-enqueue s --local --result <<<x)
  gq-worker --local --drain --stream -f s -- sh -c 'while read -r line; do echo 0; done' || true
  fails_with 1 gq-inspect output "$asked"
}

# bats test_tags=database
@test "gq-worker: a dead job keeps the output of its last attempt, until it is kicked; a retried attempt keeps none; exit status 99 throws it away" {
  local dead again thrown
  dead=$(gq-enqueue f --local --result <<<100) again=$(gq-enqueue f --local --result <<<1) thrown=$(gq-enqueue f --local --result <<<99)
  run_it() { gq-flush -f f --backoff 0s --max-attempts 2 -- sh -c 'read -r status; echo "attempt $GQ_ATTEMPT"; head -c "$1" /dev/zero; exit $status' sh "${1:-0}" >/dev/null 2>&1; }
  run_it; run_it
  [[ $(gq-inspect output "$dead") == 'attempt 1' && $(gq-inspect output "$again") == 'attempt 2' && -z $(gq-inspect output "$thrown") ]]
  gq-flush --kick "$dead"
  fails_with 1 gq-inspect output "$dead"
  run_it 100000
  [[ $(gq-inspect output "$dead" | wc -c) == 100010 ]]
  # Another output in place of the blob of the one before.
  gq-flush --kick "$dead"
  run_it 200000
  [[ $(gq-inspect output "$dead" | wc -c) == 200010 ]]
  gq-inspect check
}

# bats test_tags=database
@test "gq-flush: --clean keeps outputs while their jobs are known, in whatever segment, and removes them with these" {
  limits
  local ids
  mapfile -t ids < <(printf '%s\n' "${sizes[@]}" | gq-enqueue f --local --result -l)
  gq-flush -f f -- bash -c print_as_many >"$T/out"
  gq-inspect output "${ids[@]}" | cmp - "$T/out"
  for _ in 1 2 3; do
    others
    gq-flush --clean
    gq-inspect output "${ids[@]}" | cmp - "$T/out"
    gq-inspect check
  done
  (($(cat "$GQ_STORE"/journal/*.gqj | wc -c) < 1500000))
  rm "$GQ_STORE"/index.*
  gq-inspect output "${ids[@]}" | cmp - "$T/out"
  gq-inspect check
  [[ $(find "$GQ_STORE/blobs" -name '*.out' | wc -l) == 2 ]]
  settings '{remember: "0s"}'
  others
  gq-flush --clean
  fails_with 1 gq-inspect output "${ids[1]}"
  [[ $(find "$GQ_STORE/blobs" -name '*.out' | wc -l) == 0 ]]
  gq-inspect check
}

@test "gq-flush: --clean removes the output that a worker left which died before it recorded the end, and no other" {
  limits
  local id dead
  id=$(gq-enqueue f --local --result <<<100000) dead=$(gq-enqueue g --local <<<x)
  gq-flush -f f -- bash -c print_as_many >/dev/null
  local blob=$GQ_STORE/blobs/${id: -2}/$id.out left=$GQ_STORE/blobs/${dead: -2}/$dead.out
  mkdir -p "${left%/*}"
  echo left >"$left"
  gq-flush --clean
  [[ -e $blob && ! -e $left ]]
  # What is left there by an earlier run does not keep the next one from having its output.
  id=$(gq-enqueue f --local --result <<<100000)
  left=$GQ_STORE/blobs/${id: -2}/$id.out
  mkdir -p "${left%/*}"
  echo left >"$left"
  gq-flush -f f -- bash -c print_as_many >/dev/null
  [[ $(gq-inspect output "$id" | wc -c) == 100000 ]]
}

@test "gq-worker: without room for its output a job is done all the same, and marked so [the limit of the store, a full disk]" {
  limits '{outputs: "100K"}'
  local ids
  mapfile -t ids < <(printf '%s\n' 60000 70000 40000 | gq-enqueue f --local --result -l)
  gq-worker --local --drain -f f -- bash -c print_as_many >"$T/out" 2>"$T/err"
  [[ $(for id in "${ids[@]}"; do field "$id" state; done | xargs) == 'finished finished finished' ]]
  [[ $(for id in "${ids[@]}"; do field "$id" output_lost; done | xargs) == 'null no room null' ]]
  (($(wc -c <"$T/out") == 170000))
  fails_with 1 gq-inspect output "${ids[1]}"
  grep -q 'there was no room' "$T/failed.err"
  # However many a client queues, the log says it once a minute.
  seq 120000 120009 | gq-enqueue f --local --result -l >/dev/null
  gq-worker --local --drain -f f -- bash -c print_as_many 2>"$T/err" >/dev/null
  (($(grep -c 'its output is not kept: there is no room for it$' "$T/err") == 1 && $(wc -l <"$T/err") == 2))
  grep -q '9 more like it' "$T/err"
}

@test "gq-worker: without room for its output a job is done all the same, and marked so [a full disk]" {
  store_on_small_disk
  local ids
  mapfile -t ids < <(printf '%s\n' 60000 9000000 | gq-enqueue f --local --result -l)
  gq-worker --local --drain -f f -- bash -c print_as_many >"$T/out" 2>"$T/err"
  [[ $(for id in "${ids[@]}"; do field "$id" state; done | xargs) == 'finished finished' && $(field "${ids[1]}" output_lost) == 'no room' ]]
  (($(wc -c <"$T/out") == 9060000))
  gq-inspect check
}

@test "gq-worker: what commands print to have it kept leaves the room that jobs need, also while they run [a small disk]" {
  store_on_small_disk
  gq-enqueue f --local --result </dev/null >/dev/null
  print_and_look() { head -c 6500000 /dev/zero && sleep 1 && df --output=avail -B1 "$GQ_STORE" | tail -n 1 >"$0"; }
  export -f print_and_look
  gq-worker --local --drain -f f -- bash -c print_and_look "$T/free" >/dev/null
  (($(<"$T/free") >= 1 << 20))
}

# bats test_tags=database
@test "gq-snapshot: a snapshot has the outputs, verify finds a damaged one, and a restored store prints them" {
  local ids
  mapfile -t ids < <(printf '%s\n' "${sizes[@]}" | gq-enqueue f --local --result -l)
  gq-flush -f f -- bash -c print_as_many >"$T/out"
  gq-snapshot create "$T/snapshots"
  gq-snapshot verify "$T/snapshots"
  gq-snapshot restore "$T/snapshots" --store "$T/restored"
  gq-inspect --store "$T/restored" output "${ids[@]}" | cmp - "$T/out"
  gq-inspect --store "$T/restored" check
  flip "$(find "$T/snapshots" -name "${ids[4]}.out")" 1000
  not gq-snapshot verify "$T/snapshots" >"$T/found"
  grep -q "${ids[4]}.out.*checksum" "$T/found"
}

@test "gq-inspect: check finds an output that is damaged or gone, in the journal and as a blob, and output refuses it [74]" {
  local small large
  finds() { not gq-inspect check >"$T/found"; grep -q "$1" "$T/found"; }
  small=$(gq-enqueue f --local --result <<<100) large=$(gq-enqueue f --local --result <<<100000)
  gq-flush -f f -- bash -c print_as_many >/dev/null
  gq-inspect check
  local blob=$GQ_STORE/blobs/${large: -2}/$large.out
  cp "$blob" "$T/blob"
  flip "$blob" 5
  finds "$large.*checksum"
  fails_with 74 gq-inspect output "$large"
  rm "$blob"
  finds "$large.*missing"
  cp "$T/blob" "$blob"
  gq-inspect check
  flip "$(segment)" "$(offset_of "$(segment)" xxxxxxxxxx)"
  finds "$small.*its output"
  fails_with 74 gq-inspect output "$small"
}

@test "the journal: only a segment with outputs is in the format that older programs refuse" {
  local id
  versions() { for s in "$GQ_STORE"/journal/*.gqj; do od -An -tu4 -j 8 -N 4 "$s"; done | xargs; }
  limits
  gq-enqueue f --local <<<x >/dev/null
  gq-flush -f f -- cat >/dev/null
  [[ $(versions) == 1 ]]
  id=$(gq-enqueue f --local --result <<<kept)
  [[ $(versions) == 1 ]]
  gq-flush -f f -- cat >/dev/null
  [[ $(versions) == '1 3' ]]
  others; others
  gq-flush --clean
  [[ $(versions) == *4*3 ]]
  [[ $(gq-inspect output "$id") == kept ]]
}

@test "gq-worker: an output that is kept waits for a slow reader of standard output, and arrives whole; a reader that goes costs nothing" {
  local ids
  # The first output fills the pipe. The second command can print all of its own and end, since the worker reads it.
  mapfile -t ids < <(printf '%s\n' 65536 40000 | gq-enqueue f --local --result -l)
  mkfifo "$T/pipe"
  background bash -c 'exec gq-worker --local --drain -f f -- bash -c print_as_many >"$0"' "$T/pipe"
  exec 5<"$T/pipe"
  command_has_ended() { [[ $(field "${ids[0]}" state) == finished && $(ps --ppid "$PID" -o stat=) == Z* ]]; }
  eventually command_has_ended
  # Its job is not done before its output has arrived.
  sleep 0.3
  [[ $(field "${ids[1]}" state) == running ]]
  cat <&5 >"$T/out"
  exec 5<&-
  (($(wc -c <"$T/out") == 105536))
  eventually no_jobs
  [[ $(gq-inspect output "${ids[@]}" | wc -c) == 105536 ]]
  ids=("$(gq-enqueue f --local --result <<<300000)")
  { gq-worker --local --drain -f f -- bash -c print_as_many 2>"$T/err" || echo $? >"$T/status"; } | head -c 1 >/dev/null
  [[ $(field "${ids[0]}" state) == finished && $(gq-inspect output "${ids[0]}" | wc -c) == 300000 ]]
  [[ $(<"$T/status") == 74 ]] && grep -q 'the output of commands is lost' "$T/err"
}

@test "gq-worker: a stop signal ends it while its standard output is not read; the job is queued again" {
  local id
  id=$(gq-enqueue f --local --result <<<300000)
  mkfifo "$T/pipe"
  background bash -c 'exec gq-worker --local -f f --grace 1s -- bash -c print_as_many >"$0"' "$T/pipe"
  exec 5<"$T/pipe"
  runs() { [[ $(jobs_in running) == 1 ]]; }
  eventually runs
  kill -TERM "$PID"
  eventually no_process "$PID"
  exec 5<&-
  # The command could not print all of it.
  [[ $(field "$id" state) == queued && $(field "$id" attempts) == 0 ]]
}

# bats test_tags=database
@test "gq-enqueue: --wait waits for the end, prints the output byte for byte and the ID on standard error, and exits as the command did" {
  background gq-worker --local -f f --max-attempts 1 -- bash -c 'read -r status; printf "out\0\xff%s" "$status"; [[ $status == kill ]] && kill -9 $$; exit "$status"'
  for status in 0 1 3 75 100; do
    ended=0
    gq-enqueue f --local --wait <<<$status >"$T/out" 2>"$T/err" || ended=$?
    [[ $ended == "$status" ]]
    printf 'out\0\xff%s' "$status" | cmp - "$T/out"
    [[ $(head -n 1 "$T/err") == "$(gq-inspect show --json "$(head -n 1 "$T/err")" | jq -r .id)" ]]
  done
  fails_with 137 gq-enqueue f --local --wait <<<kill
  grep -q 'it is dead: signal 9' "$T/failed.err"
}

# bats test_tags=database
@test "gq-enqueue: --wait with lines prints the outputs in the order of the input; the first status that is not 0 counts" {
  background gq-worker --local -j 4 -f f --max-attempts 1 -- bash -c 'read -r n; sleep 0.$((9 - n)); echo "$n"; ((n != 3 && n != 5)) || exit "$n"'
  ended=0
  seq 6 | gq-enqueue f --local --wait -l >"$T/out" 2>"$T/err" || ended=$?
  [[ $ended == 3 && $(<"$T/out") == $'1\n2\n3\n4\n5\n6' ]]
  head -n 6 "$T/err" >"$T/ids"
  ended=0
  gq-inspect wait - <"$T/ids" >"$T/again" 2>"$T/err" || ended=$?
  [[ $ended == 3 ]]
  cmp "$T/out" "$T/again"
  gq-inspect wait --json - <"$T/ids" >"$T/json" || true
  [[ $(jq -rs 'map("\(.status)\(.state)\(.output)") | join("")' "$T/json") == $'0finished1\n0finished2\n3dead3\n0finished4\n5dead5\n0finished6' ]]
}

# bats test_tags=database
@test "gq-enqueue: --wait=DUR exits 124 when the time is over, and the job goes on; without its output a job is 125" {
  fails_with 124 gq-enqueue f --local --wait=100ms <<<x
  id=$(head -n 1 "$T/failed.err")
  [[ $(field "$id" state) == queued ]]
  fails_with 124 gq-inspect wait --for 100ms "$id"
  gq-flush -f f -- cat >/dev/null
  [[ $(gq-inspect wait "$id") == x ]]
  # A job that nobody wanted the output of has none, and that is no failure.
  id=$(gq-enqueue f --local <<<x)
  gq-flush -f f -- cat >/dev/null
  [[ -z $(gq-inspect wait "$id") ]]
  background gq-worker --local --keep-output 1 -f large -- head -c 17000000 /dev/zero
  fails_with 125 gq-enqueue large --local --wait </dev/null
  grep -q 'larger than its worker keeps' "$T/failed.err"
  [[ ! -s $T/failed.out ]]
  id=$(gq-enqueue f --local --delay 1h <<<x)
  background gq-inspect wait "$id"
  gq-flush --drop "$id" >/dev/null
  ended=0
  wait "$PID" || ended=$?
  [[ $ended == 125 ]]
  fails_with 125 gq-inspect wait 01J0000000000000000000000A
  fails_with 64 gq-enqueue f --local --wait=soon </dev/null
  fails_with 64 gq-enqueue f --local --json </dev/null
}

@test "gq-inspect: wait sees an end while it waits, and a job of a worker that was killed [kill -9]" {
  id=$(gq-enqueue f --local --result <<<x)
  gq-inspect wait "$id" >"$T/waited" 3>&- 4>&- &
  waiting=$!
  PIDS+=("$waiting")
  die_at_work f
  kill -0 "$waiting"
  gq-flush -f f -- cat >/dev/null
  wait "$waiting"
  [[ $(<"$T/waited") == x ]]
}

# Through a server: results are pulled from the stores that have them.

# Starts `gq-enqueue --wait "$@"` in the background, with the input $INPUT. Its pid is in $WAITING, its ID in $ID, what it
# prints in $T/waited.
waiting_client() {
  gq-enqueue "$@" --wait <<<"${INPUT:-x}" >"$T/waited" 2>"$T/waiting.err" 3>&- 4>&- &
  WAITING=$!
  PIDS+=("$WAITING")
  eventually test -s "$T/waiting.err"
  ID=$(head -n 1 "$T/waiting.err")
}
ended_with() { local got=0; wait "$WAITING" || got=$?; [[ $got == "$1" ]] || { echo "exit $got: $(<"$T/waiting.err")" >&2; return 1; }; }
# The Gearman functions of the stores that are served.
result_functions() { status "$PORT" | awk '$4 > 0 && $1 ~ /\.result\.gq$/ { print $1 }'; }

# bats test_tags=database
@test "gq-enqueue: --wait through a server prints the output byte for byte and the ID on standard error, and exits as the command did" {
  start_gearmand
  start_worker -f f --max-attempts 1 -- bash -c 'read -r status; printf "out\0\xff%s" "$status"; [[ $status == kill ]] && kill -9 $$; exit "$status"'
  for status in 0 1 3 100; do
    ended=0
    gq-enqueue f --wait <<<$status >"$T/out" 2>"$T/err" || ended=$?
    [[ $ended == "$status" ]]
    printf 'out\0\xff%s' "$status" | cmp - "$T/out"
    [[ $(head -n 1 "$T/err") == "$(gq-inspect show --json "$(head -n 1 "$T/err")" | jq -r .id)" ]]
  done
  fails_with 137 gq-enqueue f --wait <<<kill
  grep -q 'it is dead: signal 9' "$T/failed.err"
  # The name of the function does not tell the store's ID.
  [[ $(result_functions | wc -l) == 1 && $(result_functions) != *$(jq -r .store "$GQ_STORE/gq.json" 2>/dev/null || echo none)* ]]
}

# bats test_tags=database
@test "gq-enqueue: --wait through a server prints many outputs in the order of the input, empty and large ones; --json tells all" {
  start_gearmand
  start_worker -f f -j 4 --max-attempts 1 -- bash -c 'read -r n; head -c "$n" /dev/zero | tr "\0" x; echo "$n"; ((n != 65537)) || exit 5'
  { printf '%s\n' "${sizes[@]}"; seq 1200; } >"$T/in"
  while read -r n; do head -c "$n" /dev/zero | tr '\0' x; echo "$n"; done <"$T/in" >"$T/wanted"
  ended=0
  gq-enqueue f --wait -l <"$T/in" >"$T/out" 2>"$T/err" || ended=$?
  [[ $ended == 5 ]]
  cmp "$T/wanted" "$T/out"
  ended=0
  printf '0\n65537\n' | gq-enqueue f --wait --json -l >"$T/json" 2>"$T/err" || ended=$?
  [[ $ended == 5 && $(jq -c '[.id, .status, .state, .exit_status, (.output | length)]' "$T/json") == \
    "$(sed -n 1p "$T/err" | jq -Rc '[., 0, "finished", 0, 2]')"$'\n'"$(sed -n 2p "$T/err" | jq -Rc '[., 5, "dead", 5, 65543]')" ]]
}

# bats test_tags=database
@test "gq-enqueue: --wait=DUR through a server exits 124 when the time is over, and the job goes on; a job that has no output is 125" {
  start_gearmand
  start_worker -f f --queue-only
  fails_with 124 gq-enqueue f --wait=300ms --key k <<<x
  id=$(head -n 1 "$T/failed.err")
  grep -q 'it has not ended, and goes on' "$T/failed.err"
  [[ $(field "$id" state) == queued ]]
  gq-flush -f f -- cat >/dev/null
  [[ $(gq-enqueue f --wait --key k <<<x 2>"$T/err") == x && $(<"$T/err") == "$id" ]]
  # A job that was queued without --result has none to wait for, and a dropped one neither.
  id=$(gq-enqueue f --key plain <<<x)
  gq-flush -f f -- cat >/dev/null
  fails_with 125 gq-enqueue f --wait --key plain <<<x
  grep -q "$id: its output was not asked for" "$T/failed.err"
  waiting_client f
  gq-flush --drop "$ID"
  ended_with 125
  grep -q "$ID: it was dropped" "$T/waiting.err"
  # Without a server nothing is queued.
  kill -9 "$GEARMAND"
  eventually no_process "$GEARMAND"
  fails_with 125 gq-enqueue f --wait --timeout 1s <<<x
}

# bats test_tags=database
@test "gq-enqueue: --wait through a server is answered after the server restarts, and after the worker dies between the end and the answer [kill -9]" {
  start_gearmand
  start_worker -f f -- sh -c 'cat "$0"; cat' "$T/go"
  mkfifo "$T/go"
  waiting_client f
  kill -9 "$GEARMAND"
  eventually no_process "$GEARMAND"
  start_gearmand "$PORT"
  : >"$T/go"
  ended_with 0
  [[ $(<"$T/waited") == x ]]
  # The client does not ask while the job ends, and then nobody answers.
  waiting_client f
  kill -STOP "$WAITING"
  : >"$T/go"
  is_done() { [[ $(field "$ID" state) == finished ]]; }
  eventually is_done
  kill -9 "$WORKER"
  eventually no_process "$WORKER"
  kill -CONT "$WAITING"
  sleep 0.3
  kill -0 "$WAITING"
  start_worker -f f -- cat
  ended_with 0
  [[ $(<"$T/waited") == x ]]
}

@test "gq-enqueue: a client that waits and dies changes nothing: its job is done, and its output is kept [kill -9]" {
  start_gearmand
  mkfifo "$T/go"
  start_worker -f f -- sh -c 'cat "$0"; cat' "$T/go"
  waiting_client f
  kill -9 "$WAITING"
  eventually no_process "$WAITING"
  : >"$T/go"
  eventually no_jobs
  [[ $(gq-inspect output "$ID") == x ]]
}

@test "gq-worker: answers clients that wait for results while its backlog is full" {
  start_gearmand
  mkfifo "$T/go"
  start_worker -f f -f g --backlog 2 -- sh -c 'cat "$0"; cat' "$T/go"
  gq-flush --pause g
  waiting_client f
  seq 5 | gq-enqueue g -l >/dev/null
  is_full() { ! served "$PORT" f.gq; }
  eventually is_full
  : >"$T/go"
  ended_with 0
  [[ $(<"$T/waited") == x ]] && is_full
}

@test "gq-enqueue: --wait takes no answer but that of a store [a stranger serves its function]" {
  start_gearmand
  start_worker -f f --queue-only
  waiting_client f
  function=$(result_functions)
  kill -9 "$WORKER"
  eventually no_process "$WORKER"
  background gearman -h 127.0.0.1 -p "$PORT" -w -f "$function" -- sh -c 'cat >/dev/null; echo "$0"; echo >>"$1"' "$(printf 'end %s 0 done\e[31m' "$ID")" "$T/asked"
  stranger=$PID
  eventually test -s "$T/asked"
  kill -9 "$stranger"
  kill -0 "$WAITING"
  start_worker -f f -- cat
  ended_with 0
  [[ $(<"$T/waited") == x && $(<"$T/waiting.err") == "$ID" ]]
}

# A group whose jobs run once, at the nodes $T/1 to $T/3: group_of_three [OPTIONS OF WORKERS...]. Their pids are in
# ${NODE[N]}. Commands wait until $T/go.N is there, and then print their node.
group_of_three() {
  local n
  start_gearmand
  for n in 1 2 3; do
    new_store "$T/$n"
    gq-replicate init --store "$T/$n" --as "rep_$n" --group rep_1,rep_2,rep_3 --run "${RUN:-once}"
  done
  for n in 1 2 3; do start_node "$n" "$@"; done
  for n in 1 2 3; do
    meets_all() { (($(gq-inspect --store "$T/$n" stats --json | grep -c answered_at) == 2)); }
    eventually meets_all
  done
}
start_node() {
  local n=$1
  shift
  background gq-worker --store "$T/$n" -f "f$n" -f f --peer-timeout 2s --takeover 3s "$@" -- sh -c 'until [ -e "$0" ]; do sleep 0.05; done; cat; echo "$1"' "$T/go.$n" "$n"
  NODE[n]=$PID
  eventually served "$PORT" "f$n.gq"
}

# bats test_tags=group
@test "gq-enqueue: --wait in a group that runs jobs once gets the output of the node that took the job over [kill -9]" {
  group_of_three
  waiting_client f1
  # Only the workers of node 1 serve f1, so that it has accepted the job. The others serve it when node 1 is gone.
  kill -9 "${NODE[1]}"
  touch "$T/go.2" "$T/go.3"
  background gq-worker --store "$T/2" --local -f f1 -- sh -c 'cat; echo 2'
  background gq-worker --store "$T/3" --local -f f1 -- sh -c 'cat; echo 3'
  ended_with 0
  [[ $(<"$T/waited") == x$'\n'[23] ]]
}

# bats test_tags=group
@test "gq-enqueue: --wait in a group waits for the node that has the output, if others know only the end [kill -9 between end and answer]" {
  group_of_three
  waiting_client f1
  kill -STOP "$WAITING"
  touch "$T/go.1"
  others_know() { gq-inspect --store "$T/2" show "$ID" | grep -q finished && gq-inspect --store "$T/3" show "$ID" | grep -q finished; }
  eventually others_know
  kill -9 "${NODE[1]}"
  eventually no_process "${NODE[1]}"
  kill -CONT "$WAITING"
  sleep 0.5
  kill -0 "$WAITING"
  start_node 1
  ended_with 0
  [[ $(<"$T/waited") == x$'\n'1 ]]
}

# bats test_tags=group
@test "gq-enqueue: --wait in a group that runs jobs everywhere gets the output of the node that accepted the job" {
  RUN=all group_of_three
  touch "$T/go.1" "$T/go.3"
  waiting_client f2
  sleep 0.3
  kill -0 "$WAITING"
  touch "$T/go.2"
  ended_with 0
  [[ $(<"$T/waited") == x$'\n'2 ]]
}

# bats test_tags=group
@test "gq-enqueue: --wait in a group with --auth needs the keys, and takes no answer without them" {
  openssl rand -hex 32 >"$T/key"
  chmod 600 "$T/key"
  touch "$T/go.1" "$T/go.2" "$T/go.3"
  group_of_three --auth "$T/key"
  [[ $(gq-enqueue --auth "$T/key" f --wait <<<x 2>"$T/err") == x$'\n'[123] ]]
  fails_with 125 gq-enqueue f --wait <<<x
  grep -q 'signed, so that --auth is needed' "$T/failed.err"
  openssl rand -hex 32 >"$T/other"
  chmod 600 "$T/other"
  fails_with 124 gq-enqueue --auth "$T/other" f --wait=1s <<<x
  grep -q 'not signed with the keys of --auth' "$T/failed.err"
  fails_with 125 gq-enqueue --auth "$T/none" f --wait <<<x
  # However often clients ask, nodes hear each other: the two are answered on connections of their own.
  workers() { (exec 5<>"/dev/tcp/127.0.0.1/$PORT" && echo workers >&5 && timeout 2 sed '/^\.$/q' <&5) 2>/dev/null; }
  (($(workers | grep -c '\.result\.gq') >= 3 && $(workers | grep '\.result\.gq' | grep -c '\.ask') == 0))
}

@test "gq-worker: reads an output through once, however often clients ask for it" {
  local id
  start_gearmand
  start_worker -f f -- bash -c print_as_many
  id=$(gq-enqueue f --wait <<<100000 2>&1 >/dev/null)
  printf y | dd of="$GQ_STORE/blobs/${id: -2}/$id.out" bs=1 seek=9 conv=notrunc status=none
  # The client, too, has the sum of what it asked for.
  fails_with 125 gq-enqueue f --id "$id" --wait <<<100000
  grep -q "cannot show the output of $id: its checksum is wrong" "$T/failed.err"
}

# Raw jobs that are answered with their results.

# Submits a raw job in the foreground, in the background of the shell: raw_client UNIQUE WORKLOAD. Its pid is in $RAW;
# what it gets is in $T/raw.UNIQUE, its status in $T/raw.UNIQUE.status.
raw_client() {
  bash -c 'printf %s "$1" | gearman -h 127.0.0.1 -p "$0" -f f -u "$2" >"$3" 2>&1; echo $? >"$3.status"' "$PORT" "$2" "$1" "$T/raw.$1" 3>&- 4>&- &
  RAW=$!
  PIDS+=("$RAW")
}
raw_is_over() { test -s "$T/raw.$1.status"; }
jobs_are() { [[ $(gq-inspect list | wc -l) == "$1" ]]; }

# bats test_tags=database
@test "gq-worker: --answer result answers a raw job with its output when it has ended; a dead one fails, with the reason; a background job is answered at once" {
  start_gearmand
  start_worker -f f --answer result --max-attempts 1 -j 4 -- bash -c 'read -r n; [[ $n != dead ]] || exit 3; head -c "$n" /dev/zero | tr "\0" x'
  for size in "${sizes[@]}"; do
    echo "$size" | gearman -h 127.0.0.1 -p "$PORT" -f f >"$T/out"
    (($(wc -c <"$T/out") == size))
  done
  raw_client one dead
  eventually raw_is_over one
  [[ $(<"$T/raw.one.status") != 0 ]] && grep -q 'it is dead: exit 3' "$T/raw.one"
  gq-flush --pause f
  echo 1 | timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f f -b
  queued() { [[ $(jobs_in queued) == 1 ]]; }
  eventually queued
  fails_with 64 gq-worker -f f --answer result --local -- cat
  fails_with 64 gq-worker -f f --answer result --stream -- cat
  fails_with 64 gq-worker -f f --answer later -- cat
}

@test "gq-worker: --answer result takes in no more than --waiting jobs; when it is stopped, clients are told that their jobs are still queued" {
  start_gearmand
  start_worker -f f --answer result --waiting 3 -- sleep 60
  gq-flush --pause f
  # Background jobs do not wait.
  for n in 1 2 3 4; do timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f f -b <<<x; done
  eventually jobs_are 4
  for n in 1 2 3 4 5; do raw_client "$n" "$n"; done
  eventually jobs_are 7
  sleep 0.5
  jobs_are 7
  # It still answers others.
  [[ -n $(gq-enqueue f <<<x) ]]
  kill -TERM "$WORKER"
  eventually no_process "$WORKER"
  told() { (($(grep -l "is still queued" "$T"/raw.? | wc -l) == 3)); }
  eventually told
  jobs_are 8
}

@test "gq-worker: --answer result: a large job that is in the store keeps no memory from other large jobs while it runs" {
  start_gearmand
  start_worker -f f --answer result -j 2 --max-workload 1M -- bash -c 'cat >/dev/null; until [[ -e $0 ]]; do sleep 0.05; done; echo done' "$T/go"
  for n in 1 2; do
    background bash -c 'head -c 700000 /dev/zero | gearman -h 127.0.0.1 -p "$0" -f f' "$PORT"
  done
  both_run() { [[ $(jobs_in running) == 2 ]]; }
  eventually both_run
  touch "$T/go"
  answered() { lines_are "$T/bg.2.out" 1 && lines_are "$T/bg.3.out" 1; }
  eventually answered
}

# bats test_tags=database
@test "gq-worker: --answer result: when the worker dies, the redelivered job joins the one in the store, whether it still runs or has ended [kill -9]" {
  local command
  start_gearmand
  start_worker -f f --answer result -- sh -c 'echo $$ >"$0"; exec sleep 60' "$T/at-work"
  raw_client one input
  eventually test -s "$T/at-work"
  command=$(<"$T/at-work")
  kill -9 "$WORKER" "$command"
  eventually no_process "$WORKER" "$command"
  start_worker -f f --answer result --queue-only
  delivered() { status "$PORT" | grep -qP '^f\t1\t1\t'; }
  eventually delivered
  sleep 0.3
  jobs_are 1
  gq-flush -f f -- sh -c 'echo x >>"$0"; cat' "$T/ran" >/dev/null
  eventually raw_is_over one
  [[ $(<"$T/raw.one") == input && $(<"$T/raw.one.status") == 0 ]]
  lines_are "$T/ran" 1
  no_jobs
  # The client gets the answer of a worker that was killed after the job ended and before it answered.
  raw_client two again
  eventually jobs_are 1
  kill -STOP "$WORKER"
  gq-flush -f f -- cat >/dev/null
  no_jobs
  kill -9 "$WORKER"
  eventually no_process "$WORKER"
  start_worker -f f --answer result --queue-only
  eventually raw_is_over two
  [[ $(<"$T/raw.two") == again && $(<"$T/raw.two.status") == 0 ]]
  no_jobs
  # No client can name a job as these are named.
  fails_with 64 gq-enqueue f --key 'gq raw x' <<<x
}
