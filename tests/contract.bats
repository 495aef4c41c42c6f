load helpers

# The contract with a command, the same for gq-worker and gq-flush: how it ends, when it is started, where its output
# goes.

state() { gq-inspect show "$1" --json | jq -r .state; }
field() { gq-inspect show "$1" --json | jq -r ".$2"; }

# Acts as a service manager, and writes each message that it receives to $T/heard.
listen() {
  python3 - "$T/notify" "$T/heard" <<'PY' 3>&- 4>&- &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
with open(sys.argv[2], "wb", buffering=0) as f:
    while True: f.write(s.recv(4096) + b"\n")
PY
  PIDS+=($!)
  eventually test -S "$T/notify"
}

@test "the contract: each exit status gives the job its documented state [gq-worker, gq-flush]" {
  local code wanted id
  for code in 0:finished 99:finished 100:dead 64:dead 65:dead 70:dead 76:dead 77:dead 78:dead 112:dead 75:delayed 111:delayed 1:delayed \
    255:delayed 126:queued 127:queued; do
    wanted=${code#*:} code=${code%:*}
    id=$(gq-enqueue f --local <<<x)
    gq-flush -f f --backoff 1h -- sh -c "exit $code" 2>/dev/null || [[ $? == 78 && $wanted == queued ]]
    [[ $(state "$id") == "$wanted" ]] || { echo "gq-flush: exit $code: $(state "$id"), not $wanted" >&2; return 1; }
    [[ $wanted == finished ]] || gq-flush --drop "$id"
    [[ $wanted == finished || $wanted == dead ]] || continue
    id=$(gq-enqueue f --local <<<x)
    gq-worker --local --drain -f f -- sh -c "exit $code" 2>/dev/null
    [[ $(state "$id") == "$wanted" ]]
    [[ $wanted == finished ]] || gq-flush --drop "$id"
  done
  id=$(gq-enqueue f --local <<<x)
  gq-flush -f f --backoff 1h -- sh -c 'kill -SEGV $$' 2>/dev/null
  [[ $(state "$id") == delayed && $(field "$id" reason) == 'signal 11' ]]
}

@test "the contract: --on-exit replaces rows of the exit status table; a bad row is 64" {
  local ids
  mapfile -t ids < <(printf '%s\n' 3 4 5 6 0 | gq-enqueue f --local -l)
  gq-flush -f f --backoff 1h --on-exit 3=done --on-exit 4=dead --on-exit 5=retry:7d --on-exit 6=retry --on-exit 0=dead -- sh -c 'exit "$(cat)"' 2>/dev/null
  [[ $(for id in "${ids[@]}"; do state "$id"; done | xargs) == 'finished dead delayed delayed dead' ]]
  (( $(date -d "$(field "${ids[2]}" due_at)" +%s) > $(date +%s) + 6 * 86400 ))
  (( $(date -d "$(field "${ids[3]}" due_at)" +%s) < $(date +%s) + 2 * 3600 ))
  for bad in '' x 1 256=done -1=done 1= 1=what 1=retry: 1=retry:x =done 1=done:5s; do fails_with 64 gq-flush -f f --on-exit "$bad" -- true; done
}

@test "the contract: a command that is missing or not executable spends no attempt, pauses the function and is reported once; with --strict it is 78" {
  local id
  id=$(gq-enqueue f --local <<<x)
  fails_with 78 timeout 10 gq-worker --local --drain --strict -f f -- /nonexistent/command
  grep -q 'cannot run /nonexistent/command: No such file' "$T/failed.err"
  echo '#!/bin/sh' >"$T/plain"
  fails_with 78 timeout 10 gq-worker --local --strict -f f -- "$T/plain"
  fails_with 78 timeout 10 gq-flush -f f -- sh -c 'exit 126'
  [[ $(state "$id") == queued && $(field "$id" attempts) == 0 ]]
  # Another function of the same worker goes on. The pause grows, and ends by itself.
  printf '#!/bin/sh\n[ "$GQ_FUNCTION" = g ] || exec "$0.f"\n' >"$T/command"
  chmod +x "$T/command"
  background gq-worker --local -f f -f g -- "$T/command"
  local worker=$PID
  sleep 1.7
  gq-enqueue g --local <<<y
  other_ran() { [[ $(gq-inspect stats -f g --json | jq .finished) == 1 ]]; }
  eventually other_ran
  printf '#!/bin/sh\ntouch "%s/ran"\n' "$T" >"$T/command.f"
  chmod +x "$T/command.f"
  eventually test -e "$T/ran"
  [[ $(field "$id" attempts) == 1 ]]
  kill "$worker"
  wait "$worker"
  [[ $(grep -c 'cannot run' "$T/bg.0.err") == 1 ]]
}

@test "the contract: a job's own --max-attempts overrides the worker's" {
  gq-enqueue f --local --max-attempts 2 <<<x
  gq-worker --local --drain -f f --max-attempts 9 --backoff 5ms -- sh -c 'echo "$GQ_ATTEMPT/$GQ_MAX_ATTEMPTS" >>"$0"; exit 1' "$T/out" 2>/dev/null
  [[ $(cat "$T/out") == $'1/2\n2/2' && $(jobs_in dead) == 1 ]]
  fails_with 64 gq-enqueue f --local --max-attempts 0
}

@test "gq-flush: a dead job keeps its reason with the end of its standard error, and can be kicked or dropped [ID, pipe, --kick-dead]" {
  local ids big
  mapfile -t ids < <(seq 4 | gq-enqueue f --local -l)
  big=$(head -c 100000 /dev/zero | gq-enqueue g --local)
  gq-worker --local --drain -f f -f g --max-attempts 1 -- sh -c 'echo out; echo "no such customer: $GQ_JOB_ID" >&2; exit 3' >"$T/out" 2>"$T/err"
  [[ $(grep -c out "$T/out") == 5 && $(grep -c '^no such customer' "$T/err") == 5 ]]
  [[ $(field "${ids[0]}" reason) == "exit 3: no such customer: ${ids[0]}" ]]
  gq-flush --kick "${ids[0]}"
  [[ $(state "${ids[0]}") == queued && $(field "${ids[0]}" attempts) == 0 ]]
  gq-inspect list --state dead --json -f f | jq -c "select(.id == \"${ids[1]}\")" | gq-flush --kick -
  gq-inspect list --state dead | grep "${ids[2]}" | gq-flush --drop -
  [[ $(state "${ids[1]}") == queued && $(state "${ids[2]}") == finished ]]
  gq-flush --kick-dead -f f
  [[ $(state "${ids[3]}") == queued && $(state "$big") == dead ]]
  gq-flush --drop "$big"
  [[ -z $(find "$GQ_STORE/blobs" -type f) ]]
  gq-worker --local --drain -f f -- cat >"$T/out"
  [[ $(cat "$T/out") == 124 ]]
  fails_with 1 gq-flush --kick "${ids[2]}"
  fails_with 1 gq-flush --drop 01ARZ3NDEKTSV4RRFFQ69G5FAV
  fails_with 64 gq-flush --kick nonsense
  fails_with 65 gq-flush --kick - <<<nonsense
  fails_with 65 gq-flush --kick - <<<'{"id": 3}'
  fails_with 64 gq-flush --kick "${ids[2]}" -f f -- true
  gq-inspect check
}

@test "gq-flush: a running job can be neither kicked nor dropped, until its worker has died" {
  local id
  id=$(gq-enqueue f --local <<<x)
  background gq-worker --local -f f -- sh -c 'touch "$0"; exec sleep 60' "$T/runs"
  eventually test -e "$T/runs"
  fails_with 1 gq-flush --drop "$id"
  grep -q 'it is running' "$T/failed.err"
  pkill -9 -P "$PID" || true
  kill -9 "$PID"
  eventually gq-flush --drop "$id"
  [[ $(state "$id") == finished ]]
}

# bats test_tags=once
@test "the contract: --time-limit ends the whole process group, and a grandchild that keeps the output open does not delay the job's end" {
  local id start=$SECONDS
  id=$(gq-enqueue f --local <<<x)
  gq-flush -f f --time-limit 300ms --grace 300ms --backoff 1h -- bash -c 'trap "" TERM; (trap "" TERM; echo $BASHPID >"$0"; sleep 60 & wait; sleep 60) & sleep 60; sleep 60' "$T/pid" 2>/dev/null
  ((SECONDS - start < 10))
  [[ $(state "$id") == delayed && $(field "$id" reason) == 'time limit'* ]]
  eventually no_process "$(cat "$T/pid")"
  # A command that ends in time is not signalled, and neither is a process that it leaves running.
  id=$(gq-enqueue g --local <<<x)
  gq-flush -f g --time-limit 20s -- sh -c '(sleep 3; touch "$0") >&2 & exit 0' "$T/late"
  [[ $(state "$id") == finished && ! -e $T/late ]]
  eventually test -e "$T/late"
}

@test "gq-flush: a command that it may not signal, as one of another user, is reported once [EPERM]" {
  gq-enqueue f --local <<<x
  strace -f -qq -o /dev/null -e trace=kill -e inject=kill:error=EPERM:when=1 \
    gq-flush -f f --time-limit 50ms --grace 50ms --max-attempts 1 -- sleep 1000 2>"$T/err"
  [[ $(grep -c 'cannot stop process [0-9]*, which runs .*: Operation not permitted' "$T/err") == 1 ]]
}

@test "gq-worker: SIGUSR1 prints a state line; a service manager receives READY, STATUS and STOPPING" {
  listen
  NOTIFY_SOCKET=$T/notify background gq-worker --local -f f -- sh -c 'test -z "$NOTIFY_SOCKET"'
  eventually grep -q READY=1 "$T/heard"
  gq-enqueue f --local <<<x
  eventually grep -q 'STATUS=working: 0 running, 0 left, 1 done, 0 failed, 0 dead' "$T/heard"
  kill -USR1 "$PID"
  eventually grep -q 'gq-worker: working: 0 running, 0 left, 1 done' "$T/bg.1.err"
  kill "$PID"
  wait "$PID"
  eventually grep -q STOPPING=1 "$T/heard"
  NOTIFY_SOCKET=$T/notify background gq-worker -f f --queue-only
  gq-enqueue f --local <<<x
  ready_twice() { (($(grep -c READY=1 "$T/heard") == 2)); }
  eventually ready_twice
  kill -USR1 "$PID"
  eventually grep -q 'gq-worker: queueing only: 1 job left; cannot reach the Gearman server 127.0.0.1:4730' "$T/bg.2.err"
  eventually grep -q '^STATUS=queueing only; cannot reach the Gearman server 127.0.0.1:4730' "$T/heard"
  kill "$PID"
  wait "$PID"
}

@test "gq-enqueue: --delay and --at delay a job; a bad time is 64" {
  local id
  gq-enqueue f --local --delay 5s <<<late
  gq-enqueue f --local --at 2001-02-03T04:05:06Z <<<past
  gq-enqueue f --local --at "$(date +%s.5 -d '+1 hour')" <<<never
  id=$(gq-enqueue f --local --at "$(date -u +%Y-%m-%dT%H:%M:%S+00:00 -d '+1 day')" <<<tomorrow)
  [[ $(jobs_in delayed) == 4 ]]
  [[ $(gq-flush -f f -- cat) == past ]]
  gq-worker --local -f f -- sh -c 'cat >>"$0"' "$T/out" 3>&- 4>&- &
  PIDS+=($!)
  eventually grep -q late "$T/out"
  [[ $(cat "$T/out") == late && $(jobs_in delayed) == 2 ]]
  gq-flush --kick "$id"
  eventually grep -q tomorrow "$T/out"
  for bad in x 2001-02-30T00:00:00Z 2001-02-03 2001-02-03T04:05:06 2001-02-03T25:00:00Z -5 1e400 2001-02-03T04:05:06+1:00; do
    fails_with 64 gq-enqueue f --local --at "$bad"
  done
  fails_with 64 gq-enqueue f --local --at 1 --delay 1s
}

@test "gq-enqueue: a job that is not started in time is dead, frees its key, and can be kicked [--expire]" {
  local first second
  for bad in x -1s 0 367d 2001-02-03T04:05:06Z '2001-02-03'; do fails_with 64 gq-enqueue f --local --expire "$bad"; done
  fails_with 64 gq-enqueue f --local --delay 2s --expire 1s
  gq-enqueue f --local --expire 1d <<<soon
  gq-inspect list | grep -q $'\texpires=20'
  [[ $(gq-flush -f f -- cat) == soon ]]  # in time
  first=$(gq-enqueue f --local --key k --expire 1200ms <<<late)
  gq-inspect show "$first" --json | jq -e '.state == "queued" and .expires_at > .enqueued_at'
  gq-flush --pause f
  is_late() { sleep 0.1; [[ -z $(gq-flush --resume f; gq-flush --dry-run -f f; gq-flush --pause f) ]]; }
  eventually is_late
  gq-flush --resume f
  second=$(gq-enqueue f --local --key k <<<late)  # no process has looked since
  [[ $second != "$first" ]]
  gq-inspect show "$first" --json | jq -e '.state == "dead" and .reason == "expired" and .attempts == 0'
  [[ $(gq-flush -f f -- cat) == late ]]
  [[ $(gq-enqueue f --local --key k <<<late) == "$second" ]]
  gq-flush --kick "$first"
  gq-inspect show "$first" --json | jq -e '.state == "queued" and (has("expires_at") | not)'
  [[ $(gq-flush -f f -- cat) == late ]]
  gq-inspect check
}

@test "gq-worker: a job that expires while it waits for a slot, another job or its due time is not started [--expire]" {
  local ids
  gq-worker --local -f f -- sh -c 'cat >>"$0"; until [ -e "$1" ]; do sleep 0.1; done' "$T/out" "$T/go" 3>&- 4>&- &
  PIDS+=($!)
  gq-enqueue f --local --serial s <<<runs >/dev/null
  eventually grep -q runs "$T/out"
  { gq-enqueue f --local --serial s --expire 1s <<<waits; gq-enqueue f --local --expire 1s <<<queued; } >"$T/ids"
  gq-enqueue g --local --expire 1500ms --delay 1s <<<delayed >>"$T/ids"
  sleep 1.6
  touch "$T/go"
  all_dead() { [[ $(gq-inspect list --state dead | grep -c $'\texpired$') == 3 ]]; }
  eventually all_dead
  [[ $(cat "$T/out") == runs ]]
  gq-inspect list --state dead | cut -f 1 | sort | cmp - <(sort "$T/ids")
}

@test "gq-enqueue: --priority is strict, jobs of one priority run first-in first-out, and the functions of a worker take turns" {
  for p in low normal high; do for n in 1 2 3; do gq-enqueue f --local --priority $p <<<"$p$n"; done; done >/dev/null
  gq-enqueue g --local <<<g1 >/dev/null
  [[ $(gq-flush -f f -- cat | xargs) == 'high1 high2 high3 normal1 normal2 normal3 low1 low2 low3' ]]
  seq 20 | gq-enqueue f --local -l >/dev/null
  gq-flush -f f -f g -- sh -c 'echo $GQ_FUNCTION' >"$T/out"
  (($(grep -n g "$T/out" | cut -d: -f1) < 6))
  fails_with 64 gq-enqueue f --local --priority urgent
}

@test "gq-enqueue: --key makes repeated submissions one job, until --key-window has passed since its end [--local, through gearmand]" {
  start_gearmand
  start_worker -f f --queue-only
  is_another() { [[ $(gq-enqueue f --local --key k--local <<<x) != "$first" ]]; }
  local way first other
  for way in --local --timeout=5s; do
    first=$(gq-enqueue f $way --key "k$way" --key-window 8s <<<x)
    [[ $(gq-enqueue f $way --key "k$way" <<<x) == "$first" ]]
    fails_with 65 gq-enqueue f $way --key "k$way" <<<y
    other=$(gq-enqueue g --local --key "k$way" <<<y)
    [[ $other != "$first" ]]
  done
  [[ $(jobs_in queued) == 4 ]]
  first=$(head -c 100000 /dev/zero | gq-enqueue big --local --key b)
  [[ $(head -c 100000 /dev/zero | gq-enqueue big --local --key b) == "$first" ]]
  [[ $(find "$GQ_STORE/blobs" -type f | wc -l) == 1 ]]
  gq-flush -f f -- sh -c 'echo "$GQ_KEY" >>"$0"' "$T/keys"
  [[ $(cat "$T/keys") == $'k--local\nk--timeout=5s' ]]
  first=$(gq-enqueue f --local --key k--local <<<x)
  [[ $(state "$first") == finished ]]
  eventually is_another
  gq-flush --drop "$other"
  [[ $(gq-enqueue g --local --key k--timeout=5s <<<z) != "$other" ]]
  fails_with 64 gq-enqueue f --local --key '' <<<x
  fails_with 64 gq-enqueue f --local --key $'a\nb' <<<x
  # With several jobs, each job gets a key of its own.
  [[ $(printf 'a\nb\n' | gq-enqueue m --local --key k -l) == "$(printf 'a\nb\n' | gq-enqueue m --local --key k -l)" && $(gq-inspect list -f m | wc -l) == 2 ]]
  fails_with 64 gq-enqueue f --key k --owe <<<x
  rm -f "$GQ_STORE"/index.*
  gq-inspect check
}

@test "gq-enqueue: jobs with one --serial key run one at a time and in order, and do not block other jobs [3 workers]" {
  local n
  for n in 1 2 3 4 5 6; do gq-enqueue f --local --serial a <<<"a$n"; gq-enqueue f --local --serial b <<<"b$n"; done >/dev/null
  gq-enqueue f --local <<<free >/dev/null
  [[ $(jobs_in waiting) == 10 ]]
  printf '%s\n' '#!/bin/bash' 'read -r w; exec 9>"$0.${w:0:1}"; flock -n 9 || echo overlap >>"$0.out"' \
    'echo "$w $GQ_ATTEMPT" >>"$0.out"; sleep 0.05; [[ $w != a2 || $GQ_ATTEMPT == 3 ]] || exit 1; [[ $w != b3 ]] || exit 100' >"$T/cmd"
  chmod +x "$T/cmd"
  for n in 1 2 3; do background gq-worker --local --drain -j 3 -f f --backoff 100ms -- "$T/cmd"; done
  for n in "${PIDS[@]}"; do wait "$n"; done
  PIDS=()
  not grep overlap "$T/cmd.out"
  [[ $(grep a "$T/cmd.out" | xargs) == 'a1 1 a2 1 a2 2 a2 3 a3 1 a4 1 a5 1 a6 1' ]]
  [[ $(grep b "$T/cmd.out" | xargs) == 'b1 1 b2 1 b3 1 b4 1 b5 1 b6 1' ]]
  [[ $(grep -n free "$T/cmd.out" | cut -d: -f1) -lt 7 ]]
  # Jobs behind a dropped job go on. A kicked job waits for its turn.
  local first second
  first=$(gq-enqueue f --local --serial b --delay 1h <<<b7)
  second=$(gq-enqueue f --local --serial b <<<b8)
  gq-flush --kick-dead
  [[ $(state "$second") == waiting && $(jobs_in waiting) == 2 ]]
  gq-flush --drop "$first"
  [[ $(jobs_in waiting) == 1 ]]
  gq-flush -f f -- cat >"$T/out"
  [[ $(xargs <"$T/out") == 'b3 b8' ]]
  gq-inspect check
  fails_with 64 gq-enqueue f --local --serial $'\x01' <<<x
}

# bats test_tags=once
@test "gq-worker: --rate limits how many jobs a process starts; no process runs a paused function until it is resumed" {
  seq 10 | gq-enqueue f --local -l >/dev/null
  local start
  start=$(date +%s%N)
  gq-worker --local --drain -j 4 -f f --rate 10/s -- true
  (( ($(date +%s%N) - start) / 1000000 >= 850 ))
  for bad in 5 0/s x -1/s 5/d; do fails_with 64 gq-worker --local -f f --rate "$bad" -- true; done
  seq 3 | gq-enqueue f --local -l >/dev/null
  gq-flush --pause f
  [[ $(gq-flush -f f -- cat) == '' && $(gq-inspect stats --json -f f | jq -r '.queued, (.paused_at | type)' | xargs) == '3 string' ]]
  background gq-worker --local -f f -- cat
  sleep 0.3
  [[ ! -s $T/bg.0.out ]]
  gq-flush --resume f
  eventually no_jobs
  [[ $(cat "$T/bg.0.out") == 123 ]]
  [[ $(gq-inspect stats --json -f f | jq .paused_at) == null ]]
  fails_with 64 gq-flush --pause 'a b'
}

@test "gq-worker: --output writes a capped file for each attempt, overwrites none, discards that of exit status 99, and removes old ones" {
  local id
  id=$(gq-enqueue f --local <<<x)
  touch -d '2 days ago' "$T/keepme"
  mkdir -m 700 "$T/o"
  touch -d '2 days ago' "$T/o/$id.9" "$T/o/notes" "$T/o/$id.gz" "$T/o/$id.1.gz"
  gq-worker --local --drain -f f --output "$T/o" --output-keep 1d --max-attempts 2 --backoff 5ms -- sh -c 'echo out; echo err >&2; exit 1' 2>/dev/null
  [[ $(sort "$T/o/$id.1" | xargs) == 'err out' && $(sort "$T/o/$id.2" | xargs) == 'err out' && ! -e $T/o/$id.9 && -e $T/o/notes && -e $T/o/$id.gz && -e $T/o/$id.1.gz ]]
  gq-flush --kick "$id"
  gq-worker --local --drain -f f --output "$T/o" --output-cap 10K -- sh -c 'yes | head -c 300000'
  [[ $(stat -c %s "$T/o/$id.1.2") == 10240 && $(sort "$T/o/$id.1" | xargs) == 'err out' ]]
  id=$(gq-enqueue f --local <<<x)
  gq-worker --local --drain -f f --output "$T/o" -- sh -c 'echo out; exit 99'
  [[ ! -e $T/o/$id.1 && $(state "$id") == finished ]]
}

@test "gq-worker: if standard output cannot be written, no job loses an attempt, and one message reports it [its reader has gone, its disk is full]" {
  seq 20 | gq-enqueue f --local -l >/dev/null
  { gq-worker --local --drain --max-attempts 1 -f f -- sh -c 'echo x' 2>"$T/err" || echo $? >"$T/status"; } | head -n 1 >/dev/null
  [[ $(gq-inspect stats --json -f f | jq -c '[.dead, .finished]') == '[0,20]' && $(grep -c 'cannot write standard output' "$T/err") == 1 && $(<"$T/status") == 74 ]]
  # A closed standard output is treated in the same way.
  gq-enqueue f --local <<<x
  gq-flush --max-attempts 1 -f f -- sh -c 'echo x' >&- 2>/dev/null || [[ $? == 74 ]]
  [[ $(jobs_in dead) == 0 ]] && no_jobs
  ((EUID == 0)) || skip "needs root, for a small file system"
  mkdir "$T/disk"
  mount -t tmpfs -o size=64k tmpfs "$T/disk"
  head -c 64k /dev/zero >"$T/disk/full"
  seq 3 | gq-enqueue f --local -l >/dev/null
  gq-worker --local --drain --max-attempts 2 --backoff 50ms:50ms -f f -- cat >"$T/disk/out" 2>"$T/full.err" 3>&- 4>&- &
  PIDS+=($!)
  eventually grep -q 'its disk is full; attempts that fail are not counted' "$T/full.err"
  retried() { [[ $(gq-inspect journal | jq -c 'select(.type == "fail")' | wc -l) -gt 6 ]]; }
  eventually retried
  rm "$T/disk/full"  # an attempt that failed just before this may count
  eventually no_jobs
  wait "$!"
  [[ $(jobs_in dead) == 0 && $(grep -o . "$T/disk/out" | sort | xargs) == '1 2 3' ]]
  # A file of --output that cannot be written fails no job.
  mkdir "$T/disk/o"
  head -c 64k /dev/zero >"$T/disk/full" || true
  seq 3 | gq-enqueue f --local -l >/dev/null
  gq-flush --max-attempts 1 -f f --output "$T/disk/o" -- echo x 2>"$T/full.err"
  no_jobs && [[ $(grep -c 'No space left on device; the output of commands is lost' "$T/full.err") == 1 ]]
}

# bats test_tags=once
@test "gq-worker: an --output directory that disappears is created again; one that cannot be used is 74 at the start, and later costs no attempt" {
  local id
  touch "$T/file"
  fails_with 74 gq-worker --local -f f --output "$T/file" -- true
  gq-flush --drop "$(gq-enqueue f --local <<<x)"
  fails_with 74 gq-flush -f f --output "$T/no/such/o" -- true
  listen
  NOTIFY_SOCKET=$T/notify background gq-worker --local -f f --output "$T/o" -- echo out
  eventually grep -q READY=1 "$T/heard"  # before it is ready it checks whether it can write there
  mv "$T/o" "$T/o.1"
  id=$(gq-enqueue f --local <<<x)
  eventually grep -q out "$T/o/$id.1"
  grep -q "the output directory $T/o was gone; it is made again" "$T/bg.1.err"
  # The worker waits, reports that once, also to the service manager, and goes on.
  mv "$T/o" "$T/o.2"
  touch "$T/o"
  id=$(gq-enqueue f --local <<<x)
  eventually grep -q "^STATUS=.*; cannot make the output file $T/o/$id.1: Not a directory" "$T/heard"
  eventually test "$(field "$id" state)" = queued
  sleep 1.1
  rm "$T/o"
  eventually no_jobs
  well() { tail -n 1 "$T/heard" | grep -q '^STATUS=[^;]*$'; }
  eventually well
  [[ $(field "$id" attempts) == 1 && $(grep -c 'no command is started until' "$T/bg.1.err") == 1 && $(grep -c 'can be kept again' "$T/bg.1.err") == 1 ]]
  not grep 'cannot run' "$T/bg.1.err"
  kill "$PID"
  wait "$PID"
}

# bats test_tags=once
@test "gq-worker: --joblog is begun again after the file was renamed, removed or emptied" {
  background gq-worker --local -f f --joblog "$T/log" -- true
  ran() { gq-enqueue f --local <<<x >/dev/null; eventually no_jobs; }
  ran
  mv "$T/log" "$T/log.1"
  ran
  [[ $(wc -l <"$T/log.1") == 2 && $(cut -f 1 "$T/log" | xargs) == 'Seq 2' ]]
  rm "$T/log"
  ran
  [[ $(cut -f 1 "$T/log" | xargs) == 'Seq 3' ]]
  : >"$T/log"
  ran
  [[ $(cut -f 1 "$T/log" | xargs) == 'Seq 4' ]]
  # A log that cannot be written is reported once, and stops nothing.
  rm "$T/log"
  mkdir "$T/log"
  ran
  ran
  [[ $(grep -c "cannot open $T/log: Is a directory" "$T/bg.0.err") == 1 ]]
  rmdir "$T/log"
  ran
  [[ $(cut -f 1 "$T/log" | xargs) == 'Seq 7' ]]
}

# bats test_tags=once
@test "gq-worker: --joblog may be a descriptor that the worker inherited, or a link to one; a FIFO is refused at once [74]" {
  ln -s /dev/stderr "$T/link"
  for log in /dev/stderr /dev/fd/2 "$T/link"; do
    gq-enqueue f --local <<<x >/dev/null
    gq-worker --local --drain -f f --joblog "$log" -- true 2>&1 >/dev/null | cut -f 1 | xargs >"$T/log"
    [[ $(<"$T/log") == 'Seq 1' ]]
  done
  mkfifo "$T/fifo"
  fails_with 74 timeout -s KILL 20 gq-worker --local --drain -f f --joblog "$T/fifo" -- true
  grep -q "cannot open $T/fifo: it is a FIFO" "$T/failed.err"
  for n in $(seq 5 12); do fails_with 74 without_descriptors gq-worker --local --drain -f f --joblog "/dev/fd/$n" -- true; done
}

@test "gq-worker: --joblog refuses a file that others may write to or another user owns; neither --joblog nor --output follows another user's link [78]" {
  # Whatever the umask is, the worker accepts a file that it created before.
  (umask 0; for n in 1 2; do gq-worker --local --drain -f f --joblog "$T/open" -- true; done; gq-worker --local --drain -f f --joblog /dev/null -- true)
  refused() { fails_with 78 gq-worker --local --drain -f f "$1" "$2" -- true && grep -q "cannot trust $2: $3" "$T/failed.err"; }
  chmod 666 "$T/open"
  refused --joblog "$T/open" 'others may write to it (chmod o-w it)'
  ((EUID == 0)) || skip "needs root, for files of another user"
  touch "$T/theirs"
  chown 1 "$T/theirs"
  refused --joblog "$T/theirs" 'it belongs to user 1 (you are root)'
  gq-worker --local --drain -f f --joblog /dev/stderr -- true 2>>"$T/theirs"
  mkdir "$T/real"
  touch "$T/real/log"
  for name in log new; do ln -s "real/$name" "$T/$name"; done
  ln -s real "$T/o"
  gq-worker --local --drain -f f --output "$T/o" --joblog "$T/log" -- true
  chown -h 1 "$T/log" "$T/new" "$T/o"
  for name in log new; do refused --joblog "$T/$name" "it is a link of another user's"; done
  for end in '' / /. /./; do
    fails_with 78 gq-worker --local --drain -f f --output "$T/o$end" -- true
    grep -q "cannot trust $T/o: it is a link of another user's" "$T/failed.err"
  done
  # The worker does not follow such a link either if it appears after the worker has looked at the name.
  mkdir "$T/others"
  background strace -o /dev/null -P "$T/others/log" -e trace=newfstatat -e inject=newfstatat:signal=SIGSTOP:when=2 \
    gq-worker --local --drain -f f --joblog "$T/others/log" -- true
  eventually pgrep -r t,T -P "$PID"
  ln -s "$T/real/made" "$T/others/log"
  chown -h 1 "$T/others/log"
  kill -CONT $(pgrep -P "$PID")
  not wait "$PID"
  [[ ! -e $T/real/made ]]
  # The user's own link may lead to a file that does not exist yet.
  ln -s ../real/made "$T/others/own"
  gq-worker --local --drain -f f --joblog "$T/others/own" -- true
  [[ -s $T/real/made ]]
  # A file with the name of an output that a process has locked stays, as a file in the directory owners of a store
  # does.
  chown -h 0 "$T/o"
  local old=01ARZ3NDEKTSV4RRFFQ69G5FAV
  touch -d '-30 days' "$T/real/$old.1" "$T/real/$old.2"
  background flock -F "$T/real/$old.2" sleep 600
  eventually locked "$T/real/$old.2"
  gq-enqueue f --local </dev/null >/dev/null
  gq-worker --local --drain -f f --output "$T/o" -- true
  [[ ! -e $T/real/$old.1 && -e $T/real/$old.2 ]]
  [[ ! -e $T/real/new ]]
}

# bats test_tags=once
@test "gq-worker: a stop signal ends it while it opens a file [--joblog, on which another process has a lease]" {
  touch "$T/log"
  background python3 -c 'import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
time.sleep(600)' "$T/log"
  eventually grep -q held "$T/bg.0.out"
  background gq-worker --local -f f --joblog "$T/log" -- true
  eventually grep -q "waiting: another process holds a lease on $T/log" "$T/bg.1.err"
  kill "$PID"
  eventually no_process "$PID"
}

@test "gq-worker: processes that commands leave behind with their output open do not use up the worker's descriptors" {
  seq 100 | gq-enqueue f --local -l >/dev/null
  (ulimit -n 200; exec timeout 120 gq-worker --local --drain -f f -j 10 --output "$T/o" -- sh -c 'sleep 300 & echo $! >>"$0"' "$T/left" 2>"$T/err")
  xargs kill <"$T/left"
  [[ $(gq-inspect stats -f f --json | jq .finished) == 100 ]]
  ! grep -q 'Too many open files' "$T/err"
}

@test "gq-worker: --output refuses a directory that others may write to or another user owns [78]; while it is one, no command is started" {
  local id
  mkdir -m 1777 "$T/o"
  fails_with 78 timeout 20 gq-worker --local -f f --output "$T/o" -- echo x
  grep -q "cannot trust $T/o: others may write to it (chmod go-w it)" "$T/failed.err"
  chmod 755 "$T/o"
  background gq-worker --local -f f --output "$T/o" -- echo x
  gq-enqueue f --local <<<x
  eventually no_jobs
  chmod 775 "$T/o"
  id=$(gq-enqueue f --local <<<x)
  eventually grep -q 'others may write to it.*; no command is started until this works' "$T/bg.0.err"
  [[ ! -e $T/o/$id.1 ]]
  chmod 755 "$T/o"
  eventually no_jobs
  ((EUID == 0)) || skip "needs root, for a directory of another user"
  chown 1 "$T/o"
  fails_with 78 timeout 20 gq-worker --local -f f --output "$T/o" -- echo x
}

@test "gq-worker: --joblog has the columns of GNU parallel, one line for each attempt" {
  printf 'abc\ndefgh\n' | gq-enqueue f --local -l >/dev/null
  gq-worker --local --drain -f f -j 2 --joblog "$T/log" --max-attempts 2 --backoff 5ms -- sh -c 'read -r x; case $x in abc) exit 3;; *) sleep 0.2; kill -9 $$;; esac' 2>/dev/null
  parallel --joblog "$T/theirs" true ::: 1
  [[ $(head -n 1 "$T/log" | cut -f 1-9) == "$(head -n 1 "$T/theirs")" ]]
  [[ $(tail -n +2 "$T/log" | cut -f 5,7,8,11,12 | sort | xargs) == '3 3 0 f 1 3 3 0 f 2 5 0 9 f 1 5 0 9 f 2' ]]
  awk -F '\t' 'NR > 1 && $8 == 9 && ($4 < 0.2 || $4 > 5) { exit 1 } NR > 1 && ($3 < 1700000000) { exit 1 }' "$T/log"
  fails_with 74 gq-worker --local --drain -f f --joblog /nonexistent/log -- true
}

@test "gq-worker: --stream feeds one command many jobs; if the command dies, only its current job loses an attempt" {
  cat >"$T/cmd" <<'PY'
#!/usr/bin/env python3
import os, sys
i, o = sys.stdin.buffer, sys.stdout.buffer
open(sys.argv[1] + ".starts", "a").write("x")
while line := i.readline():
    length, id, attempt, function = line.split()
    data = i.read(int(length))
    with open(sys.argv[1], "a") as f: f.write(f"{id.decode()} {attempt.decode()} {len(data)} {data[:5].decode()}\n")
    if data == b"die" and attempt == b"1": os._exit(9)
    if data == b"dead": o.write(b"100 bad address\n")
    elif data == b"later" and attempt == b"1": o.write(b"75\n")
    else: o.write(b"0\n")
    o.flush()
PY
  chmod +x "$T/cmd"
  local big
  { seq 50; echo die; seq 50; echo dead; echo later; } | gq-enqueue f --local -l >"$T/ids"
  big=$(head -c 300000 /dev/zero | tr '\0' y | gq-enqueue f --local)
  gq-enqueue f --local </dev/null
  gq-worker --local --drain -f f -j 2 --backoff 10ms --stream -- "$T/cmd" "$T/out" 2>"$T/err"
  [[ $(jobs_in dead) == 1 && $(gq-inspect list --json | jq -r .reason) == 'exit 100: bad address' ]]
  grep -q "$big 1 300000 yyyyy" "$T/out"
  [[ $(grep -c ' 0 $' "$T/out") == 1 ]]
  # Only the job whose command died and the job that asked for it had a second attempt.
  [[ $(awk '$2 == 2 { print $4 }' "$T/out" | sort | xargs) == 'die later' ]]
  [[ $(stat -c %s "$T/out.starts") -le 4 ]]
  gq-inspect check
}

@test "gq-worker: --stream works with a shell loop; a command that answers nonsense, is missing, or exceeds its time limit fails its job" {
  printf 'a b\n' | gq-enqueue f --local
  printf 'c\nd' | gq-enqueue f --local
  # The loop in gq-stream(7).
  gq-worker --local --drain -f f --stream -- sh -c 'while read -r length id attempt function; do head -c "$length" >"$0/$id"; if [ "$(wc -c <"$0/$id")" -eq "$length" ]; then echo "0 $id"; else echo "75 $id cut short"; fi; done' "$T"
  [[ $(cat "$T"/01* | sort | xargs) == 'a b c d' && $(jobs_in dead) == 0 ]]
  # An answer that names a job counts for its latest attempt.
  gq-enqueue f --local <<<x
  timeout 60 gq-worker --local --drain -f f --stream --backoff 10ms -- sh -c 'while read -r l id attempt rest; do head -c "$l" >/dev/null; echo "$((attempt == 1 ? 75 : 0)) $id"; done'
  gq-enqueue f --local <<<x
  gq-worker --local --drain -f f --stream -- sh -c 'while read -r l id rest; do head -c "$l" >/dev/null; echo hello; done' 2>/dev/null
  [[ $(gq-inspect list --json | jq -r .reason) == *'not a valid answer: hello' ]]
  gq-enqueue g --local <<<x
  fails_with 78 gq-worker --local --drain --strict -f g --stream -- /nonexistent
  gq-worker --local --drain -f g --stream --time-limit 200ms --grace 200ms --max-attempts 1 -- sleep 60 2>/dev/null
  [[ $(gq-inspect list --json -f g | jq -r .reason) == 'time limit'* ]]
  # A command that closes its input and goes on is ended, and that counts as an attempt.
  head -c 300000 /dev/zero | gq-enqueue h --local
  timeout 20 gq-worker --local --drain -f h --stream --max-attempts 1 -- sh -c 'exec <&-; exec sleep 60' 2>/dev/null
  [[ $(gq-inspect list --json -f h | jq -r '.state + " " + .reason') == 'dead signal 9'* ]]
  fails_with 64 gq-worker --local -f f --stream --output "$T/o" -- cat
}

@test "gq-worker: --stream: a job that hangs does not block jobs that another slot can run; an answer that names its job ends no other job" {
  local ids
  (echo hang; seq 60) | gq-enqueue f --local -l >/dev/null
  background gq-worker --local -f f -j 2 --grace 100ms --stream -- sh -c 'while read -r l id rest; do w=$(head -c $l); [ $w = hang ] && sleep 60; echo 0; done'
  others_done() { [[ $(gq-inspect stats -f f --json | jq .finished) == 60 ]]; }
  eventually others_done
  kill "$PID"
  mapfile -t ids < <(seq 20 | gq-enqueue g --local -l)
  gq-worker --local --drain -f g --stream -- sh -c 'while read -r l id rest; do w=$(head -c $l); s=0; [ $w = 9 ] && s=100; echo $s $id why; echo 0 $id; done' 2>/dev/null
  [[ $(field "${ids[8]}" reason) == 'exit 100: why' && $(gq-inspect stats -f g --json | jq -c '[.dead, .finished]') == '[1,19]' ]]
}

@test "gq-worker: a command inherits only what the manual page promises [environment, umask, mask, ignored signals, descriptors]" {
  gq-enqueue f --local --key k --priority low <<<x
  (
    umask 027
    trap '' INT USR2
    exec 7</dev/null
    unset -v $(compgen -e GQ_ | grep -vxE 'GQ_BUILD|GQ_STORE')  # settings of the tests themselves
    GQ_WORKLOAD_FILE=old GQ_KEY=old GQ_NAME=old NOTIFY_SOCKET=/x gq-worker --local --drain -f f -- sh -c \
      'env | grep ^GQ_ | cut -d= -f1 | sort | xargs; umask; grep -E "^Sig(Blk|Ign)" /proc/self/status; ls /proc/$$/fd | xargs; env | grep -c NOTIFY; true'
  ) >"$T/out"
  [[ $(sed -n 1p "$T/out") == 'GQ_ATTEMPT GQ_BUILD GQ_CRASHES GQ_ENQUEUED_AT GQ_FUNCTION GQ_JOB_ID GQ_KEY GQ_MAX_ATTEMPTS GQ_PRIORITY GQ_STORE GQ_WORKLOAD_LENGTH' ]]
  [[ $(sed -n 2p "$T/out") == 0027 ]]
  [[ $(grep -c Sig "$T/out") == 2 ]]
  for mask in $(awk '/Sig/ { print $2 }' "$T/out"); do ((0x$mask % (1 << 31) == 0)); done  # the C library uses 32 and 33 itself
  [[ $(sed -n '$p' "$T/out") == 0 && $(tail -n 2 "$T/out" | head -n 1) == '0 1 2 3'* ]]
  # The command has a session of its own, so that it cannot use the worker's terminal.
  gq-enqueue f --local <<<x
  [[ $(gq-worker --local --drain -f f -- sh -c '[ "$(cut -d " " -f 6 /proc/$$/stat)" = $$ ] && echo own') == own ]]
}

# bats test_tags=once
@test "gq-worker: --stream: a command that survives SIGTERM, one that answers too often, and a job that has killed its worker do not block other jobs" {
  # The command answers after the time limit has begun to end it. The next job of the serial key still runs.
  for n in 1 2; do gq-enqueue f --local --serial s <<<$n; done
  timeout 20 gq-flush -f f --stream --time-limit 500ms --grace 2s -- sh -c \
    'trap "" TERM; while read -r l rest; do head -c "$l" >/dev/null; sleep 0.8; echo 0; done' 2>/dev/null
  no_jobs
  # An answer without a job ends the command at once, before the next job comes.
  echo x | gq-enqueue g --local
  background gq-worker --local -f g --stream -- sh -c 'read -r l rest; head -c "$l" >/dev/null; echo $$ >>"$0"; echo 0; sleep 0.3; echo 0; sleep 600' "$T/starts"
  eventually lines_are "$T/starts" 1
  eventually no_process "$(cat "$T/starts")"
  echo y | gq-enqueue g --local
  eventually lines_are "$T/starts" 2
  kill "$PID"
  # A job that has killed a worker waits until it can run alone, without busy claims.
  printf guilty | gq-enqueue h --local
  die_at_work h
  printf normal | gq-enqueue h --local
  timeout 3 gq-worker --local -f h --stream --backoff 500ms -- sh -c \
    'while read -r l rest; do case $(head -c "$l") in guilty) echo 75 ;; *) sleep 1.5; echo 0 ;; esac; done' 2>/dev/null || [[ $? == 124 ]]
  (($(gq-inspect journal | jq -c 'select(.type == "claim")' | wc -l) < 30))
}

@test "the contract: jobs of a missing command run soon after it is there, however many of them found it missing; --id and --key exclude each other" {
  seq 5 | gq-enqueue f --local -l
  background gq-worker --local -f f -j 8 --output "$T/o" -- "$T/missing"
  sleep 1.2
  printf '#!/bin/sh\n' >"$T/missing"
  chmod +x "$T/missing"
  local start=$SECONDS
  eventually no_jobs
  ((SECONDS - start < 6))
  [[ $(ls "$T/o" | wc -l) == 5 ]]
  fails_with 64 gq-enqueue f --local --key k --id 01ARZ3NDEKTSV4RRFFQ69G5FAV <<<x
}

@test "gq-flush: a job that a dead worker left does not run before jobs of a higher priority" {
  gq-enqueue f --local --priority low <<<low
  die_at_work f
  gq-enqueue f --local --priority high <<<high
  [[ $(gq-flush -f f -- cat | xargs) == 'high low' ]]
}
