load helpers

@test "gq-flush: nothing to do is silence and 0" {
  gq-enqueue f --local </dev/null
  gq-worker --local --drain -f f -- true
  [[ -z $(gq-flush -f f -- echo ran 2>&1) ]]
  [[ -z $(gq-flush --all -- echo ran 2>&1) ]]
}

@test "gq-flush: runs what is queued, leaves what is not due, and ends" {
  printf 'a\nb\n' | gq-enqueue f --local -l
  gq-flush -f f --backoff 1h -- sh -c 'read -r x; echo "$x" >>"$0"; [ "$x" = a ]' "$T/out"
  [[ $(sort "$T/out") == $'a\nb' ]]
  [[ $(jobs_in delayed) == 1 ]]
  timeout 5 gq-flush -f f -- false
  [[ $(jobs_in delayed) == 1 ]]
}

@test "gq-flush: --dry-run prints the jobs and runs nothing; --all takes every function" {
  a=$(echo a | gq-enqueue f --local); b=$(echo b | gq-enqueue g --local)
  [[ $(gq-flush -f f -n) == "$a"$'\tf' ]]
  [[ $(gq-flush --all -n | cut -f1 | sort) == $(printf '%s\n' "$a" "$b" | sort) ]]
  gq-flush --all -- sh -c 'echo "$GQ_FUNCTION" >>"$0"' "$T/out"
  [[ $(sort "$T/out") == $'f\ng' ]]
}

@test "gq-flush: two workers and a flush on one store run 10,000 jobs exactly once each" {
  seq 10000 | gq-enqueue f --local -l >"$T/ids"
  cmd=(sh -c 'read -r x; echo "$x" >>"$0"' "$T/out")
  background gq-worker --local --drain -f f -j 2 -- "${cmd[@]}"; a=$PID
  background gq-worker --local --drain -f f -j 2 -- "${cmd[@]}"; b=$PID
  gq-flush -f f -j 2 -- "${cmd[@]}"
  wait "$a"; wait "$b"
  sort -n "$T/out" | cmp - <(seq 10000)
  no_jobs
  gq-inspect check
}

@test "gq-flush: bad usage is 64, no store is 78" {
  gq-enqueue f --local </dev/null
  for bad in "" "-f f" "--all -f f -- true" "-f f --wrong -- true"; do fails_with 64 gq-flush $bad; done
  fails_with 78 gq-flush --store "$T/none" -f f -- true
  [[ ! -e $T/none ]]
}
