load helpers

blobs() { find "$GQ_STORE/blobs" -type f | wc -l; }
large() { head -c "${2:-100000}" /dev/urandom >"$T/$1"; }
is_gone() { [[ $(blobs) == 0 ]]; }

@test "gq-flush: --keep keeps a workload after its job has ended, and --release removes it [a user, the command itself, --on-exit, gq-worker --keep]" {
  large a
  id=$(gq-enqueue f --local "$T/a")
  fails_with 1 gq-flush --release "$id"
  gq-flush --keep "$id"
  gq-flush -f f -- true
  [[ $(gq-inspect list --state kept | cut -f1) == "$id" ]]
  cmp "$T/a" <(gq-inspect cat "$id")
  cmp <(tail -c +101 "$T/a" | head -c 50) <(gq-inspect cat "$id" --range 100:50)
  cmp <(tail -c +99991 "$T/a") <(gq-inspect cat "$id" --range 99990:)
  fails_with 64 gq-inspect cat "$id" --range 99990:11
  gq-flush --release "$id"
  [[ -z $(gq-inspect list) ]]; is_gone
  fails_with 1 gq-flush --release "$id"
  fails_with 1 gq-flush --keep "$id"

  id=$(gq-enqueue f --local <<<small)
  gq-flush -f f -- sh -c 'gq-flush --keep "$GQ_JOB_ID"'
  [[ $(gq-inspect cat "$id") == small ]]
  gq-flush --drop "$id"
  id=$(gq-enqueue f --local "$T/a"); gq-flush -f f --on-exit 42=keep -- sh -c 'exit 42'
  [[ $(gq-inspect show "$id" --json | jq -r .state) == kept ]]
  gq-flush --release "$id"
  id=$(gq-enqueue f --local "$T/a"); gq-worker --local --drain --keep -f f -- true
  [[ $(gq-inspect show "$id" --json | jq -r .state) == kept && $(blobs) == 1 ]]
  gq-inspect list --state kept --json | gq-flush --release -
  is_gone
}

@test "gq-enqueue: --from queues a part of a workload; the blob is removed when the last job that needs it has ended" {
  large a
  id=$(gq-enqueue f --local "$T/a")
  part=$(gq-enqueue p --local --from "$id" --range 1000:70000)
  small=$(gq-enqueue p --local --from "$part" --range 5:10)  # a part of a part
  whole=$(gq-enqueue w --local --from "$id")
  gq-flush -f f -- true
  [[ -z $(gq-inspect list --state kept) && $(blobs) == 1 ]]
  cmp <(tail -c +1001 "$T/a" | head -c 70000) <(gq-inspect cat "$part")
  cmp <(tail -c +1006 "$T/a" | head -c 10) <(gq-inspect cat "$small")
  gq-flush -f p -- sh -c 'cat >"$0/in.$GQ_JOB_ID"; tail -c +$((GQ_WORKLOAD_OFFSET + 1)) "$GQ_WORKLOAD_FILE" | head -c "$GQ_WORKLOAD_LENGTH" | cmp - "$0/in.$GQ_JOB_ID"' "$T"
  cmp <(tail -c +1001 "$T/a" | head -c 70000) "$T/in.$part"
  [[ $(blobs) == 1 ]]
  gq-flush -f w -- cmp - "$T/a"
  is_gone
  gq-inspect check
}

@test "gq-enqueue: --from refuses a workload that does not exist and a range beyond its end [65]; bad usage is 64" {
  large a
  id=$(gq-enqueue f --local "$T/a")
  fails_with 65 gq-enqueue p --local --from 01HZZZZZZZZZZZZZZZZZZZZZZZ
  fails_with 65 gq-enqueue p --local --from "$id" --range 99999:2
  fails_with 65 gq-enqueue p --local --from "$id" --range 100001:
  small=$(gq-enqueue small --local <<<small)
  fails_with 65 gq-enqueue p --local --from "$small" --range 3:9
  fails_with 64 gq-enqueue p --local --from "$id" --range x
  fails_with 64 gq-enqueue p --local --from x
  fails_with 64 gq-enqueue p --local --range 0:1
  fails_with 64 gq-enqueue p --local --from "$id" "$T/a"
  printf '0:10\nx\n99999:2\n5:\n' >"$T/ranges"
  fails_with 65 gq-enqueue p --local --from "$id" -l "$T/ranges"
  [[ $(wc -l <"$T/failed.out") == 2 ]]
  gq-flush -f f -- true
  gq-flush -f p -- true
  fails_with 65 gq-enqueue p --local --from "$id" --range 0:1
  is_gone
}

@test "gq-worker: a mailbox is queued once and split into one job for each message, and its bytes are written once [/proc/PID/io]" {
  python3 - "$T/mbox" <<'P'
import mailbox, random, sys
box = mailbox.mbox(sys.argv[1])
for n in range(200):
    m = mailbox.mboxMessage()
    m["Subject"] = f"message {n}"
    m.set_payload("\n".join("%076x" % random.getrandbits(300) for _ in range(random.randint(50, 600))) + "\n")
    box.add(m)
box.flush()
P
  messages=$(grep -c '^From ' "$T/mbox")
  ((messages == 200))
  mkdir "$T/out"
  # Where each message begins, and how long it is.
  cat >"$T/split" <<'SH'
#!/bin/sh
grep -abo '^From ' | cut -d: -f1 | awk -v size="$GQ_WORKLOAD_LENGTH" 'NR > 1 { print last ":" $1 - last } { last = $1 } END { print last ":" size - last }' |
  gq-enqueue message --from "$GQ_JOB_ID" -l
SH
  chmod +x "$T/split"
  start_gearmand
  background gq-worker --queue-only -f mail -f message; queue=$PID
  eventually served "$PORT" mail.gq
  eventually served "$PORT" message.gq
  gq-enqueue mail "$T/mbox" >/dev/null
  gq-flush -f mail -- "$T/split" >"$T/ids"
  lines_are "$T/ids" 200
  written=$(awk '/^write_bytes/ { print $2 }' "/proc/$queue/io") size=$(stat -c %s "$T/mbox")
  echo "mailbox $size, written $written"
  ((written < size * 12 / 10))
  gq-flush -f message -j 2 -- sh -c 'cat >"$0/$GQ_WORKLOAD_OFFSET"' "$T/out"
  cmp "$T/mbox" <(cd "$T/out" && ls | sort -n | xargs cat)
  eventually is_gone
}

@test "gq-worker: --stream sends the command only the part that a job refers to" {
  large a
  id=$(gq-enqueue f --local "$T/a")
  printf '0:10\n50000:50000\n99990:\n5:90000\n' | gq-enqueue p --local -l --from "$id" >"$T/ids"
  cat >"$T/stream" <<'P'
import sys
jobs, answers = sys.stdin.buffer, sys.stdout.buffer
while header := jobs.readline():
    length, id = header.split()[:2]
    open(sys.argv[1] + "/got." + id.decode(), "wb").write(jobs.read(int(length)))
    answers.write(b"0\n"); answers.flush()
P
  gq-worker --local --drain -f p --stream -- python3 "$T/stream" "$T"
  cmp <(head -c 10 "$T/a") "$T/got.$(sed -n 1p "$T/ids")"
  cmp <(tail -c +50001 "$T/a") "$T/got.$(sed -n 2p "$T/ids")"
  cmp <(tail -c 10 "$T/a") "$T/got.$(sed -n 3p "$T/ids")"
  cmp <(tail -c +6 "$T/a" | head -c 90000) "$T/got.$(sed -n 4p "$T/ids")"
}

@test "gq-worker: a node that has the workload gets a part as a reference, another node gets its bytes; --keep and --release reach the other nodes [run once]" {
  start_gearmand
  for n in 1 2; do gq-replicate init --store "$T/$n" --as rep_$n --group rep_1,rep_2 --run once; done
  for n in 1 2; do background gq-replicate --store "$T/$n"; NODE[n]=$PID; eventually served "$PORT" rep_$n; done
  large a 3000000
  id=$(gq-enqueue --store "$T/1" f --local "$T/a")
  export GQ_STORE=$T/2
  [[ $(blobs) == 1 ]]
  before=$(awk '/^write_bytes/ { print $2 }' "/proc/${NODE[2]}/io")
  part=$(gq-enqueue --store "$T/1" p --local --from "$id" --range 1000:2000000)
  after=$(awk '/^write_bytes/ { print $2 }' "/proc/${NODE[2]}/io")
  ((after - before < 200000))
  cmp <(tail -c +1001 "$T/a" | head -c 2000000) <(gq-inspect cat "$part")
  gq-flush --store "$T/1" --keep "$id"
  is_kept() { gq-flush -q --store "$T/1" -f f -- true; [[ $(gq-inspect show "$id" --json | jq -r .state) == kept ]]; }
  eventually is_kept
  gq-flush --store "$T/1" --drop "$part"
  gq-flush --release "$id"  # on the other node
  released() { [[ $(find "$T/1/blobs" "$T/2/blobs" -type f | wc -l) == 0 ]]; }
  eventually released

  # A node that has lost the blob is sent the bytes of the part.
  id=$(gq-enqueue --store "$T/1" f --local "$T/a")
  find "$T/2/blobs" -type f -delete
  part=$(gq-enqueue --store "$T/1" p --local --from "$id" --range 1000:2000000)
  cmp <(tail -c +1001 "$T/a" | head -c 2000000) <(gq-inspect cat "$part")
}

@test "gq-enqueue: parts that another node needs as bytes are read a few at a time, and all arrive [240 MB of one workload, run once]" {
  start_gearmand
  for n in 1 2; do gq-replicate init --store "$T/$n" --as rep_$n --group rep_1,rep_2 --run once; done
  for n in 1 2; do background gq-replicate --store "$T/$n"; eventually served "$PORT" rep_$n; done
  large a 3000000
  id=$(gq-enqueue --store "$T/1" f --local "$T/a")
  find "$T/2/blobs" -type f -delete
  for _ in {1..80}; do echo 0:3000000; done >"$T/ranges"
  # The client gets 75 for parts that the node has not read in time, and may send them again. The node still sends them
  # to the other node.
  status=0
  (ulimit -v 400000; gq-enqueue --store "$T/1" p --local --from "$id" -l "$T/ranges" >"$T/ids" 2>"$T/err") || status=$?
  [[ $status == 75 ]]
  not grep -q 'out of memory' "$T/err"
  (($(wc -l <"$T/ids") >= 10))
  all_there() { [[ $(gq-inspect --store "$T/2" list -f p | wc -l) == 80 ]]; }
  eventually all_there
}

@test "gq-enqueue: more and larger parts of a large workload than one delivery may refer to are all queued [--local, through gearmand]" {
  head -c 100000000 /dev/zero >"$T/in"
  start_gearmand
  background gq-worker -f f --queue-only
  eventually served "$PORT" f.gq
  for where in --local ''; do
    id=$(gq-enqueue f $where --delay 1h "$T/in")
    for _ in {1..6}; do echo 0:99999999; done | gq-enqueue f $where --from "$id" -l >"$T/ids"
    lines_are "$T/ids" 6
  done
}
