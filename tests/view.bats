load helpers

# Runs a command on a terminal of so many columns, and prints what it has written: on_terminal COLUMNS COMMAND.
on_terminal() {
  TERM=xterm script -qec "stty cols $1; $2" /dev/null </dev/null | tr -d '\r'
}
plain() { sed 's/\x1b\[[0-9;]*m//g'; }
longest_line() { LC_ALL=C.UTF-8 wc -L; }

some_jobs() {
  seq 3 | gq-enqueue resize --local -l >/dev/null
  echo bad | gq-enqueue mail --local >/dev/null
  gq-worker --local --drain -f mail --max-attempts 1 -- sh -c 'echo >&2; exit 3' 2>"$T/worker"
  echo later | gq-enqueue fetch --local --delay 2h --name nightly >"$T/late"
}

@test "gq-inspect: on a terminal, list has a line with titles, aligned columns, ages and due times, and fits into the width" {
  some_jobs
  on_terminal 120 'gq-inspect list' | plain >"$T/out"
  head -n 1 "$T/out" | grep -qE '^ID +STATE +FUNCTION +TRIES +SIZE +AGE +DUE +REASON$'
  grep -qE "^$(<"$T/late")  delayed  fetch +6 +[0-9]+s  in 11[0-9]m  name nightly$" "$T/out"
  grep -qE '^[0-9A-Z]{26}  dead     mail +1 +4 +[0-9]+s +exit 3$' "$T/out"
  [[ $(wc -l <"$T/out") == 6 ]]
  for width in 40 80; do
    on_terminal $width 'gq-inspect list; gq-inspect stats' | plain >"$T/out"
    (($(longest_line <"$T/out") <= width))
  done
}

@test "gq-inspect: in a pipe, list and stats print lines with tabs and times, whatever the environment says" {
  some_jobs
  TERM=xterm gq-inspect list >"$T/out"
  not grep -q $'\x1b' "$T/out"
  grep -qE "^$(<"$T/late")"$'\tdelayed\tfetch\t0\t6\t20[^\t]*Z\t\tname=nightly\tdue=20[^\t]*Z$' "$T/out"
  [[ $(grep -cE $'^[0-9A-Z]{26}\tqueued\tresize\t0\t1\t20[^\t]*Z$' "$T/out") == 3 ]]
  gq-inspect stats | grep -q '^mail: queued 0 running 0 delayed 0 waiting 0 pending 0 held 0 dead 1 kept 0 finished 0 bytes 4$'
}

@test "gq-inspect: dead jobs are coloured on a terminal; not with NO_COLOR, TERM=dumb or --color never; --color always prints the table into a pipe" {
  some_jobs
  on_terminal 120 'gq-inspect list' | grep -q $'\x1b\\[31mdead'
  for command in 'NO_COLOR=1 gq-inspect list' 'TERM=dumb gq-inspect stats' 'gq-inspect --color never list'; do
    on_terminal 120 "$command" >"$T/out"
    not grep -q $'\x1b' "$T/out"
    grep -qE '^(ID|FUNCTION) ' "$T/out"
  done
  gq-inspect --color always list | grep -q $'\x1b\\[31mdead'
  gq-inspect list --color always --json | jq -se 'length == 5'
  fails_with 64 gq-inspect list --color sometimes
}

@test "gq-inspect: on a terminal, stats leaves out zeros and empty columns, and says the age of the oldest queued job" {
  some_jobs
  at -10800 gq-enqueue old --local <<<x
  gq-enqueue old --local --priority high <<<y
  on_terminal 100 'gq-inspect stats' >"$T/raw"
  plain <"$T/raw" >"$T/out"
  grep -qE '^FUNCTION +QUEUED +OLDEST +DELAYED +DEAD +SIZE$' "$T/out"
  grep -qE '^mail +1 +4$' "$T/out"
  grep -qE '^old +2 +3h +4$' "$T/out"
  grep -q $'\x1b\\[33m *3h' "$T/raw"
  grep -qE '^journal: [0-9.]+K, of which jobs need [0-9.]+K; the disk has [0-9.]+[KMGT] free$' "$T/out"
}

@test "gq-inspect: list obeys several --state and -f, --since, --until, --reason, --key, --serial and --grep" {
  some_jobs
  at -10800 gq-enqueue old --local --key k --serial s <<<needle
  gq-enqueue other --local --key k --serial t <<<straw
  ids() { gq-inspect list "$@" | wc -l; }
  [[ $(ids) == 7 ]]
  [[ $(ids --state dead --state delayed) == 2 && $(ids -f resize -f mail -f resize) == 4 && $(ids -f resize -f mail --state dead) == 1 ]]
  [[ $(ids --since 1h) == 6 && $(ids --until 1h) == 1 && $(ids --since 4h --until 2h) == 1 && $(ids --since 2000-01-01T00:00:00Z) == 7 ]]
  [[ $(ids --reason 'exit 3') == 1 && $(ids --reason 'exit 4') == 0 ]]
  [[ $(ids --key k) == 2 && $(ids --key k -f other) == 1 && $(ids --key j) == 0 && $(ids --key k --state dead) == 0 ]]
  [[ $(ids --serial s) == 1 && $(ids --grep needle) == 1 && $(ids --grep n) == 1 ]]
  [[ $(ids --since 1h --limit 2) == 2 ]]
  for bad in '--since soon' '--state sleeping' '--key=' '--format nothing' '--format id --json'; do fails_with 64 gq-inspect list $bad; done
}

@test "gq-inspect: list with several states lists each job once, also jobs with serial keys" {
  for key in a b; do seq 3 | gq-enqueue f --local -l --serial $key >>"$T/ids"; done
  gq-enqueue f --local --delay 1h <<<later >>"$T/ids"
  cmp <(sort "$T/ids") <(gq-inspect list --state queued --state waiting --state delayed --format id | sort)
  [[ $(gq-inspect list --state waiting --state running | wc -l) == 4 ]]
}

@test "gq-inspect: list --state finished shows done and dropped jobs while they are remembered" {
  for f in done dropped queued; do gq-enqueue $f --local <<<x >"$T/$f"; done
  gq-worker --local --drain -f done -- true
  gq-flush --drop "$(<"$T/dropped")" 2>"$T/err"
  [[ $(gq-inspect list | wc -l) == 1 && $(gq-inspect list --state finished --limit 1 | wc -l) == 1 ]]
  gq-inspect list --state finished | cut -f 1-3 >"$T/out"
  printf '%s\tfinished\t%s\n' "$(<"$T/done")" done "$(<"$T/dropped")" dropped | cmp - "$T/out"
  [[ $(gq-inspect list --state finished --state queued -f done -f queued | wc -l) == 2 ]]
}

@test "gq-inspect: list --format prints the fields that are named, and knows each field of JSON" {
  some_jobs
  [[ $(gq-inspect list --state dead --format function,exit_status,due_at,reason) == $'mail\t3\t\texit 3' ]]
  gq-enqueue all --local --key k --serial s --name n --priority high --max-attempts 3 --expire 1h --after "$(<"$T/late")" <<<x
  background gq-worker --local -f resize -- sleep 60
  is_running() { [[ -n $(gq-inspect list --state running) ]]; }
  eventually is_running
  fields=$(gq-inspect list --json | jq -sr 'map(keys_unsorted) | add | unique | join(",")')
  [[ $fields == *serial*since* ]]
  gq-inspect list --format "$fields" >"$T/out"
  on_terminal 200 'gq-inspect list --format id,state' | plain | head -n 1 | grep -qE '^ID +STATE$'
}

@test "gq-inspect: the first characters of an ID stand for the ID if no other ID begins so; other programs want whole IDs" {
  at 2020-01-01 gq-enqueue f --local <<<old >"$T/old"
  id=$(gq-enqueue f --local <<<new)
  [[ $(gq-inspect cat "${id:0:12}") == new && $(gq-inspect cat "$(tr A-Z a-z <"$T/old" | cut -c 1-5)") == old ]]
  fails_with 64 gq-inspect show 01
  grep -q "several IDs begin so.*$id" "$T/failed.err"
  fails_with 1 gq-inspect show 00
  fails_with 64 gq-inspect show ''
  fails_with 64 gq-flush --drop "${id:0:12}"
  fails_with 64 gq-flush --kick "${id:0:25}"
  fails_with 65 gq-inspect output - <<<"${id:0:12}"
  [[ $(gq-inspect list | wc -l) == 2 ]]
}
