load helpers

@test "gq-inspect: list --json has id, function, state, attempts, enqueued_at and size" {
  id=$(printf 12345 | gq-enqueue f --local)
  gq-inspect list --json | jq -e --arg id "$id" \
    '.id == $id and .function == "f" and .state == "queued" and .attempts == 0 and .size == 5 and (.enqueued_at | fromdateiso8601? // (.[0:19] + "Z" | fromdateiso8601)) > 0'
}

@test "gq-inspect: list obeys --state, --function and --limit" {
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

@test "gq-inspect: stats shows a serial key whose first job is due late, and how many jobs wait behind it" {
  late=$(gq-enqueue f --local --serial s --delay 3d <<<late)
  gq-enqueue g --local --serial t --delay 3d <<<alone
  [[ -z $(gq-inspect stats | grep serial) ]]
  seq 3 | gq-enqueue g --local -l --serial s
  gq-inspect stats | grep -q "^3 jobs waiting for $late of f, due at 20.*Z: serial key s$"
  gq-inspect stats --json | jq -se --arg id "$late" 'map(select(.serial)) | length == 1 and (.[0] | .serial == "s" and .waits_for == $id and .function == "f" and .waiting == 3)'
  gq-flush --kick "$late"
  gq-flush --all -- true
  [[ $(gq-inspect list | wc -l) == 1 && -z $(gq-inspect stats | grep serial) ]]
}

@test "gq-inspect: show and cat print a job; an unknown job is 1" {
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

@test "gq-inspect: attempts counts every end in the same way; exit status and signal are fields; a dropped job is shown as dropped" {
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

# bats test_tags=long,once
@test "gq-inspect: with a million jobs, list --limit 10, stats, status, metrics and report read little, and a worker stays under 64 MiB" {
  seq 1000000 | gq-enqueue f --local -l >"$T/ids"
  lines_are "$T/ids" 1000000
  gq-inspect stats --json | jq -se '.[0].queued == 1000000'  # this builds the index
  # The test counts reads, not seconds. They must not grow with the store.
  for what in "list --limit 10" stats status metrics report; do
    strace -f -c -e trace=pread64,read -o "$T/count" gq-inspect $what >/dev/null
    calls=$(awk '$NF == "total" { print $4 }' "$T/count")
    echo "$what: $calls reads"
    ((calls < 400))
  done
  # A worker that has to rebuild the index before it runs jobs.
  rm "$GQ_STORE/index.seal"
  background gq-worker --local -f f -j 2 -- true
  hundred() { (($(gq-inspect stats --json | jq -s '.[0].finished') >= 100)); }
  eventually hundred
  peak=$(awk '/VmHWM/ { print $2 }' "/proc/$PID/status")
  echo "peak RSS: $peak kB"
  ((peak < 65536))
  kill "$PID"; wait "$PID"
}

@test "gq-inspect: leaves the index usable when its reader goes away or a signal ends it" {
  seq 20000 | gq-enqueue f --local -l >"$T/ids"
  gq-inspect stats
  gq-enqueue f --local </dev/null  # so that the index has to change
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

@test "gq-inspect: check creates its table only where no other user can replace the file, and never in the store; without such a place it says so and checks the rest [TMPDIR, 74]" {
  local mode
  id=$(head -c 100000 /dev/urandom | gq-enqueue f --local)
  gq-inspect stats
  for mode in 1777 777; do mkdir -m "$mode" "$T/$mode"; done
  TMPDIR=$T/1777 strace -f -y -o "$T/trace" -e trace=openat gq-inspect check
  grep -q "$T/1777>.*O_CREAT" "$T/trace"
  not grep "$GQ_STORE>.*O_CREAT" "$T/trace" | grep tmp
  [[ -z $(ls "$T/1777") ]]
  flip "$GQ_STORE/blobs/${id: -2}/$id" 50000
  for mode in "$T/777" /proc "$T/none"; do
    got=0; TMPDIR=$mode gq-inspect check >"$T/out" 2>"$T/err" || got=$?
    [[ $got == 74 ]]
    grep -q 'cannot compare the index' "$T/err"
    grep -q "$id: the checksum of its blob" "$T/out"
  done
  [[ -z $(ls "$T/777") ]]
}

# bats test_tags=journal
@test "gq-inspect: check reads the journal once, and runs while the store is cleaned" {
  seq 5000 | gq-enqueue f --local -l >"$T/ids"
  head -c 3000000 /dev/urandom | base64 -w 40000 | gq-enqueue f --local -l >"$T/ids"
  gq-inspect stats
  size=$(cat "$GQ_STORE"/journal/*.gqj | wc -c)
  strace -f -y -qq -e trace=pread64,read -o "$T/reads" flock "$GQ_STORE/clean.lock" timeout 300 gq-inspect check
  read=$(grep -F "$GQ_STORE/journal/" "$T/reads" | awk '$NF ~ /^[0-9]+$/ { n += $NF } END { print n }')
  echo "$read bytes read, for $size of the journal"
  ((read >= size - 1000 && read < size + size / 20))
}

@test "gq-inspect: check shows its progress on a terminal, and only there" {
  seq 3000 | gq-enqueue f --local -l >"$T/ids"
  script -qec 'gq-inspect check' /dev/null </dev/null >"$T/shown"
  grep -q 'of 0 MiB of the journal' "$T/shown"
  [[ -z $(gq-inspect check 2>&1) ]]
}

# Prints how many reads of the index a command makes at most while it holds index.lock.
most_reads() {
  strace -f -qq -y -e trace=flock,pread64 -o "$T/held" "$@" >"$T/out"
  awk '/flock/ && /index.lock>, LOCK_(EX|UN)/ { n = 0 } /pread64/ && /index.tcb>/ && ++n > most { most = n } END { print most + 0 }' "$T/held"
}

@test "gq-inspect, gq-flush: stats and a dry run lock the index for a bounded number of jobs [delayed, queued, claimed by a dead worker]" {
  seq 40000 | gq-enqueue f --local -l --delay 1d >"$T/ids"
  seq 20000 | gq-enqueue g --local -l >"$T/queued"
  die_at_work g
  gq-inspect stats >"$T/made"
  for what in 'gq-inspect stats' 'gq-inspect stats --json' 'gq-flush -n --all' 'gq-flush -n -f g'; do
    reads=$(most_reads $what)
    echo "$what: $reads reads"
    ((reads < 400))
  done
  cmp <(cut -f1 "$T/out" | sort) <(sort "$T/queued")
  gq-inspect stats --json | jq -se 'map(select(.function)) | length == 2 and .[0].delayed == 40000 and .[1].queued == 20000 and .[1].running == 0'
}

@test "gq-inspect: rebuilds an index from the heads of large records, and does not read their workloads" {
  head -c 3000000 /dev/urandom | base64 -w 40000 | gq-enqueue f --local -l >"$T/ids"
  strace -f -qq -e trace=pread64 -o "$T/reads" gq-inspect stats
  read=$(awk '$NF ~ /^[0-9]+$/ { n += $NF } END { print n }' "$T/reads")
  echo "$read bytes read"
  ((read < 2000000))
}

# `odd` may be in names and keys. `bad` is what people and programs say elsewhere. Neither may control a terminal or a
# log.
odd=$'a\xc2\x9b31m\xe2\x80\xaeb\xe2\x80\xa8\xc2\x85\xd8\x9c'
bad=$odd$'\xff\x1b[2J\x7f\r'
acts() { LC_ALL=C grep -aqP '\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xd8\x9c|[\x00-\x08\x0b-\x1f\x7f]|\xff' "$@"; }
shown() { "$@" >>"$T/shown" 2>&1 </dev/null || true; }

@test "gq-inspect, gq-flush, gq-worker: text from a store controls no terminal and no log: it is printed with ?, and with \\uXXXX in JSON [keys, functions, reasons, workloads]" {
  id=$(gq-enqueue --local --key "$odd" --serial "$odd" "f$odd" <<<"$bad")
  shown gq-worker --local --drain -f "f$odd" --joblog "$T/joblog" -- sh -c 'printf "%s\n" "$0" >&2; exit 100' "$bad"
  acts "$T/shown"  # the output of a command is passed on unchanged
  mv "$T/joblog" "$T/shown"
  gq-enqueue --local "g$odd" <<<"$bad"
  for json in '' --json; do
    for words in list "show $id" "show --history $id" stats check journal "show $odd"; do shown gq-inspect $json $words; done
  done
  for words in '-n --all' '--pause' '--kick-dead -f' '--drop' '-f'; do shown gq-flush $words "x$odd"; done
  shown gq-flush -n --all
  shown gq-flush -f x -- "$bad"
  shown gq-worker --local -f x --drain --strict -- "$T/$bad"
  shown gq-worker --local -f x --output "$T/none/$bad" -- true
  [[ $(wc -l <"$T/shown") -gt 40 ]]
  not acts "$T/shown"
  grep -q 'a?31m?b???' "$T/shown"
  grep -q 'a\\u009b31m\\u202eb\\u2028\\u0085\\u061c' "$T/shown"
  [[ $(gq-inspect show --json "$id" | jq -j '.key, .serial, .function') == "$odd${odd}f$odd" ]]
  [[ $(gq-inspect cat "$id") == "$bad" ]]
  script -qec "gq-inspect cat $id" /dev/null </dev/null | tr -d '\r' >"$T/shown"
  [[ $(<"$T/shown") == 'a?31m?b?????[2J??' ]]
  not script -qec 'gq-inspect journal --records' /dev/null </dev/null >"$T/shown"
  not acts <(tr -d '\r' <"$T/shown")
}

# bats test_tags=once,long
@test "gq-snapshot, gq-enqueue, gq-replicate: text from other programs controls no terminal, and only an ID is printed as one [manifests, databases, workers, names of files, servers and options]" {
  shown gq-enqueue --local f
  gq-snapshot create "$T/s" && mv "$T/s" "$T/s$odd" && cd "$T/s$odd"/*Z
  for words in verify list 'list --json'; do shown gq-snapshot $words "$T/s$odd"; done
  python3 - "$odd" <<'PYTHON'
import ctypes, os, sys
xxh = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
xxh.restype, xxh.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
text = open("manifest", "rb").read().rsplit(b"sum ", 1)[0] + b"file 1 0123456789abcdef " + os.fsencode(sys.argv[1]) + b"\xff\n"
open("manifest", "wb").write(text + b"sum %016x\n" % xxh(text, len(text)))
PYTHON
  cd "$T"
  for words in verify list 'list --json' create 'restore --store new' "$odd"; do shown gq-snapshot $words "$T/s$odd"; done
  grep -q '[ /]a?31m?b????$' "$T/shown"
  printf '#!/bin/sh\nread -r x\nprintf "error %%s\\n%%s" 24 "$BAD"\n' >"$T/helper" && chmod +x "$T/helper"
  BAD=$bad shown gq-enqueue --local --store "exec:$T/helper" f
  grep -q 'helper: a?31m?b?????\[2J?' "$T/shown"
  shown gq-enqueue --local --store "exec:gq-store-dbi dbi:Pg:dbname=${bad//$'\r'/}" f
  shown gq-store-dbi "--$bad"
  shown gq-store-dbi --table "$bad" dbi:x
  BAD=$bad shown gq-store-test "$T/helper"
  shown gq-store-bdb "$bad" "$bad"
  shown gq-store-bdb "/none/$bad"
  shown gq-enqueue --servers "$bad" f
  shown gq-enqueue --local f "$bad" --"$bad"
  shown gq-enqueue --local f "$T/$bad"
  shown gq-enqueue --local --config "$T/$bad" f
  shown gq-replicate init --as "$bad" --group "$bad,rep_2"
  shown gq-replicate --to "$bad"
  for answer in "same ID EVIL$odd" 'same ID 01ARZ3NDEKTSV4RRFFQ69G5FA' "owed ID $bad copies=1/2" "bad $bad" "refused ID $bad" "queued ID $bad" "$bad"; do
    fake_gearmand f.gq "$answer"
    gq-enqueue --servers "$FAKE" --timeout 1s f <<<x >"$T/ids" 2>>"$T/shown" || true
    not grep -vE '^[0-9A-HJKMNP-TV-Z]{26}$' "$T/ids"
    [[ $answer != same* && $answer != owed* ]] || [[ ! -s $T/ids ]]
  done
  [[ $(wc -l <"$T/shown") -gt 17 ]] || { cat -v "$T/shown"; false; }
  not acts "$T/shown"
}

@test "gq-inspect, gq-worker: if a segment claims that the journal goes on far beyond its end, records are appended behind that; if the hint is wrong, too, both programs report it [1, 74]" {
  gq-enqueue f --local <<<x
  cp "$GQ_STORE/append.lock" "$T/hint"
  # A cleaned segment that claims all positions up to 10^11 replaces the first one. Another segment begins behind the
  # true end.
  python3 - "$GQ_STORE" <<'PY'
import ctypes, json, os, struct, sys
xxhash = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
xxhash.restype, xxhash.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
sum64 = lambda data, seed=0: xxhash(data, len(data), seed)
store = sys.argv[1]
seed = sum64(json.load(open(store + "/gq.json"))["store"].encode())
journal = store + "/journal/"
first = journal + sorted(name for name in os.listdir(journal) if name.endswith(".gqj"))[0]
data = open(first, "rb").read()
size, = struct.unpack_from("<I", data, 12)
length, = struct.unpack_from("<I", data, size + 4)
record = data[size + 24:size + 24 + length]
def header(base, end=0, cleaned=0, bytes=0):
    more = struct.pack("<QQQ", end, cleaned, bytes) if end else b""
    head = b"GQJSEG\r\n" + struct.pack("<IIQQ", 2 if end else 1, 40 + len(more), base, base) + more
    return head + struct.pack("<Q", sum64(head, seed))
frame = struct.pack("<IIQ", 0x32465147, length, 64)
frame += struct.pack("<Q", sum64(frame, (seed + 64) & (2**64 - 1))) + record
end = 10**11
open(first, "wb").write(header(0, end, end, 64 + len(frame)) + frame)
open(journal + "%020d.gqj" % 1000, "wb").write(header(1000))
PY
  rm -rf "$GQ_STORE"/index.* "$GQ_STORE/append.lock"
  cp -a "$GQ_STORE" "$T/lies"
  gq-enqueue f --local <<<y
  [[ $(gq-worker --local --drain -f f -- cat | sort) == $'x\ny' ]]
  gq-inspect check
  # The hint names the last segment, correctly, and says that the journal ends there.
  export GQ_STORE=$T/lies
  python3 - "$GQ_STORE" "$T/hint" <<'PY'
import ctypes, json, struct, sys
xxhash = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
xxhash.restype, xxhash.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
store = json.load(open(sys.argv[1] + "/gq.json"))["store"].encode()
hint = open(sys.argv[2], "rb").read()[:8] + struct.pack("<QQQ", 1000, 1040, 0)
open(sys.argv[1] + "/append.lock", "wb").write(hint + struct.pack("<Q", xxhash(hint, 32, xxhash(store, len(store), 0))))
PY
  gq-inspect list | grep -q queued
  got=0; gq-inspect check >"$T/out" || got=$?
  [[ $got == 1 ]]
  grep -q 'a segment says that the journal goes on up to here, but the last segment begins at 1000' "$T/out"
  background gq-worker --local -f f -- true
  eventually grep -q 'cannot use the journal: records appended before 1[0-9]* are not read' "$T/bg.0.err"
  (($(du -sb "$GQ_STORE/journal" | cut -f 1) < 100000))
}

@test "gq-flush: --clean ends although the positions of a journal jump by 2^61" {
  gq-enqueue f --local --delay 1h <<<x
  python3 - "$GQ_STORE" <<'PY'
import ctypes, json, struct, sys
xxhash = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
xxhash.restype, xxhash.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
store = json.load(open(sys.argv[1] + "/gq.json"))["store"].encode()
base = 2**61
head = b"GQJSEG\r\n" + struct.pack("<IIQQ", 1, 40, base, base)
head += struct.pack("<Q", xxhash(head, 32, xxhash(store, len(store), 0)))
open(sys.argv[1] + "/journal/%020d.gqj" % base, "wb").write(head)
PY
  rm "$GQ_STORE/append.lock"
  gq-enqueue f --local --delay 1h <<<y
  timeout 60 gq-flush --clean
  [[ $(gq-inspect list | wc -l) == 2 ]]
}
