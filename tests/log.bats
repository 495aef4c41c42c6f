load helpers

@test "gq-inspect: log prints what the attempts of a job wrote to --output, in their order, byte by byte" {
  id=$(gq-enqueue f --local <<<x)
  gq-worker --local --drain -f f --output "$T/out put" --max-attempts 2 --backoff 0s -- sh -c 'echo "attempt $GQ_ATTEMPT"; printf "\033[2J" >&2; exit 1' 2>"$T/err"
  gq-inspect log "$id" --output "$T/out put" >"$T/log"
  printf 'attempt 1\n\033[2Jattempt 2\n\033[2J' | cmp - "$T/log"
  [[ $(gq-inspect log "${id:0:20}" --output "$T/out put" | wc -l) == 2 ]]
  script -qec "gq-inspect log $id --output '$T/out put'" /dev/null </dev/null | tr -d '\r' >"$T/log"
  grep -q '^==> attempt 1$' "$T/log"
  grep -q '^?\[2J==> attempt 2$' "$T/log"
  fails_with 64 gq-inspect log "$id"
  fails_with 66 gq-inspect log "$id" --output "$T/none"
  fails_with 1 gq-inspect log "$(gq-enqueue f --local <<<y)" --output "$T/out put"
  fails_with 1 gq-inspect log 00 --output "$T/out put"
}

@test "gq-inspect: log -f goes on through the attempts of a job until it has ended, and finds the directory of the worker" {
  cd "$T"
  id=$(gq-enqueue f --local <<<x)
  background gq-inspect log -f "$id"
  local out=$T/bg.0.out follower=$PID
  background gq-worker --local -f f --output outputs --backoff 100ms -- sh -c 'echo "begun $GQ_ATTEMPT"; until [ -e "go.$GQ_ATTEMPT" ]; do sleep 0.1; done; echo "ended $GQ_ATTEMPT"; [ "$GQ_ATTEMPT" = 2 ]'
  eventually grep -q 'begun 1' "$out"
  kill -0 "$follower"
  touch go.1
  eventually grep -q 'begun 2' "$out"
  kill -0 "$follower"
  touch go.2
  wait "$follower"
  printf '%s\n' 'begun 1' 'ended 1' 'begun 2' 'ended 2' | cmp - "$out"
}

@test "gq-worker: --tag puts function and ID before each line that commands print, and writes whole lines only" {
  id=$(gq-enqueue f --local <<<x)
  gq-worker --local --drain -f f --tag --max-attempts 1 -- sh -c 'printf "one\ntw"; sleep 0.2; printf "o\nthree"; printf "oops\n\nlast" >&2; exit 1' >"$T/out" 2>"$T/err"
  printf "f $id: %s\n" one two three | cmp - "$T/out"
  printf "f $id: %s\n" oops '' last | cmp - <(head -n 3 "$T/err")
  [[ $(gq-inspect list --format reason) == *'oops last' ]]
  for i in 1 2 3 4; do gq-enqueue g --local <<<$i; done >"$T/ids"
  gq-worker --local --drain -f g -j 4 --tag -- sh -c 'for i in $(seq 200); do printf "half "; echo whole; done' >"$T/out"
  [[ $(wc -l <"$T/out") == 800 ]]
  while read -r id; do [[ $(grep -c "^g $id: half whole$" "$T/out") == 200 ]]; done <"$T/ids"
  gq-enqueue h --local --result <<<x >"$T/id"
  gq-worker --local --drain -f h --tag -- printf kept >"$T/out"
  [[ $(<"$T/out") == "h $(<"$T/id"): kept" && $(gq-inspect output "$(<"$T/id")") == kept ]]
  fails_with 64 gq-worker --local -f f --tag --output "$T/o" -- true
  fails_with 64 gq-worker --local -f f --tag --stream -- true
}
