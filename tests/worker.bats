load helpers

@test "gq-worker: workloads of awkward sizes arrive unchanged on standard input [through gearmand]" {
  start_gearmand
  start_worker -f keep -- sh -c 'cat >"$0/$GQ_JOB_ID.tmp" && mv "$0/$GQ_JOB_ID.tmp" "$0/$GQ_JOB_ID"' "$T"
  for size in 0 1 4095 4096 4097 65535 65536 65537 131072 1048576 67108864; do
    head -c $size /dev/urandom >"$T/in.$size"
    id=$(gq-enqueue keep "$T/in.$size")
    eventually test -e "$T/$id"
    cmp "$T/$id" "$T/in.$size"
  done
  eventually no_jobs
  gq-inspect check
}

@test "gq-worker: workloads of awkward sizes arrive unchanged on standard input [--local]" {
  for size in 0 1 4095 4096 4097 65535 65536 65537 131072 1048576 67108864; do
    head -c $size /dev/urandom >"$T/in.$size"
    gq-enqueue keep --local "$T/in.$size" >"$T/id.$size"
  done
  gq-worker --local --drain -f keep -- sh -c 'cat >"$0/$GQ_JOB_ID"' "$T"
  for id in "$T"/id.*; do cmp "$T/in.${id##*.}" "$T/$(cat "$id")"; done
  [[ -z $(find "$GQ_STORE/blobs" -type f) ]]
}

@test "gq-worker: a command that never reads, or prints 10 MB before it reads, does not hang the worker" {
  head -c 1000000 /dev/urandom >"$T/big"; head -c 65536 /dev/urandom >"$T/small"
  gq-enqueue f --local "$T/big" "$T/small"
  timeout 20 gq-worker --local --drain -f f -- true
  gq-enqueue f --local "$T/big" "$T/small"
  timeout 20 gq-worker --local --drain -f f -- sh -c 'head -c 10000000 /dev/zero; cat >/dev/null' | wc -c >"$T/n"
  [[ $(cat "$T/n") == 20000000 ]]
}

@test "gq-worker: raw jobs of the gearman command are queued and run [foreground and background]" {
  start_gearmand
  start_worker -f up -- sh -c 'cat >>"$0"' "$T/out"
  answer=$(echo fore | gearman -h 127.0.0.1 -p "$PORT" -f up)
  [[ $answer =~ ^queued\ [0-9A-Z]{26}$ ]]
  echo back | gearman -b -h 127.0.0.1 -p "$PORT" -f up
  eventually lines_are "$T/out" 2
  [[ $(sort "$T/out") == $'back\nfore' ]]
}

@test "gq-worker: raw jobs of the Perl client are queued and run [foreground and background]" {
  start_gearmand
  start_worker -f up -- sh -c 'cat >>"$0"' "$T/out"
  perl -MGearman::Client -e 'my $c = Gearman::Client->new(job_servers => [$ARGV[0]]);
    my $r = $c->do_task(up => "fore\n"); print $$r; $c->dispatch_background(up => "back\n") or die' "$GQ_SERVERS" >"$T/answer"
  grep -qE '^queued [0-9A-Z]{26}$' "$T/answer"
  eventually lines_are "$T/out" 2
  [[ $(sort "$T/out") == $'back\nfore' ]]
}

# bats test_tags=once
@test "gq-worker: raw jobs of the npm package gearmanode are queued and run [foreground and background]" {
  command -v npm >/dev/null || skip "needs npm"
  (cd "$T" && timeout 60 npm install --silent gearmanode >/dev/null 2>&1) || skip "cannot install gearmanode"
  start_gearmand
  start_worker -f up -- sh -c 'cat >>"$0"' "$T/out"
  cat >"$T/client.js" <<'JS'
const { client } = require('gearmanode'), [host, port] = process.argv[2].split(':');
const c = client({ servers: [{ host, port: Number(port) }] });
c.submitJob('up', 'back\n', { background: true }).on('created', () => {
  const job = c.submitJob('up', 'fore\n');
  job.on('complete', () => { console.log(job.response.toString()); c.close(); });
});
JS
  (cd "$T" && timeout 20 node client.js "$GQ_SERVERS" 2>/dev/null) >"$T/answer"
  grep -qE 'queued [0-9A-Z]{26}$' "$T/answer"
  eventually lines_are "$T/out" 2
  [[ $(sort "$T/out") == $'back\nfore' ]]
}

@test "gq-worker: while the disk is full, no foreign client is told that its job is queued, and no job is lost [foreground, background]" {
  store_on_small_disk
  start_gearmand
  start_worker -f up -- sh -c 'cat >>"$0"' "$T/out"
  echo first | gearman -h 127.0.0.1 -p "$PORT" -f up
  dd if=/dev/zero of="$T/disk/fill" bs=4k status=none || true
  run timeout 2 gearman -h 127.0.0.1 -p "$PORT" -f up <<<fore
  [[ $status == 124 && -z $output ]]
  echo back | gearman -b -h 127.0.0.1 -p "$PORT" -f up
  background gearman -h 127.0.0.1 -p "$PORT" -f up waits
  local client=$PID
  sleep 1
  [[ ! -s $T/bg.2.out ]]
  fails_with 75 gq-enqueue up --timeout 1s <<<ours
  rm "$T/disk/fill"
  wait "$client"
  grep -qE '^queued [0-9A-Z]{26}$' "$T/bg.2.out"
  has() { grep -q back "$T/out" && grep -q waits "$T/out"; }
  eventually has
  umount -l "$T/disk"
}

@test "gq-worker: a failing job is retried up to --max-attempts, then it is dead and kept" {
  id=$(echo x | gq-enqueue f --local)
  gq-worker --local --drain -f f --max-attempts 3 --backoff 10ms -- sh -c 'echo "$GQ_ATTEMPT/$GQ_MAX_ATTEMPTS" >>"$0"; exit 7' "$T/out"
  [[ $(cat "$T/out") == $'1/3\n2/3\n3/3' ]]
  gq-inspect list --state dead --json | jq -e --arg id "$id" '.id == $id and .reason == "exit 7" and .attempts == 3'
  [[ $(gq-inspect cat "$id") == x ]]
}

@test "gq-worker: a killed command is a failure, not a success" {
  echo x | gq-enqueue f --local
  gq-worker --local --drain -f f --max-attempts 1 -- sh -c 'kill -9 $$'
  [[ $(gq-inspect list --json | jq -r .reason) == "signal 9" ]]
}

@test "gq-worker: a command gets its job, default signals, and no descriptors except 0 to 2 and the lock of its slot" {
  id=$(echo x | gq-enqueue f --local)
  exec 7<"$T"
  gq-worker --local --drain -f f -- sh -c 'env | grep ^GQ_ | sort >"$0/env"; ls /proc/self/fd >"$0/fd"; grep -E "SigIgn|SigBlk" /proc/self/status >"$0/signals"; ps -o pid=,pgid= -p $$ >"$0/group"' "$T"
  exec 7<&-
  grep -qx "GQ_JOB_ID=$id" "$T/env"
  grep -qx GQ_FUNCTION=f "$T/env"
  grep -qx GQ_ATTEMPT=1 "$T/env"
  grep -qx GQ_MAX_ATTEMPTS=5 "$T/env"
  grep -qx "GQ_STORE=$GQ_STORE" "$T/env"
  grep -qE '^GQ_ENQUEUED_AT=20[0-9]{2}-' "$T/env"
  [[ $(tr '\n' ' ' <"$T/fd") == "0 1 2 3 4 " ]]  # 4 is the directory that ls reads
  # (posix_spawn of glibc ignores its two internal signals, 32 and 33.)
  while read -r _ set; do (((0x$set & ~0x180000000) == 0)); done <"$T/signals"
  read -r pid group <"$T/group"
  [[ $pid == "$group" ]]
}

@test "gq-worker: GQ_WORKLOAD_FILE is set for a large workload, and only then" {
  head -c 100000 /dev/urandom >"$T/big"
  gq-enqueue f --local "$T/big"
  GQ_WORKLOAD_FILE=stale gq-worker --local --drain -f f -- sh -c 'cmp "$GQ_WORKLOAD_FILE" "$0" && echo "$GQ_WORKLOAD_OFFSET $GQ_WORKLOAD_LENGTH" >"$1"' "$T/big" "$T/out"
  [[ $(cat "$T/out") == "0 100000" ]]
  echo x | gq-enqueue f --local
  GQ_WORKLOAD_FILE=stale gq-worker --local --drain -f f -- sh -c 'echo "${GQ_WORKLOAD_FILE-none}" >"$0"' "$T/out"
  [[ $(cat "$T/out") == none ]]
}

@test "gq-worker: if it is killed while its command goes on, no process starts the job again until the command has ended" {
  echo x | gq-enqueue f --local
  cat >"$T/cmd" <<'SH'
#!/bin/sh
echo "start $$" >>"$T/out"
while [ ! -e "$T/go" ]; do sleep 0.05; done
echo "end $$" >>"$T/out"
SH
  chmod +x "$T/cmd"; export T
  background gq-worker --local -f f -- "$T/cmd"
  eventually lines_are "$T/out" 1
  kill -9 "$PID"
  background gq-worker --local --drain -f f -- "$T/cmd"
  second=$PID
  gq-flush -f f -- "$T/cmd"
  [[ -z $(gq-flush -n -f f) ]]
  lines_are "$T/out" 1
  touch "$T/go"
  wait "$second"
  [[ $(cut -d' ' -f1 "$T/out" | tr '\n' ' ') == "start end start end " ]]
}

@test "gq-worker: a process that a command left running holds no job once worker and command are dead, neither its own nor a later one" {
  printf 'daemon\nlong\n' | gq-enqueue f --local -l
  cat >"$T/cmd" <<'SH'
read -r n; echo "$n" >>"$T/out"
[ -e "$T/again" ] && exit 0
setsid sleep 60 >/dev/null 2>&1 </dev/null & echo $! >>"$T/daemons"
[ "$n" = daemon ] || { echo $$ >"$T/pid"; exec sleep 60; }
SH
  export T
  background gq-worker --local -f f -- sh "$T/cmd"
  eventually test -s "$T/pid"
  PIDS+=($(cat "$T/daemons"))
  [[ $(gq-inspect list --state running --json | jq -r .pid) == $(cat "$T/pid") ]]
  kill -9 "$PID" "$(cat "$T/pid")"
  free() { [[ $(jobs_in running) == 0 && $(jobs_in queued) == 1 ]]; }
  eventually free
  touch "$T/again"
  timeout 20 gq-worker --local --drain -f f -- sh "$T/cmd"
  [[ $(tr '\n' ' ' <"$T/out") == "daemon long long " ]]
  kill -0 "${PIDS[-1]}"  # the daemon still lives
  [[ -z $(ls "$GQ_STORE/owners") ]]
}

@test "gq-worker: a command cannot write through the descriptor of its lock" {
  gq-enqueue f --local <<<x
  gq-worker --local --drain -f f -- bash -c '{ echo x >&3; } 2>"$0" || exit 0; exit 100' "$T/err"
  no_jobs
  grep -q 'Bad file descriptor' "$T/err"
}

@test "gq-worker: a command that unlocks the descriptor of its lock releases no job while its worker lives" {
  echo x | gq-enqueue f --local
  background gq-worker --local -f f -- sh -c 'flock -u 3; echo ran >>"$0/out"; until [ -e "$0/go" ]; do sleep .05; done' "$T"
  eventually test -s "$T/out"
  for _ in 1 2; do  # cleaning removes what processes have left behind
    gq-flush --clean
    gq-flush -f f -- sh -c 'echo again >>"$0/out"' "$T"
  done
  [[ $(gq-inspect list --state running --json | jq .pid) -gt 0 ]]
  touch "$T/go"
  eventually no_jobs
  [[ $(cat "$T/out") == ran ]]
}

@test "gq-worker: if it is killed with its command, no process starts the job again while the command's process group lives; show and list name the process" {
  id=$(echo x | gq-enqueue f --local)
  background gq-worker --local -f f -- sh -c 'sleep 60 & echo $! >"$0"; echo $$ >"$1"; wait' "$T/child" "$T/pid"
  local worker=$PID
  eventually test -s "$T/pid"
  PIDS+=($(cat "$T/child"))
  gq-inspect show "$id" --json | jq -e --arg host "$(uname -n)" --argjson pid "$(cat "$T/pid")" --argjson worker "$worker" \
    '.state == "running" and .pid == $pid and .worker_pid == $worker and .host == $host and (.since | length) > 0'
  gq-inspect list | cut -f7 | grep -qE "^pid $(cat "$T/pid") on $(uname -n) since 20"
  kill -9 "$worker" "$(cat "$T/pid")"
  eventually no_process "$worker" "$(cat "$T/pid")"
  gq-inspect show "$id" --json | jq -e '.state == "running" and (has("worker_pid") | not)'
  [[ -z $(gq-flush -n -f f) && $(gq-inspect stats --json | jq -s '.[0].running') == 1 ]]
  kill -9 "$(cat "$T/child")"
  free() { [[ $(gq-flush -n -f f | cut -f1) == "$id" ]]; }
  eventually free
  gq-inspect show "$id" --json | jq -e '.state == "queued" and .crashes == 1 and (has("pid") | not)'
  [[ $(gq-inspect stats --json | jq -s '.[0].queued') == 1 ]]
}

@test "gq-worker: a job that kills its worker again and again becomes dead" {
  echo x | gq-enqueue f --local
  for _ in 1 2 3; do
    background gq-worker --local -f f --max-crashes 3 -- sh -c 'kill -9 $PPID'
    wait "$PID" || true
  done
  gq-worker --local --drain -f f --max-crashes 3 -- sh -c 'kill -9 $PPID'
  gq-inspect list --state dead | grep -q 'its worker died'
  gq-inspect list --json | jq -e '.attempts == 0 and .crashes == 3'
}

@test "gq-worker: an interrupted run counts in GQ_CRASHES and is no attempt; show --history lists each run with its end" {
  id=$(echo x | gq-enqueue f --local)
  die_at_work f
  gq-worker --local --drain -f f --backoff 10ms --joblog "$T/log" -- sh -c 'echo "$GQ_CRASHES $GQ_ATTEMPT" >>"$0"; [ "$GQ_ATTEMPT" = 2 ] || { echo why >&2; exit 7; }' "$T/out"
  [[ $(cat "$T/out") == $'1 1\n1 2' && $(cut -f12 "$T/log" | xargs) == 'Attempt 1 2' ]]
  gq-inspect show "$id" --json --history | jq -e '.attempts == 2 and .exit_status == 0 and (.history |
    map(.result) == ["cut off", "failed", "done"] and map(.attempt) == [1, 1, 2] and map(.exit_status) == [null, 7, 0] and .[1].reason == "exit 7: why")'
  gq-inspect show "$id" --history | grep -q '^run: attempt 1 .* result failed reason exit 7: why exit_status 7$'
  gq-inspect check
}

@test "gq-worker: --stream runs a job that has killed a worker in a command of its own, which gets GQ_CRASHES and ends after the job" {
  echo guilty | gq-enqueue f --local
  die_at_work f
  gq-enqueue f --local --priority high <<<first
  gq-enqueue f --local --priority low <<<last
  # This command does not end with its input, so it is ended after --grace.
  timeout 20 gq-worker --local --drain -f f --stream --grace 100ms -- sh -c \
    'while read -r l rest; do echo "$GQ_CRASHES $(head -c "$l") $$" >>"$0"; echo 0; done; exec sleep 60' "$T/out"
  cat "$T/out"
  [[ $(cut -d' ' -f1,2 "$T/out") == $'0 first\n1 guilty\n0 last' ]]
  [[ $(cut -d' ' -f3 "$T/out" | sort -u | wc -l) == 3 ]]
}

@test "gq-worker: the reason of a failure keeps the beginning of the last line, however long it is" {
  echo x | gq-enqueue f --local
  gq-worker --local --drain -f f --max-attempts 1 -- sh -c '{ echo before; printf "refused: "; head -c 100000 /dev/zero | tr "\0" x; } >&2; exit 1' 2>"$T/err"
  [[ $(gq-inspect list --json | jq -r .reason) == "exit 1: refused: xxx"* ]]
  (($(wc -c <"$T/err") > 100000))
}

@test "gq-worker, gq-flush: notice that a command has ended even if they were started with SIGCHLD ignored" {
  local program
  for program in 'gq-worker --local --drain' gq-flush; do
    gq-enqueue f --local <<<x
    timeout -s KILL 20 perl -e '$SIG{CHLD} = "IGNORE"; exec @ARGV' $program -f f -- true
  done
  no_jobs
}

@test "gq-worker: after SIGTERM it takes no more jobs, finishes the running ones, and exits 0" {
  start_gearmand
  start_worker -f f -- sh -c 'echo start >>"$0"; sleep 1; echo end >>"$0"' "$T/out"
  printf 'a\nb\n' | gq-enqueue f -l
  eventually lines_are "$T/out" 1
  kill "$WORKER"
  wait "$WORKER"
  [[ $(cat "$T/out") == $'start\nend' ]]
  [[ $(jobs_in queued) == 1 ]]
  lines_are "$T/bg.1.err" 0
}

@test "gq-worker: SIGHUP, as from a terminal that closes, stops it as SIGTERM does; nohup protects it" {
  echo x | gq-enqueue f --local
  background gq-worker --local -f f -- sh -c 'echo start >>"$0"; sleep 1; echo end >>"$0"' "$T/out"
  eventually lines_are "$T/out" 1
  kill -HUP "$PID"
  wait "$PID"
  [[ $(cat "$T/out") == $'start\nend' ]]
  background nohup gq-worker --local -f f -- true
  not_yet() { [[ -e $GQ_STORE/owners && $(ls "$GQ_STORE/owners" | wc -l) == 2 ]]; }
  eventually not_yet
  kill -HUP "$PID"
  echo y | gq-enqueue f --local
  eventually no_jobs
  kill "$PID"
  wait "$PID"
}

@test "gq-worker: after --grace it ends its commands, and their jobs are queued again with no attempt spent" {
  echo x | gq-enqueue f --local
  background gq-worker --local -f f --grace 100ms -- sh -c 'trap "" TERM; echo start >>"$0"; sleep 60 & wait; sleep 60' "$T/out"
  eventually lines_are "$T/out" 1
  kill "$PID"
  wait "$PID"
  [[ $(gq-inspect list --json | jq -r '.state, .attempts' | tr '\n' ' ') == "queued 0 " ]]
  gq-worker --local --drain -f f -- sh -c 'echo "$GQ_ATTEMPT" >"$0"' "$T/attempt"
  [[ $(cat "$T/attempt") == 1 ]]
}

@test "gq-worker: while it serves, it runs jobs that come by --local, and retries that are due" {
  start_gearmand
  start_worker -f f --backoff 200ms -- sh -c 'echo "$GQ_ATTEMPT" >>"$0"; test "$GQ_ATTEMPT" = 2' "$T/out"
  echo x | gq-enqueue f --local
  eventually lines_are "$T/out" 2
  eventually no_jobs
}

@test "gq-worker: --drain waits for retries and for jobs that another process runs" {
  echo x | gq-enqueue f --local
  background gq-worker --local -f f -- sh -c 'echo start >"$0"; sleep 1; echo end >"$0"' "$T/out"
  eventually grep -q start "$T/out"
  timeout 20 gq-worker --local --drain -f f -- true
  [[ $(cat "$T/out") == end ]]
}

@test "gq-worker: reconnects after gearmand has died and returned, and reports that once" {
  start_gearmand
  start_worker -f f -- sh -c 'cat >>"$0"' "$T/out"
  kill -9 "$GEARMAND"; wait "$GEARMAND" || true
  sleep 1.5
  start_gearmand "$PORT"
  eventually served "$PORT" f.gq
  echo again | gq-enqueue f
  eventually grep -q again "$T/out"
  lines_are "$T/bg.1.err" 1
}

@test "gq-worker: --backlog limits how many jobs it takes off the server" {
  start_gearmand
  start_worker -f f --backlog 5 -- sh -c 'while [ ! -e "$0" ]; do sleep 0.05; done' "$T/go"
  for _ in $(seq 30); do gearman -b -h 127.0.0.1 -p "$PORT" -f f </dev/null; done
  five() { (($(gq-inspect list | wc -l) >= 5)); }
  eventually five
  sleep 0.5
  (($(gq-inspect list | wc -l) <= 8))
  touch "$T/go"
  done_all() { [[ $(gq-inspect stats --json | jq -s '.[0].finished') == 30 ]]; }
  eventually done_all
}

@test "gq-worker: jobs that are not due yet do not count for --backlog; it reports when the limit is reached" {
  start_gearmand
  start_worker -f f --backlog 4 -- sh -c 'while [ ! -e "$0" ]; do sleep 0.05; done' "$T/go"
  seq 9 | gq-enqueue f -l --delay 300d --timeout 20s >"$T/later"
  seq 4 | gq-enqueue f -l --timeout 20s >"$T/now"
  lines_are "$T/now" 4
  eventually grep -q 'no more jobs off the servers: 4 are unfinished (--backlog), most of them of f' "$T/bg.1.err"
  touch "$T/go"
  eventually grep -q 'taking jobs off the servers again' "$T/bg.1.err"
  lines_are "$T/bg.1.err" 2
}

@test "gq-worker: reports jobs that become dead in one line a minute, with their number" {
  seq 50 | gq-enqueue f --local -l >"$T/ids"
  gq-worker --local --drain -f f -- sh -c 'exit 100' 2>"$T/err"
  lines_are "$T/err" 2
  grep -q ': exit 100; it is kept as dead$' "$T/err"
  grep -q ': f: it is kept as dead (49 more like it)$' "$T/err"
}

@test "gq-worker: closes the connection to a server that sends more than a Gearman server does, and logs that once [an endless packet]" {
  background "$BATS_TEST_DIRNAME/fake-gearmand" f endless
  eventually test -s "$T/bg.0.out"
  export GQ_SERVERS=127.0.0.1:$(head -n 1 "$T/bg.0.out")
  background gq-worker -f f -- true
  eventually grep -q 'it sends more than a Gearman server does; trying again' "$T/bg.1.err"
  grew() { (($(grep -c grabbed "$T/bg.0.out") >= 4)); }
  eventually grew
  lines_are "$T/bg.1.err" 1
}

# Whether N jobs have come, one from each of N fake servers: jobs_come N.
jobs_come() { [[ $(jobs_in queued) == "$1" && $(cat "$T"/bg.*.out | grep -c done) == "$1" ]]; }

# bats test_tags=once
@test "gq-worker: a job arrives as it was sent, wherever its server pauses, and its content is not read as a packet [pauses in the header, the arguments and the workload, a connection that ends there]" {
  servers=()
  for mode in "pause 12" "pause 19" "pause 21" "pause 24" "pause 500" forge break; do
    fake_gearmand fn $mode
    servers+=("$FAKE")
  done
  background gq-worker --servers "$(IFS=,; echo "${servers[*]}")" -f fn --queue-only --max-workload 1M
  eventually jobs_come 7
  for id in $(gq-inspect list --json | jq -r 'select(.size == 1000).id'); do
    [[ $(gq-inspect cat "$id") == $(printf '0123456789%.0s' {1..100}) ]]
  done
  [[ $(gq-inspect list --json | jq .size | sort -n | uniq -c | xargs) == "6 1000 1 1048576" ]]
  [[ $(grep -h -c given "$T"/bg.*.out | xargs) == "1 1 1 1 1 1 2 0" ]]
}

@test "gq-worker: a job that a server assigns after the answer that there is none is not read, and the connection is closed [its workload would have no room]" {
  fake_gearmand f early
  background gq-worker --servers "$FAKE" -f f --queue-only
  eventually grep -q 'it assigns a job that was not asked for; trying again' "$T/bg.1.err"
  lines_are "$T/bg.1.err" 1
  [[ $(grep -c done "$FAKE_LOG") == 0 ]]
}

@test "gq-worker: a server that assigns jobs of a function that the worker does not serve is reported once, and asked again after a pause" {
  fake_gearmand fn other
  local start=${EPOCHREALTIME/[.,]/}
  background gq-worker --servers "$FAKE" -f fn --queue-only
  eventually grep -q 'it assigns a job of a function that this worker does not serve; trying again' "$T/bg.1.err"
  given() { (($(grep -c given "$FAKE_LOG") >= 5)); }
  eventually given
  ((${EPOCHREALTIME/[.,]/} - start >= 1500000))  # pauses of 100, 200, 400 and 800 ms
  lines_are "$T/bg.1.err" 1
}

# bats test_tags=once
@test "gq-worker: SIGTERM ends it at once, even if a server keeps it waiting within a job" {
  fake_gearmand fn drip 1000
  background gq-worker --servers "$FAKE" -f fn --queue-only
  eventually grep -q dripped "$FAKE_LOG"
  kill "$PID"
  timeout 10 tail --pid "$PID" -f /dev/null
}

# bats test_tags=once
@test "gq-worker: a server that sends a job byte by byte delays no small job of another server, a large one only for a short time, and is named" {
  start_gearmand
  fake_gearmand f.gq drip 1114112
  background gq-worker --servers "$GQ_SERVERS,$FAKE" -f f --queue-only --max-workload 1M
  eventually grep -q given "$FAKE_LOG"
  gq-enqueue f --timeout 60s <<<small
  not grep -q 'so slowly' "$T/bg.2.err"
  for n in 1 2; do head -c 700000 /dev/zero | gq-enqueue f --timeout 60s; done
  eventually grep -q "server $FAKE sends a job of 1114112 bytes so slowly that jobs of other servers wait" "$T/bg.2.err"
}

# bats test_tags=once
@test "gq-worker: a job of 4 MB arrives over a link that stalls again and again for longer than a second" {
  start_gearmand
  LINK=$(free_port)
  background python3 "$BATS_TEST_DIRNAME/relay.py" "$LINK" "$PORT" 0 1.3
  eventually answers "$LINK"
  background gq-worker --servers "127.0.0.1:$LINK" -f f --queue-only
  eventually served "$PORT" f.gq
  id=$(head -c 4000000 /dev/urandom | tee "$T/big" | gq-enqueue f --timeout 60s)
  gq-inspect cat "$id" | cmp - "$T/big"
  lines_are "$T/bg.2.err" 0
}

# bats test_tags=long
@test "gq-worker: uses next to no CPU while it is idle, with the server up and with it down" {
  start_gearmand
  start_worker -f f -- true
  cpu() { awk '{ print $14 + $15 }' "/proc/$WORKER/stat"; }
  before=$(cpu); sleep 3; up=$(($(cpu) - before))
  kill -9 "$GEARMAND"; wait "$GEARMAND" || true
  before=$(cpu); sleep 3; down=$(($(cpu) - before))
  echo "clock ticks in 3 s: $up with the server, $down without"
  ((up <= 9 && down <= 9))  # 3 %
}

@test "gq-worker: bad usage is 64" {
  for bad in "" "-f f" "-f f --" "-- true" "-f rep_1 -- true" "-f f -j 0 -- true" "-f f --queue-only -- true" "-f f --backoff 2s:1s -- true" "-f f --bogus -- true"; do
    fails_with 64 gq-worker $bad
  done
}

@test "gq-worker: takes a server's IPv6 address in brackets" {
  PORT=$(free_port)
  background gearmand -L ::1 -p "$PORT" -l "$T/gearmand.log"
  export GQ_SERVERS="[::1]:$PORT"
  up() { (: <"/dev/tcp/::1/$PORT"); }
  eventually up || skip "no IPv6 loopback here"
  background gq-worker -f f -- sh -c 'cat >"$0"' "$T/out"
  echo six | gq-enqueue f
  eventually grep -q six "$T/out"
}

@test "gq-worker: jobs claimed ahead do not wait behind a long job while another worker is idle" {
  { yes quick | head -n 60; echo slow; yes quick | head -n 60; } | gq-enqueue f --local -l >"$T/ids"
  cmd=(sh -c 'read -r x; [ "$x" = quick ] || { echo slow >>"$0"; while [ ! -e "$0.go" ]; do sleep 0.05; done; }' "$T/slow")
  background gq-worker --local -f f -- "${cmd[@]}"
  eventually lines_are "$T/slow" 1
  background gq-worker --local -f f -- "${cmd[@]}"
  only_slow() { [[ $(gq-inspect list | wc -l) == 1 ]]; }
  eventually only_slow
  touch "$T/slow.go"
  eventually no_jobs
}

@test "gq-worker: --queue-only with --backlog goes on when other processes have run the jobs" {
  start_gearmand
  start_worker -f f --queue-only --backlog 5
  seq 5 | gq-enqueue f -l
  gq-worker --local --drain -f f -- true
  seq 5 | gq-enqueue f -l --timeout 10s >"$T/ids"
  lines_are "$T/ids" 5
}

@test "gq-worker: refuses one job over its --max-workload for good [65], and queues the others" {
  start_gearmand
  start_worker -f f --queue-only --max-workload 1K
  { echo a; head -c 3000 /dev/zero | tr '\0' x; echo; echo b; } >"$T/lines"
  fails_with 65 gq-enqueue f -l "$T/lines"
  [[ $(jobs_in queued) == 2 ]]
}

@test "gq-worker: --drain leaves no job unfinished that it took off a server" {
  start_gearmand
  for _ in 1 2 3; do gearman -b -h 127.0.0.1 -p "$PORT" -f f </dev/null; done
  sh -c 'sleep 0.2' | gq-enqueue f --local
  gq-worker -f f --drain -- sleep 0.3
  no_jobs
}

# bats test_tags=once,long
@test "gq-worker: receives with as many threads as waiting jobs need, and no more [one client at a time, many, one again]" {
  start_gearmand
  start_worker -f f --queue-only
  threads() { status "$PORT" | awk '$1 == "f.gq" { print $4 }'; }
  # On a busy machine a job may come before the receiver asks again, several times in a row. Then there are two
  # receivers for a moment.
  few() {
    local one=0
    for _ in {1..20}; do
      (($(threads) > 1)) || one=$((one + 1))
      sleep 0.02
    done
    ((one >= 15))
  }
  background gq-bench submit 127.0.0.1 "$PORT" f 1000000 200 1 fg
  local client=$PID
  eventually few
  many() { (($(threads) >= 4)); }
  background gq-bench submit 127.0.0.1 "$PORT" f 1000000 200 32 fg
  eventually many
  kill "$PID"
  eventually few
  kill -0 "$client"
}

# Submits a foreground job as a raw packet: raw_packet NUMBER FUNCTION UNIQUE DATA [ARGUMENT...]. Prints the number of
# each packet that comes back, up to the end of the job.
raw_packet() {
  timeout 20 python3 - "$PORT" "$@" <<'PY'
import socket, struct, sys
port, number, function, unique, data, *more = sys.argv[1:]
body = "\0".join([function, unique, *more, data]).encode()
s = socket.create_connection(("127.0.0.1", int(port)))
s.sendall(b"\0REQ" + struct.pack(">II", int(number), len(body)) + body)
f = s.makefile("rb")
while True:
    head = f.read(12)
    kind, size = struct.unpack(">II", head[4:])
    f.read(size)
    print(kind)
    if kind in (13, 14): break
PY
}

@test "gq-worker: clients whose jobs the server has merged under one unique are told that they failed, and why, and nothing is stored" {
  start_gearmand
  start_worker -f f --queue-only
  kill -STOP "$WORKER"
  local clients=() n
  # One unique with several workloads, a unique that is the workload, and the unique that Ruby's client makes of
  # function and workload.
  submit() { background timeout 20 gearman -h 127.0.0.1 -p "$PORT" -f f -u "$1" "$2"; clients+=("$PID"); }
  submit same one; submit same two; submit same three
  submit - equal; submit - equal
  sha=$(printf fruby | sha1sum | cut -d' ' -f1)
  submit "$sha" ruby; submit "$sha" ruby
  waiting() { [[ $(status "$PORT" | awk '$1 == "f" { print $2 }') == 3 ]]; }
  eventually waiting
  kill -CONT "$WORKER"
  for n in "${clients[@]}"; do wait "$n" || true; done
  for n in 2 3 4; do
    not grep -q queued "$T/bg.$n.out"
    cat "$T/bg.$n.out" "$T/bg.$n.err" | grep -q '3 clients have submitted jobs with this unique'
  done
  for n in 5 6 7 8; do grep -q '^queued' "$T/bg.$n.out"; done
  [[ $(jobs_in queued) == 2 ]]
  [[ $(grep -c 'with one unique' "$T/bg.1.err") == 1 ]]
  # If they come one after the other, they are two jobs.
  for n in 1 2; do gearman -h 127.0.0.1 -p "$PORT" -f f -u same "$n" | grep -q '^queued'; done
  [[ $(jobs_in queued) == 4 ]]
}

# bats test_tags=once
@test "gq-worker: reports each kind of refused record on F.gq once, and queues a job with a reducer" {
  start_gearmand
  start_worker -f f --queue-only --max-workload 1K
  for _ in 1 2; do
    [[ $(echo garbage | timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f f.gq) == 'bad not a whole record' ]]
    head -c 3000 /dev/zero >"$T/in"
    fails_with 65 gq-enqueue f "$T/in"
    raw_packet 37 f '' x reducer '' >"$T/packets"
  done
  grep -qx 13 "$T/packets"
  [[ $(jobs_in queued) == 2 ]]
  [[ $(grep -c 'refused a record for f: not a whole record' "$T/bg.1.err") == 1 ]]
  [[ $(grep -c 'refused a record for f: it is larger' "$T/bg.1.err") == 1 ]]
  lines_are "$T/bg.1.err" 2
}

# bats test_tags=once
@test "gq-worker: background jobs with a reducer block no receiver, whether a worker serves the reducer or not" {
  start_gearmand
  start_worker -f f --queue-only
  background gearman -h 127.0.0.1 -p "$PORT" -w -f slow -- sleep 600
  eventually served "$PORT" slow
  for reducer in nobody slow; do
    for f in f f.gq; do
      python3 - "$PORT" $f $reducer <<'PY'
import socket, struct, sys
port, function, reducer = sys.argv[1:]
with socket.create_connection(("127.0.0.1", int(port))) as s:
    for n in range(60):
        body = "\0".join([function, f"{reducer}{n}", reducer, "0", "data"]).encode()  # gearmand merges jobs with one unique
        s.sendall(b"\0REQ" + struct.pack(">II", 38, len(body)) + body)
        s.recv(300)
PY
    done
  done
  gq-enqueue f <<<x
  all_gone() { status "$PORT" | awk -F'\t' '$1 ~ /^f/ && $2 > 0 { exit 1 }'; }
  eventually all_gone
  [[ $(jobs_in queued) == 121 ]]  # those of f are raw jobs
}

# bats test_tags=once
@test "gq-worker: refuses a job over --max-workload before its workload comes, reports it, and takes the jobs behind it [raw in the background and the foreground, F.gq]" {
  start_gearmand
  for f in f f.gq; do gq-bench submit 127.0.0.1 "$PORT" $f 1 60000000 1 bg; done
  submit() { timeout 20 gearman -h 127.0.0.1 -p "$PORT" "$@"; }
  submit -b -f f <<<small
  start_worker -f f --queue-only --max-workload 1M
  queued() { [[ $(jobs_in queued) == "$1" ]]; }
  eventually queued 1
  none_left() { [[ $(status "$PORT" | awk '{ n += $2 + $3 } END { print n }') == 0 ]]; }
  eventually none_left
  grep -q 'f: a job of 60000000 bytes is larger' "$T/bg.1.err"
  grep -q 'f.gq: a job of 60000000 bytes is larger' "$T/bg.1.err"
  head -c 2000000 /dev/zero >"$T/large"
  not submit -f f <"$T/large" >"$T/out" 2>&1
  grep -q 'larger than the worker takes' "$T/out"
  fails_with 65 gq-enqueue f "$T/large"
  grep -q 'larger than the worker' "$T/failed.err"
  (($(awk '/VmHWM/ { print $2 }' "/proc/$WORKER/status") < 60000))
  gq-enqueue f <<<last
  eventually queued 2
}

# bats test_tags=once
@test "gq-worker: the jobs that it receives at one time take at most twice --max-workload of memory [a store that is locked]" {
  start_gearmand
  start_worker -f f --queue-only --max-workload 8M
  gq-enqueue f <<<first
  exec 5>>"$GQ_STORE/append.lock"
  flock 5
  gq-bench submit 127.0.0.1 "$PORT" f 14 8000000 14 bg
  all_asked() { (($(status "$PORT" | awk '$1 == "f" { print $4 }') >= 14)); }
  eventually all_asked
  (($(awk '/VmHWM/ { print $2 }' "/proc/$WORKER/status") < 60000))
  exec 5>&-
  all_queued() { [[ $(jobs_in queued) == 15 ]]; }
  eventually all_queued
}

# bats test_tags=once
@test "gq-worker: uses a libgearman of its own whose every call goes through gq, and no other one in the process [one that does not read is preloaded]" {
  start_gearmand
  local library
  library=$(ldd "$(command -v gearman)" | awk '$1 ~ /^libgearman/ { print $3 }')
  python3 -c 'import sys
open(sys.argv[2], "wb").write(open(sys.argv[1], "rb").read().replace(b"\0recv\0", b"\0read\0", 1))' "$library" "$T/other.so"
  export LD_PRELOAD=$T/other.so
  start_worker -f f --queue-only
  unset LD_PRELOAD
  grep -q other.so "/proc/$WORKER/maps"
  gq-bench submit 127.0.0.1 "$PORT" f 1 60 1 bg
  one() { [[ $(jobs_in queued) == 1 ]]; }
  eventually one
  ldd "$(command -v gq-worker)" >"$T/linked"
  not grep -E 'libgearman|libtokyocabinet' "$T/linked"
}

@test "gq-worker: while the disk is gone for good it waits without using CPU; stopped, it says what it could not record, and ends soon [74]" {
  ((EUID == 0)) || skip "needs root, for a file system of its own"
  local ticks start status=0
  mkdir "$T/disk"
  truncate -s 64M "$T/image"
  mkfs.ext4 -q "$T/image"
  mount -o loop "$T/image" "$T/disk"
  export GQ_STORE=$T/disk/store
  seq 100 | gq-enqueue f --local -l >/dev/null
  background gq-worker --local -f f -j 2 -- sh -c 'echo >>"$0"; while [ -e "$1" ]; do sleep .05; done' "$T/begun" "$T/image"
  eventually lines_are "$T/begun" 2
  xfs_io -x -c shutdown "$T/disk"
  mv "$T/image" "$T/image.gone"
  eventually grep -q Input/output "$T/bg.0.err"
  waits() { kill -USR1 "$PID" && grep -q 'waiting for the disk: 0 running' "$T/bg.0.err"; }
  eventually waits
  ticks=$(awk '{ print $14 + $15 }' "/proc/$PID/stat")
  sleep 2
  (($(awk '{ print $14 + $15 }' "/proc/$PID/stat") - ticks < 40))
  start=$SECONDS
  kill "$PID"
  wait "$PID" || status=$?
  ((status == 74 && SECONDS - start < 20))
  grep -q 'cannot record how 2 commands ended; their jobs will run again: ' "$T/bg.0.err"
}

# bats test_tags=journal
@test "gq-worker: a job that it released while the disk failed stays its own once it has claimed the job again" {
  # A few short jobs make the worker claim ahead.
  touch "$T/go"
  seq 30 | gq-enqueue --local f -l
  background env LD_PRELOAD="$PRELOAD" GQ_TEST_BROKEN="$T/broken" gq-worker --local -f f -j 2 --rate 50/s --output "$T/out" -- \
    sh -c 'echo "$GQ_JOB_ID" >>"$0/begun"; until test -e "$0/go"; do sleep 0.05; done' "$T"
  local errors=$T/bg.0.err
  eventually no_jobs
  rm -r "$T/go" "$T/begun" "$T/out"
  # The worker claims two jobs. It can neither start them nor make durable the records that release them.
  touch "$T/broken" "$T/out"
  seq 2 | gq-enqueue --local f -l
  eventually grep -qE 'cannot sync the journal(, twice|: [^;]*$)' "$errors"
  rm "$T/out" "$T/broken"
  # The worker claims both again, and starts the second one a moment after the first. By then the records that released
  # them are on disk.
  eventually lines_are "$T/begun" 2
  [[ $(jobs_in running) -eq 2 ]]
  gq-flush -f f -- sh -c 'echo twice >>"$0/begun"' "$T"
  lines_are "$T/begun" 2
  touch "$T/go"
  eventually no_jobs
}

# bats test_tags=once
@test "gq: names the wrong word of a command line [a command without --, an unknown option or subcommand, a value in a file]" {
  says() {  # STATUS PATTERN COMMAND...
    fails_with "$1" "${@:3}" || return
    grep -q -- "$2" "$T/failed.err" || { cat "$T/failed.err"; return 1; }
  }
  says 64 'sh is one word too many: say -- before the command' gq-worker -f f --local --drain sh -c true
  says 64 '--nope is no option of gq-worker (' gq-worker -f f --nope -- true
  says 64 '--gracee=3s is no option of gq-worker (did you mean --grace?)' gq-worker -f f --gracee=3s -- true
  says 64 '--stat is no option of gq-inspect (did you mean --state?)' gq-inspect list --stat dead
  says 64 'lst is no subcommand (did you mean list?): list,' gq-inspect lst
  says 64 'nothing-like-it is no subcommand: list,' gq-inspect nothing-like-it
  says 64 '--delay needs a value' gq-enqueue f --local --delay
  says 64 'with --relay' gq-worker -f f --relay -- true
  printf 'quiet = true\nfoo = bar\n' >"$T/unknown"
  printf '# a comment\n\n  priority = urgent\n' >"$T/value"
  echo 'serail = a' >"$T/near"
  says 78 "cannot use $T/unknown, line 2: gq-enqueue has no option foo" gq-enqueue --config "$T/unknown" f --local
  says 78 "cannot use $T/value, line 3: --priority" gq-enqueue --config "$T/value" f --local
  says 78 "cannot use $T/near, line 1: gq-enqueue has no option serail (did you mean --serial?)" gq-enqueue --config "$T/near" f --local
  echo 'priority = high' >"$T/good"
  says 64 '--priority' gq-enqueue --config "$T/good" --priority urgent f --local
}

# bats test_tags=once
@test "gq: --help has the usage, the options in groups with the names of their values, an example, and the manual page's name" {
  local program
  for program in gq-enqueue gq-worker gq-flush gq-inspect gq-snapshot gq-replicate; do
    run -0 "$program" --help
    [[ ${lines[1]} == "Usage: $program "* ]]
    [[ $output == *$'\n\nCommon options:\n  --store DIR  '* ]]
    [[ $output == *$'\n\nExample:\n'"  $program "*$'\n\n'"$program(1) is the manual page." ]]
    ((${#output} > 1000 && $(wc -L <<<"$output") <= 80))
    [[ $output != *' TEXT'* ]]  # each value has a name
  done
  run -0 gq-worker --help
  [[ $output == *$'\n\nCommands:\n'*$'\n  --grace DUR             How long'*$'\n\nRetries:\n'* ]]
  for program in list show cat output wait stats status check confirm journal; do
    run -0 gq-inspect "$program" --help
    [[ ${lines[1]} == "Usage: gq-inspect $program [OPTIONS]"* && $output != *' TEXT'* ]]
  done
  run -0 gq-snapshot restore --help
  [[ ${lines[1]} == 'Usage: gq-snapshot restore [OPTIONS] DIRECTORY' ]]
}

@test "gq-worker, gq-flush: a function that is named twice is one function, and its jobs run once" {
  for run in 'gq-worker --local --drain' gq-flush; do
    seq 100 | gq-enqueue f --local -l >/dev/null
    $run -f f -f g -f f -j 4 -- sh -c 'echo >>"$0"' "$T/ran"
    lines_are "$T/ran" 100
    rm "$T/ran"
  done
}

@test "gq-worker: of deliveries that each copy many parts of other jobs' workloads, it holds the parts of one at a time [a slow disk]" {
  local source
  source=$(head -c 65536 /dev/zero | gq-enqueue --local f --delay 1h)
  start_gearmand
  start_worker -f f --queue-only
  background strace -f -qq -o /dev/null -p "$WORKER" -e trace=fdatasync -e inject=fdatasync:delay_enter=500000
  eventually grep -q "^TracerPid:.*[1-9]" "/proc/$WORKER/status"
  yes 0:65536 | head -n 3072 | gq-enqueue f -l --delay 1h --from "$source" --timeout 60s >"$T/ids"
  lines_are "$T/ids" 3072
  (($(awk '/VmHWM/ { print $2 }' "/proc/$WORKER/status") < 120000))
}

@test "gq-worker: obeys a stop between jobs whose workloads take long to read [parts of a large one]" {
  local source
  source=$(head -c 1000000 /dev/zero | gq-enqueue --local g --delay 1h)
  yes 0:1000000 | head -n 8 | gq-enqueue --local f -l --from "$source"
  strace -f -qq -o /dev/null -P "$GQ_STORE/blobs/${source:24}/$source" -e trace=pread64 -e inject=pread64:delay_enter=300000 \
    gq-worker --local -f f -j 8 -- sh -c 'echo >>"$0"; kill "$PPID"' "$T/ran"
  (($(wc -l <"$T/ran") < 8))
}
