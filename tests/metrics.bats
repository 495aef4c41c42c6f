load helpers

# Prints a number of gq-inspect metrics: value NAME, or value 'NAME{LABELS}'.
value() { gq-inspect metrics | NAME=$1 awk '{ v = $NF; sub(/ [^ ]*$/, "") } $0 == ENVIRON["NAME"] { print v }'; }
# Prints what has been counted: the counters and histograms, without those that are gauges.
counted() { gq-inspect metrics | grep -E '^gq_[a-z_]*(_total|_bucket|_sum|_count)[ {]'; }
# Runs jobs with each outcome.
run_some() {
  seq 4 | gq-enqueue f --local -l >/dev/null
  gq-worker --local --drain -f f --max-attempts 2 --backoff 10ms:10ms -- sh -c 'read -r n; [ "$n" != 3 ]' 2>/dev/null
  gq-inspect list --state dead --json | jq -r .id | head -n 1 | gq-flush --drop - >/dev/null
  gq-flush --cancel "$(gq-enqueue "g\"\\" --local </dev/null)"
  gq-enqueue f --local --expire 1ms </dev/null >/dev/null
  gq-flush --all -- true 2>/dev/null
}

@test "gq-inspect: metrics counts jobs by state, ends by outcome, attempts, waits and runs; promtool accepts it" {
  run_some
  seq 2 | gq-enqueue f --local -l --delay 1h >/dev/null
  gq-inspect metrics >"$T/metrics"
  promtool check metrics <"$T/metrics" >"$T/promtool" 2>&1 || { cat "$T/promtool"; return 1; }
  [[ ! -s $T/promtool ]]
  [[ $(value 'gq_jobs{function="f",state="delayed"}') == 2 && $(value 'gq_jobs_queued_total{function="f"}') == 7 ]]
  for outcome in "done 3" "dead 1" "expired 1" "cancelled 0" "dropped 1"; do
    [[ $(value "gq_jobs_ended_total{function=\"f\",outcome=\"${outcome% *}\"}") == "${outcome#* }" ]]
  done
  [[ $(value 'gq_jobs_ended_total{function="g\"\\",outcome="cancelled"}') == 1 ]]
  [[ $(value 'gq_attempts_failed_total{function="f"}') == 2 ]]
  [[ $(value 'gq_job_wait_seconds_count{function="f"}') == 4 && $(value 'gq_attempt_run_seconds_count{function="f"}') == 5 ]]
  [[ $(value 'gq_attempt_run_seconds_bucket{function="f",le="+Inf"}') == 5 && $(value gq_workers) == 0 ]]
  (($(value gq_disk_free_bytes | cut -d. -f1 | sed 's/e.*//') > 0))
  background gq-worker --local -f f -- true
  one() { [[ $(value gq_workers) == 1 ]]; }
  eventually one
}

@test "gq-inspect: metrics --json has the same numbers" {
  run_some
  gq-inspect metrics --json | jq -r '.name + (if .labels == {} then "" else "{" + ([.labels | to_entries[] | .key + "=" + (.value | @json)] | join(",")) + "}" end)' >"$T/json"
  gq-inspect metrics | grep -v '^#' | sed 's/ [^ ]*$//' >"$T/text"
  diff "$T/text" "$T/json"
  gq-inspect metrics --json | jq -se 'map(select(.name == "gq_jobs_ended_total" and .labels.outcome == "done"))[0].value == 3'
}

@test "gq-inspect: what metrics counts survives a rebuild of the index, cleaning, and both again" {
  run_some
  counted >"$T/before"
  [[ $(wc -l <"$T/before") -gt 40 ]]
  settings '{remember: "0s", clean_after: "0s", segment_size: "4K"}'
  rm "$GQ_STORE/index.seal"
  diff "$T/before" <(counted)
  # New segments, so that those before can be cleaned.
  for _ in 1 2 3; do
    run_some
    counted >"$T/before"
    gq-flush --clean
    diff "$T/before" <(counted)
    rm -f "$GQ_STORE/index.seal"
    diff "$T/before" <(counted)
  done
  [[ $(value 'gq_jobs_ended_total{function="f",outcome="done"}') == 12 ]]
  gq-inspect journal | jq -se 'map(select(.type == "done")) | length < 12'
  gq-inspect check
  gq-snapshot create "$T/snapshots" >/dev/null
  gq-snapshot restore "$T/snapshots" --store "$T/restored" >/dev/null
  diff "$T/before" <(GQ_STORE=$T/restored counted)
}

@test "gq-inspect: metrics -o replaces a file at once, and no other kind of file" {
  gq-enqueue f --local </dev/null
  echo old >"$T/gq.prom"
  exec 7<"$T/gq.prom"
  [[ -z $(gq-inspect metrics -o "$T/gq.prom") ]]
  read -r line <&7
  [[ $line == old ]]
  grep -q '^gq_jobs_queued_total{function="f"} 1$' "$T/gq.prom"
  [[ $(ls "$T"/gq.prom*) == "$T/gq.prom" ]]
  mkfifo "$T/fifo"
  fails_with 64 gq-inspect metrics -o "$T/fifo"
  fails_with 74 gq-inspect metrics -o "$T/none/gq.prom"
  fails_with 64 gq-inspect metrics -o ''
}

@test "gq-inspect: a program that does not know the tally reads a journal with its values" {
  seq 20 | gq-enqueue f --local -l >/dev/null
  settings '{remember: "0s", clean_after: "0s", segment_size: "4K"}'
  gq-worker --local --drain -f f -- true
  seq 20 | gq-enqueue f --local -l >/dev/null
  gq-flush --clean
  # They have a type that the first programs knew, which ignore it in a journal.
  gq-inspect journal | jq -se 'map(select(.mark)) | length > 0 and all(.type == "stream")'
  for segment in "$GQ_STORE"/journal/*.gqj; do (($(od -An -tu4 -j 8 -N 4 "$segment") <= 2)); done
}
