load helpers

fill() { seq "$1" | gq-enqueue f --local -l >"$T/ids"; }
run_all() { gq-worker --local --drain -f f -- sh -c 'read -r x; echo "$x" >>"$0"' "$T/out" 2>"$T/run.err"; }

@test "the index: if it was removed, truncated or overwritten with garbage, it is rebuilt, and no job is lost" {
  fill 300
  gq-inspect check
  for how in "rm" "truncate -s 1000" "truncate -s -300" "truncate -s 0" "dd if=/dev/urandom bs=1000 count=30 conv=notrunc status=none of=" "dd if=/dev/zero bs=1000 count=5 conv=notrunc status=none of="; do
    case $how in *of=) $how"$GQ_STORE/index.tcb" ;; *) $how "$GQ_STORE/index.tcb" ;; esac
    [[ $(timeout 20 gq-inspect list | wc -l) == 300 ]]
    gq-inspect check
  done
  run_all
  sort -n "$T/out" | cmp - <(seq 300)
}

@test "the index: without a seal, or with a stale one, it is not trusted" {
  fill 3
  gq-inspect stats
  [[ -e $GQ_STORE/index.seal ]]
  # A well-formed table with old content and no seal: it must be discarded.
  cp "$GQ_STORE/index.tcb" "$T/old.tcb"; cp -p "$GQ_STORE/index.seal" "$T/old.seal"
  seq 4 10 | gq-enqueue f --local -l
  gq-inspect stats
  cat "$T/old.tcb" >"$GQ_STORE/index.tcb"; rm "$GQ_STORE/index.seal"
  strace -f -o "$T/trace" -e trace=unlink,unlinkat gq-inspect list | wc -l >"$T/n"
  [[ $(cat "$T/n") == 10 ]]
  grep -q 'unlink.*index.tcb"' "$T/trace"
  cat "$T/old.tcb" >"$GQ_STORE/index.tcb"; cat "$T/old.seal" >"$GQ_STORE/index.seal"
  strace -f -o "$T/trace" -e trace=unlink,unlinkat gq-inspect list | wc -l >"$T/n"
  [[ $(cat "$T/n") == 10 ]]
  grep -q 'unlink.*index.tcb"' "$T/trace"
  # An index that was altered under its seal, and has its old size and date, as if both came from an archive.
  cp -p "$GQ_STORE/index.tcb" "$T/new.tcb"
  printf x | dd of="$GQ_STORE/index.tcb" bs=1 seek=200 conv=notrunc status=none
  touch -r "$T/new.tcb" "$GQ_STORE/index.tcb"
  is_rebuilt
  # A correctly sealed index is used as it is.
  strace -f -o "$T/trace" -e trace=unlink,unlinkat gq-inspect list >/dev/null
  not grep -q 'unlink.*index.tcb"' "$T/trace"
}

# Kills a command at its n-th call of pwrite64. Most of these calls write to the index.
killed_at() { strace -f -qq -o /dev/null -e trace=pwrite64 -e inject=pwrite64:signal=SIGKILL:when="$1" "${@:2}" >"$T/died" 2>&1 && return 1 || true; }
# Whether the next program rebuilds the index.
is_rebuilt() { strace -f -o "$T/trace" -e trace=unlink,unlinkat gq-inspect list | cut -f1 >"$T/list" && grep -q 'unlink.*index.tcb"' "$T/trace"; }

@test "the index: if a program is killed between two visits, the next program uses the index as it is; if it is killed during a visit, the next program rebuilds it" {
  for at in 3 5 10 20 60; do
    rm -rf "$GQ_STORE"
    fill 500
    gq-inspect stats
    seq 1000 | gq-enqueue f --local -l >>"$T/ids"
    killed_at $at gq-inspect list
    [[ ! -e $GQ_STORE/index.seal ]]
    is_rebuilt
    cmp <(sort "$T/list") <(sort "$T/ids")
    gq-inspect check
  done
  gq-enqueue f --local <<<x >>"$T/ids"
  background gq-worker --local -f f -- sleep 60
  running() { [[ $(jobs_in running) == 1 ]]; }
  eventually running
  kill -9 "$PID"
  not is_rebuilt
  gq-inspect check
}

# bats test_tags=journal
@test "the index: without a seal it is rebuilt if it was altered, is another file, or belongs to another journal" {
  unsealed() {
    rm -rf "$GQ_STORE"
    fill 500
    gq-inspect stats
    cp "$(segment)" "$T/before"
    seq 1000 | gq-enqueue f --local -l >>"$T/ids"
  }
  running() { [[ $(jobs_in running) == 1 ]]; }
  between_visits() {
    unsealed
    background gq-worker --local -f f -- sleep 60
    eventually running
    kill -9 "$PID"; wait "$PID" || true
  }
  between_visits
  not is_rebuilt
  for how in 'truncate -s -300' touch; do
    between_visits
    $how "$GQ_STORE/index.tcb"
    is_rebuilt
    [[ $(wc -l <"$T/list") == 1500 ]]
  done
  between_visits
  cat "$T/before" >"$(segment)"
  is_rebuilt
  [[ $(wc -l <"$T/list") == 500 ]]
  between_visits
  cp "$GQ_STORE/index.tcb" "$T/other"; mv "$T/other" "$GQ_STORE/index.tcb"
  is_rebuilt
  # The same, for a file from an archive whose inode number was foreseen.
  unsealed
  killed_at 60 gq-inspect list
  before=$(stat -c %i "$GQ_STORE/index.tcb")
  cp -p "$GQ_STORE/index.tcb" "$T/other"; mv "$T/other" "$GQ_STORE/index.tcb"
  sed -i "s/ $before / $(stat -c %i "$GQ_STORE/index.tcb") /" "$GQ_STORE/index.users"
  is_rebuilt
  # After a power cut, or on another mount.
  between_visits
  printf '%s' ffffffff | dd of="$GQ_STORE/index.users" bs=1 seek=3 conv=notrunc status=none
  is_rebuilt
}

@test "the index: is rebuilt when all its users have died twice in a row, as on a page that crashes the library; one death is not enough" {
  fill 3
  gq-inspect stats
  die() { strace -f -qq -o /dev/null -e trace=write -e inject=write:signal=SIGKILL gq-inspect list >"$T/died" || true; }
  rebuilt() { strace -f -o "$T/trace" -e trace=unlink,unlinkat gq-inspect list | diff - "$T/list" && grep -q 'unlink.*index.tcb"' "$T/trace"; }
  gq-inspect list >"$T/list"
  for n in 1 2; do
    die
    not rebuilt
  done
  die
  die
  rebuilt
  not rebuilt
}

@test "gq: follows no link inside a store, not even to create or empty a file [78]; an index that is a link is rebuilt" {
  echo x | gq-enqueue f --local
  head -c 70000 /dev/zero | gq-enqueue f --local
  gq-inspect stats
  local name blob=blobs/$(cd "$GQ_STORE/blobs"; ls)
  for name in append.lock index.lock index.users clean.lock gq.json journal blobs owners "$blob" "${blob}/$(ls "$GQ_STORE/$blob")" \
    "journal/$(basename "$(segment)")" index.tcb index.tcb.wal index.seal; do
    rm -rf "$T/s" "$T/outside" "$T/new"
    cp -a "$GQ_STORE" "$T/s"
    [[ $name == index.users ]] || rm -f "$T/s/index.seal"
    if [[ -d $T/s/$name ]]; then cp -a "$T/s/$name" "$T/outside"; else echo precious >"$T/outside"; fi
    cp -a "$T/outside" "$T/before"
    rm -rf "${T:?}/s/$name"; ln -s "$T/outside" "$T/s/$name"
    case $name in
      index.*) [[ $name == *.lock || $name == *.users ]] && code=78 || code=0 ;;
      clean.lock | blobs/*) code=0 ;;
      *) code=78 ;;
    esac
    fails_with $code gq-inspect stats --store "$T/s"
    [[ $code == 0 ]] || grep -q 'it is a link' "$T/failed.err"
    gq-flush --store "$T/s" -f f -- cat >/dev/null 2>&1 || true
    diff -r "$T/before" "$T/outside"
    # A link that leads nowhere is not followed either.
    [[ -d $T/outside ]] || { ln -sf "$T/new" "$T/s/$name"; gq-inspect stats --store "$T/s" || true; echo y | gq-enqueue --store "$T/s" f --local || true; not test -e "$T/new"; }
    rm -rf "$T/before"
  done
  # The path to the store may contain links.
  mkdir "$T/disk"; mv "$GQ_STORE" "$T/disk/q"; ln -s "$T/disk/q" "$GQ_STORE"
  [[ $(jobs_in queued) == 2 ]]
}

@test "gq: refuses a directory of another user before it reads or runs anything in it [78]" {
  ((EUID == 0)) || skip "needs root, to give a directory away"
  rm -rf "$GQ_STORE"; mkdir -m 700 "$GQ_STORE"
  printf '#!/bin/sh\ntouch %s/ran\n' "$T" >"$T/evil"; chmod +x "$T/evil"
  name_database "$GQ_STORE" "exec:$T/evil"
  echo precious >"$T/victim"; ln -s "$T/victim" "$GQ_STORE/mirror"; ln -s "$T/new" "$GQ_STORE/mirror.users"
  chown -hR nobody "$GQ_STORE"
  for call in "gq-inspect stats" "gq-inspect confirm" "gq-flush --clean" "gq-enqueue f --local" "gq-worker --local --drain -f f -- true" "gq-snapshot create $T/snaps" "gq-snapshot export" \
    "gq-snapshot import" "gq-replicate init --as rep_1 --group rep_1"; do
    fails_with 78 $call </dev/null
    grep -q 'it belongs to user [0-9]* (you are root)' "$T/failed.err"
  done
  [[ ! -e $T/ran && ! -e $T/new && $(<"$T/victim") == precious ]]
  # A file of another user in the user's own directory is refused, too.
  rm -rf "$GQ_STORE"
  echo x | gq-enqueue f --local
  chown nobody "$GQ_STORE/gq.json"
  fails_with 78 gq-inspect stats
  grep -q 'gq.json: it belongs to another user' "$T/failed.err"
  chown root "$GQ_STORE/gq.json"
  gq-inspect stats
  chown nobody "$GQ_STORE/journal"
  fails_with 78 gq-inspect stats
  grep -q 'journal: it belongs to another user' "$T/failed.err"
}

@test "the store: others can read nothing in it, whatever the umask, and a file that they could read is corrected; commands keep the umask" {
  umask 022
  mkdir "$GQ_STORE"
  readable() { find "$GQ_STORE" -mindepth 1 -perm /077; }
  fill 3
  # The log of the index exists only during a transaction. Here its removal is prevented.
  strace -f -qq -o /dev/null -e inject=unlink,unlinkat:retval=0 gq-inspect stats
  [[ -e $GQ_STORE/index.tcb.wal && -z $(readable) ]]
  head -c 70000 /dev/zero | gq-enqueue f --local
  chmod -R a+rwX "$GQ_STORE"/*
  [[ $(gq-worker --local --drain -f f -- sh -c umask | sort -u) == 0022 ]]
  gq-flush --clean
  # A file that has not been opened again is still in a directory that nobody else can enter.
  [[ -e $GQ_STORE/index.tcb && $(readable | xargs) == "$GQ_STORE/journal/spare" ]]
}

@test "the index: is rebuilt without blocking appends" {
  seq 200000 | gq-enqueue f --local -l >"$T/ids"
  background gq-inspect stats
  sleep 0.1
  slowest=0
  while kill -0 "$PID" 2>/dev/null; do
    start=$(date +%s%N)
    echo x | gq-enqueue f --local >>"$T/more"
    took=$((($(date +%s%N) - start) / 1000000))
    ((took > slowest)) && slowest=$took
  done
  echo "$(wc -l <"$T/more") appended meanwhile, the slowest took $slowest ms"
  (($(wc -l <"$T/more") > 2))
}

@test "the journal: a torn record at the end loses no acknowledged record, and is left as it is" {
  fill 3
  cp "$(segment)" "$T/whole"
  next=4
  # Behind the last whole frame comes part of a frame, a long one, garbage, or zeros. The index is kept, or not.
  for tail in "head -c 1 $T/whole" "printf GQF1" "tail -c 111 $T/whole" "tail -c 23 $T/whole" "head -c 9000 /dev/urandom" "head -c 300 /dev/zero"; do
    [[ $tail == *111* ]] && rm -f "$GQ_STORE"/index.*
    last=$(segment)
    $tail >>"$last"
    cp "$last" "$T/torn"
    [[ $(gq-inspect list | wc -l) == $((next - 1)) ]]
    seq $next $((next + 1)) | gq-enqueue f --local -l
    next=$((next + 2))
    cmp "$last" "$T/torn"
    [[ $(segment) != "$last" && $(gq-inspect list | wc -l) == $((next - 1)) ]]
  done
  run_all
  sort -n "$T/out" | cmp - <(seq $((next - 1)))
}

@test "the journal: if it is shorter than was acknowledged, the next append goes behind the acknowledged end" {
  fill 3
  truncate -s -5 "$(segment)"
  first=$(segment)
  echo 4 | gq-enqueue f --local
  [[ $(segment) != "$first" ]]
  rm -f "$GQ_STORE"/index.*
  run_all
  [[ $(sort -n "$T/out" | tr '\n' ' ') == "1 2 4 " ]]
}

# Leaves what a power cut during an append leaves: its records were written and not synced, and one of them did not
# reach the disk.
tear() {
  local at
  seq -f 'lost %g' 3 | strace -f -o /dev/null -e inject=fdatasync:signal=SIGKILL gq-enqueue f --local -l || true
  at=$(offset_of "$(segment)" 'lost 2')
  dd if=/dev/zero of="$(segment)" bs=1 seek=$((at - 100)) count=100 conv=notrunc status=none
}

@test "gq-inspect: check reports a record that was never acknowledged as torn, also after more appends and after cleaning [0]" {
  fill 3
  tear
  gq-inspect check
  [[ $(gq-inspect check --json | jq -r .kind | uniq) == torn ]]
  gq-enqueue f --local <<<4
  gq-inspect check
  gq-inspect stats >"$T/out" 2>&1
  not grep -q trouble "$T/out"
  rm "$GQ_STORE"/index.*
  gq-inspect check
  # The information that the part is torn stays as long as the part.
  settings '{segment_size: "4K", clean_after: "0s", remember: "0s"}'
  gq-flush -f f -- true
  seq 100 | gq-enqueue f --local -l >/dev/null
  gq-flush -f f -- true
  sleep 0.3
  gq-enqueue f --local </dev/null
  gq-flush --clean
  gq-inspect check
  not grep -q 'lost 2' "$GQ_STORE"/journal/*.gqj
  [[ ! -e $GQ_STORE/damaged ]]
}

@test "gq-inspect: check reports that the end of the journal is gone, also after more appends [1]" {
  settings_first='{segment_size: "4K"}'
  for how in 'rm' 'truncate -s -5' 'truncate -s 41'; do
    rm -rf "$GQ_STORE"
    fill 1
    settings "$settings_first"
    for _ in 1 2 3; do fill 40; done
    gq-inspect check
    cp "$GQ_STORE/append.lock" "$T/lock"
    $how "$(segment)"
    fails_with 1 gq-inspect check || not gq-inspect check >"$T/failed.out"
    grep -q 'on stable storage are gone' "$T/failed.out"
    gq-enqueue f --local <<<more
    not gq-inspect check >"$T/failed.out"
    grep -q '^missing' "$T/failed.out"
  done
  # Without such information, as in a store of an older gq, check says that nothing tells.
  rm -rf "$GQ_STORE"
  fill 10
  truncate -s 40 "$GQ_STORE/append.lock"; truncate -s -5 "$(segment)"
  gq-inspect check | grep -qx 'unknown at [0-9]*: the journal ends here; nothing tells whether there was more'
}

@test "the journal: one flipped bit costs one job, which is reported; the other jobs run [workload, meta, lengths, frame]" {
  for text in 'needle' 'GQR1' 'GQF1'; do
    for add in 0 4 8 16; do
      rm -rf "$GQ_STORE" "$T/out"
      printf '1\n2\nneedle-in-the-middle-of-it\n4\n5\n' | gq-enqueue f --local -l >"$T/ids"
      at=$(offset_of "$(segment)" needle)
      if [[ $text != needle ]]; then at=$(grep -abo "$text" "$(segment)" | cut -d: -f1 | awk -v m="$at" '$1 < m' | tail -n 1); fi
      flip "$(segment)" $((at + add))
      fails_with 1 gq-inspect check || gq-inspect check >"$T/failed.out" || true
      [[ -s $T/failed.out ]]
      timeout 20 gq-worker --local --drain -f f -- sh -c 'read -r x; echo "$x" >>"$0"' "$T/out" 2>"$T/err"
      [[ $(sort -n "$T/out") == $'1\n2\n4\n5' ]]
      not gq-inspect check >"$T/failed.out"
    done
  done
}

# Breaks the magic of the n-th frame, so that the reader has to search for the next frame inside it.
break_frame() {
  local at
  at=$(grep -abo GQF1 "$(segment)" | head -n "$1" | tail -n 1 | cut -d: -f1)
  flip "$(segment)" "$at"
}

@test "the journal: a workload that is itself a journal is never read as a journal [of this store, of another at the same positions]" {
  fill 50
  head -c 60000 "$(segment)" >"$T/copy"
  gq-enqueue f --local "$T/copy"
  break_frame 51
  gq-enqueue f --local /dev/null
  [[ $(gq-inspect journal | jq -r .type | sort | uniq -c | awk '{ print $2, $1 }' | tr '\n' ' ') == "add 51 damage 1 " ]]
  # Each frame in this workload is at the position that it had in its own store.
  second=$(grep -abo GQF1 "$T/copy" | sed -n 2p | cut -d: -f1)
  tail -c +"$second" "$T/copy" >"$T/shifted"
  export GQ_STORE=$T/other
  gq-enqueue f --local <"$T/shifted"
  [[ $(grep -abo GQF1 "$(segment)" | sed -n 2p | cut -d: -f1) == "$second" ]]
  break_frame 1
  gq-enqueue f --local /dev/null
  [[ $(gq-inspect journal | jq -r .type | tr '\n' ' ') == "damage add " ]]
}

@test "the journal: if fdatasync fails in one of two appending processes, neither loses a record" {
  gq-enqueue f --local </dev/null
  for n in 1 2 3 4 5 6; do
    seq -f "a$n.%g" 100 >"$T/a"
    seq -f "b$n.%g" 100 >"$T/b"
    split -n l/5 "$T/a" "$T/a."; split -n l/5 "$T/b" "$T/b."
    (for p in "$T"/a.*; do cat "$p"; sleep 0.01; done) | strace -f -o /dev/null -e inject=fdatasync:error=EIO:when=$n gq-enqueue f --local -l >"$T/ids.a" 2>"$T/err" &
    one=$!
    (for p in "$T"/b.*; do cat "$p"; sleep 0.01; done) | gq-enqueue f --local -l >"$T/ids.b"
    wait $one
    lines_are "$T/ids.a" 100; lines_are "$T/ids.b" 100
    grep -q 'appending again' "$T/err" || ((n > 1))  # how many syncs there are depends on how fast the pipe is read
    cat "$T/ids.a" "$T/ids.b" >>"$T/acknowledged"
  done
  # The records that the failed sync should have made durable are in the journal a second time.
  (($(gq-inspect journal | grep -c '"type":"add"') > $(wc -l <"$T/acknowledged") + 1))
  gq-inspect list | cut -f1 | sort >"$T/held"
  [[ -z $(sort "$T/acknowledged" | comm -23 - "$T/held") ]]
  gq-inspect check
}

@test "the journal: if fdatasync always fails, the job is not acknowledged" {
  echo x >"$T/job"
  got=0
  timeout 20 strace -f -o /dev/null -e inject=fdatasync:error=EIO gq-enqueue f --local "$T/job" >"$T/ids" 2>"$T/err" || got=$?
  [[ $got == 75 && ! -s $T/ids ]]
  grep -q 'unknown' "$T/err"
}

@test "the journal: on a full disk it refuses new jobs, records finished ones, and recovers without a restart" {
  store_on_small_disk
  start_gearmand
  start_worker -f f -j 40 -- sh -c 'while [ ! -e "$0/go" ]; do sleep 0.05; done; echo "$GQ_JOB_ID" >>"$0/out"' "$T"
  seq 40 | gq-enqueue f -l >"$T/ids"
  running() { [[ $(jobs_in running) == 40 ]]; }
  eventually running
  dd if=/dev/zero of="$T/disk/fill" bs=64k status=none || true
  got=0; head -c 60000 /dev/zero | gq-enqueue f --timeout 3s >"$T/refused" 2>"$T/err" || got=$?
  [[ $got == 75 && ! -s $T/refused ]]
  got=0; head -c 60000 /dev/zero | gq-enqueue f --local >"$T/refused" 2>"$T/err" || got=$?
  [[ $got == 74 && ! -s $T/refused ]]
  touch "$T/go"
  eventually lines_are "$T/out" 40
  done_recorded() { [[ $(gq-inspect journal | grep -c '"done"') == 40 ]]; }
  eventually done_recorded  # in the reserved space
  rm "$T/disk/fill"
  eventually sh -c "echo y | gq-enqueue f --timeout 2s >>'$T/ids'"
  finished() { no_jobs && (($(wc -l <"$T/out") > 40)); }
  eventually finished
  gq-inspect check
  kill "$WORKER"; wait "$WORKER"
  umount "$T/disk"
}

@test "gq-enqueue: --local leaves room on the disk to run all jobs that it accepts, and names the cause of a refusal [8 MiB]" {
  store_on_small_disk
  for _ in $(seq 100); do seq 300 | gq-enqueue f --local -l --priority high >>"$T/ids" 2>"$T/err" || break; done
  grep -q 'No space left on device' "$T/err"
  n=$(wc -l <"$T/ids")
  ((n > 2000))
  gq-worker --local --drain -f f -j 2 --stream -- perl -e '$| = 1; while (<STDIN>) { my ($n) = split; read(STDIN, my $b, $n); print "0\n" }' 2>"$T/err"
  [[ $(gq-inspect stats --json -f f | jq -r .finished) == "$n" ]]
  gq-inspect check
  umount "$T/disk"
}

@test "the index: on a full disk it is neither updated nor discarded, and the cause is named [74]" {
  store_on_small_disk
  fill 200
  gq-inspect stats
  seq 3000 | gq-enqueue f --local -l >/dev/null  # not in the index yet
  before=$(stat -c '%i' "$GQ_STORE/index.tcb")
  dd if=/dev/zero of="$T/disk/fill" bs=4k status=none || true
  fails_with 74 gq-inspect stats
  grep -q 'cannot update the index: No space left on device' "$T/failed.err"
  [[ $(stat -c '%i' "$GQ_STORE/index.tcb") == "$before" ]]
  rm "$T/disk/fill"
  [[ $(gq-inspect list | wc -l) == 3200 && $(stat -c '%i' "$GQ_STORE/index.tcb") == "$before" ]]
  gq-inspect check
  umount "$T/disk"
}

@test "the index: on a disk without room for its transactions it stays as it is, and goes on when there is room [jobs of 100 functions]" {
  store_on_small_disk
  for f in $(seq 100); do seq 20 | gq-enqueue "f$f" --local -l -q >/dev/null; done
  gq-inspect stats >/dev/null
  before=$(stat -c '%i' "$GQ_STORE/index.tcb")
  remade() { [[ $(stat -c '%i' "$GQ_STORE/index.tcb") != "$before" ]]; }
  for free in 1200 600 300 150 80; do
    head -c $(($(stat -f -c '%a*%S' "$T/disk") - free * 1024)) /dev/zero >"$T/disk/fill"
    got=0; timeout 60 gq-flush --all -j 4 -- true 2>"$T/err" || got=$?
    echo "$free KiB free: $got, $(<"$T/err")"
    [[ $got == 0 || $got == 74 ]]
    not grep -q anew "$T/err"
    not remade
    rm "$T/disk/fill"
  done
  gq-flush --all -j 4 -- true
  no_jobs
  not remade
  gq-inspect check
  umount "$T/disk"
}

@test "the index: a transaction that finds the disk full changes nothing, whichever of its writes fails" {
  ((EUID == 0)) || skip "needs root, for a small file system"
  mkdir "$T/disk"
  mount -t tmpfs -o size=4m tmpfs "$T/disk"
  gq-unit --small-disk "$T/disk"
  umount "$T/disk"
}

@test "gq-enqueue: --local leaves room also for jobs that are far apart in the index [8 MiB, 100 functions, priorities, keys]" {
  store_on_small_disk
  priorities=(low high normal) n=0
  while true; do
    for f in $(seq 100); do
      n=$((n + 1))
      seq 20 | gq-enqueue "f$((f * 37 % 100))" --local -l --priority "${priorities[n % 3]}" --key "a key that the index has, too, $n" >>"$T/ids" 2>"$T/err" || break 2
    done
  done
  grep -q 'No space left on device' "$T/err"
  gq-flush --all -j 4 -- true
  [[ $(gq-inspect stats --json | jq -s 'map(.finished) | add') == "$(wc -l <"$T/ids")" ]]
  no_jobs
  gq-inspect check
  umount "$T/disk"
}

@test "the store: is private; a store that others can write to, of a newer format or without a good gq.json is refused [78]" {
  gq-enqueue f --local </dev/null
  [[ $(stat -c %a "$GQ_STORE") == 700 ]]
  chmod 770 "$GQ_STORE"; fails_with 78 gq-enqueue f --local </dev/null; chmod 700 "$GQ_STORE"
  sed -i 's/"format": 1/"format": 2/' "$GQ_STORE/gq.json"; fails_with 78 gq-inspect stats
  echo '{' >"$GQ_STORE/gq.json"; fails_with 78 gq-inspect stats
  fails_with 78 gq-inspect stats --store "$T/none"
  mkdir -m 700 "$T/empty"; fails_with 78 gq-inspect stats --store "$T/empty"
  # Nothing is created in a directory with other files, or in a store whose gq.json is gone.
  mkdir -m 700 "$T/other"; touch "$T/other/file"
  rm "$GQ_STORE/gq.json"
  for store in "$T/other" "$GQ_STORE"; do fails_with 78 gq-enqueue --store "$store" f --local </dev/null; done
  [[ $(ls "$T/other") == file && ! -e $GQ_STORE/gq.json ]]
}

# bats test_tags=once
@test "the store: is refused on a file system that other machines may share, and only there [78; NFS, SMB, kAFS, OrangeFS, vboxsf]" {
  on() { LD_PRELOAD=$PRELOAD GQ_TEST_FILE_SYSTEM=$1 gq-inspect stats; }
  gq-enqueue --local fn <<<x
  for kind in 0x6969 0xfe534d42 0x5346414f 0x6b414653 0x20030528 0x786f4256; do
    fails_with 78 on "$kind"
    grep -q 'it is on a network file system' "$T/failed.err"
  done
  for kind in 0xef53 0x58465342 0x9123683e 0x01021994 0x794c7630; do on "$kind"; done
}

@test "the store: a segment of a newer format is refused before anything is read or appended [78]" {
  gq-enqueue f --local </dev/null
  printf '\x63' | dd of="$(segment)" bs=1 seek=8 conv=notrunc status=none
  cp "$(segment)" "$T/before"
  rm -f "$GQ_STORE"/index.*
  fails_with 78 gq-inspect list
  fails_with 78 gq-enqueue f --local </dev/null
  cmp "$(segment)" "$T/before"
}

@test "a blob: a refused delivery leaves the blob of a parallel delivery of the same job" {
  id=01ARZ3NDEKTSV4RRFFQ69G5FAV
  head -c 100000 /dev/zero >"$T/big"
  gq-enqueue f --local </dev/null
  background strace -f -o /dev/null -P "$GQ_STORE/append.lock" -e trace=flock -e inject=flock:delay_enter=2000000:when=1 gq-enqueue --local --id $id f "$T/big"
  eventually test -e "$GQ_STORE/blobs/AV/$id"
  strace -f -o /dev/null -P "$(segment)" -e trace=pwrite64 -e inject=pwrite64:error=EIO gq-enqueue --local --id $id f "$T/big" || true
  wait "$PID"
  gq-inspect cat $id | cmp - "$T/big"
}

@test "a blob: cleaning leaves the blob of a job whose record is appended during the cleaning" {
  id=01ARZ3NDEKTSV4RRFFQ69G5FAV
  head -c 100000 /dev/zero >"$T/big"
  gq-enqueue f --local </dev/null
  settings '{clean_after: "0s"}'
  background strace -f -o /dev/null -P "$GQ_STORE/append.lock" -e trace=flock -e inject=flock:delay_enter=2000000:when=1 gq-enqueue --local --id $id f "$T/big"
  eventually test -e "$GQ_STORE/blobs/AV/$id"
  strace -f -o /dev/null -P "$GQ_STORE/blobs/AV/$id" -e trace=flock -e inject=flock:delay_enter=4000000 gq-flush --clean
  wait "$PID"
  gq-inspect cat $id | cmp - "$T/big"
}

@test "the library: its unit tests pass" {
  gq-unit "$T"
}

@test "gq-worker: Tokyo Cabinet does not yield the CPU while the index is locked" {
  seq 100 | gq-enqueue f --local -l >"$T/ids"
  strace -f -qq -b execve -e trace=sched_yield -o "$T/calls" gq-worker --local --drain -f f -- true
  no_jobs
  lines_are "$T/calls" 0
}

@test "gq: its copies of libgearman and Tokyo Cabinet link only with gq's replacements for their calls, and do not clash with the libraries; --version shows theirs" {
  is_copy() {  # NAME CALL...
    local name=$1 copy=$GQ_BUILD/libgq-$1.a
    shift
    nm -gP "$copy" 2>/dev/null | awk '$2 ~ /[A-TV-Z]/ && $1 !~ /^gq_/' >"$T/clashing"
    lines_are "$T/clashing" 0
    not c++ -o "$T/none" -x c++ - -x none -Wl,--whole-archive "$copy" -Wl,--no-whole-archive -luuid -lz -lbz2 <<<'int main() {}' 2>"$T/errors"
    printf "gq_lib${name}_%s\n" "$@" | diff <(sed -n "s/.*undefined reference to .\(.*\)'/\1/p" "$T/errors" | sort -u) -
  }
  is_copy gearman connect recv send
  is_copy tokyocabinet ftruncate64 pread64 pwrite64 sched_yield write
  [[ $(gq-worker --version) == gq-worker*$'\n'"libgearman $(pkg-config --modversion gearmand), Tokyo Cabinet $(pkg-config --modversion tokyocabinet)" ]]
}

@test "gq: configuring fails with a library whose calls gq would not all see, and without a static library" {
  library() { sed -n "s/^GQ_LIB$1:FILEPATH=//p" "$GQ_BUILD/CMakeCache.txt"; }
  refused() {  # LIBRARY ARCHIVE WHY
    not cmake -S "$BATS_TEST_DIRNAME/.." -B "$T/build" -DGQ_LIBGEARMAN="$(library GEARMAN)" -DGQ_LIBTOKYOCABINET="$(library TOKYOCABINET)" "-DGQ_LIB$1=$2" >"$T/out" 2>&1
    tr -s ' \n' ' ' <"$T/out" | grep -qF "$3"
  }
  changed() { objcopy --redefine-sym "$2" "$(library "$1")" "$T/changed.a" 2>/dev/null; }
  changed GEARMAN recv=read
  refused GEARMAN "$T/changed.a" "$T/changed.a: it does not call recv"
  changed GEARMAN write=SSL_write
  refused GEARMAN "$T/changed.a" "$T/changed.a: it calls SSL_write"
  changed TOKYOCABINET pwrite64=pwritev64
  refused TOKYOCABINET "$T/changed.a" "$T/changed.a: it does not call pwrite64"
  refused TOKYOCABINET "$T/none.a" 'cannot find the static library libtokyocabinet.a'
}
