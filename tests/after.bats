load helpers

# Jobs that are after other jobs: gq-enqueue --after.

state() { gq-inspect show "$1" --json | jq -r .state; }
waits() { gq-inspect show "$1" --json | jq -r .waits; }
drain() { timeout 60 gq-worker --local --drain "$@"; }

# bats test_tags=database
@test "gq-enqueue: --after - makes a report of many jobs when all of them are done; the IDs are its workload" {
  local report
  seq 20 | gq-enqueue work --local -l >"$T/ids"
  report=$(gq-enqueue report --local --after - <"$T/ids")
  [[ $(state "$report") == waiting ]]
  gq-inspect list --state waiting | grep -q "^$report"$'\twaiting\treport\t.*\tafter 0[0-9A-Z]\{25\} and 19 other jobs$'
  gq-inspect stats | grep -q '^report: queued 0 .* waiting 1 .* after 1'
  [[ -z $(drain -f report -- echo) ]]  # it is not waited for
  drain -f work -f report -- sh -c 'echo "$GQ_FUNCTION $(cat | tr "\n" " ")"' >"$T/out"
  [[ $(tail -n 1 "$T/out") == "report $(tr '\n' ' ' <"$T/ids")" ]]
  lines_are "$T/out" 21
  gq-inspect show "$report" --json | jq -e '.state == "finished" and (has("waits") | not)'
  gq-inspect check
}

# bats test_tags=database
@test "gq-enqueue: a job is after jobs of other functions, also if they are done already, and a job can be after that one" {
  local a b c d
  a=$(gq-enqueue f --local <<<a)
  gq-flush -f f -- cat
  b=$(gq-enqueue g --local <<<b)
  c=$(gq-enqueue h --local --after "$a,$b" <<<c)
  d=$(gq-enqueue f --local --after "$c" <<<d)
  [[ $(waits "$c") == "after $b" && $(waits "$d") == "after $c" ]]
  gq-inspect show "$c" --json | jq -e '.after == 2 and .unmet == 1'
  [[ $(gq-enqueue f --local --after "$a" <<<e | wc -l; gq-flush -f f -- cat) == $'1\ne' ]]
  [[ -z $(gq-flush -f f -f h -- cat) ]]
  [[ $(gq-flush --all -- cat) == $'b\nc\nd' ]]
  gq-inspect check
}

# bats test_tags=database
@test "gq-enqueue: a job waits for a dead parent, is dead if the parent is dropped, and runs when it is kicked [--after]" {
  local a b c d
  a=$(gq-enqueue f --local --max-attempts 1 <<<a)
  b=$(gq-enqueue g --local --after "$a" <<<b)
  c=$(gq-enqueue g --local --after "$a" --after-any <<<c)
  gq-flush -f f -- false || true
  [[ $(state "$a") == dead && $(waits "$b") == "after $a, which is dead" ]]
  [[ $(drain -f g -- cat) == c ]]  # --drain does not wait for b
  gq-flush --kick "$a"
  gq-flush -f f -- true
  [[ $(drain -f g -- cat) == b && $(state "$b") == finished && $(state "$c") == finished ]]
  a=$(gq-enqueue f --local <<<a)
  b=$(gq-enqueue g --local --after "$a" <<<b)
  c=$(gq-enqueue g --local --after "$a" --after-any <<<c)
  gq-flush --drop "$a"
  [[ $(waits "$b") == "after $a, which was dropped" && $(drain -f g -- cat) == c ]]
  gq-inspect show "$b" --json | jq -e --arg a "$a" '.state == "dead" and .reason == "after \($a), which was dropped"'
  d=$(gq-enqueue h --local --after "$b" --after-any <<<d)
  gq-flush --kick "$b"
  [[ $(drain -f g -f h -- cat) == $'b\nd' ]]
  gq-inspect check
}

@test "gq-enqueue: --after refuses what is not the ID of a job in the store, too many IDs, and none [65]" {
  local a
  a=$(gq-enqueue f --local <<<a)
  fails_with 65 gq-enqueue g --local --after 01ARZ3NDEKTSV4RRFFQ69G5FAV <<<x
  grep -q 'to run after 01ARZ3NDEKTSV4RRFFQ69G5FAV, which the store does not know' "$T/failed.err"
  fails_with 65 gq-enqueue g --local --after "$a,x" <<<x
  fails_with 65 gq-enqueue g --local --after "," <<<x
  fails_with 65 gq-enqueue g --local --after - </dev/null
  fails_with 65 gq-enqueue g --local --after - <<<"not an ID"
  seq -f 01ARZ3NDEKTSV4RRFFQ%07.0f 10001 >"$T/many"
  fails_with 65 gq-enqueue g --local --after - <"$T/many"
  fails_with 64 gq-enqueue g --local --after - -l <<<"$a"
  fails_with 64 gq-enqueue g --local --after - - <<<"$a"
  fails_with 64 gq-enqueue g --local --after-any <<<x
  [[ $(gq-inspect list | cut -f 1) == "$a" ]]
}

# bats test_tags=database
@test "gq-enqueue: a job with --after that is sent again is known by its ID and by its key, whatever has become of its parents" {
  local a b id=01ARZ3NDEKTSV4RRFFQ69G5FAV
  a=$(gq-enqueue f --local <<<a)
  settings '{remember: "0s", clean_after: "0s", segment_size: "64K"}'
  gq-enqueue g --local --after "$a" --id $id <<<x
  b=$(gq-enqueue g --local --after "$a" --key k <<<y)
  gq-enqueue g --local --after "$a" --id $id <<<x
  [[ $(gq-inspect show $id --json | jq .after) == 1 ]]
  [[ $(drain -f f -f g -- cat | sort | xargs) == 'a x y' ]]
  # A live job keeps its parents remembered; when it has ended, they are forgotten.
  gq-enqueue h --local --after "$b" >/dev/null <<<z
  forgotten() { gq-flush --clean; not gq-inspect show "$a" 2>/dev/null; }
  seq -f %050000.0f 9 | gq-enqueue f --local -l >/dev/null
  gq-flush -f f -- true
  eventually forgotten
  gq-inspect show "$b" >/dev/null
  gq-enqueue g --local --after "$a" --key k <<<y
  fails_with 65 gq-enqueue g --local --after "$a" <<<y
  gq-inspect check
}

@test "gq-flush: --clean comes to an end while live jobs hold many finished jobs [remember: 0s]" {
  gq-enqueue f --local </dev/null >/dev/null
  settings '{remember: "0s", clean_after: "0s", segment_size: "20K"}'
  seq 3000 | gq-enqueue f --local -l >"$T/ids"
  gq-enqueue g --local --after - <"$T/ids" >/dev/null
  gq-flush -f f -- true
  timeout 60 gq-flush --clean
  [[ $(gq-inspect show "$(head -n 1 "$T/ids")" --json | jq -r .state) == finished ]]
}

@test "gq-enqueue: the other gates come behind --after: delay, serial key, limit [--local]" {
  local a b c
  a=$(gq-enqueue f --local <<<a)
  b=$(gq-enqueue g --local --after "$a" --serial s <<<b)
  c=$(gq-enqueue g --local --serial s <<<c)
  [[ $(drain -f g -- cat) == c ]]  # b holds no place in the line yet
  c=$(gq-enqueue g --local --after "$a" --serial s --delay 1h <<<c)
  gq-flush -f f -- true
  [[ $(gq-flush -f g -- cat) == b && $(state "$c") == delayed ]]
  a=$(gq-enqueue f --local <<<a)
  b=$(gq-enqueue h --local --after "$a" --expire 1s <<<b)
  is_dead() { gq-flush -f other -- true; [[ $(state "$b") == dead ]]; }
  eventually is_dead
  gq-inspect check
}

@test "gq-enqueue: a job is after 10,000 jobs, and 10,000 jobs are after one [--after]" {
  local report first
  seq 10000 | gq-enqueue work --local -l >"$T/ids"
  report=$(gq-enqueue report --local --after - --after-any <"$T/ids")
  [[ $(gq-inspect show "$report" --json | jq .unmet) == 10000 ]]
  gq-flush --drop - <"$T/ids"
  gq-flush -f report -- true
  [[ $(state "$report") == finished ]]
  first=$(gq-enqueue first --local <<<x)
  seq 10000 | gq-enqueue then --local -l --after "$first" >"$T/ids"
  [[ $(gq-inspect stats --json | jq -s 'map(select(.function == "then"))[0].after') == 10000 ]]
  gq-flush -f first -- true
  [[ $(gq-inspect stats --json | jq -s 'map(select(.function == "then"))[0].queued') == 10000 ]]
  gq-inspect check
}

@test "gq-worker: a job runs when another process ends its parents [--after]" {
  local a
  a=$(gq-enqueue f --local <<<a)
  background gq-worker --local -f g -- sh -c 'cat >>"$0"' "$T/out"
  gq-enqueue g --local --after "$a" <<<b >/dev/null
  gq-flush -f f -- true
  eventually grep -q b "$T/out"
}

# bats test_tags=journal
@test "gq-enqueue: a job whose parents were not all recorded does not run, and is complete when it is sent again [a crash]" {
  local id=01ARZ3NDEKTSV4RRFFQ69G5FAV segment size other
  seq 2500 | gq-enqueue work --local -l >"$T/ids"
  other=$(gq-enqueue work --local <<<x)
  gq-flush -f work -- true
  gq-enqueue report --local --after - --id $id <"$T/ids"
  cp -a "$GQ_STORE" "$T/whole"
  segment=$(segment) size=$(stat -c %s "$(segment)")
  # Cuts the journal in the last after record, in the one before, and in the first.
  for cut in 100 14200 42300 70800; do
    rm -rf "$GQ_STORE"
    cp -a "$T/whole" "$GQ_STORE"
    rm -f "$GQ_STORE"/index.* "$GQ_STORE/append.lock"
    truncate -s $((size - cut)) "$segment"
    [[ -z $(gq-flush --all -- echo ran) ]] || { [[ $cut == 70800 ]]; }
    if ((cut < 70800)); then
      [[ $(state $id) == waiting ]]
      waits $id | grep -q 'until its client has named all jobs that it is after: .* of 2500 are recorded'
    fi
    fails_with 65 gq-enqueue report --local --after $id --id $id <"$T/ids"
    # If the store has some of its parents, it must name all as before when it is sent again.
    if ((cut < 70800)); then
      { head -n 2499 "$T/ids"; echo "$other"; } >"$T/others"
      fails_with 65 gq-enqueue report --local --after - --id $id -- "$T/ids" <"$T/others"
      fails_with 65 gq-enqueue report --local --after - --after-any --id $id <"$T/ids"
    fi
    [[ $(gq-enqueue report --local --after - --id $id <"$T/ids") == "$id" ]]
    [[ $(gq-flush --all -- wc -l) == 2500 ]]
    gq-inspect check
  done
}

# bats test_tags=database
@test "gq-enqueue: --after works through gearmand" {
  local a report
  start_gearmand
  start_worker -f work -f report --queue-only
  seq 1500 | gq-enqueue work -l >"$T/ids"
  report=$(gq-enqueue report --after - <"$T/ids")
  [[ $(gq-inspect show "$report" --json | jq -c '[.after, .unmet]') == '[1500,1500]' ]]
  fails_with 65 gq-enqueue report --after 01ARZ3NDEKTSV4RRFFQ69G5FAV <<<x
  grep -q 'which the store does not know' "$T/failed.err"
  a=$(head -n 1 "$T/ids")
  seq 3 | gq-enqueue report -l --after "$a" >/dev/null
  gq-flush -f work -- true
  gq-flush -f report -- cat >"$T/out"
  [[ $(sed 1500q "$T/out" | cmp - "$T/ids" && tail -n 1 "$T/out" | fold -w 1 | sort | xargs) == '1 2 3' ]]
}

@test "gq-snapshot: an export has the parents for which a job waits, and a snapshot all [--after]" {
  local a b c
  a=$(gq-enqueue f --local <<<a)
  gq-flush -f f -- true
  b=$(gq-enqueue f --local <<<b)
  c=$(gq-enqueue g --local --after "$a,$b" <<<c)
  gq-enqueue g --local <<<d >/dev/null
  gq-snapshot export >"$T/stream"
  gq-snapshot create "$T/snapshots"
  gq-snapshot restore "$T/snapshots" --store "$T/restored"
  new_store "$T/other"
  gq-snapshot import --store "$T/other" <"$T/stream"
  for store in "$T/other" "$T/restored"; do
    GQ_STORE=$store
    [[ $(waits "$c") == "after $b" ]]
    [[ $(drain -f g -- cat) == d ]]
    [[ $(drain -f f -f g -- cat) == $'b\nc' ]]
    gq-inspect check
  done
  # Without the parent the job is not imported; the others are.
  GQ_STORE=$T/store
  gq-snapshot export -f g >"$T/stream"
  new_store "$T/third"
  fails_with 65 gq-snapshot import --store "$T/third" <"$T/stream"
  grep -q "$c: it is to run after $b, which the store does not know" "$T/failed.err"
  [[ $(drain --store "$T/third" -f g -- cat) == d ]]
}

# bats test_tags=database
@test "gq-flush: --dry-run prints a job whose parents have ended, and not one that waits for a dead parent, a delay or its serial key [--after]" {
  local a dead ready
  a=$(gq-enqueue f --local <<<a)
  dead=$(gq-enqueue f --local <<<dead)
  ready=$(gq-enqueue g --local --after "$a" --after-any <<<ready)
  gq-enqueue g --local --after "$dead" <<<"waits for a dead parent"
  gq-enqueue g --local --after "$a" <<<"its parent is dropped"
  gq-enqueue g --local --after "$a" --after-any --delay 1h <<<delayed
  gq-enqueue g --local --serial s --delay 1h <<<first
  gq-enqueue g --local --after "$a" --after-any --serial s <<<second
  [[ $(gq-flush --all -n | sort) == "$(printf '%s\tf\n' "$a" "$dead" | sort)" ]]
  gq-flush --cancel "$dead"
  gq-flush --drop "$a"  # nothing has looked for jobs since
  [[ $(state "$ready") == waiting && $(gq-flush --all -n) == "$ready"$'\tg' ]]
  [[ $(gq-flush -f h -n) == '' && $(gq-flush --all -- cat) == ready ]]
  gq-inspect check
}

# bats test_tags=database
@test "gq-flush: a job that is after a cancelled one waits, and runs when that one is kicked and done [--cancel, --after]" {
  local a b any
  a=$(gq-enqueue f --local <<<a)
  b=$(gq-enqueue g --local --after "$a" <<<b)
  any=$(gq-enqueue g --local --after "$a" --after-any <<<x)
  background gq-worker --local -f f -f g -- sh -c 'trap "exit 0" TERM; grep -q a - && touch "$0" && while :; do sleep 0.1; done; echo "$GQ_JOB_ID" >>"$0.ran"' "$T/at-work"
  eventually test -e "$T/at-work"
  gq-flush --cancel "$a"
  eventually grep -qx "$any" "$T/at-work.ran"  # exit status 0 came too late
  [[ $(state "$a") == dead && $(waits "$b") == "after $a, which is dead" ]]
  kill "$PID"; wait "$PID" || true
  [[ -z $(gq-flush --all -- cat) ]]
  gq-flush --kick "$a"
  [[ $(gq-flush --all -- cat) == $'a\nb' && $(state "$b") == finished ]]
}
