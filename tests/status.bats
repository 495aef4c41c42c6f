load helpers

# Runs the example of the manual page that contains a text, as it stands there: example TEXT.
example() {
  local line
  line=$(sed -n 's/^\.Dl //p' "$BATS_TEST_DIRNAME/../man/gq-inspect.1" | grep -F -- "$1" | sed 's/\\(dq/"/g; s/^\([0-9*/]* \)\{5\}//')
  [[ -n $line ]] || return 99
  bash -c "$line"
}

# Whether a command prints one line, and exits with a status: says STATUS LINE COMMAND... LINE is a pattern.
says() {
  local got=0 wanted=$1 line=$2
  shift 2
  "$@" >"$T/said" 2>"$T/said.err" || got=$?
  # shellcheck disable=SC2053
  [[ $got == "$wanted" && $(<"$T/said") == $line ]] || { echo "exit $got: $(cat "$T/said" "$T/said.err")" >&2; return 1; }
}

# Makes jobs dead: die FUNCTION N.
die() {
  seq "$2" | gq-enqueue "$1" --local -l >/dev/null
  gq-worker --local --drain -f "$1" --max-attempts 1 -- false 2>/dev/null
}

@test "gq-inspect: status is one line and 0 without limits; beyond a limit it is 1, and names what is wrong and where" {
  die mail 1
  die resize 2
  printf x | gq-enqueue late --local --delay 1h >/dev/null
  seq 4 | gq-enqueue f --local -l >/dev/null
  gq-inspect status >"$T/out"
  lines_are "$T/out" 1
  grep -qE "^ok: 4 queued, 0 running, 1 delayed, 3 dead; the oldest waits for [0-9]+(ms|s); no worker; [0-9.]+ [KMGT]iB free$" "$T/out"
  gq-inspect status --dead-over 3 --queued-over 4 --oldest-over 1h --owed-over 0 --disk-under 1 >/dev/null
  says 1 "wrong: 3 jobs are dead: resize 2, mail 1" gq-inspect status --dead-over 2
  says 1 "wrong: 4 jobs are queued: f 4; the disk has only * ?iB left" gq-inspect status --queued-over 3 --disk-under 8000000G
  says 1 "wrong: a job of f waits for *s" gq-inspect status --oldest-over 0
  gq-inspect status -f mail -f none --dead-over 1 --queued-over 0 --oldest-over 0
  says 1 "wrong: 1 job is dead: mail 1" gq-inspect status -f mail --dead-over 0
}

@test "gq-inspect: status --oldest-over counts a delayed job from when it was due" {
  gq-enqueue f --local --at 1 </dev/null
  says 1 "wrong: a job of f waits for 2????d*" gq-inspect status --oldest-over 20000d
}

@test "gq-inspect: status --no-worker is about functions with jobs that could run, and about those of -f" {
  gq-enqueue f --local </dev/null
  says 1 "wrong: no worker runs jobs of f" gq-inspect status --no-worker
  gq-flush --all -- true
  says 1 "wrong: no worker runs" gq-inspect status --no-worker
  background gq-worker --local -f f -- true
  eventually gq-inspect status --no-worker
  gq-enqueue g --local </dev/null
  says 1 "wrong: no worker runs jobs of g" gq-inspect status --no-worker
  gq-inspect status --no-worker -f f
  says 1 "wrong: no worker runs jobs of h" gq-inspect status --no-worker -f f -f h
  gq-flush --pause g
  gq-inspect status --no-worker
}

@test "gq-inspect: status --json has what is wrong, and the numbers" {
  die mail 2
  gq-inspect status --json | jq -e '.ok and .problems == [] and .dead == 2 and .queued == 0 and .worker == false and .free_bytes > 0 and (has("oldest_seconds") | not)'
  says 1 "{*}" gq-inspect status --json --dead-over 0,1
  jq -e '.ok == false and (.problems | length == 1 and (.[0] | .what == "dead" and .level == "critical" and .text == "2 jobs are dead: mail 2"))' "$T/said"
}

@test "gq-inspect: status --nagios has the form and the exit status of a plugin: 0 to 3" {
  gq-enqueue 'a|b' --local </dev/null
  gq-inspect status --nagios >"$T/out"
  grep -qE '^GQ OK - 1 queued, .* \| queued=1;;;0 running=0;;;0 delayed=0;;;0 dead=0;;;0 oldest=[0-9]+\.[0-9]{3}s;;;0 owed=0;;;0 free=[0-9]+B;;;0$' "$T/out"
  says 1 "GQ WARNING - 1 job is queued: a/b 1 | queued=1;0;1;0 *" gq-inspect status --nagios --queued-over 0,1
  says 2 "GQ CRITICAL - the disk has only *B;1:;1073741824000000:;0" gq-inspect status --nagios --disk-under 1,1000000G
  says 2 "GQ CRITICAL - no worker runs jobs of a/b |*" gq-inspect status --nagios --no-worker
  says 3 "GQ UNKNOWN - cannot open the store *: there is none" gq-inspect status --nagios --store "$T/none"
  says 3 "GQ UNKNOWN - gq-inspect could not run; its standard error says why" gq-inspect status --nagios --dead-over x
  grep -q -- "--dead-over: x is not a number" "$T/said.err"
}

@test "gq-inspect: status and metrics of a node say what is owed to each other node; status says that the node runs no jobs" {
  gq-replicate init --as rep_1 --group rep_1,rep_2 --copies 1
  seq 3 | gq-enqueue f --local -l >/dev/null
  gq-inspect status --owed-over 3
  says 1 "wrong: jobs are owed to other nodes: rep_2 3" gq-inspect status --owed-over 2
  gq-inspect status --json | jq -e '.owed == 3'
  gq-inspect metrics | grep -qx 'gq_owed_jobs{node="rep_2"} 3'
  gq-inspect metrics | grep -qx 'gq_node_answered_timestamp_seconds{node="rep_2"} 0'
  gq-inspect report | grep -q '<td data-title="Node">rep_2</td><td data-title="Owed jobs" class="n">3</td>'
  export GQ_STORE=$T/once
  gq-replicate init --as rep_1 --group rep_1,rep_2 --copies 1 --run once
  says 1 "wrong: this node runs no job *" gq-inspect status
}

@test "gq-inspect: status refuses wrong limits" {
  for wrong in "--dead-over -1" "--dead-over 1,2,3" "--dead-over ,1" "--oldest-over soon" "--disk-under 5X" "-f a.gq"; do
    # shellcheck disable=SC2086
    fails_with 64 gq-inspect status $wrong
  done
}

# bats test_tags=journal
@test "gq-inspect: status says that the journal is damaged" {
  seq 3 | gq-enqueue f --local -l >/dev/null
  gq-enqueue f --local </dev/null
  flip "$(echo "$GQ_STORE"/journal/*.gqj)" 200
  rm -f "$GQ_STORE/index.seal"
  says 1 "wrong: 1 part of the journal cannot be read (gq-inspect check tells which)" gq-inspect status
  says 2 "GQ CRITICAL - *" gq-inspect status --nagios
}

@test "gq-inspect: the examples of its manual page for status work" {
  gq-enqueue f --local </dev/null
  gq-flush --all -- true
  example "--no-worker) ||" >"$T/out"
  [[ $(<"$T/out") == "wrong: no worker runs" ]]
  background gq-worker --local -f f -- true
  working() { gq-inspect status --no-worker; }
  eventually working
  [[ -z $(example "--no-worker) ||") ]]
  [[ $(example "--oldest-over 10m,1h") == "GQ "* ]]
}
