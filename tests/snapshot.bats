load helpers

some_jobs() {
  seq 20 | gq-enqueue f --local -l >"$T/ids"
  head -c 100000 /dev/urandom >"$T/big"
  gq-enqueue g --local "$T/big" >>"$T/ids"
}
last() { ls -d "$T"/snaps/2*Z | tail -n 1; }
ids() { gq-inspect list "$@" | cut -f1 | sort; }

@test "gq-snapshot: a FIFO or a device in place of a file of a snapshot is refused at once, and named" {
  head -c 70000 /dev/zero | gq-enqueue f --local >"$T/id"
  gq-snapshot create "$T/snaps"
  local snapshot file put
  snapshot=$(echo "$T"/snaps/*)
  for file in manifest gq.json "$(cd "$snapshot"; echo journal/*)" "$(cd "$snapshot"; echo blobs/*/*)"; do
    mv "$snapshot/$file" "$T/kept"
    for put in mkfifo "ln -s /dev/zero"; do
      $put "$snapshot/$file"
      not timeout 20 gq-snapshot verify "$snapshot" >"$T/said"
      [[ $(<"$T/said") == "$snapshot/$file: it is "* ]]
      fails_with 65 timeout 20 gq-snapshot restore "$snapshot" --store "$T/new"
      rm -rf "$T/new" "${snapshot:?}/$file"
    done
    mv "$T/kept" "$snapshot/$file"
  done
  gq-snapshot verify "$snapshot"
}

@test "gq-snapshot: a restore drill: jobs that were queued at the time of the snapshot run on the restored store, with their workloads" {
  some_jobs
  gq-flush -f f --max-attempts 1 -- sh -c 'read n; [ "$n" -gt 10 ]' 2>/dev/null  # ten become dead
  seq 20 | gq-enqueue f --local -l >"$T/more"
  gq-snapshot create "$T/snaps"
  gq-flush -f f -- true  # the snapshot does not contain later events
  rm -rf "$GQ_STORE"
  gq-snapshot restore "$T/snaps" --store "$T/restored"
  export GQ_STORE=$T/restored
  gq-inspect check
  [[ $(jobs_in dead) == 10 && $(jobs_in queued) == 21 && ! -e $GQ_STORE/tmp.restoring ]]
  gq-flush -f f -- sh -c 'echo "$GQ_JOB_ID" >>"$0"' "$T/ran"
  diff <(sort "$T/ran") <(sort "$T/more")
  gq-flush -f g -- cmp - "$T/big"
  no_queued() { [[ $(jobs_in queued) == 0 ]]; }
  no_queued
}

@test "gq-snapshot: verify names any single file that is missing, cut or has a flipped bit, also the manifest [1]" {
  some_jobs
  gq-snapshot create "$T/snaps"
  gq-snapshot verify "$T/snaps"
  files=$(cd "$(last)" && find . -type f | cut -c3-)
  (($(wc -l <<<"$files") == 4))
  for file in $files; do
    for how in missing cut flipped; do
      rm -rf "$T/copy"; cp -r "$(last)" "$T/copy"
      case $how in
        missing) rm "$T/copy/$file" ;;
        cut) truncate -s -1 "$T/copy/$file" ;;
        flipped) flip "$T/copy/$file" $((RANDOM % $(stat -c %s "$T/copy/$file"))) ;;
      esac
      out=$(gq-snapshot verify "$T/copy" 2>&1) && { echo "$file $how: not noticed" >&2; return 1; }
      [[ $out == *"$T/copy/$file: "* ]] || { echo "$file $how: $out" >&2; return 1; }
      not gq-snapshot restore "$T/copy" --store "$T/new" 2>/dev/null
      [[ ! -e $T/new/gq.json && -z $(ls -A "$T/new") ]]
    done
  done
}

@test "gq-snapshot: links files on its own file system, copies them to another one, and copies only new files again" {
  ((EUID == 0)) || skip "needs root, for another file system"
  mkdir "$T/disk"; mount -t tmpfs tmpfs "$T/disk"
  some_jobs
  settings '{segment_size: "4K"}'
  for n in 60 40; do seq "$n" | gq-enqueue f --local -l >/dev/null; done
  gq-snapshot create "$T/snaps"
  gq-snapshot create "$T/disk/snaps"
  seq 5 | gq-enqueue f --local -l >/dev/null
  gq-snapshot create "$T/disk/snaps"
  blob=$(cd "$GQ_STORE" && find blobs -type f)
  sealed=$(cd "$GQ_STORE" && ls journal/*.gqj | head -n 1)
  for file in "$blob" "$sealed"; do
    [[ $(last)/$file -ef $GQ_STORE/$file ]]
    first=$(ls -d "$T"/disk/snaps/2* | head -n 1) second=$(ls -d "$T"/disk/snaps/2* | tail -n 1)
    [[ $first/$file -ef $second/$file && ! $first/$file -ef $GQ_STORE/$file ]]
  done
  gq-snapshot verify "$T/disk/snaps"
  [[ $(gq-snapshot list "$T/disk/snaps" | cut -f2 | xargs) == "121 126" ]]
}

@test "gq-snapshot: refuses a store that is not empty, snapshots of another store, and a directory without snapshots [78, 66]" {
  some_jobs
  gq-snapshot create "$T/snaps"
  mkdir "$T/full"; touch "$T/full/file"
  fails_with 78 gq-snapshot restore "$T/snaps" --store "$T/full"
  fails_with 78 gq-snapshot restore "$T/snaps" --store "$GQ_STORE"
  gq-enqueue --store "$T/other" f --local </dev/null
  fails_with 78 gq-snapshot create "$T/snaps" --store "$T/other"
  mkdir "$T/none"
  fails_with 66 gq-snapshot list "$T/none"
  fails_with 66 gq-snapshot restore "$T/none" --store "$T/new"
  fails_with 66 gq-snapshot verify "$T/nothing"
  fails_with 64 gq-snapshot
  fails_with 64 gq-snapshot create
  fails_with 64 gq-snapshot prune "$T/snaps"
  fails_with 78 gq-snapshot create "$T/more" --store "$T/nothing"
  # An empty directory is accepted like a missing one.
  mkdir "$T/empty"; gq-snapshot restore "$T/snaps" --store "$T/empty"
}

@test "gq-snapshot: restore keeps a store that another restore has created meanwhile, with its new jobs [78; stopped between its check and its start]" {
  gq-enqueue f --local <<<a
  gq-snapshot create "$T/snaps"
  mkdir -m 700 "$T/new"
  background strace -f -qq -o /dev/null -P "$T/new" -e trace=getdents64 -e inject=getdents64:signal=SIGSTOP:when=1 gq-snapshot restore "$T/snaps" --store "$T/new"
  eventually pgrep -r t,T -P "$PID"
  gq-snapshot restore "$T/snaps" --store "$T/new"
  gq-enqueue --store "$T/new" f --local <<<b
  kill -CONT $(pgrep -P "$PID")
  wait "$PID" && status=0 || status=$?
  [[ $status == 78 && $(gq-inspect list --store "$T/new" | wc -l) == 2 && ! -e $T/new/tmp.restoring ]]
}

@test "gq-snapshot: an interrupted restore leaves no store, and the next restore begins again" {
  some_jobs
  gq-snapshot create "$T/snaps"
  strace -f -qq -o /dev/null -e inject=syncfs:signal=SIGKILL:when=1 gq-snapshot restore "$T/snaps" --store "$T/new" || true
  [[ -e $T/new/tmp.restoring && ! -e $T/new/gq.json ]]
  fails_with 78 gq-enqueue --store "$T/new" f --local </dev/null
  gq-snapshot restore "$T/snaps" --store "$T/new"
  gq-inspect check --store "$T/new"
}

@test "gq-snapshot: follows no link inside a snapshot [1, 65]" {
  some_jobs
  head -c 70000 /dev/zero | gq-enqueue f --local
  gq-snapshot create "$T/snaps"
  snapshot=$(last)
  file=$(cd "$snapshot"; ls -d blobs/*/* | tail -n 1)
  # The link leads to the same content, so that all checks of it would pass.
  mv "$snapshot/$file" "$T/same"; ln -s "$T/same" "$snapshot/$file"
  not gq-snapshot verify "$T/snaps" >"$T/out"
  grep -q "$file: it is a link" "$T/out"
  fails_with 65 gq-snapshot restore "$T/snaps" --store "$T/new"
  rm "$snapshot/$file"; mv "$T/same" "$snapshot/$file"
  gq-snapshot verify "$T/snaps"
  mv "$snapshot/blobs" "$T/blobs"; ln -s "$T/blobs" "$snapshot/blobs"
  not gq-snapshot verify "$T/snaps" >"$T/out"
  fails_with 65 gq-snapshot restore "$T/snaps" --store "$T/new"
  rm "$snapshot/blobs"; mv "$T/blobs" "$snapshot/blobs"
  # The path to the snapshots may be a link.
  rm -rf "$T/snaps"; mkdir "$T/disk"; ln -s "$T/disk" "$T/snaps"
  gq-snapshot create "$T/snaps"
  gq-snapshot restore "$T/snaps" --store "$T/again"
}

@test "gq-snapshot: prune keeps the last snapshot and the last of each day, and removes what a dead process left" {
  some_jobs
  for day in 1 2 3 4; do
    for hour in 10 12; do
      at "2026-03-0$day $hour:00" gq-snapshot create "$T/snaps"
      gq-enqueue f --local </dev/null >/dev/null
    done
  done
  mkdir "$T/snaps/tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ"
  gq-snapshot prune "$T/snaps" --keep-last 1 --keep-daily 3
  [[ $(ls "$T/snaps" | cut -c1-11 | xargs) == '20260302T12 20260303T12 20260304T12' ]]
  gq-snapshot prune "$T/snaps" --keep-last 2
  [[ $(ls "$T/snaps" | wc -l) == 2 ]]
  mkdir "$T/snaps/tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ"
  flock "$T/snaps/tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ" gq-snapshot prune "$T/snaps" --keep-last 2
  [[ -e $T/snaps/tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ ]]  # a process is at work on it
  gq-snapshot verify "$T/snaps"
}

@test "gq-snapshot: prune keeps files of other programs, even under a name that begins like gq's own [mktemp, a link]" {
  some_jobs
  gq-snapshot create "$T/snaps"
  theirs=$(mktemp -d -p "$T/snaps"); echo precious >"$theirs/file"; touch -d '3 days ago' "$theirs"
  mkdir "$T/elsewhere" "$T/snaps/tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ.old"
  ln -s "$T/elsewhere" "$T/snaps/tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ"
  before=$(ls "$T/snaps")
  gq-snapshot prune "$T/snaps" --keep-last 1
  [[ $(ls "$T/snaps") == "$before" && -e $theirs/file && -e $T/elsewhere ]]
  # No store is created beside such a file, because its cleaning would have removed the file.
  mkdir -m 700 "$T/used"; mktemp -p "$T/used" tmp.XXXXXXXXXX
  fails_with 78 gq-enqueue --store "$T/used" f --local </dev/null
}

@test "gq-snapshot: prune keeps a directory that holds anything besides a snapshot's files, whatever its name, and reports it [74]" {
  some_jobs
  for _ in 1 2; do gq-snapshot create "$T/snaps"; done
  local n theirs=tmp.01HZZZZZZZZZZZZZZZZZZZZZZ
  for n in 1 2 3; do mkdir "$T/snaps/$theirs$n"; done
  mkdir "$T/snaps/${theirs}2/journal"
  mkdir -p "$T/snaps/${theirs}5/${theirs}6"
  echo precious | tee "$T/snaps/${theirs}1/file" "$T/snaps/${theirs}5/${theirs}6/file" >"$T/snaps/${theirs}2/journal/file"
  mv "$(last)" "$T/snaps/${theirs}4"  # a snapshot that was being removed
  fails_with 74 gq-snapshot prune "$T/snaps" --keep-last 1
  for n in 1 2 5; do grep -q "cannot remove $T/snaps/$theirs$n: it holds files that no snapshot has" "$T/failed.err"; done
  [[ -e $T/snaps/${theirs}1/file && -e $T/snaps/${theirs}5/${theirs}6/file && -e $T/snaps/${theirs}2/journal/file && ! -e $T/snaps/${theirs}3 && ! -e $T/snaps/${theirs}4 ]]
}

@test "gq-snapshot: if prune removes a new directory before create has locked it, create makes it again" {
  some_jobs
  mkdir "$T/snaps"
  background strace -f -qq -o /dev/null -P "$T/snaps" -e trace=mkdirat -e inject=mkdirat:signal=SIGSTOP:when=1 gq-snapshot create "$T/snaps"
  made() { [[ -n $(ls "$T/snaps") ]]; }
  eventually made
  gq-snapshot prune "$T/snaps" --keep-last 1
  not made
  kill -CONT $(pgrep -P "$PID")
  wait "$PID"
  gq-snapshot verify "$T/snaps"
}

@test "gq-snapshot: if prune cannot remove a directory, it goes on with the others and reports it [74]" {
  some_jobs
  for _ in 1 2; do gq-snapshot create "$T/snaps"; done
  local deep=tmp.00HZZZZZZZZZZZZZZZZZZZZZZZ
  mkdir -p "$T/snaps/$deep/tmp.restoring" "$T/snaps/tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ"
  python3 -c 'import os, sys
os.chdir(sys.argv[1])
for _ in range(1500): os.mkdir("d"); os.chdir("d")' "$T/snaps/$deep/tmp.restoring"
  fails_with 74 gq-snapshot prune "$T/snaps" --keep-last 1
  grep -q "cannot remove $T/snaps/$deep: " "$T/failed.err"
  [[ $(ls "$T/snaps" | wc -l) == 2 && -e $T/snaps/$deep ]]
}

# bats test_tags=long
@test "gq-snapshot: export and import carry states, keys and workloads; a second import changes nothing" {
  some_jobs
  dead=$(gq-enqueue d --local <<<dead); gq-flush -f d --max-attempts 1 -- false 2>/dev/null
  late=$(gq-enqueue l --local --delay 1h --priority high --max-attempts 7 --serial s <<<late)
  kept=$(gq-enqueue k --local "$T/big"); gq-flush --keep "$kept"; gq-flush -f k -- true
  part=$(gq-enqueue p --local --from "$kept" --range 5:90000)
  keyed=$(gq-enqueue y --local --key one <<<keyed)
  for _ in 1 2; do gq-snapshot export | gq-snapshot import --store "$T/new"; done
  diff <(ids) <(ids --store "$T/new")
  gq-inspect check --store "$T/new"
  for id in "$dead" "$late" "$kept" "$part" "$keyed"; do
    cmp <(gq-inspect cat "$id") <(gq-inspect cat "$id" --store "$T/new")
    diff <(gq-inspect show "$id" --json | jq -S 'del(.changed_at, .from, .offset)') <(gq-inspect show "$id" --json --store "$T/new" | jq -S 'del(.changed_at)')
  done
  [[ $(gq-enqueue --store "$T/new" y --local --key one <<<keyed) == "$keyed" ]]
  # A job that has ended meanwhile does not come back.
  gq-flush --store "$T/new" -f f -- true
  gq-snapshot export -f f | gq-snapshot import --store "$T/new"
  [[ -z $(gq-inspect list --store "$T/new" -f f) ]]
  [[ $(gq-snapshot export --state dead --state kept | gq-snapshot import --store "$T/some"; ids --store "$T/some") == "$(printf '%s\n' "$dead" "$kept" | sort)" ]]
}

# bats test_tags=long
@test "gq-snapshot: import refuses a stream from the first bad byte on; the jobs before it are kept and counted [65]" {
  some_jobs
  gq-snapshot export >"$T/stream"
  size=$(stat -c %s "$T/stream")
  for at in 0 10 100 1000 3000 $((size - 1)) $((size - 200)); do
    rm -rf "$T/new"
    head -c "$at" "$T/stream" >"$T/cut"
    fails_with 65 gq-snapshot import --store "$T/new" <"$T/cut"
    grep -qE '[0-9]+ jobs? before that (is|are) queued' "$T/failed.err"
    said=$(grep -oE '[0-9]+ job' "$T/failed.err" | cut -d' ' -f1)
    [[ $(gq-inspect list --store "$T/new" | wc -l) == "$said" ]]
    cp "$T/stream" "$T/flipped"; flip "$T/flipped" "$at"
    rm -rf "$T/new"
    fails_with 65 gq-snapshot import --store "$T/new" <"$T/flipped"
  done
  fails_with 65 gq-snapshot import --store "$T/new" </dev/null
  fails_with 65 gq-snapshot import --store "$T/new" <"$T/big"
  # A stream that lacks a whole record, as after a pipe has broken, is refused.
  without() {  # N: the stream without the record that N others follow
    python3 - "$T/stream" "$1" <<'P'
import struct, sys
data, at, records = open(sys.argv[1], "rb").read(), 0, []
while at < len(data):
    meta, size = struct.unpack_from("<IQ", data, at + 4)
    records.append(data[at:at + 32 + meta + size]); at += len(records[-1])
left = int(sys.argv[2])
del records[-1 - left]
sys.stdout.buffer.write(b"".join(records))
P
  }
  without 0 >"$T/short"
  rm -rf "$T/new"; fails_with 65 gq-snapshot import --store "$T/new" <"$T/short"
  [[ $(gq-inspect list --store "$T/new" | wc -l) == 21 ]]
  # A stream that lacks only one job is refused, too.
  without 1 >"$T/short"
  rm -rf "$T/new"; fails_with 65 gq-snapshot import --store "$T/new" <"$T/short"
  [[ $(gq-inspect list --store "$T/new" | wc -l) == 20 ]]
}

@test "gq-snapshot: import skips records that are unknown, damaged or too large, counts them, and goes on [65]" {
  some_jobs
  gq-snapshot export >"$T/stream"
  jobs=$(gq-inspect list | wc -l)
  gq-bench record "$T/nonsense" rep_x all why=60000 >/dev/null
  start=$((32 + $(od -An -tu4 -j4 -N4 "$T/stream")))
  { head -c "$start" "$T/stream"; cat "$T/nonsense"; tail -c +$((start + 1)) "$T/stream"; } >"$T/more"
  fails_with 65 gq-snapshot import --store "$T/1" <"$T/more"
  grep -q "cannot import all: 1 record was left out" "$T/failed.err"
  [[ $(gq-inspect list --store "$T/1" | wc -l) == "$jobs" ]]
  # One workload does not have the checksum that its record says.
  cp "$T/stream" "$T/flipped"
  flip "$T/flipped" $(($(stat -c %s "$T/stream") - 5000))
  fails_with 65 gq-snapshot import --store "$T/2" <"$T/flipped"
  [[ $(gq-inspect list --store "$T/2" | wc -l) == $((jobs - 1)) ]]
  fails_with 65 gq-snapshot import --max-workload 10K --store "$T/3" <"$T/stream"
  grep -q 'it is larger than --max-workload' "$T/failed.err"
  [[ $(gq-inspect list --store "$T/3" | wc -l) == $((jobs - 1)) ]]
}

@test "gq-snapshot: import limits the times of a job to the bounds for a new job" {
  PYTHONPATH=$BATS_TEST_DIRNAME python3 -B -c 'from faults.stranger import record
import sys
def add(n, **more): return record({"t": "add", "id": f"01ARZ3NDEKTSV4RRFFQ69G5F{n}", "f": "f", **more}, b"x")
sys.stdout.buffer.write(record({"t": "stream", "at": 1, "v": 1}) + add(10, at=1 << 61) + add(11, at=1, due=1 << 61)
  + add(12, at=1, key="k", window=1 << 61) + add(13, at=1, max=1 << 31) + record({"t": "end", "at": 1, "lsn": 4}))' >"$T/stream"
  gq-snapshot import --store "$T/new" <"$T/stream"
  gq-inspect show 01ARZ3NDEKTSV4RRFFQ69G5F11 --json --store "$T/new" | jq -e '.due_at | startswith("9999-12-31")'
  [[ $(gq-flush --store "$T/new" -f f -- cat) == xxx ]]
  (($(date -d "$(gq-inspect show 01ARZ3NDEKTSV4RRFFQ69G5F10 --json --store "$T/new" | jq -r .enqueued_at)" +%s) <= $(date +%s)))
}

@test "gq-snapshot: a restored node of a group gets a new identity, and is sent what it has missed" {
  start_gearmand
  for n in 1 2; do gq-replicate init --store "$T/$n" --as rep_$n --group rep_1,rep_2 --run once; done
  for n in 1 2; do background gq-replicate --store "$T/$n"; NODE[n]=$PID; eventually served "$PORT" rep_$n; done
  seq 5 | gq-enqueue --store "$T/1" f -l --local >/dev/null
  gq-snapshot create "$T/snaps" --store "$T/2"
  seq 5 | gq-enqueue --store "$T/1" f -l --local >/dev/null
  kill "${NODE[2]}"; wait "${NODE[2]}"
  old=$(jq -r .identity "$T/2/gq.json")
  rm -rf "$T/2"
  gq-snapshot restore "$T/snaps" --store "$T/2" 2>"$T/err"
  grep -q 'is rep_2 of a replication group' "$T/err"
  [[ $(jq -r .identity "$T/2/gq.json") != "$old" && $(jq -r .node "$T/2/gq.json") == rep_2 ]]
  background gq-replicate --store "$T/2"
  all_there() { [[ $(gq-inspect list --store "$T/2" | wc -l) == 10 ]]; }
  eventually all_there
}

@test "gq-snapshot: import takes several streams one after the other; anything else after the end is refused [65]" {
  gq-enqueue a --local <<<a; gq-enqueue b --local <<<b
  { gq-snapshot export -f a; gq-snapshot export -f b; } >"$T/two"
  gq-snapshot import --store "$T/new" <"$T/two"
  [[ $(gq-inspect list --store "$T/new" | wc -l) == 2 ]]
  { gq-snapshot export; echo more; } >"$T/more"
  fails_with 65 gq-snapshot import --store "$T/other" <"$T/more"
  # A whole record that begins no stream is refused, too.
  gq-snapshot export >"$T/one"
  { cat "$T/one"; tail -c "+$((33 + $(od -An -tu4 -j4 -N4 "$T/one")))" "$T/one"; } >"$T/more"
  fails_with 65 gq-snapshot import --store "$T/third" <"$T/more"
}

@test "gq-snapshot: import does not change a different job with the same ID [65]; dead and kept jobs never run during it" {
  id=01HZZZZZZZZZZZZZZZZZZZZZZZ
  gq-enqueue f --local --id $id <<<one; gq-flush -f f --max-attempts 1 -- false 2>/dev/null
  seq 300 | gq-enqueue k --local -l >/dev/null; gq-flush -f k --on-exit 0=keep -- true
  gq-snapshot export >"$T/stream"
  gq-enqueue --store "$T/new" f --local --id $id <<<two
  background gq-worker --local --store "$T/new" -f k -- sh -c 'echo ran >>"$0"' "$T/ran"
  # The syncs are slow, so that the appended records can be seen for a while.
  fails_with 65 strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:delay_enter=1000000 gq-snapshot import --store "$T/new" <"$T/stream"
  [[ $(gq-inspect show $id --json --store "$T/new" | jq -r .state) == queued && $(gq-inspect list --state kept --store "$T/new" | wc -l) == 300 ]]
  [[ ! -e $T/ran ]]
}

@test "gq-snapshot: after a restore the next snapshot counts as the last one, whatever its position" {
  gq-enqueue f --local </dev/null; gq-snapshot create "$T/snaps"
  seq 50 | gq-enqueue f --local -l >/dev/null; gq-snapshot create "$T/snaps"
  first=$(ls "$T/snaps" | head -n 1)
  gq-snapshot restore "$T/snaps/$first" --store "$T/new"
  gq-enqueue --store "$T/new" g --local </dev/null
  gq-snapshot create "$T/snaps" --store "$T/new"
  gq-snapshot prune "$T/snaps" --keep-last 1
  gq-snapshot restore "$T/snaps" --store "$T/again"
  [[ $(gq-inspect list -f g --store "$T/again" | wc -l) == 1 ]]
}

@test "gq-snapshot: restore does not fall back to an older snapshot if a manifest is damaged [65]; create does not link a copy that was cut" {
  ((EUID == 0)) || skip "needs root, for another file system"
  mkdir "$T/disk"; mount -t tmpfs tmpfs "$T/disk"
  some_jobs
  for _ in 1 2; do gq-snapshot create "$T/snaps"; done
  echo x >>"$(last)/manifest"
  fails_with 65 gq-snapshot restore "$T/snaps" --store "$T/new"
  gq-snapshot create "$T/disk/snaps"
  truncate -s 10 "$(find "$T/disk/snaps" -path '*/blobs/*' -type f)"
  gq-snapshot create "$T/disk/snaps"
  gq-snapshot verify "$(ls -d "$T"/disk/snaps/2* | tail -n 1)"
}

@test "gq-snapshot: a hint that is older than the journal, as after a power cut, hides no job" {
  gq-enqueue f --local </dev/null
  cp "$GQ_STORE/append.lock" "$T/old"
  seq 4 | gq-enqueue f --local -l >/dev/null
  cp "$T/old" "$GQ_STORE/append.lock"
  gq-snapshot create "$T/snaps"
  gq-snapshot restore "$T/snaps" --store "$T/new"
  [[ $(gq-inspect list --store "$T/new" | wc -l) == 5 ]]
}

# bats test_tags=journal
@test "gq-snapshot: a snapshot of a damaged store is created and marked, and prune does not count it [1]" {
  some_jobs
  for day in 1 2; do at "2026-03-0$day 10:00" gq-snapshot create "$T/snaps"; done
  truncate -s -9 "$(segment)"
  for day in 3 4 5; do fails_with 1 at "2026-03-0$day 10:00" gq-snapshot create "$T/snaps"; done
  grep -q 'damaged or missing' "$T/failed.err"
  [[ $(gq-snapshot list "$T/snaps" | cut -f4 | xargs) == 'damaged damaged damaged' && $(gq-snapshot list --json "$T/snaps" | jq .damaged | xargs) == 'null null true true true' ]]
  gq-snapshot verify "$T/snaps"
  fails_with 65 gq-snapshot restore "$T/snaps" --store "$T/new"
  gq-snapshot restore "$(last)" --store "$T/new"
  gq-snapshot prune "$T/snaps" --keep-daily 2
  [[ $(ls "$T/snaps" | cut -c7-8 | xargs) == '01 02 04 05' ]]
  # After one more good snapshot, prune removes the damaged ones.
  rm -rf "$GQ_STORE"; gq-snapshot restore "$T/snaps/20260302T100000.000Z" --store "$GQ_STORE"
  at "2026-03-06 10:00" gq-snapshot create "$T/snaps"
  gq-snapshot prune "$T/snaps" --keep-daily 2
  [[ $(ls "$T/snaps" | cut -c7-8 | xargs) == '02 06' ]]
}

@test "gq-snapshot: import takes 20,000 empty exports one after the other, and the jobs after them" {
  echo x | gq-enqueue f --local >/dev/null
  gq-snapshot export -f nothing >"$T/empty"
  python3 -c 'import sys; sys.stdout.buffer.write(open(sys.argv[1], "rb").read() * 20000)' "$T/empty" >"$T/many"
  gq-snapshot export >>"$T/many"
  GQ_STORE=$T/other gq-snapshot import <"$T/many"
  [[ $(GQ_STORE=$T/other gq-inspect list | wc -l) == 1 ]]
}
