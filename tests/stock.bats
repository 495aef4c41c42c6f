load helpers

# Each test shows a defect of `gearman -w -f F -- cmd`, the tool that people will compare gq-worker with, and shows that
# gq-worker does not have it.

# A stock worker forks before it finds that it cannot run a command, and then both processes go on.
teardown() {
  pkill -9 -f "gearman -h 127.0.0.1 -p ${PORT:-none} " || true
  end_programs
}

# Starts a stock worker for the function "stock", and waits until it serves.
stock_worker() {
  background gearman -h 127.0.0.1 -p "$PORT" -w -f stock -- "$@"
  STOCK=$PID
  eventually served "$PORT" stock
}
submit() { timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f "$@" </dev/null; }
reason_is() { [[ $(gq-inspect list --json | jq -r .reason) == "$1"* ]]; }

@test "gearman -w reports a command that was killed as a success; gq-worker does not" {
  start_gearmand
  stock_worker sh -c 'kill -9 $$'
  submit stock x
  start_worker -f f -- sh -c 'kill -9 $$'
  [[ $(submit f x) == queued* ]]
  eventually reason_is 'signal 9'
}

@test "gearman -w reports a command that it cannot run as a success; gq-worker keeps the job and spends no attempt" {
  start_gearmand
  stock_worker /nonexistent
  submit stock x
  start_worker -f f -- /nonexistent
  [[ $(submit f x) == queued* ]]
  eventually grep -q 'cannot run /nonexistent' "$T/bg.2.err"
  [[ $(gq-inspect list --json | jq -r '.state, .attempts' | xargs) == 'queued 0' ]]
}

@test "gearman -w hangs on 300 KB through cat; gq-worker does not" {
  start_gearmand
  stock_worker cat
  head -c 300000 /dev/zero >"$T/in"
  run timeout 3 gearman -h 127.0.0.1 -p "$PORT" -f stock <"$T/in"
  [[ $status == 124 ]]
  start_worker -f f -- cat
  [[ $(timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f f <"$T/in") == queued* ]]
  copied() { [[ $(cat "$T"/bg.*.out | wc -c) == 300000 ]]; }
  eventually copied
}

@test "gearman -w loses a background job whose command fails; gq-worker retries it" {
  start_gearmand
  stock_worker sh -c 'echo run >>"$0"; exit 1' "$T/stock"
  submit stock -b x
  eventually lines_are "$T/stock" 1
  start_worker -f f --backoff 100ms -- sh -c 'echo run >>"$0"; [ "$GQ_ATTEMPT" = 3 ]' "$T/ours"
  submit f -b x
  eventually lines_are "$T/ours" 3
  eventually no_jobs
  lines_are "$T/stock" 1
  [[ $(status "$PORT" | grep '^stock') == stock$'\t0'* ]]
}

@test "gearman -w spins while its server is down; gq-worker reports that once, and reconnects" {
  start_gearmand
  kill -9 "$GEARMAND"
  run timeout 1 gearman -h 127.0.0.1 -p "$PORT" -w -f stock -- true
  ((${#lines[@]} > 1000))
  background gq-worker -f f -- true
  local worker=$PID
  sleep 1.5
  (($(wc -l <"$T/bg.1.err") == 1))
  (($(awk '{ print $14 + $15 }' "/proc/$worker/stat") < 50))
  start_gearmand "$PORT"
  eventually served "$PORT" f
}

@test "gearman -w leaves its command running at SIGTERM while another worker gets the job; gq-worker waits for its command" {
  start_gearmand
  stock_worker sh -c 'echo start >>"$0"; sleep 3; echo end >>"$0"' "$T/stock"
  submit stock -b x
  eventually lines_are "$T/stock" 1
  kill "$STOCK"
  stock_worker sh -c 'echo start >>"$0"; sleep 3; echo end >>"$0"' "$T/stock"
  eventually lines_are "$T/stock" 2
  [[ $(cat "$T/stock") == $'start\nstart' ]]  # twice at the same time
  start_worker -f f -- sh -c 'echo start >>"$0"; sleep 2; echo end >>"$0"' "$T/ours"
  submit f -b x
  eventually lines_are "$T/ours" 1
  kill "$WORKER"
  start_worker -f f -- sh -c 'echo start >>"$0"; sleep 2; echo end >>"$0"' "$T/ours"
  wait "${PIDS[-2]}"
  [[ $(cat "$T/ours") == $'start\nend' ]]
  no_jobs
}

@test "gearman -w starts commands with SIGPIPE ignored; gq-worker does not" {
  start_gearmand
  local ignored='sed -n "s/SigIgn:\t//p" /proc/self/status'
  stock_worker sh -c "$ignored"
  local theirs
  theirs=$(submit stock x)
  ((0x$theirs & 1 << 12))
  start_worker -f f -- sh -c "$ignored"
  submit f x
  eventually test -s "$T/bg.2.out"
  (((0x$(cat "$T/bg.2.out") & 1 << 12) == 0))
}

@test "gearman exits 0 although its server is down, as a worker and as a client; gq-enqueue does not" {
  start_gearmand
  kill -9 "$GEARMAND"
  run -0 timeout 3 gearman -h 127.0.0.1 -p "$PORT" -w -c 1 -f stock -- true
  run -0 timeout 3 gearman -h 127.0.0.1 -p "$PORT" -b -f stock x
  fails_with 69 gq-enqueue f <<<x
}
