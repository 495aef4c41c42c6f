load helpers

# bats test_tags=journal
@test "gq-enqueue: syncs a job, and the name of the first segment, before it prints the job's ID [--local]" {
  echo hello >"$T/job"
  strace -f -y -e trace=fdatasync,fsync,write,pwrite64,rename -o "$T/trace" gq-enqueue up --local "$T/job" >"$T/id"
  id=$(cat "$T/id")
  awk -v id="$id" '
    /pwrite64\(.*\.gqj>.*GQF1/ { written = NR }
    /fsync\(.*\/journal>\) *= 0/ { named = NR }
    /fdatasync\(.*\.gqj>\) *= 0/ { synced = NR }
    /write\(1.*/ && index($0, id) { told = NR }
    END { exit !(written && named && synced > written && told > synced && told > named) }' "$T/trace"
}

@test "gq-enqueue: syncs a blob, its name and its directory before it writes the record and prints the ID [--local]" {
  head -c 100000 /dev/zero >"$T/job"
  gq-enqueue up --local /dev/null
  strace -f -y -e trace=fdatasync,fsync,write,pwrite64,renameat2 -o "$T/trace" gq-enqueue up --local "$T/job" >"$T/id"
  id=$(cat "$T/id")
  awk -v id="$id" -v xx="${id:24}" '
    /fsync\(.*\/blobs\/tmp\.[^)]*\) *= 0/ { synced = NR }
    /renameat2\(/ { renamed = NR }
    /fsync\(/ && index($0, "/blobs/" xx ">)") { directory = NR }
    /fsync\(/ && index($0, "/blobs>)") { parent = NR }
    /pwrite64\(.*\.gqj>.*GQF1/ { recorded = NR }
    /write\(1.*/ && index($0, id) { told = NR }
    END { exit !(synced && renamed > synced && directory > renamed && parent && recorded > directory && told > recorded) }' "$T/trace"
}

# bats test_tags=journal
@test "gq-worker: syncs a job before it answers the client" {
  start_gearmand
  background strace -f -y -e trace=fdatasync,sendto,pwrite64 -s 200 -o "$T/trace" gq-worker -f up --queue-only
  eventually served "$PORT" up.gq
  id=$(echo hello | gq-enqueue up)
  answered() { grep sendto "$T/trace" | grep -q "queued $id"; }
  eventually answered
  awk -v id="queued $id" '
    /pwrite64\(.*\.gqj>.*GQF1/ { written = NR }
    /fdatasync\(.*\.gqj>\) *= 0|fdatasync resumed.* = 0/ { synced = NR }
    /sendto\(/ && index($0, id) { told = NR; exit }
    END { exit !(written && synced > written && told > synced) }' "$T/trace"
  pkill -P "$PID" gq-worker
}

@test "gq-enqueue: queues standard input, files, lines and NUL-ended items as jobs, in order" {
  printf 'one' | gq-enqueue up --local >"$T/ids"
  printf 'two' >"$T/2"; printf 'three' >"$T/3"
  printf 'four' | gq-enqueue up --local "$T/2" "$T/3" - >>"$T/ids"
  printf 'five\n\nsix' | gq-enqueue up --local -l >>"$T/ids"
  printf 'se\nven\0\0eight' | gq-enqueue up --local -0 >>"$T/ids"
  for id in $(cat "$T/ids"); do gq-inspect cat "$id"; echo '|'; done >"$T/got"
  printf '%s|\n' one two three four five '' six $'se\nven' '' eight >"$T/want"
  cmp "$T/got" "$T/want"
}

@test "gq-enqueue: a job carries the name of its file, or --name, and its command gets that as GQ_NAME" {
  mkdir "$T/d"; local odd=$'new\nline.jpg' ids
  for name in ./d/a.jpg 'd/b c.jpg' d/-x "d/$odd"; do echo "$name" >"$T/$name"; done
  cd "$T"
  gq-enqueue up --local ./d/a.jpg 'd/b c.jpg' d/-x "d/$odd" >"$T/ids"
  gq-enqueue up --local -l ./d/a.jpg >>"$T/ids"
  gq-enqueue up --local <d/a.jpg >>"$T/ids"
  gq-enqueue up --local --name 'é.txt' <d/a.jpg >>"$T/ids"
  gq-enqueue up --local --name report ./d/a.jpg >>"$T/ids"
  mapfile -t ids <"$T/ids"
  gq-enqueue up --local --name range --from "${ids[0]}" --range 0:1 >>"$T/ids"
  printf '%s\n' a.jpg 'b c.jpg' -x - - - é.txt report range >"$T/want"
  gq-inspect list --json | jq -r '.name // "-"' | cmp - "$T/want"
  gq-inspect list | grep -P "^${ids[0]}\tqueued\tup\t0\t10\t[^\t]*\t\tname=a.jpg$"
  gq-inspect show --json "${ids[0]}" | jq -e '.name == "a.jpg"'
  gq-inspect journal --json | jq -se 'any(.type == "add" and .name == "é.txt")'
  # A retry has the name, too, and so has a job that was imported from a stream.
  gq-snapshot export | GQ_STORE=$T/other gq-snapshot import >/dev/null
  GQ_STORE=$T/other gq-inspect list --json | jq -r '.name // "-"' | cmp - "$T/want"
  gq-worker --local --drain -f up --backoff 1ms:1ms -- sh -c '[ $GQ_ATTEMPT = 2 ] || exit 1; printf "%s\n" "${GQ_NAME--}"' | sort >"$T/got"
  sort "$T/want" | cmp - "$T/got"
  for name in '' . .. a/b "$odd" $'\xff' "$(printf 'x%.0s' {1..256})"; do fails_with 64 gq-enqueue up --local --name "$name" <<<x; done
  fails_with 64 gq-enqueue up --local --name x ./d/a.jpg 'd/b c.jpg'
  # The same through a worker.
  start_gearmand
  background gq-worker -f far -- sh -c 'echo "$GQ_NAME" >>"$0"' "$T/far"
  gq-enqueue far ./d/a.jpg
  eventually grep -qx a.jpg "$T/far"
}

@test "gq-enqueue: an unreadable file is 66, and the other files are still queued" {
  echo a >"$T/a"
  fails_with 66 gq-enqueue up --local "$T/missing" "$T/a" "$T"
  lines_are "$T/failed.out" 1
  [[ $(jobs_in queued) == 1 ]]
}

@test "gq-enqueue: a workload over --max-workload is 65, and the others are still queued" {
  printf '123456\n12345\n1234567890\n1\n' >"$T/lines"
  fails_with 65 gq-enqueue up --local -l --max-workload 5 "$T/lines"
  lines_are "$T/failed.out" 2
  fails_with 65 gq-enqueue up --local --max-workload 5 "$T/lines"
}

@test "gq-enqueue: bad usage is 64, with one line on standard error" {
  for bad in "" "up --nonsense" "rep_1" "up.gq" "up -l -0" "up --timeout x" "up --max-workload -1" "up --id abc" "up --servers :1"; do
    fails_with 64 gq-enqueue $bad --local </dev/null
    lines_are "$T/failed.err" 1
  done
  fails_with 64 gq-enqueue $'a\nb' --local </dev/null
  fails_with 64 gq-enqueue "$(printf 'x%.0s' {1..300})" --local </dev/null
  fails_with 64 gq-enqueue up --local --id 01ARZ3NDEKTSV4RRFFQ69G5FAV -l </dev/null
}

# bats test_tags=once
@test "gq-enqueue, gq-snapshot: an argument that begins with - and names a file is 64; with ./ or after -- it is the file [options that run programs, links, -, lists]" {
  cd "$T"
  printf 'touch %s/ran\n' "$T" >run.jpg
  mkdir snapshots -- '--store=exec:sh run'
  names=('--config=x.jpg' '--store=exec:sh run.jpg' '--store=exec:sh run/.jpg' -l -0l --delay=99d --servers=evil -- -)
  for name in "${names[@]}" '[x.jpg]' '[x.jpg,run.jpg]'; do echo "$name" >"./$name"; done
  printf 'local=true\nstore="exec:sh run.jpg"\n' >x.jpg; cat x.jpg >./--config=x.jpg
  ln -s nowhere ./-h
  for name in "${names[@]}" -h; do
    [[ $name == -- ]] && continue
    fails_with 64 gq-enqueue --local f "$name"
    [[ $(<failed.err) == *"say ./$name or "* ]]
    [[ $name == -h ]] || [[ $(gq-inspect cat "$(gq-enqueue --local f "./$name")") == "$(<"./$name")" ]]
    [[ $name == -h || $name == - ]] || [[ $(gq-inspect cat "$(gq-enqueue --local f -- "$name")") == "$(<"./$name")" ]]
  done
  fails_with 64 gq-enqueue --local f -- -
  fails_with 64 gq-enqueue --local --key -l f x.jpg  # -l may be the value of --key or an option
  for name in '[x.jpg]' '[x.jpg,run.jpg]'; do [[ $(gq-inspect cat "$(gq-enqueue --local f "$name")") == "$name" ]]; done
  source "$BATS_TEST_DIRNAME/../scripts/completion.bash"
  offered() { COMP_WORDS=(gq-enqueue "$@") COMP_CWORD=$#; _gq || true; printf '%s\n' "${COMPREPLY[@]}"; }
  offered f '' | grep -qx -- ./--delay=99d
  not grep -q '^-' <(offered f '')
  offered f -- -0 | grep -qx -- -0l
  offered --delay = 1d --key f -- | grep -qx -- --store
  not grep -E -- '--(store|config|servers|auth)$' <(offered --delay = 1d f --)
  [[ $(gq-inspect list --state queued | wc -l) == 17 && ! -e ran ]]
  rm -r ./-*
  [[ $(gq-inspect cat "$(gq-enqueue --local f - <<<input)") == input ]]
  for word in '--store=exec:sh run.jpg' --config=x.jpg --auth=x.jpg --servers=evil; do
    for files in x.jpg ''; do  # a glob may have matched this word alone
      fails_with 64 gq-enqueue --local f $files "$word" </dev/null
      [[ $(<failed.err) == *"cannot use ${word%%=*} after FUNCTION: put it before" ]]
    done
    fails_with 64 gq-enqueue --local f "${word%%=*}" "${word#*=}" x.jpg
  done
  gq-snapshot create snapshots && mv snapshots ./-s
  fails_with 64 gq-snapshot list -s
  for words in './-s' '-- -s'; do [[ $(gq-snapshot list $words | cut -f 1) == "$(ls ./-s)" ]]; done
  [[ ! -e ran ]]
}

@test "gq-enqueue: a standard output that is full is 74" {
  echo x >"$T/job"
  got=0; gq-enqueue up --local "$T/job" >/dev/full 2>/dev/null || got=$?
  [[ $got == 74 ]]
}

@test "gq-enqueue: no server is 69, no worker for the function is 75" {
  fails_with 69 gq-enqueue --servers 127.0.0.1:1 up </dev/null
  start_gearmand
  fails_with 75 gq-enqueue up --timeout 100ms </dev/null
  grep -q 'no worker serves' "$T/failed.err"
}

@test "gq-enqueue: a job of a function with newlines in its name does not hide the workers of another function" {
  start_gearmand
  local n
  for n in 1 2 3 4 5; do  # gearmand lists functions in no order, so that one of the five comes before up
    python3 - "$PORT" $n <<'PY'
import socket, struct, sys
body = b"x%s\n.\n\0u\0x" % sys.argv[2].encode()
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(b"\0REQ" + struct.pack(">II", 18, len(body)) + body)
    s.recv(300)
PY
  done
  background gq-worker -f up --queue-only
  served_up() { (exec 5<>"/dev/tcp/127.0.0.1/$PORT" && echo status >&5 && timeout 1 cat <&5) | grep -qP 'up.gq\t0\t0\t[1-9]'; }
  eventually served_up
  for n in 1 2 3; do gq-enqueue up --timeout 20s <<<x; done
}

@test "gq-enqueue: the same ID with the same workload is one job, with another workload it is refused [65]" {
  id=01ARZ3NDEKTSV4RRFFQ69G5FAV
  for _ in 1 2; do [[ $(echo a | gq-enqueue up --local --id $id) == "$id" ]]; done
  [[ $(jobs_in queued) == 1 ]]
  echo b >"$T/b"
  fails_with 65 gq-enqueue up --local --id $id "$T/b"
  [[ $(gq-inspect cat $id) == a ]]
  gq-worker --local --drain -f up -- sh -c 'cat >>"$0"' "$T/out"
  [[ $(echo a | gq-enqueue up --local --id $id) == "$id" ]]
  gq-worker --local --drain -f up -- sh -c 'cat >>"$0"' "$T/out"
  [[ $(cat "$T/out") == a ]]
}

@test "gq-enqueue: prints an ID as soon as the job is durable, while its input is still open [-l]" {
  mkfifo "$T/pipe"
  background gq-enqueue up --local -l "$T/pipe"
  exec 6>"$T/pipe"
  echo one >&6
  eventually lines_are "$T/bg.0.out" 1
  exec 6>&-
  wait "$PID"
}

@test "gq-enqueue: with several servers, a dead one and an unknown host are warnings, and the job is queued" {
  start_gearmand
  start_worker -f up --queue-only
  echo x | gq-enqueue --servers "127.0.0.1:1,no-such-host.invalid,127.0.0.1:$PORT" up 2>"$T/err"
  [[ $(grep -c warning "$T/err") == 2 ]]
  [[ $(jobs_in queued) == 1 ]]
}

@test "gq: an option overrides the environment, which overrides the configuration file [--store]" {
  echo "store = \"$T/file\"" >"$T/config"
  unset GQ_STORE
  gq-enqueue --config "$T/config" up --local </dev/null
  [[ -d $T/file ]]
  GQ_STORE=$T/env gq-enqueue --config "$T/config" up --local </dev/null
  [[ -d $T/env ]]
  GQ_STORE=$T/env2 gq-enqueue --config "$T/config" --store "$T/flag" up --local </dev/null
  [[ -d $T/flag && ! -d $T/env2 ]]
  fails_with 78 gq-enqueue --config "$T/none" up --local </dev/null
}

# bats test_tags=once
@test "gq: --config may be a FIFO that ends within 5 s; a file that another user owns or all may write is refused [78]" {
  gq-enqueue --config <(echo 'delay = 1h') up --local <<<x
  [[ $(jobs_in delayed) == 1 ]]
  mkfifo "$T/fifo"
  fails_with 78 timeout 60 gq-enqueue --config "$T/fifo" up --local <<<x
  grep -q "cannot read $T/fifo: its end has not come for 5 s" "$T/failed.err"
  echo 'delay = 1h' >"$T/file"
  ln -s file "$T/link"
  gq-enqueue --config "$T/link" up --local <<<x
  chmod 666 "$T/file"
  fails_with 78 gq-enqueue --config "$T/link" up --local <<<x
  # A pipe or a text of another process belongs to that process, whoever owns the file in /proc.
  exec 8< <(echo 'delay = 1h')
  ln -s "/proc/$BASHPID/fd/8" "$T/pipe"
  ln -s "/proc/$BASHPID/cmdline" "$T/words"
  for name in pipe words; do
    fails_with 78 gq-enqueue --config "$T/$name" up --local <<<x
    grep -q "it is another process's" "$T/failed.err"
  done
  ((EUID == 0)) || skip "needs root, for a file of another user"
  chmod 644 "$T/file"
  chown 1 "$T/file"
  fails_with 78 gq-enqueue --config "$T/link" up --local <<<x
  grep -q 'it belongs to user [0-9]* (you are root)' "$T/failed.err"
  gq-enqueue --config /dev/stdin --local up "$T/link" <"$T/file"
}

@test "gq-enqueue: FILE may be a FIFO, which waits for its writer; a descriptor must be an inherited one, none of gq's own [66]" {
  [[ $(gq-enqueue up --local <(echo a) <(echo b) | wc -l) == 2 ]]
  gq-enqueue up --local /dev/stdin <<<c
  mkfifo "$T/fifo"
  background gq-enqueue up --local "$T/fifo"
  has_opened() { find "/proc/$PID/fd" -lname "$T/fifo" | grep -q .; }
  eventually has_opened
  echo d >"$T/fifo"
  wait "$PID"
  [[ $(gq-inspect list | cut -f 1 | xargs -n 1 gq-inspect cat | sort | xargs) == 'a b c d' ]]
  for n in $(seq 5 12); do fails_with 66 without_descriptors gq-enqueue up --local "/dev/fd/$n"; done
}

@test "gq-enqueue: reads a workload of megabytes from a pipe, in memory of about its size" {
  (ulimit -v 300000; head -c 40M /dev/zero | gq-enqueue up --local) >"$T/id"
  [[ $(gq-inspect cat "$(cat "$T/id")" | wc -c) == $((40 << 20)) ]]
}

@test "gq-enqueue: a job that is queued but whose ID cannot be printed is reported on standard error" {
  echo x >"$T/job"
  got=0; gq-enqueue up --local "$T/job" >/dev/full 2>"$T/err" || got=$?
  [[ $got == 74 ]]
  grep -q "$(gq-inspect list | cut -f1): queued" "$T/err"
}

# bats test_tags=once
@test "gq-enqueue: --timeout is how long it waits for a worker that comes late" {
  start_gearmand
  background gq-enqueue up --timeout 3s </dev/null
  enqueuer=$PID
  sleep 1.5
  start_worker -f up --queue-only
  wait "$enqueuer"
  start=$(date +%s%N)
  fails_with 75 gq-enqueue other --timeout 700ms </dev/null
  (($(date +%s%N) - start >= 700000000))
}

@test "gq: closed descriptors, an empty value, and a configuration file that is endless, another user's or for another program are errors" {
  fails_with 66 gq-enqueue up --local <&-
  got=0; gq-enqueue up --local </dev/null >&- 2>"$T/err" || got=$?
  [[ $got == 74 ]]
  for option in --store --servers --id; do fails_with 64 gq-enqueue up --local $option '' </dev/null; done
  fails_with 78 gq-enqueue --config '' up --local </dev/null
  fails_with 78 gq-enqueue --config /dev/zero up --local </dev/null
  for null in /dev/null /dev/./null; do gq-enqueue --config $null up --local </dev/null; done
  if ((EUID == 0)); then  # another user's link to a descriptor does not count as that descriptor
    echo 'delay = 1h' >"$T/theirs"; chmod 666 "$T/theirs"; ln -s /dev/stdin "$T/in"
    gq-enqueue --config "$T/in" up --local /dev/null <"$T/theirs"
    chown -h 1 "$T/in"
    fails_with 78 gq-enqueue --config "$T/in" up --local /dev/null <"$T/theirs"
  fi
  echo 'grace = 3' >"$T/config"
  fails_with 78 gq-enqueue --config "$T/config" up --local </dev/null
  # Without a bound, a name with so many dots would take all memory.
  printf '# %0300d\n[%s]\n' 0 "$(printf 'a.%.0s' $(seq 20000))" >"$T/config"
  (ulimit -v 1000000; fails_with 78 gq-enqueue --config "$T/config" up --local </dev/null)
  grep -q 'the name in line 2' "$T/failed.err"
  fails_with 74 sh -c 'gq-enqueue --help >/dev/full'
}

# bats test_tags=once
@test "gq: hostile names and IDs are refused in one line, or are used as plain names [function, --id, gq-inspect]" {
  local long bad
  long=$(printf 'x%.0s' {1..10240})
  for bad in '' 'a b' $'a\nb' $'a\x01' $'\xc3' $'\xed\xa0\x80' "$long" rep_1 f.gq; do
    run -64 --separate-stderr gq-enqueue --local "$bad" </dev/null
    ((${#stderr_lines[@]} == 1 && ${#stderr} < 1000))
    run -64 --separate-stderr gq-worker --local --drain -f "$bad" -- true
    ((${#stderr_lines[@]} == 1 && ${#stderr} < 1000))
  done
  for bad in '' .. ../../x '*' $'a\nb' $'\xc3' "$long" 01ARZ3NDEKTSV4RRFFQ69G5FA/; do
    run -64 --separate-stderr gq-enqueue --local --id "$bad" f </dev/null
    ((${#stderr_lines[@]} == 1 && ${#stderr} < 1000))
  done
  # A name stays a name, even if a shell or a path would take it for more.
  local name='../../$(touch${IFS}here);`touch${IFS}here`|%s%n'
  cd "$T"
  head -c 100000 /dev/zero | gq-enqueue --local "$name"
  for bad in .. ../gq.json '*' $'\xc3' "$long"; do
    run --separate-stderr gq-inspect show "$bad"
    ((status != 0 && ${#stderr_lines[@]} == 1 && ${#stderr} < 1000))
    run --separate-stderr gq-inspect cat "$bad"
    ((status != 0 && ${#stderr_lines[@]} == 1 && ${#stderr} < 1000))
  done
  run -0 gq-worker --local --drain -f "$name" -- printenv GQ_FUNCTION
  [[ $output == "$name" && ! -e here ]]
  [[ $(find "$T" -newer "$GQ_STORE/gq.json" -name '*touch*' | wc -l) == 0 ]]
}

@test "gq-enqueue: --local waits as long as --timeout says for a process that holds the journal, then exits 75" {
  echo x | gq-enqueue f --local
  background flock "$GQ_STORE/append.lock" sleep 600; holder=$PID
  eventually locked "$GQ_STORE/append.lock"
  fails_with 75 gq-enqueue f --local --timeout 1s <<<y
  grep -q "process $holder (flock) holds .*/append.lock" "$T/failed.err"
  kill -9 $(pgrep -P "$holder")
}

@test "gq-enqueue: reaches a good server behind bad ones, and names the bad ones [servers that accept connections and never answer, a name server that does not answer]" {
  start_gearmand
  start_worker -f up --queue-only
  sinks 4
  echo x | LD_PRELOAD=$PRELOAD gq-enqueue --servers "$SINKS,slow.invalid,127.0.0.1:$PORT" up 2>"$T/err"
  [[ $(grep -c 'warning: cannot reach' "$T/err") == 5 ]]
  [[ $(jobs_in queued) == 1 ]]
}

@test "gq-enqueue: a job that was not sent is not queued [69, 75]; a job that was sent and not answered is unknown" {
  sinks 2
  seq 10 >"$T/lines"
  fails_with 69 gq-enqueue --servers "$SINKS" up -l "$T/lines" --timeout 500ms
  grep -q 'cannot queue 10 jobs (lines 1 to 10): cannot reach a Gearman server' "$T/failed.err"
  lines_are "$T/failed.err" 1
  fake_gearmand up.gq silent
  seq 3000 >"$T/lines"
  fails_with 75 gq-enqueue --servers "$FAKE" up -l --serial s "$T/lines" --timeout 500ms
  grep -q 'cannot queue 1976 jobs (lines 1025 to 3000): no answer in time' "$T/failed.err"
  grep -q 'cannot tell whether 1024 jobs (lines 1 to 1024) are queued: no answer in time; 0 jobs are queued' "$T/failed.err"
  lines_are "$T/failed.err" 2
}

# bats test_tags=once
@test "gq-enqueue: leaves a server that sends packets without end for the next one, and gives up after --timeout if there is none [75]" {
  fake_gearmand up.gq flood
  fails_with 75 timeout -s KILL 60 gq-enqueue --servers "$FAKE" up --timeout 2s <<<x
  start_gearmand
  start_worker -f up --queue-only
  timeout -s KILL 60 gq-enqueue --servers "$FAKE,$GQ_SERVERS" up --timeout 20s <<<x
  [[ $(jobs_in queued) == 1 ]]
}

# bats test_tags=once
@test "gq-enqueue: leaves a server whose worker does not answer for the next one after --timeout [silent, the first]" {
  fake_gearmand up.gq silent
  start_gearmand
  start_worker -f up --queue-only
  timeout -s KILL 60 gq-enqueue --servers "$FAKE,$GQ_SERVERS" up --timeout 3s <<<x
  [[ $(jobs_in queued) == 1 ]]
}

# bats test_tags=once
@test "gq-enqueue: a FILE with a lease is 66 and does not affect other files; only the user's own is waited for until --timeout" {
  lease() {
    background "${@:2}" python3 -c 'import fcntl, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(9, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
time.sleep(600)' 9<>"$1"
    eventually grep -q held "$T/bg.$((${#PIDS[@]} - 1)).out"
  }
  touch "$T/mine" "$T/theirs" "$T/a" "$T/b"
  lease "$T/mine" env
  fails_with 66 gq-enqueue --local up --timeout 3s "$T/a" "$T/mine" "$T/b"
  grep -q "holds a lease on $T/mine" "$T/failed.err"
  lines_are "$T/failed.out" 2
  ((EUID == 0)) || skip "needs root, for a file of another user"
  chown 1 "$T/theirs"
  lease "$T/theirs" setpriv --reuid 1 --regid 1 --clear-groups env PATH="/usr/bin:$PATH"
  fails_with 66 timeout 20 gq-enqueue --local up --timeout 1h "$T/a" "$T/theirs" "$T/b"
  grep -q "cannot open $T/theirs: its owner, another user, holds a lease on it" "$T/failed.err"
  lines_are "$T/failed.out" 2
}

@test "gq-enqueue: sends groups of lines and large files in order; with --serial it sends the next one after the answer to the one before" {
  fake_gearmand up.gq
  seq 5000 >"$T/lines"
  gq-enqueue --servers "$FAKE" up -l <"$T/lines" >"$T/ids"
  gq-enqueue --servers "$FAKE" up -l --serial s <"$T/lines" >>"$T/ids"
  for i in 1 2 3 4; do { echo "file $i"; head -c 600000 /dev/zero; } >"$T/large.$i"; done
  gq-enqueue --servers "$FAKE" up --serial s "$T"/large.? >>"$T/ids"
  lines_are "$T/ids" 10004
  { seq 1 1024 5000; seq 1 1024 5000; printf 'file %s\n' 1 2 3 4; } >"$T/wanted"
  tail -n +2 "$FAKE_LOG" | cut -d' ' -f3- | diff "$T/wanted" -
  (($(sed -n '2,6p' "$FAKE_LOG" | sort -n | tail -n 1 | cut -d' ' -f1) > 1))
  [[ $(tail -n +7 "$FAKE_LOG" | cut -d' ' -f1 | sort -u) == 1 ]]
}

# bats test_tags=long
@test "gq-enqueue: jobs with a serial key are queued in order through gearmand [more lines than one group takes, several large files]" {
  start_gearmand
  start_worker -f up --queue-only
  for i in 1 2 3 4 5 6; do head -c 600000 /dev/urandom >"$T/large.$i"; done
  seq 60000 | gq-enqueue up -l --serial s >"$T/ids"  # enough for several receivers
  gq-enqueue up --serial s "$T"/large.? >>"$T/ids"
  gq-inspect journal | grep -o "add.*" | grep -oE '[0-9A-Z]{26}' | diff "$T/ids" -
}

# bats test_tags=long
@test "gq-enqueue: reports jobs that fail for one reason in one line with counts [a full disk, no worker for the function]" {
  store_on_small_disk
  seq -f "%.0f and some words to fill the disk with" 300000 >"$T/lines"
  fails_with 74 gq-enqueue up --local -l "$T/lines"
  lines_are "$T/failed.err" 1
  queued=$(wc -l <"$T/failed.out")
  grep -qE "cannot queue [0-9]+ jobs \(lines $((queued + 1)) to [0-9]+\): .*; $queued jobs are queued, and the rest was not read" "$T/failed.err"
  start_gearmand
  start_worker -f up --queue-only
  fails_with 75 gq-enqueue up -l "$T/lines"
  lines_are "$T/failed.err" 1
  fails_with 75 gq-enqueue other -l "$T/lines" --timeout 100ms
  lines_are "$T/failed.err" 1
}

@test "gq-enqueue: an error names its line, file or range" {
  printf 'a\nbbbbbb\nc\n' >"$T/1"; printf 'cccccccccc\n' >"$T/2"
  fails_with 65 gq-enqueue up --local -l --max-workload 5 "$T/1" "$T/2"
  grep -q "cannot queue line 2 of $T/1: it is larger" "$T/failed.err"
  grep -q "cannot queue line 1 of $T/2: it is larger" "$T/failed.err"
  fails_with 65 gq-enqueue up --local --max-workload 5 "$T/1" "$T/2"
  grep -q "cannot queue $T/1: it is larger" "$T/failed.err"
  printf 'a\0bbbbbb\0' | fails_with 65 gq-enqueue up --local -0 --max-workload 5
  grep -q 'cannot queue item 2: it is larger' "$T/failed.err"
  id=$(echo 0123456789 | gq-enqueue up --local)
  printf '0:5\nx\n3:99\n::\n:1\n-\n' | fails_with 65 gq-enqueue part --local --from "$id" -l
  grep -q 'cannot queue 4 jobs (line 2, lines 4 to 6): it is not OFFSET:LENGTH' "$T/failed.err"
  grep -q 'cannot queue line 3: ' "$T/failed.err"
  lines_are "$T/failed.out" 1
}

@test "gq-enqueue: refuses a file over --max-workload by its size, and does not read it" {
  head -c 1000 /dev/zero >"$T/large"
  strace -f -y -e trace=read -o "$T/trace" gq-enqueue up --local --max-workload 999 "$T/large" || [[ $? == 65 ]]
  not grep -q "read(.*$T/large" "$T/trace"
  gq-enqueue up --local --max-workload 1000 "$T/large"
}
