load helpers

# Writes the examples of a section of gq(7) to $T/example.1 and so on.
examples_of() {
  awk -v name="$T/example." -v section=".Sh $1" '/^\.Sh / { inside = $0 == section }
    inside && /^\.Bd -literal/ { file = name (++n); next }
    /^\.Ed/ { file = "" }
    file != "" { gsub(/\\e/, "\\"); print >file }' "$BATS_TEST_DIRNAME/../man/gq.7"
}

@test "gq(7): the examples of COMPOSING do what the page says, one after the other" {
  examples_of COMPOSING
  [[ -s $T/example.5 && ! -e $T/example.6 ]]
  start_gearmand
  mkdir "$T/work"
  cd "$T/work"
  printf 'one two\nthree\n' >a.txt
  echo four >b.txt
  printf 'error\nfine\nan error\n' >app.log
  run_example() { bash -euo pipefail "$T/example.$1" 2>"$T/err"; }
  run_example 1
  [[ $(<report) == $'1\n3' ]]
  run_example 2
  [[ $(sort words | xargs) == 'FOUR ONE THREE TWO' ]]
  # The worker goes on; it is ended with the test's other programs.
  PIDS+=("$(sed '/^gq-worker/a echo $! >"'"$T"'/pid"' "$T/example.3" | bash -euo pipefail >"$T/out" 2>"$T/err"; cat "$T/pid")")
  [[ $(<"$T/out") == '2 errors' ]]
  echo fine >app.log
  [[ $(sed '/^gq-worker/d' "$T/example.3" | bash -euo pipefail 2>"$T/err") == 'no errors' ]]
  run_example 4
  jq -es 'length == 1 and .[0].function == "pack" and .[0].exit_status == 65' failed.log
  [[ $(gq-inspect list --function pack | cut -f2) == queued ]]
  [[ $(run_example 5) == 'some jobs are still here' ]]
  [[ $(gq-inspect list --state spooled | cut -f3) == archive ]]
  start_worker --store "$T/remote" -f archive -- sh -c 'zcat >"$0"' "$T/archive"
  [[ -z $(run_example 5) ]]
  eventually cmp app.log "$T/archive"
}
