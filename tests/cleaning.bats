load helpers

# Sets small segments that are cleaned at once: limits [REMEMBER [SEGMENT]].
limits() {
  gq-enqueue idle --local --delay 1d </dev/null >/dev/null
  settings "{segment_size: \"${2:-20K}\", clean_after: \"0s\", remember: \"${1:-0s}\"}"
}
journal_size() { cat "$GQ_STORE"/journal/*.gqj | wc -c; }
finish_some() { seq "${1:-1000}" | gq-enqueue f --local -l >"$T/ids"; gq-flush -f f -- true; sleep 0.3; }
is_small() { (($(journal_size) < 60000)); }

@test "gq-flush: --clean frees the disk space of finished jobs, and keeps delayed, dead and kept ones" {
  limits
  late=$(gq-enqueue late --local --delay 1h <<<late)
  dead=$(gq-enqueue dead --local <<<dead); gq-flush -f dead --max-attempts 1 -- false 2>/dev/null
  kept=$(gq-enqueue kept --local <<<kept); gq-flush --keep "$kept"; gq-flush -f kept -- true
  finish_some
  gq-enqueue f --local </dev/null >/dev/null  # cleaning skips the last segment
  gq-flush --clean
  is_small
  gq-inspect check
  for id in "$late" "$dead" "$kept"; do [[ $(gq-inspect show "$id" --json | jq -r '.function') == "$(gq-inspect cat "$id")" ]]; done
  [[ $(jobs_in dead) == 1 && $(jobs_in kept) == 1 && $(jobs_in delayed) == 2 ]]
  # A rebuilt index says the same.
  gq-inspect list --json | sort >"$T/before"
  rm "$GQ_STORE"/index.*
  gq-inspect list --json | sort | cmp - "$T/before"
}

@test "gq-flush: a job that is sent again after cleaning is still the same job, until the time in remember is over" {
  limits 1h 1M
  # The lines are long, so that segments with the adds of jobs are worth cleaning, too.
  finish_long() { seq -f '%08000g' 300 | gq-enqueue f --local -l >"$T/ids"; gq-flush -f f -- true; sleep 0.3; }
  long() { printf '%08000d' "$1"; }
  finish_long
  id=$(head -n 1 "$T/ids") other=$(sed -n 2p "$T/ids")
  keyed=$(gq-enqueue k --local --key one <<<x); keyed2=$(gq-enqueue k --local --key two <<<y); gq-flush -f k -- true
  finish_long
  gq-flush --clean
  not grep -qF "$(long 1)" "$GQ_STORE"/journal/*.gqj
  [[ $(long 1 | gq-enqueue f --local --id "$id") == "$id" ]]
  [[ -z $(gq-inspect list -f f) ]]
  [[ $(gq-enqueue k --local --key one <<<x) == "$keyed" && -z $(gq-inspect list -f k) ]]
  rm "$GQ_STORE"/index.*
  [[ -z $(gq-inspect list -f f) && -z $(gq-inspect list -f k) ]]
  gq-inspect check
  settings '{remember: "0s"}'
  gq-flush --clean
  long 2 | gq-enqueue f --local --id "$other" >/dev/null
  [[ $(gq-inspect list -f f | cut -f1) == "$other" ]]
  # A key stands for its job until its window is over.
  [[ $(gq-enqueue k --local --key two <<<y) == "$keyed2" && -z $(gq-inspect list -f k) ]]
  gq-inspect check
}

@test "the store: a workload with another job's ID, size and checksum does not replace that job's workload, not even when the store is cleaned" {
  limits 0s 40K
  # Two workloads with the same XXH3-64 checksum. Such a pair is quick to make.
  { echo 'invoice 17 for the true customer'; printf '.%.0s' {1..31}; } >"$T/true"
  printf '%s\xdf\xd4m\xe9\x83\x90\x97\xdb\t;4\x15\xc0\xd6v\xaf' "$(printf "%-48s" "stranger's work #")" >"$T/forged"
  id=$(gq-enqueue late --local --delay 1h "$T/true")
  finish_some
  [[ $(gq-enqueue late --local --delay 1h --id "$id" "$T/forged") == "$id" ]]
  gq-inspect cat "$id" | cmp - "$T/true"
  finish_some
  gq-flush --clean
  is_small
  gq-inspect cat "$id" | cmp - "$T/true"
  gq-inspect check
}

@test "gq-worker: cleans the store while it is idle" {
  limits
  seq 1000 | gq-enqueue f --local -l >/dev/null
  not is_small
  background gq-worker --local -f f -- true  # gq-flush would clean, too
  none() { [[ -z $(gq-inspect list -f f) ]]; }
  eventually none
  gq-enqueue other --local </dev/null >/dev/null
  eventually is_small
  gq-inspect check
}

# bats test_tags=journal
@test "gq-flush: --clean moves a damaged segment to damaged/, and keeps the records in it that can be read [stats reports it]" {
  limits
  seq 100 | gq-enqueue f --local -l >/dev/null
  seq 100 | gq-enqueue g --local -l >"$T/ids"
  gq-flush -f f -- true
  first=$(ls "$GQ_STORE"/journal/*.gqj | head -n 2 | tail -n 1)
  rm "$GQ_STORE"/index.*
  flip "$first" 5000
  finish_some
  gq-enqueue f --local </dev/null >/dev/null
  gq-flush --clean
  [[ $(ls "$GQ_STORE/damaged") == "$(basename "$first")"* ]]
  gq-inspect stats >/dev/null 2>"$T/err"
  grep -q 'in damaged/ could not be read whole' "$T/err"
  (($(gq-inspect list -f g | wc -l) >= 99))
  gq-inspect check
}

@test "gq-flush: --clean removes orphaned blobs, old temporary files and files of dead owners, and nothing that is in use" {
  limits
  head -c 100000 /dev/urandom >"$T/a"
  id=$(gq-enqueue f --local "$T/a")
  die_at_work f
  mkdir -p "$GQ_STORE/blobs/ZZ"; cp "$T/a" "$GQ_STORE/blobs/ZZ/01HZZZZZZZZZZZZZZZZZZZZZZZ"
  ours=tmp.01HZZZZZZZZZZZZZZZZZZZZZZZ
  touch -d '2 hours ago' "$GQ_STORE/$ours" "$GQ_STORE/journal/$ours" "$GQ_STORE/blobs/$ours.17" "$GQ_STORE/blobs/tmp.theirs"
  touch "$GQ_STORE/blobs/$ours"
  # Files that are not gq's own stop neither the cleaning nor a snapshot.
  ln -s "$T" "$GQ_STORE/blobs/LL"; touch "$GQ_STORE/blobs/OO"
  ln -s "$T/a" "$GQ_STORE/blobs/$ours.1"; mkfifo "$GQ_STORE/journal/$ours.1"
  gq-snapshot create "$T/snaps"
  swept() { gq-flush --clean; [[ -z $(ls "$GQ_STORE/owners") ]]; }
  eventually swept  # a killed process may take a moment to end
  rm "$GQ_STORE/blobs/$ours.1" "$GQ_STORE/journal/$ours.1"
  [[ $(find "$GQ_STORE" -name 'tmp.*' -printf '%f\n' | sort | xargs) == "$ours tmp.theirs" ]]
  [[ $(find "$GQ_STORE/blobs" -type f -name '0*' -printf '%f\n') == "$id" ]]
  cmp "$T/a" <(gq-inspect cat "$id")
  # A file that a process has locked stays, however old it is.
  background gq-worker --local -f other -- true
  at_work() { [[ -n $(ls "$GQ_STORE/owners") ]]; }
  eventually at_work
  owners=$(ls "$GQ_STORE/owners")
  touch -d '2 hours ago' "$GQ_STORE/blobs/$ours.5"
  flock -s "$GQ_STORE/blobs/$ours.5" gq-flush --clean
  [[ -e $GQ_STORE/blobs/$ours.5 && $(ls "$GQ_STORE/owners") == "$owners" ]]
}

@test "gq-flush: --clean skips young segments; a gq.json with bad limits is refused [78]" {
  limits
  settings '{clean_after: "10m"}'
  finish_some
  before=$(journal_size)
  gq-flush --clean
  [[ $(journal_size) == "$before" ]]
  touch -d '11 minutes ago' "$GQ_STORE"/journal/*.gqj
  gq-flush --clean
  (($(journal_size) < before / 3))
  settings '{remember: "soon"}'
  fails_with 78 gq-inspect list
}

@test "gq-inspect: stats shows the live and the garbage bytes of the journal, and how long the oldest job has waited" {
  limits
  settings '{clean_after: "1h"}'
  at -7200 gq-enqueue old --local </dev/null >/dev/null
  finish_some
  stats=$(gq-inspect stats --json | jq -c 'select(.journal_bytes)')
  jq -e '.journal_bytes == .live_bytes + .garbage_bytes and .garbage_bytes > 100000 and (.oldest_seconds | . > 7000 and . < 8000)' <<<"$stats"
}

# bats test_tags=journal
@test "gq-flush: a job with a key is not taken for a forgotten job with the same key, even if records of the forgotten one are still in the journal" {
  limits
  large() { for _ in $(seq 40); do head -c 6000 /dev/urandom | base64 -w0; echo; done | gq-enqueue f --local -l >/dev/null; gq-flush -f f -- true; }
  stays() { seq -f '%0300g' "$1" | gq-enqueue stays --local --delay 1d -l >/dev/null; }
  # The first add is in a segment that cleaning skips, because most of it is live. Another add is in a segment that is
  # cleaned while the job lives.
  stays 20
  a=$(gq-enqueue k --local --key K --key-window 0s <<<a)
  stays 60
  gq-snapshot export -f k >"$T/stream"
  large
  gq-snapshot import <"$T/stream"
  large
  gq-flush --clean
  gq-flush -f k -- true
  b=$(gq-enqueue k --local --key K --key-window 1h <<<b)
  for _ in 1 2 3; do large; sleep 0.2; gq-flush --clean; gq-inspect check; done
  [[ $a != "$b" ]]
  not gq-inspect show "$a" 2>/dev/null
  [[ $(gq-inspect list -f k | cut -f1) == "$b" ]]
  rm "$GQ_STORE"/index.*
  [[ $(gq-inspect list -f k | cut -f1) == "$b" ]]
}

@test "gq-flush: --clean works on a full disk, and then the store accepts jobs again" {
  store_on_small_disk
  limits 1h
  settings '{segment_size: "1M", clean_after: "1h"}'
  head -c 1500000 /dev/urandom | base64 -w 20000 | gq-enqueue f --local -l >/dev/null; gq-flush -q -f f -- true; gq-enqueue f --local </dev/null; gq-flush --clean  # this reserves space for the cleaning, as there is a second segment now
  fill() { local n=0; while head -c 300000 /dev/urandom | base64 -w 20000 | timeout 20 gq-enqueue f --local -l -q >/dev/null 2>&1; do n=$((n + 1)); ((n < 100)) || return; done; }
  fill
  fails_with 74 sh -c 'head -c 600000 /dev/urandom | gq-enqueue f --local'
  timeout 20 gq-worker --local --drain -f f -- true
  gq-flush --clean
  [[ -e $GQ_STORE/journal/spare.clean ]]
  settings '{clean_after: "0s"}'
  # All free space is used up, except the space that is reserved for the cleaning.
  dd if=/dev/zero of="$T/disk/full" bs=4096 2>/dev/null || true
  gq-flush --clean
  free=$(stat -f -c %a "$T/disk")
  echo "$free blocks are free"
  ((free > 500))
  rm "$T/disk/full"
  gq-inspect check
  head -c 600000 /dev/urandom | gq-enqueue f --local
}

@test "gq-flush: --clean also cleans segments with a date in the future [the clock was set back]" {
  limits
  settings '{clean_after: "1h"}'
  seq -f '%0400g' 300 | at +864000 gq-enqueue f --local -l >"$T/ids"
  at +864000 gq-worker --local --drain -f f -j 2 -- true
  touch -d '10 days' "$GQ_STORE"/journal/*.gqj
  (($(journal_size) > 150000))
  settings '{clean_after: "0s"}'
  cleaned() { gq-flush --clean && is_small; }
  eventually cleaned
  gq-inspect check
}
