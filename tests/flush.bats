load helpers

@test "gq-flush: without jobs to run it prints nothing and exits 0" {
  gq-enqueue f --local </dev/null
  gq-worker --local --drain -f f -- true
  [[ -z $(gq-flush -f f -- echo ran 2>&1) ]]
  [[ -z $(gq-flush --all -- echo ran 2>&1) ]]
}

@test "gq-flush: runs queued jobs, leaves those that are not due, and ends" {
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

# bats test_tags=long
@test "gq-flush: two workers and a flush on one store run 3,000 jobs exactly once each" {
  seq 3000 | gq-enqueue f --local -l >"$T/ids"
  cmd=(sh -c 'read -r x; echo "$x" >>"$0"' "$T/out")
  background gq-worker --local --drain -f f -j 2 -- "${cmd[@]}"; a=$PID
  background gq-worker --local --drain -f f -j 2 -- "${cmd[@]}"; b=$PID
  gq-flush -f f -j 2 -- "${cmd[@]}"
  wait "$a"; wait "$b"
  sort -n "$T/out" | cmp - <(seq 3000)
  no_jobs
  gq-inspect check
}

@test "gq-flush: bad usage is 64, a missing store is 78" {
  gq-enqueue f --local </dev/null
  for bad in "" "-f f" "--all -f f -- true" "-f f --wrong -- true"; do fails_with 64 gq-flush $bad; done
  fails_with 78 gq-flush --store "$T/none" -f f -- true
  [[ ! -e $T/none ]]
}

# bats test_tags=journal
@test "gq-flush: a job with a damaged workload becomes dead and is reported; the jobs behind it run" {
  printf 'needle\n2\n3\n' | gq-enqueue f --local -l >"$T/ids"
  flip "$(segment)" "$(offset_of "$(segment)" needle)"
  gq-flush -f f -- sh -c 'cat >>"$0"; echo >>"$0"' "$T/out" 2>"$T/err"
  [[ $(sort "$T/out") == $'2\n3' ]]
  grep -q "$(head -n 1 "$T/ids"): its checksum is wrong" "$T/err"
}

@test "gq-flush: reports a job that becomes dead on standard error" {
  echo x | gq-enqueue f --local
  gq-flush -f f --max-attempts 1 -- false 2>"$T/err"
  grep -q 'exit 1; it is kept as dead' "$T/err"
}

@test "gq-flush: a full disk ends it with 74, and a later gq-flush runs the remaining jobs" {
  store_on_small_disk
  seq 3 | gq-enqueue f --local -l
  dd if=/dev/zero of="$T/disk/fill" bs=64k status=none || true
  fails_with 74 timeout 20 gq-flush -f f -- sh -c 'cat >>"$0"' "$T/out"
  rm "$T/disk/fill"
  gq-flush -f f -- sh -c 'cat >>"$0"; echo >>"$0"' "$T/out"
  no_jobs
  umount "$T/disk"
}

@test "gq-flush: names the process that it waits for, and SIGTERM ends it with 75 [a process that keeps a lock]" {
  seq 3 | gq-enqueue f --local -l
  gq-inspect stats
  for lock in index.lock append.lock; do
    background flock "$GQ_STORE/$lock" sleep 600; holder=$PID
    eventually locked "$GQ_STORE/$lock"
    background gq-flush -f f -- true
    said() { grep -q "waiting: process $holder (flock) holds .*/$lock" "$T/bg.$((${#PIDS[@]} - 1)).err"; }
    eventually said
    kill "$PID"
    got=0; wait "$PID" || got=$?
    [[ $got == 75 ]]
    kill -9 $(pgrep -P "$holder") "$holder"
    eventually not locked "$GQ_STORE/$lock"
  done
  gq-flush -f f -- true
  no_jobs
}

@test "gq-flush: --kick-dead and --drop print the number of jobs; --kick-dead and --pause report a function without jobs" {
  seq 3 | gq-enqueue f --local -l >"$T/ids"
  gq-worker --local --drain -f f --max-attempts 1 -- false 2>/dev/null
  [[ $(gq-flush --kick-dead -f f) == "3 jobs kicked" && $(jobs_in queued) == 3 ]]
  [[ $(gq-flush --kick-dead) == "0 jobs kicked" ]]
  [[ $(gq-inspect list | head -n 2 | gq-flush --drop -) == "2 jobs dropped" ]]
  fails_with 1 gq-flush --kick-dead -f g
  grep -q 'knows no job of that function' "$T/failed.err"
  gq-flush --pause g 2>"$T/err"
  grep -q '^gq-flush: warning: g is paused, but this store knows no job' "$T/err"
  [[ -z $(gq-flush --pause f 2>&1) ]]
}

@test "gq-flush: --limit-of bounds how many jobs of a function run at a time, in all workers together" {
  for bad in f f= f=0 f=x f=1000001 =2 rep_1=2; do fails_with 64 gq-flush --limit-of "$bad"; done
  gq-enqueue g --local <<<other >/dev/null
  gq-flush --limit-of f=2 2>"$T/err"
  grep -q 'f has a limit, but this store knows no job of that function' "$T/err"
  seq 24 | gq-enqueue f --local -l >/dev/null
  gq-inspect stats --json | jq -es 'map(select(.function == "f"))[0] | .limit == 2 and (has("paused_at") | not)'
  gq-inspect stats | grep -q '^f: .* limit 2$'
  mkdir "$T/run"
  for _ in 1 2; do
    background gq-worker --local --drain -j 4 -f f -- sh -c 'touch "$0/$GQ_JOB_ID"; ls "$0" | wc -l; sleep 0.2; rm "$0/$GQ_JOB_ID"' "$T/run"
  done
  for pid in "${PIDS[@]}"; do wait "$pid"; done
  [[ $(cat "$T"/bg.*.out | sort | uniq -c | awk '{ n += $1; if ($2 > most) most = $2 } END { print n, most }') == '24 2' ]]
  gq-flush --pause f --limit-of f=none
  gq-inspect stats --json | jq -es 'map(select(.function == "f"))[0] | (has("limit") | not) and has("paused_at")'
}

@test "gq-flush: --rate-of bounds how many jobs of a function are started in a period, in all processes, and also after a restart [a lost index, cleaning, kill -9]" {
  local command=(sh -c 'echo "$GQ_JOB_ID" >>"$0"' "$T/out")
  for bad in f f= f=0 f=0/s f=x/s f=1 f=1/d f=1.5/s f=1000001/s =2/s rep_1=2/s; do fails_with 64 gq-flush --rate-of "$bad"; done
  gq-enqueue g --local <<<other >/dev/null
  gq-flush --rate-of f=3/h 2>"$T/err"
  grep -q 'f has a rate, but this store knows no job of that function' "$T/err"
  seq 9 | gq-enqueue f --local -l >"$T/ids"
  gq-inspect stats --json | jq -es 'map(select(.function == "f"))[0] | .rate == "3/h" and (has("paused_at") | not)'
  gq-inspect stats | grep -q '^f: .* rate 3/h$'
  # The first worker dies when it has started one job. That start counts, and the job is started again.
  die_at_work f
  background gq-flush -f f -- "${command[@]}"
  gq-flush -f f -- "${command[@]}"
  wait "$PID"
  sed 2q "$T/ids" | cmp - <(sort "$T/out")
  gq-flush -f f -- "${command[@]}"
  rm "$GQ_STORE"/index.*
  gq-flush -f f -- "${command[@]}"
  gq-flush --clean
  gq-flush -f f -- "${command[@]}"
  lines_are "$T/out" 2
  at +3700 gq-flush -f f -- "${command[@]}"
  sed 5q "$T/ids" | cmp - <(sort "$T/out")
  gq-inspect check
  # A worker that waits for the rate starts the rest when there is no rate any more.
  background gq-worker --local --drain -f f -- "${command[@]}"
  gq-flush --rate-of f=none
  wait "$PID"
  sort -u "$T/out" | cmp - <(sort "$T/ids")
  gq-inspect stats --json | jq -es 'map(select(.function == "f"))[0] | has("rate") | not'
}

@test "gq-flush: --cancel ends queued jobs at once and running ones through their worker, and frees their keys [TERM, KILL after the grace, exit 0 too late]" {
  local queued delayed waiting running stubborn done
  id_of() { gq-enqueue f --local "$@" <<<x; }
  is() { [[ $(gq-inspect show "$1" --json | jq -r '.state + " " + (.reason // "")') == "$2" ]]; }
  queued=$(id_of --key k) delayed=$(id_of --delay 1d) running=$(id_of --serial s) waiting=$(id_of --serial s)
  [[ $(printf '%s\n' "$delayed" "$waiting" | gq-flush --cancel - --cancel "$queued") == '3 jobs cancelled' ]]
  for id in "$queued" "$delayed" "$waiting"; do is "$id" 'dead cancelled'; fails_with 1 gq-flush --cancel "$id"; done
  [[ $(id_of --key k) != "$queued" ]]
  gq-inspect list | cut -f1 | grep -vFx "$running" | gq-flush --drop - >/dev/null
  # The command succeeds after the request, and so does one that takes no notice of SIGTERM until it is killed.
  background gq-worker --local -f f --grace 1s -- sh -c 'trap "echo TERM >>$0; exit 0" TERM; echo $$ >"$0.pid"; echo $GQ_JOB_ID >>"$0"; while :; do sleep 0.1; done' "$T/out"
  worker=$PID
  eventually grep -q "$running" "$T/out"
  gq-flush --cancel "$running"
  fails_with 1 gq-flush --cancel "$running"
  eventually is "$running" 'dead cancelled'
  grep -q TERM "$T/out"
  stubborn=$(id_of)
  eventually grep -q "$stubborn" "$T/out"
  command=$(<"$T/out.pid")
  kill -STOP "$command"
  gq-flush --cancel "$stubborn"
  eventually is "$stubborn" 'dead cancelled'
  not kill -0 "$command" 2>/dev/null
  kill "$worker"; wait "$worker"
  # An end that was recorded before counts; a kick starts the job again.
  done=$(id_of)
  gq-flush -f f -- true
  fails_with 1 gq-flush --cancel "$done"
  is "$done" 'finished '
  fails_with 1 gq-flush --cancel 01ARZ3NDEKTSV4RRFFQ69G5FAV
  gq-flush --kick "$stubborn"
  gq-flush -f f -- true
  is "$stubborn" 'finished '
  gq-inspect check
}

@test "gq-flush: --cancel of a job whose worker is dead waits for its command, and signals no process of its own" {
  id=$(gq-enqueue f --local <<<x)
  background gq-worker --local -f f -- sh -c 'echo $$ >"$0"; exec sleep 600' "$T/at-work"
  eventually test -s "$T/at-work"
  command=$(<"$T/at-work")
  kill -9 "$PID"
  eventually no_process "$PID"
  gq-flush --cancel "$id"
  gq-flush -f f -- true
  kill -0 "$command"
  gq-inspect show "$id" --json | jq -e '.cancelled'
  kill "$command"
  eventually no_process "$command"
  gq-flush -f g -- true
  [[ $(gq-inspect show "$id" --json | jq -r '.state + .reason') == deadcancelled ]]
  # No process holds this one any more.
  gq-flush --kick "$id"
  die_at_work f
  gq-flush --cancel "$id"
  [[ $(gq-inspect show "$id" --json | jq -r '.state + .reason') == deadcancelled ]]
  gq-inspect check
}

@test "gq-flush: --cancel of a streamed job ends the command if it works on that job, and else is 1" {
  mapfile -t ids < <(seq 3 | gq-enqueue f --local -l)
  background gq-worker --local --stream -f f -- sh -c 'read -r head; echo "$head" >>"$0"; exec sleep 600' "$T/out"
  eventually grep -q "${ids[0]}" "$T/out"
  background gq-worker --local --stream -f g -- bash -c 'while read -r n id rest; do head -c "$n" >/dev/null; case $((++i)) in 1) echo 0 ;; 2) echo "$id" >"$0"; exec sleep 600 ;; esac; done' "$T/second"
  mapfile -t more < <(seq 4 | gq-enqueue g --local -l)
  eventually test -s "$T/second"
  [[ $(<"$T/second") == "${more[1]}" ]]
  running() { [[ $(gq-inspect show "$1" --json | jq -r .state) == running ]]; }
  if running "${more[2]}"; then
    fails_with 1 gq-flush --cancel "${more[2]}"
    grep -q 'works on another job' "$T/failed.err"
  fi
  gq-flush --cancel "${ids[0]}" --cancel "${more[1]}"
  for id in "${ids[0]}" "${more[1]}"; do
    dead() { [[ $(gq-inspect show "$id" --json | jq -r '.state + .reason') == deadcancelled ]]; }
    eventually dead
  done
  eventually grep -q "${ids[1]}" "$T/out"
}

@test "gq-flush: --dead-letter-of makes each job that ends dead a job of another function, once for each death; a letter that dies makes none" {
  local first expired letters
  for bad in f f= =g f=f f=rep_1 rep_1=g; do fails_with 64 gq-flush --dead-letter-of "$bad"; done
  gq-enqueue f --local <<<before >/dev/null
  gq-flush -f f -- sh -c 'exit 65' 2>/dev/null
  gq-flush --dead-letter-of f=mail --dead-letter-of mail=mail2
  gq-inspect stats --json | jq -es 'map(select(.function == "f"))[0].dead_letters == "mail"'
  gq-inspect stats | grep -q '^f: .* dead_letters mail$'
  first=$(gq-enqueue f --local --key k <<<x)
  gq-flush -f f -- sh -c 'echo broken pipe >&2; exit 65' 2>/dev/null
  # Also where no worker of the function is: this job expires.
  expired=$(gq-enqueue f --local --expire 100ms <<<late)
  both() { gq-flush -f other -- false 2>/dev/null; [[ $(gq-inspect list --function mail | wc -l) == 2 ]]; }
  eventually both
  gq-flush -f mail -- sh -c 'cat >>"$0"' "$T/letters"
  jq -es --arg id "$first" 'map(select(.id == $id))[0] | .function == "f" and .reason == "exit 65: broken pipe" and .attempts == 1 and
    .exit_status == 65 and .key == "k" and .workload == {id: $id, size: 2} and .dead_at >= .enqueued_at' "$T/letters"
  jq -es --arg id "$expired" 'map(select(.id == $id))[0] | .reason == "expired" and .attempts == 0 and (has("exit_status") | not)' "$T/letters"
  [[ $(gq-inspect cat "$first") == x ]]
  # A new death makes a new letter, and no other pass repeats one.
  gq-flush --kick "$first"
  gq-flush -f f -f mail -- sh -c 'case $GQ_FUNCTION in f) exit 65 ;; *) cat >>"$0" ;; esac' "$T/letters" 2>/dev/null
  gq-flush -f f -f mail -- sh -c 'cat >>"$0"' "$T/letters"
  [[ $(jq -r .id "$T/letters" | sort | uniq -c | awk '{ print $1 }' | sort | xargs) == '1 2' ]]
  # The letter of mail is a job of mail2, but none that is about a letter.
  gq-enqueue mail --local <<<x >/dev/null
  gq-flush --kick "$first"
  gq-flush -f f -f mail -- sh -c 'exit 65' 2>/dev/null
  gq-flush -f none -- true
  [[ $(gq-inspect list --function mail --state dead | wc -l) == 2 && $(gq-inspect list --function mail2 | wc -l) == 1 ]]
  gq-flush --dead-letter-of f=none
  gq-inspect stats --json | jq -es 'map(select(.function == "f"))[0] | has("dead_letters") | not'
  gq-inspect check
}

@test "gq-flush: dead letters leave the room that accepted jobs need; those without room come when there is some [8 MiB]" {
  local jobs
  store_on_small_disk
  gq-enqueue own --local <<<x >/dev/null
  gq-flush --dead-letter-of f=mail
  for _ in $(seq 100); do seq 300 | gq-enqueue f --local -l -q --name "$(printf 'n%.0s' {1..240})" --expire 1s >/dev/null 2>"$T/err" || break; done
  grep -q 'No space left on device' "$T/err"
  jobs=$(gq-inspect stats --json -f f | jq '.queued + .dead')
  background gq-worker --local -f none -- true
  are_dead() { [[ $(gq-inspect stats --json -f f | jq .dead) == "$jobs" ]]; }
  letters() { gq-inspect stats --json -f mail | jq '.queued // 0'; }
  are_there() { [[ $(letters) == "$jobs" ]]; }
  eventually are_dead
  sleep 2
  (($(letters) < jobs))
  (($(df --output=avail -B1 "$GQ_STORE" | tail -n 1) >= 1 << 20))
  gq-flush -f own -- cat >"$T/out"
  [[ $(<"$T/out") == x ]]
  gq-inspect check
  mount -o remount,size=32m "$T/disk"
  eventually are_there
  kill "$PID"; wait "$PID"
  gq-inspect check
  umount "$T/disk"
}

# bats test_tags=journal
@test "gq-flush: a dead letter is neither lost nor made twice [cleaning, a lost index, kill -9 at each call that makes it]" {
  local i id want call got
  letters() { gq-inspect journal | jq -r 'select(.letter) | .id'; }
  id=$(gq-enqueue f --local <<<x)
  settings '{clean_after: "0s", segment_size: "4K", remember: "0s"}'
  gq-flush --dead-letter-of f=mail
  gq-worker --local --drain -f f -- sh -c 'exit 65' 2>/dev/null
  cp -a "$GQ_STORE" "$T/copy"
  gq-flush -f none -- false
  want=$(letters)
  [[ $(wc -l <<<"$want") == 1 && $(gq-inspect journal | jq -r 'select(.letter).letter') == "$id" ]]
  for call in pwrite64 write fdatasync ftruncate; do
    for ((i = 1; i < 40; ++i)); do
      rm -rf "$GQ_STORE"
      cp -a "$T/copy" "$GQ_STORE"
      got=0
      strace -f -qq -o /dev/null -e "inject=$call:signal=KILL:when=$i" gq-flush -f none -- false 2>/dev/null || got=$?
      gq-flush -f none -- false
      [[ $(letters) == "$want" ]]
      ((got == 137)) || break
    done
  done
  gq-flush -f mail -- cat >"$T/out"
  for i in 1 2 3; do
    seq 100 | gq-enqueue g --local -l >/dev/null
    gq-flush -f g -- true
    gq-flush --clean
  done
  # The letter is remembered while its job is dead.
  rm -f "$GQ_STORE"/index.*
  gq-flush -f none -- false
  [[ $(letters) == "$want" && -z $(gq-inspect list --function mail) && $(gq-inspect list --state dead | cut -f1) == "$id" ]]
  gq-inspect check
  gq-flush --drop "$id"
  seq 100 | gq-enqueue g --local -l >/dev/null
  gq-flush -f g -- true
  forgotten() { gq-flush --clean; [[ -z $(letters) ]]; }
  eventually forgotten
}

@test "gq-flush: --drop of a finished job frees its key, even if an older gq gave the key an endless window" {
  other=$(gq-enqueue f --local <<<other)
  first=$(gq-bench record "$GQ_STORE" f key=k window=4000000000000000)
  gq-flush -f f -- true
  [[ $(printf x | gq-enqueue f --local --key k) == "$first" ]]
  fails_with 1 gq-flush --drop "$other"
  grep -q 'it is finished' "$T/failed.err"
  [[ $(gq-flush --drop "$first") == "1 job dropped" ]]
  fails_with 1 gq-flush --drop "$first"
  second=$(gq-enqueue f --local --key k <<<another)
  [[ $second != "$first" && $(jobs_in queued) == 1 ]]
  gq-inspect check
  rm "$GQ_STORE"/index.*  # a rebuilt index says the same
  [[ $(gq-enqueue f --local --key k <<<another) == "$second" ]]
  # A new key ends: its window is a year at most.
  fails_with 64 gq-enqueue f --local --key l --key-window 367d <<<x
  gq-enqueue f --local --key l --key-window 366d <<<x
}

@test "gq-flush: a missing command is 78 even if there are no jobs to run" {
  gq-enqueue f --local </dev/null
  gq-flush -f f -- true
  for command in gq-no-such-command "$T/none" "$T"; do
    fails_with 78 gq-flush -f f -- "$command"
    grep -q 'cannot run' "$T/failed.err"
  done
}

@test "gq-worker: the jobs of a dead worker run although the journal ends in a torn record and nothing tells where it ends" {
  gq-enqueue f --local <<<x
  background gq-worker --local -f f -- sh -c 'echo $$ >"$0"; exec sleep 60' "$T/pid"
  eventually test -s "$T/pid"
  kill -9 "$PID" "$(cat "$T/pid")"
  gq-enqueue other --local <<<y
  # The first page of a record that was being written when the power failed, and the hint in append.lock is lost.
  (printf 'GQF1'; head -c 4092 /dev/zero) >>"$(segment)"
  rm "$GQ_STORE/append.lock"
  background gq-worker --local -f f -- touch "$T/ran"
  eventually test -e "$T/ran"
}
