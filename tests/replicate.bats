load helpers

# bats file_tags=group

# Creates the stores of a group, $T/1 and so on: group POLICY [init's options].
NODES=(1 2 3)
group() {
  local i names
  names=$(printf ',rep_%s' "${NODES[@]}")
  for i in "${NODES[@]}"; do
    new_store "$T/$i"
    gq-replicate init --store "$T/$i" --as "rep_$i" --group "${names:1}" --run "$@"
  done
}

# node N [ARGUMENT...]: starts a worker for the function f on that store. It notes the jobs that it runs in $T/ran.N;
# its pid is in ${NODE[N]}.
node() {
  local n=$1
  shift
  background gq-worker --store "$T/$n" -f f --peer-timeout 2s --takeover "${TAKEOVER:-3s}" "$@" -- sh -c "${COMMAND:-:};"' echo "$GQ_JOB_ID" >>"$0"' "$T/ran.$n"
  NODE[n]=$PID
  eventually served "$PORT" "rep_$n"
}
nodes() { for n in "${NODES[@]}"; do node "$n"; done; for n in "${NODES[@]}"; do eventually meets_all "$n"; done; }
stats() { gq-inspect --store "$T/$1" stats --json; }
# Starts the nodes 1 and 2 of three.
two_nodes() { node 1; node 2; eventually answered 1 2; eventually answered 2 1; }
answered() { stats "$1" | jq -se "any(.peer == \"rep_$2\" and .answered_at)"; }
# Whether a node has had an answer from each other node.
meets_all() { (($(stats "$1" | grep -c answered_at) == ${#NODES[@]} - 1)); }
owes() { [[ $(stats "$1" | jq -r "select(.peer == \"rep_$2\").owed") == "$3" ]]; }
# Waits until nodes 1 and 2 together owe so many jobs to node 3.
both_owe() {
  owe() { (($(stats 1 | jq 'select(.peer == "rep_3").owed') + $(stats 2 | jq 'select(.peer == "rep_3").owed') == $1)); }
  eventually owe "$1"
}
ran() { sort "$T"/ran.? 2>/dev/null; }
ran_times() { [[ $(ran | grep -c "$1") == "$2" ]]; }
all_ran_once() { diff <(sort "$1") <(ran) >&2; }
state_of() { gq-inspect --store "$T/$1" show --json "$2" | jq -r .state; }
is_state() { [[ $(state_of "$1" "$2") == "$3" ]]; }
copies_of() { local n=0 i; for i in "${NODES[@]}"; do gq-inspect --store "$T/$i" show "$1" >/dev/null 2>&1 && n=$((n + 1)); done; echo "$n"; }
on_nodes() { [[ $(copies_of "$1") == "$2" ]]; }
# Prints the IDs of a file, each with the number of nodes that hold the job unfinished.
holders_of() { for i in "${NODES[@]}"; do gq-inspect --store "$T/$i" list || return; done | cut -f1 | grep -Fxf "$1" | sort | uniq -c; }
held_by_each() { [[ $(holders_of "$1" | grep -c " ${#NODES[@]} ") == "$(wc -l <"$1")" ]]; }
sound() { for n in "${NODES[@]}"; do gq-inspect --store "$T/$n" check || return; done; }
says() { grep -q "$2" "$T/bg.$1.err"; }

@test "gq-replicate: init writes the name and the policy; a changed name makes a new identity, a changed group does not" {
  gq-replicate init --as rep_1 --group rep_1,rep_2,rep_3
  identity=$(jq -r .identity "$GQ_STORE/gq.json")
  [[ $(jq -c '[.node, .group, .copies, .run]' "$GQ_STORE/gq.json") == '["rep_1",["rep_1","rep_2","rep_3"],2,"all"]' ]]
  gq-replicate init --as rep_1 --group rep_1,rep_2,rep_3,rep_4 --copies 3 --run once
  [[ $(jq -c '[.identity, .copies, .run]' "$GQ_STORE/gq.json") == "[\"$identity\",3,\"once\"]" ]]
  settings '{remember: "2d"}'
  gq-replicate init --as rep_1 --group rep_1,rep_2,rep_3,rep_4,rep_5  # options that are not given keep their values
  [[ $(jq -c "[.copies, .run]" "$GQ_STORE/gq.json") == "[3,\"once\"]" ]]
  gq-replicate init --as rep_2 --group rep_1,rep_2
  [[ $(jq -r .remember "$GQ_STORE/gq.json") == 2d ]]
  [[ $(jq -r .identity "$GQ_STORE/gq.json") != "$identity" ]]
}

@test "gq-replicate: bad usage is 64, a store without a group is 78" {
  fails_with 64 gq-replicate init --as rep_1 --group rep_1,rep_2 --copies 3
  fails_with 64 gq-replicate init --as rep_4 --group rep_1,rep_2
  fails_with 64 gq-replicate init --as rep_1 --group rep_1,rep_1
  fails_with 64 gq-replicate init --as node --group node,rep_2
  fails_with 64 gq-replicate init --as rep_1 --group rep_1,rep_2 --run twice
  fails_with 64 gq-replicate init --as rep_1
  [[ ! -e $GQ_STORE/gq.json && ( -n $DATABASE || ! -e $GQ_STORE ) ]]
  fails_with 78 gq-replicate
  gq-enqueue f --local </dev/null
  fails_with 78 gq-replicate
  fails_with 64 gq-worker -f f --relay
  fails_with 64 gq-worker -f f --owe -- true
  gq-replicate init --as rep_1 --group rep_1,rep_2
  fails_with 64 gq-replicate --to rep_3 </dev/null
  fails_with 64 gq-replicate --to rep_1 </dev/null
  fails_with 64 gq-replicate --hand-over
  fails_with 64 gq-replicate forget rep_1
  fails_with 64 gq-replicate forget rep_2
  fails_with 64 gq-worker -f f --copies 2 -- true
  fails_with 78 gq-worker -f f --auth "$T/none" -- true
}

@test "gq-worker: in a group whose nodes all run each job, each node runs it once, with an identical workload" {
  start_gearmand
  group all
  COMMAND='cat >"$0-$GQ_JOB_ID"' nodes
  head -c 3000000 /dev/urandom >"$T/big"
  big=$(gq-enqueue f "$T/big")
  seq 100 | gq-enqueue f -l >"$T/ids"
  echo "$big" >>"$T/ids"
  all_three() { [[ $(ran) == "$(cat "$T/ids" "$T/ids" "$T/ids" | sort)" ]]; }
  eventually all_three
  for n in 1 2 3; do cmp "$T/big" "$T/ran.$n-$big"; done
  no_blobs() { [[ -z $(find "$T"/[123]/blobs -type f) ]]; }
  eventually no_blobs
  sound
}

@test "gq-worker: in a group that requires copies, jobs of one serial key run in order, and so do dead ones that are kicked" {
  start_gearmand
  NODES=(1 2)
  group all
  for n in 1 2; do COMMAND='test -e "$0.go" || exit 1' node $n --max-attempts 1; done
  for n in 1 2; do eventually meets_all $n; done
  seq 3 | gq-enqueue f -l --serial s >"$T/ids"
  dead() { (($(gq-inspect list --store "$T/$1" --state dead | wc -l) == 3)); }
  for n in 1 2; do eventually dead $n; touch "$T/ran.$n.go"; done
  for n in 1 2; do gq-flush --store "$T/$n" --kick-dead; done
  all_ran() { [[ $(cat "$T/ran.1" "$T/ran.2" 2>/dev/null) == "$(cat "$T/ids" "$T/ids")" ]]; }
  eventually all_ran
}

# bats test_tags=database
@test "gq-worker: a job is on a second disk when its client is answered [the first disk is destroyed at once]" {
  start_gearmand
  for policy in all once; do
    rm -rf "$T"/[123] "$T"/ran.*
    group $policy
    COMMAND='sleep 30' node 1
    for n in 2 3; do node $n; done
    for n in 1 2 3; do eventually meets_all $n; done
    head -c 200000 /dev/urandom >"$T/big"
    background gq-worker --store "$T/1" -f in --queue-only --peer-timeout 2s
    eventually served "$PORT" in.gq
    { seq 20 | gq-enqueue in -l; gq-enqueue in "$T/big"; } >"$T/ids"
    kill -9 "${NODE[1]}" "$PID"
    rm -rf "$T/1"
    [[ $(wc -l <"$T/ids") == 21 ]]
    while read -r id; do copies_of "$id" >>"$T/copies.$policy"; done <"$T/ids"
    [[ $(grep -c '^[12]$' "$T/copies.$policy") == 21 ]]
    kill "${NODE[2]}" "${NODE[3]}"
    wait "${NODE[2]}" "${NODE[3]}" || true
  done
}

@test "gq-enqueue: too few nodes is 75, and nothing is stored; with --owe the job is accepted with a warning" {
  start_gearmand
  group all
  node 1
  for n in 2 3; do eventually says "$((${#PIDS[@]} - 1))" "no worker serves rep_$n"; done
  not_up() { fails_with 75 gq-enqueue f --timeout 3s </dev/null; }
  not_up
  grep -q 'of the 2 nodes' "$T/failed.err"
  [[ -z $(gq-inspect --store "$T/1" list) ]]
  kill "${NODE[1]}"; wait "${NODE[1]}"
  node 1 --owe
  id=$(gq-enqueue f </dev/null 2>"$T/err")
  grep -q "$id: queued with copies=1/2" "$T/err"
  eventually ran_times "$id" 1
  node 2; node 3
  eventually ran_times "$id" 3
}

@test "gq-enqueue: --expire is 75 until every node has answered that it knows the option [--local, gq-worker, an older gq]" {
  start_gearmand
  NODES=(1 2)
  group all
  node 1
  expires() { gq-enqueue "$@" f --expire 1d --timeout 3s <<<x; }
  for where in "" "--store $T/1 --local"; do
    fails_with 75 expires $where
    grep -q 'rep_2 has not answered yet whether it knows --expire' "$T/failed.err"
  done
  node 2
  accepted() { id=$(expires); }
  eventually accepted
  eventually ran_times "$id" 2
  eventually test -s "$T/1/peers/rep_2.reads"
  # What an older program answers.
  kill "${NODE[2]}"; wait "${NODE[2]}"
  cut -d' ' -f1 "$T/1/peers/rep_2.reads" >"$T/older"
  mv "$T/older" "$T/1/peers/rep_2.reads"
  fails_with 75 expires
  grep -q 'rep_2 does not know --expire: it runs an older gq' "$T/failed.err"
  [[ -z $(gq-inspect --store "$T/1" list) ]]
}

@test "gq-flush: a dead letter is one job of the group if jobs run once, and one of each node if each runs all jobs [--dead-letter-of]" {
  local policy id
  start_gearmand
  NODES=(1 2)
  for policy in once all; do
    NODES=(1 2)
    rm -rf "$T"/[12] "$T"/ran.*
    group "$policy" --copies 2
    for n in 1 2; do gq-flush --store "$T/$n" --dead-letter-of f=mail 2>/dev/null; done
    COMMAND='exit 65;' nodes
    id=$(gq-enqueue f <<<x)
    letters() { gq-inspect --store "$T/$1" list --function mail --json | jq -r '.id + " " + .state' | sort; }
    is_there() { [[ -n $(letters 1) && -n $(letters 2) ]]; }
    eventually is_there
    [[ $(letters 1 | cut -d' ' -f1) == $(letters 2 | cut -d' ' -f1) && $(letters 1 | wc -l) == 1 ]]
    states() { [[ $({ letters 1; letters 2; } | cut -d' ' -f2 | sort | xargs) == "$1" ]]; }
    if [[ $policy == once ]]; then eventually states 'held queued'; else eventually states 'queued queued'; fi
    kill "${NODE[@]}"
    wait "${NODE[@]}" || true
    sound
  done
}

@test "gq-flush: --cancel is 75 except on the node that owns the job, and a node that takes the job over ends it [run once]" {
  start_gearmand
  NODES=(1 2)
  TAKEOVER=2s
  group once --copies 1
  background gq-worker --store "$T/1" -f f --takeover 2s -- sh -c 'echo $$ >"$0"; exec sleep 600' "$T/at-work"
  NODE[1]=$PID
  node 2
  eventually test -s "$T/1/peers/rep_2.reads"
  eventually test -s "$T/2/peers/rep_1.reads"
  id=$(gq-enqueue --store "$T/1" --local f <<<x)
  eventually test -s "$T/at-work"
  eventually is_state 2 "$id" held
  fails_with 75 gq-flush --store "$T/2" --cancel "$id"
  grep -q 'it is for rep_1 to run' "$T/failed.err"
  mv "$T/1/peers/rep_2.reads" "$T/reads"
  fails_with 75 gq-flush --store "$T/1" --cancel "$id"
  grep -q 'rep_2 has not answered yet whether it knows --cancel' "$T/failed.err"
  mv "$T/reads" "$T/1/peers/rep_2.reads"
  # Its worker cannot end the command before the node is gone.
  kill -STOP "${NODE[1]}"
  gq-flush --store "$T/1" --cancel "$id"
  kill -9 "${NODE[1]}" "$(<"$T/at-work")"
  background gq-replicate --store "$T/1" --takeover 2s
  NODE[1]=$PID
  told() { gq-inspect --store "$T/2" journal | jq -es --arg id "$id" 'any(.id == $id and .cancelled)'; }
  eventually told
  kill -9 "${NODE[1]}"
  eventually is_state 2 "$id" dead
  [[ $(gq-inspect --store "$T/2" show "$id" --json | jq -r .reason) == cancelled ]]
  not test -e "$T/ran.2"
}

# bats test_tags=long
@test "gq-enqueue: peers that answer too late are 75, and sending the same ID again resumes the job" {
  start_gearmand
  group once
  node 1
  for n in 2 3; do background gq-replicate --store "$T/$n" --peer-timeout 2s --takeover 3s; NODE[n]=$PID; done
  eventually meets_all 1
  kill -STOP "${NODE[2]}" "${NODE[3]}"
  id=01HZZZZZZZZZZZZZZZZZZZZZZZ
  fails_with 75 gq-enqueue f --id $id --timeout 4s </dev/null
  [[ $(state_of 1 $id) == pending ]]
  gq-inspect --store "$T/1" list | grep -q "^$id.*until 2 nodes have it: this one; the others: rep_2 (last answered"
  sleep 1
  [[ ! -e $T/ran.1 ]]
  kill -CONT "${NODE[2]}" "${NODE[3]}"
  again() { gq-enqueue f --id $id --timeout 5s </dev/null; }
  eventually again
  eventually ran_times $id 1
  everywhere_finished() { for n in 1 2 3; do is_state $n $id finished || return; done; }
  eventually everywhere_finished
  ran_times $id 1
  sound
}

@test "gq-enqueue: a key that is taken is answered when the first job has its copies, and is 75 until then [pending here, another node's]" {
  start_gearmand
  group once
  once_more() { echo x | gq-enqueue --store "$T/$1" f --local --key K "${@:2}"; }
  fails_with 75 once_more 1
  id=$(gq-inspect --store "$T/1" list --json | jq -r .id)
  is_state 1 "$id" pending
  fails_with 75 once_more 1
  grep -q 'copies=1/2' "$T/failed.err"
  background gq-replicate --store "$T/2"
  two=$PID
  eventually served "$PORT" rep_2
  [[ $(once_more 1) == "$id" ]]
  is_state 2 "$id" held
  is_state 1 "$id" queued
  # The node that accepted the job is gone. The others do not know how many copies it had counted.
  kill "$two"; wait "$two"
  rm -rf "$T/1"
  fails_with 75 once_more 2
  grep -q 'copies=1/2' "$T/failed.err"
  background gq-replicate --store "$T/3"
  eventually served "$PORT" rep_3
  [[ $(once_more 2) == "$id" ]]
  is_state 3 "$id" held
}

@test "gq-enqueue: with --owe, a key that is taken by a job without its copies is answered, and the answer says so [--local, gq-worker]" {
  start_gearmand
  group once
  once_more() { echo x | gq-enqueue "$@" 2>"$T/err"; }
  for way in --local ''; do
    fails_with 75 gq-enqueue --store "$T/1" f --local --key "K$way" <<<x
    id=$(gq-inspect --store "$T/1" list --json | jq -r 'select(.state == "pending").id')
    [[ -n $way ]] || start_worker --store "$T/1" -f f --queue-only --owe --alone-after 10m
    [[ $(once_more ${way:+--local --owe --store "$T/1"} f --key "K$way") == "$id" ]]
    grep -q "$id: queued with copies=1/2" "$T/err"
    is_state 1 "$id" queued
  done
}

@test "gq-replicate: a job that two nodes have accepted gets one owner [run once]" {
  start_gearmand
  group once
  id=01HZZZZZZZZZZZZZZZZZZZZZZZ
  for n in 1 2; do gq-enqueue --store "$T/$n" f --id $id --local --owe -q </dev/null; done
  for n in 1 2 3; do background gq-replicate --store "$T/$n"; done
  owners() { for n in 1 2 3; do gq-inspect --store "$T/$n" show --json $id | jq -r '.node + " " + .state'; done; }
  one_owner() { [[ $(owners) == $'rep_2 held\nrep_2 queued\nrep_2 held' ]]; }
  eventually one_owner
  sound
  nodes
  eventually ran_times $id 1
}

@test "gq-worker: the end of a job does not end a different job that another node has accepted under the same ID [run once]" {
  start_gearmand
  NODES=(1 2)
  group once
  id=01HZZZZZZZZZZZZZZZZZZZZZZZ
  for n in 1 2; do echo "$n" | gq-enqueue --store "$T/$n" f --id $id --local --owe -q; done
  COMMAND='cat >>"$0"; test -e "$0.go" || exit 75'
  touch "$T/ran.2.go"
  node 2; node 1 --backoff 100ms:1s
  eventually is_state 2 $id finished
  eventually owes 2 1 0
  touch "$T/ran.1.go"
  eventually grep -q $id "$T/ran.1"
  [[ $(sort -u "$T/ran.1") == $'01HZZZZZZZZZZZZZZZZZZZZZZZ\n1' && $(sort -u "$T/ran.2") == $'01HZZZZZZZZZZZZZZZZZZZZZZZ\n2' ]]
}

# bats test_tags=long
@test "gq-worker: a node that was down is sent what it missed, also finished jobs [run all]" {
  start_gearmand
  group all
  two_nodes
  seq 50 | gq-enqueue f -l >"$T/ids"
  head -c 100000 /dev/urandom | gq-enqueue f >>"$T/ids"
  none_left() { [[ -z $(gq-inspect --store "$T/1" list) ]]; }
  eventually none_left
  both_owe 51
  { stats 1; stats 2; } | jq -se 'map(select(.peer == "rep_3" and .owed > 0)) | length > 0 and all(.owed_since and (.answered_at | not))'
  node 3
  ran_at_3() { [[ $(sort "$T/ran.3") == "$(sort "$T/ids")" ]]; }
  eventually ran_at_3
  for n in 1 2; do eventually owes $n 3 0; done
  [[ -z $(gq-inspect --store "$T/3" list) ]]
  no_blobs() { [[ -z $(find "$T"/[123]/blobs -type f) ]]; }
  eventually no_blobs
  sound
}

@test "gq-replicate: forget discards what is owed to a node" {
  start_gearmand
  group all
  two_nodes
  seq 5 | gq-enqueue f -l >"$T/ids"
  head -c 100000 /dev/zero | gq-enqueue f >>"$T/ids"
  both_owe 6
  for n in 1 2; do gq-replicate forget rep_3 --store "$T/$n"; done
  [[ -z $(stats 1 | jq -r 'select(.peer == "rep_3").owed') ]]
  [[ $(jq -c .group "$T/1/gq.json") == '["rep_1","rep_2"]' ]]
  gq-enqueue f </dev/null >>"$T/ids"
  both_ran() { [[ $(ran) == "$(cat "$T/ids" "$T/ids" | sort)" ]]; }
  eventually both_ran
  no_blobs() { [[ -z $(find "$T"/[12]/blobs -type f) ]]; }
  eventually no_blobs
}

# bats test_tags=database
@test "gq-flush: sends what a crashed worker still owes, and runs its remaining jobs" {
  start_gearmand
  group once --copies 1
  TAKEOVER=30s
  node 1
  seq 20 | gq-enqueue f -l --delay 3s >"$T/ids"
  kill -9 "${NODE[1]}"
  node 2; node 3
  sleep 3
  gq-flush --store "$T/1" -f f -- sh -c 'echo "$GQ_JOB_ID" >>"$0"' "$T/ran.1"
  all_ran_once "$T/ids"
  everywhere() { for n in 2 3; do [[ $(gq-inspect --store "$T/$n" stats --json | jq -r 'select(.function == "f").finished') == 20 ]] || return; done; }
  everywhere
}

# bats test_tags=long
@test "gq-worker: in a group whose jobs run once, each job runs on one node, and all nodes learn the same" {
  start_gearmand
  group once
  nodes
  for i in 1 2 3; do seq 200 | gq-enqueue f -l >"$T/ids.$i"; done
  id=$(gq-enqueue f --delay 1h </dev/null)
  cat "$T"/ids.* >"$T/ids"
  eventually all_ran_once "$T/ids"
  finished_everywhere() { for n in 1 2 3; do [[ $(stats $n | jq -r 'select(.function == "f").finished') == 600 ]] || return; done; }
  eventually finished_everywhere
  all_ran_once "$T/ids"
  live() { gq-inspect --store "$T/$1" list --json | jq -cS 'del(.state, .owner)'; }
  same() { [[ -n $(live 1) && $(live 1) == "$(live 2)" && $(live 2) == "$(live 3)" ]]; }
  eventually same
  sound
}

@test "gq-worker: a dead job is dead on all nodes; when any node kicks it, it runs on its owner" {
  start_gearmand
  group once
  COMMAND='test -e '"$T/good"' || exit 65'
  nodes
  id=$(gq-enqueue f </dev/null)
  for n in 1 2 3; do eventually is_state $n "$id" dead; done
  touch "$T/good"
  owner=$(gq-inspect --store "$T/1" show --json "$id" | jq -r .node)
  other=$((${owner#rep_} % 3 + 1))
  gq-flush --store "$T/$other" --kick "$id"
  eventually ran_times "$id" 1
  [[ -e $T/ran.${owner#rep_} ]]
  for n in 1 2 3; do eventually is_state $n "$id" finished; done
}

# bats test_tags=long
@test "gq-worker: jobs of a dead node are taken over, and the node does not run them again when it returns" {
  start_gearmand
  group once
  COMMAND='sleep 0.05' node 1
  eventually served "$PORT" f.gq
  background gq-replicate --store "$T/2" --takeover 3s; two=$PID
  background gq-replicate --store "$T/3" --takeover 3s; three=$PID
  for n in 1 2 3; do eventually meets_all $n; done
  seq 60 | gq-enqueue f -l >"$T/ids"
  kill -9 "${NODE[1]}"
  kill "$two" "$three"; wait "$two" "$three"
  node 2; node 3
  every_one() { [[ $(ran | uniq) == "$(sort "$T/ids")" ]]; }
  eventually every_one
  # Only jobs that the dead node had run and could not report any more have run twice.
  [[ $(ran | uniq -d | wc -l) -le 5 ]]
  ran >"$T/before"
  node 1
  all_finished() { [[ $(stats 1 | jq -r 'select(.function == "f").finished') == 60 ]]; }
  eventually all_finished
  [[ $(ran) == "$(cat "$T/before")" ]]
  sound
}

@test "gq-worker: a node that returns and finds no other node runs its own jobs after --alone-after" {
  start_gearmand
  group once --copies 1
  gq-enqueue --store "$T/1" f --local </dev/null >"$T/ids"
  node 1 --alone-after 3s
  sleep 1.5
  [[ ! -e $T/ran.1 ]]
  eventually all_ran_once "$T/ids"
}

# bats test_tags=long,database
@test "gq-worker: a node that is recreated under its old name is sent all unfinished jobs" {
  start_gearmand
  for policy in all once; do
    rm -rf "$T"/[123] "$T"/ran.*
    group $policy
    nodes
    seq 30 | gq-enqueue f -l --delay 1h >"$T/ids"
    seq 30 | gq-enqueue f -l >"$T/now"
    eventually held_by_each "$T/ids"
    kill -9 "${NODE[2]}"
    old=$(jq -r .identity "$T/2/gq.json")
    rm -rf "$T/2"
    gq-replicate init --store "$T/2" --as rep_2 --group rep_1,rep_2,rep_3 --run $policy
    node 2
    eventually held_by_each "$T/ids"
    # If jobs run once, the other nodes now own the jobs of the old one.
    no_old_owner() { ! gq-inspect --store "$T/1" list --state held --json | jq -se "any(.identity == \"$old\")"; }
    [[ $policy == all ]] || eventually no_old_owner
    sound
    kill "${NODE[@]}"; wait "${NODE[@]}" || true
  done
}

# bats test_tags=journal,long
@test "gq-worker: two nodes that claim one name are distinguished and reported" {
  start_gearmand
  group all
  nodes
  cp -a "$T/3" "$T/4"
  rm -rf "$T/4"/journal "$T/4"/index* "$T/4"/append.lock
  jq '.identity = "01HZZZZZZZZZZZZZZZZZZZZZZZ"' "$T/3/gq.json" >"$T/4/gq.json"
  background gq-worker --store "$T/4" -f f -- true
  said() { cat "$T"/bg.*.err | grep -q 'two nodes claim the name rep_3'; }
  eventually said
  kill "$PID"; wait "$PID"
  # When one of them has been silent for a while, the other one is heard.
  queued() { gq-enqueue f --timeout 5s </dev/null >"$T/id"; }
  heard() { queued && on_nodes "$(cat "$T/id")" 3; }
  eventually heard
  sleep 1
  rm "$T"/ran.?
  twenty() { seq 20 | gq-enqueue f -l --delay 5s --timeout 5s >"$T/ids"; }
  eventually twenty
  all_three() { [[ $(cat "$T"/ran.[123] | grep -cFf "$T/ids") == 60 ]]; }
  eventually all_three
}

@test "gq-worker: a message that is no transfer of the group is refused with a reason, and nothing is stored" {
  start_gearmand
  group all
  node 1
  send() { timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f rep_1; }
  head -c 5000 /dev/urandom | send | grep -aq 'bad '
  me=01HZZZZZZZZZZZZZZZZZZZZZZZ
  echo "gq1 take rep_1:all rep_2 $me rep_1 $me 1 - -" >"$T/line"
  { cat "$T/line"; echo garbage; } | send | grep -q 'bad not a whole record'
  { sed 's/:all/:once/' "$T/line"; } | send | grep -q 'bad it is for the group rep_1:once'
  { sed 's/ rep_2 / rep_9 /' "$T/line"; } | send | grep -q 'bad rep_9 is not in this group'
  { sed 's/ rep_1 / rep_3 /' "$T/line"; } | send | grep -q 'bad it is for rep_3'
  { sed 's/take/give/' "$T/line"; } | send | grep -q 'bad it is neither take nor ask'
  { sed 's/gq1/gq2/' "$T/line"; } | send | grep -q 'bad it is no transfer that this gq knows'
  { sed 's/take/ask/' "$T/line"; echo ../../etc; } | send | grep -q 'bad it asks for something that is not a job ID'
  { sed 's/take/part/' "$T/line"; echo 0; echo garbage; } | send | grep -q 'bad it is no part of a job'
  gq-enqueue --store "$T/5" f --local </dev/null >"$T/id"
  { cat "$T/line"; gq-inspect --store "$T/5" journal --records; } | send | grep -q 'bad a job of no node'
  [[ -z $(gq-inspect --store "$T/1" list) ]]
  sound
}

# bats test_tags=once
@test "gq-worker: messages under other identities or names change nothing in a group, and fill neither log nor journal [300 of each]" {
  start_gearmand
  NODES=(1 2)
  group once
  nodes
  gq-enqueue f </dev/null >"$T/ids"
  peers() { gq-inspect --store "$T/1" journal | grep -c '"type":"peer"'; }
  before=$(peers)
  python3 - "$PORT" <<'P'
import socket, struct, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
f = s.makefile("rb")
for i in range(300):
    for line in ("ask rep_1:once rep_2 01HZZZZZZZZZZZZZZZZZZZZ%03d rep_1", "take rep_1:once rep_2 01HZZZZZZZZZZZZZZZZZZZZ%03d rep_1",
                 "ask rep_1:once rep_x%d 01HZZZZZZZZZZZZZZZZZZZZZZZ rep_1", "ask group%d rep_2 01HZZZZZZZZZZZZZZZZZZZZZZZ rep_1"):
        text = "gq1 " + line % i + " 01HZZZZZZZZZZZZZZZZZZZZZZZ 1 - -\n"
        body = b"rep_1\0\0" + text.encode()
        s.sendall(b"\0REQ" + struct.pack(">II", 7, len(body)) + body)
        while True:
            kind, size = struct.unpack(">II", f.read(12)[4:])
            f.read(size)
            if kind in (13, 14): break
P
  (($(peers) < before + 10))
  (($(wc -l <"$T/bg.1.err") < 10))
  seq 5 | gq-enqueue f -l >>"$T/ids"
  done_all() { all_ran_once "$T/ids" 2>/dev/null; }
  eventually done_all
  not says 1 'another store than before'
  sound
}

@test "gq-worker: records that exceed what a client may set are refused, reported once and discarded; other jobs go on [60 background jobs, a group]" {
  start_gearmand
  NODES=(1 2)
  group once
  nodes
  for what in why=65000 "why=8200 node=rep_9" window=99999999999999 due=4000000000000000000 max=4000000000; do gq-bench record "$T/poison" f $what >>"$T/bad"; done
  gq-bench record "$T/good" f why=7000 node=rep_9 at=4000000000000000000 >"$T/said"
  submit() { gearman -h 127.0.0.1 -p "$PORT" -f f.gq "$@"; }
  for _ in {1..60}; do submit -b <"$T/poison"; done
  # Each record has its answer. Fields that only a node may set are ignored.
  cat "$T/poison" "$T/good" | submit >"$T/answers"
  [[ $(grep -c '^bad ' "$T/answers") == 5 && $(tail -n 1 "$T/answers") == "queued $(cat "$T/said")"* ]]
  ran_it() { ran_times "$(cat "$T/said")" 1; }
  eventually ran_it
  [[ $(gq-inspect --store "$T/1" show --json "$(cat "$T/said")" | jq -r '.node, .enqueued_at[:2]' | xargs) == "rep_"[12]" 20" ]]
  seq 20 | gq-enqueue f -l >"$T/ids"
  cat "$T/said" >>"$T/ids"
  done_all() { all_ran_once "$T/ids" 2>/dev/null; }
  eventually done_all
  no_more() { [[ $(status "$PORT" | awk '$1 == "f.gq" { print $2 + $3 }') == 0 ]]; }
  eventually no_more
  (($(cat "$T"/bg.*.err | grep -c 'its meta data is longer than 8 KiB') <= 2))  # once on each node
  sound
}

@test "gq-replicate: a record of an older gq that exceeds today's limits is copied like any other [export, import into a group, --to]" {
  start_gearmand
  gq-enqueue f --local --delay 1h <<<first
  for what in "why=64000" "all why=64000 key=k"; do gq-bench record "$GQ_STORE" f $what due=3000000000000; done
  gq-enqueue f --local --delay 1h <<<last
  gq-snapshot export >"$T/stream"
  gq-snapshot import --store "$T/plain" <"$T/stream"
  NODES=(1 2)
  group all
  for n in 1 2; do background gq-replicate --store "$T/$n"; eventually served "$PORT" rep_$n; done
  gq-snapshot import --store "$T/1" <"$T/stream"
  for at in plain 1 2; do
    all_there() { [[ $(gq-inspect --store "$T/$at" list | wc -l) == 4 ]]; }
    eventually all_there
    gq-inspect --store "$T/$at" check
  done
  gq-bench record "$T/plain" f all why=60000 due=3000000000000 >/dev/null
  gq-inspect --store "$T/plain" journal --records | gq-replicate --to rep_2 --store "$T/1"
  [[ $(gq-inspect --store "$T/2" list | wc -l) == 5 ]]
}

@test "gq: --auth may be a descriptor, which is trusted like an argument, or a file that root lets the group of a service read" {
  NODES=(1)
  group all
  key=$(printf '%064d' 1)
  echo "$key" >"$T/key"
  gq-enqueue --store "$T/1" --local --owe -q --auth <(echo "$key") f <<<x
  echo x >"$T/job"
  gq-enqueue --store "$T/1" --local --owe -q --auth /dev/stdin f "$T/job" <"$T/key"
  fails_with 78 gq-enqueue --store "$T/1" --local --owe --auth "$T/key" f </dev/null
  ((EUID == 0)) && [[ -z $DATABASE ]] || skip "needs root, for files of two users, and a store that both reach"
  cd "$T"
  cp "$GQ_BUILD/gq-enqueue" .
  chmod 711 .
  chown -R 1 1
  chgrp 1 key
  as_service() { setpriv --reuid 1 --regid 1 --clear-groups ./gq-enqueue --store 1 --local --owe -q --auth key f <<<x; }
  chmod 440 key
  as_service
  for mode in 444 460; do chmod $mode key; fails_with 78 as_service; done
  chown 1 key
  chmod 440 key
  fails_with 78 as_service
}

# bats test_tags=once
@test "gq-worker: with --auth only nodes with a key are heard, a recorded transfer counts once, and keys can be replaced" {
  start_gearmand
  NODES=(1 2)
  group all
  one=$(printf '%064d' 1) two=$(printf '%064d' 2)
  for n in 1 2; do echo "$one" >"$T/key.$n"; done
  chmod 644 "$T/key.1"
  fails_with 78 gq-worker --store "$T/1" -f f --auth "$T/key.1" -- true
  chmod 600 "$T"/key.*
  mkfifo -m 600 "$T/fifo"
  fails_with 78 timeout -s KILL 20 gq-worker --store "$T/1" -f f --auth "$T/fifo" -- true
  grep -q "cannot open $T/fifo: it is a FIFO" "$T/failed.err"
  if ((EUID == 0)); then
    chown 1 "$T/key.1"
    fails_with 78 gq-worker --store "$T/1" -f f --auth "$T/key.1" -- true
    chown 0 "$T/key.1"
    chmod 440 "$T/key.1"
    fails_with 78 gq-worker --store "$T/1" -f f --auth "$T/key.1" -- true
    chmod 600 "$T/key.1"
  fi
  echo xyz >"$T/bad"; chmod 600 "$T/bad"
  fails_with 78 gq-worker --store "$T/1" -f f --auth "$T/bad" -- true
  node 1 --auth "$T/key.1"; node 2 --auth "$T/key.2"
  for n in 1 2; do eventually meets_all $n; done
  gq-enqueue f </dev/null >"$T/ids"
  # (A job whose answer came too late may run, too.)
  both_ran() { local id; while read -r id; do ran_times "$id" 2 || return; done <"$T/ids"; }
  eventually both_ran
  # Raw jobs, which anybody could send, are not served.
  not served "$PORT" f
  me=01HZZZZZZZZZZZZZZZZZZZZZZZ
  echo "gq1 ask rep_1:all rep_2 $me rep_1 $me 1 - -" | timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f rep_1 | grep -q 'bad its signature is wrong'
  # A transfer of node 1 that another worker has recorded is accepted once.
  # (The recorder ends by itself. If it were killed, its job would be given to node 2.)
  background gearman -w -c 1 -h 127.0.0.1 -p "$PORT" -f rep_2 -f rep_2.ask -- sh -c 'cat >"$0"; exit 1' "$T/recorded"
  wait "$PID" || true
  said() { timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f rep_2 <"$T/recorded"; }
  said >"$T/said"
  grep -qaE '^(end |have)' "$T/said" || { cat "$T/said"; false; }  # whatever the transfer was
  said | grep -qa '^bad it has been here before'
  # A node with another key is not heard. If one side has both keys, the nodes hear each other.
  kill "${NODE[2]}"; wait "${NODE[2]}"
  echo "$two" >"$T/key.2"
  node 2 --auth "$T/key.2"
  refused() { fails_with 75 gq-enqueue f --timeout 3s </dev/null; }
  eventually refused
  kill "${NODE[2]}"; wait "${NODE[2]}"
  printf '%s\n' "$two" "$one" >"$T/key.1"
  kill "${NODE[1]}"; wait "${NODE[1]}"
  node 1 --auth "$T/key.1"; printf '%s\n' "$one" "$two" >"$T/key.2"; node 2 --auth "$T/key.2"
  queued() { gq-enqueue f --timeout 5s </dev/null >"$T/new"; }
  eventually queued
  cat "$T/new" >>"$T/ids"
  eventually both_ran
}

# bats test_tags=long
@test "gq-worker: a signed transfer that was held back until its job was forgotten is not accepted" {
  start_gearmand
  NODES=(1 2)
  group all --copies 1
  for n in 1 2; do settings '{remember: "3s", clean_after: "0s", segment_size: "4K"}' "$T/$n"; done
  printf '%064d\n' 1 >"$T/key"; chmod 600 "$T/key"
  background gq-replicate --store "$T/1" --peer-timeout 700ms --auth "$T/key"
  background gq-worker --store "$T/2" -f f --peer-timeout 700ms --auth "$T/key" -- sh -c 'echo "$GQ_JOB_ID" >>"$0"' "$T/ran.2"
  for n in 1 2; do eventually meets_all $n; done
  # A worker beside node 2 keeps the transfers that it gets in node 2's place, and says that they failed. Then node 1
  # sends them again, under other numbers. The test waits for a transfer that names the session of node 2.
  mkdir "$T/held"
  background gearman -w -h 127.0.0.1 -p "$PORT" -f rep_2 -- sh -c 'f=$(mktemp -p "$0" .XXXXXX); cat >"$f"; mv "$f" "$0/${f##*.}"; exit 1' "$T/held"
  held_back() {
    id=$(seq 30 | gq-enqueue --store "$T/1" f --local -l | head -n 1)
    sleep .2
    held=$(grep -laE '^gq1 take (\S+ ){6}0' "$T"/held/* | xargs -r grep -la "$id" | head -n 1)
    [[ -n $held ]]
  }
  eventually held_back
  kill "$PID"
  eventually ran_times "$id" 1
  forgotten() { seq 30 | gq-enqueue --store "$T/2" g --local -l >/dev/null; not gq-inspect --store "$T/2" show "$id" 2>/dev/null; }
  eventually forgotten
  timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f rep_2 <"$held" >"$T/said"
  grep -qxa again "$T/said"
  forgotten
  ran_times "$id" 1
}

@test "gq-worker: if only one node of a group runs commands, it runs the jobs of all nodes [run once]" {
  start_gearmand
  group once
  for n in 1 2; do background gq-worker --store "$T/$n" -f f --queue-only --peer-timeout 2s --takeover 2s; done
  eventually served "$PORT" f.gq
  background gq-worker --store "$T/3" -f f --local --peer-timeout 2s --takeover 2s -- sh -c 'echo "$GQ_JOB_ID" >>"$0"' "$T/ran.3"
  for n in 1 2 3; do eventually meets_all $n; done
  seq 20 | gq-enqueue f -l >"$T/ids"
  eventually all_ran_once "$T/ids"
  sound
}

@test "gq-replicate: jobs of a forgotten node run on another node [run once]" {
  start_gearmand
  group once
  COMMAND='sleep 60' node 1
  background gq-replicate --store "$T/2"; two=$PID
  eventually served "$PORT" rep_2
  eventually answered 1 2
  gq-enqueue f </dev/null >"$T/ids"
  kill -9 "${NODE[1]}" "$two"
  for n in 2 3; do gq-replicate init --store "$T/$n" --as "rep_$n" --group rep_2,rep_3 --run once; done
  node 2
  eventually all_ran_once "$T/ids"
}

@test "gq-flush: kicking a job that runs on another node does not start a second run [run once]" {
  start_gearmand
  group once
  COMMAND='sleep 3' node 1
  eventually served "$PORT" f.gq
  for n in 2 3; do background gq-replicate --store "$T/$n"; done
  for n in 1 2 3; do eventually meets_all $n; done
  id=$(gq-enqueue f </dev/null)
  eventually is_state 1 "$id" running
  eventually is_state 2 "$id" held
  fails_with 1 gq-flush --store "$T/2" --kick "$id"
  eventually is_state 1 "$id" finished
  ran_times "$id" 1
}

# bats test_tags=long
@test "gq-worker: a job whose copies were confirmed too late for its client still runs" {
  start_gearmand
  group once
  nodes
  kill -STOP "${NODE[2]}" "${NODE[3]}"
  id=01HZZZZZZZZZZZZZZZZZZZZZZZ
  fails_with 75 gq-enqueue f --id $id --timeout 3s </dev/null
  fails_with 75 gq-enqueue f --timeout 3s </dev/null
  kill -CONT "${NODE[2]}" "${NODE[3]}"
  eventually ran_times $id 1
  none_pending() { [[ -z $(gq-inspect --store "$T/1" list) ]]; }
  eventually none_pending
}

# bats test_tags=long
@test "gq-worker: before it stops, it tells the other nodes of its last jobs, so that none runs again [run once]" {
  start_gearmand
  group once
  COMMAND='sleep 0.02' nodes
  seq 150 | gq-enqueue f -l >"$T/ids"
  owner=
  for n in 1 2 3; do [[ -n $(gq-inspect --store "$T/$n" list --state queued) ]] && owner=$n; done
  [[ -n $owner ]]
  eventually test -s "$T/ran.$owner"
  kill "${NODE[owner]}"; wait "${NODE[owner]}"
  eventually all_ran_once "$T/ids"
}

# bats test_tags=long
@test "gq-worker: with --relay it keeps no job, and answers when all other nodes have the job" {
  start_gearmand
  group all
  background gq-worker --store "$T/1" --relay -f f --peer-timeout 2s; relay=$PID
  eventually served "$PORT" f.gq
  for n in 2 3; do background gq-worker --store "$T/$n" -f other -- true; PIDS_OF[n]=$PID; eventually served "$PORT" rep_$n; done
  eventually meets_all 1
  queued() { gq-enqueue f --timeout 5s </dev/null >"$T/ids"; }
  eventually queued
  seq 50 | gq-enqueue f -l >>"$T/ids"
  [[ $(holders_of "$T/ids" | grep -c ' 2 ') == "$(wc -l <"$T/ids")" && -z $(gq-inspect --store "$T/1" list) ]]
  kill -STOP "${PIDS_OF[3]}"
  fails_with 75 gq-enqueue f --timeout 4s </dev/null
  kill -CONT "${PIDS_OF[3]}"
  eventually queued
  head -c 100000 /dev/zero | gq-enqueue f >>"$T/ids"
  for n in 2 3; do timeout 60 gq-worker --store "$T/$n" --local --drain -f f -- true; done
  no_blobs() { [[ -z $(find "$T"/[23]/blobs -type f) ]]; }
  eventually no_blobs
  kill -9 "${PIDS_OF[3]}"
  refused() { fails_with 75 gq-enqueue f --timeout 3s </dev/null; }
  eventually refused
  kill "$relay"; wait "$relay"
  background gq-worker --store "$T/1" --relay --copies 1 -f f --peer-timeout 2s
  eventually queued
}

# bats test_tags=long
@test "gq-replicate: a new node joins, catches up from a stream while the others work, and takes over load" {
  start_gearmand
  group once
  COMMAND="while [ ! -e '$T/go' ]; do sleep 0.05; done; sleep 0.01" nodes
  seq 300 | gq-enqueue f -l >"$T/ids"
  NODES=(1 2 3 4)
  for n in 1 2 3 4; do gq-replicate init --store "$T/$n" --as rep_$n --group rep_1,rep_2,rep_3,rep_4 --run once; done
  node 4
  owner=
  for n in 1 2 3; do [[ $(gq-inspect --store "$T/$n" list --state queued | wc -l) -gt 20 ]] && owner=$n; done
  [[ -n $owner ]]
  touch "$T/go"
  gq-inspect --store "$T/$owner" journal --records >"$T/stream"
  # The stream is cut halfway, and then sent again.
  head -c 2000 "$T/stream" >"$T/half"
  fails_with 65 gq-replicate --store "$T/$owner" --to rep_4 <"$T/half"
  gq-replicate --store "$T/$owner" --to rep_4 --hand-over <"$T/stream"
  eventually all_ran_once "$T/ids"
  [[ $(wc -l <"$T/ran.4") -gt 5 ]]
  finished_everywhere() { for n in 1 2 3 4; do [[ $(stats $n | jq -r 'select(.function == "f").finished') == 300 ]] || return; done; }
  eventually finished_everywhere
  all_ran_once "$T/ids"
  sound
}

# bats test_tags=once,long
@test "gq-worker: with an occasional job a group logs nothing, because late answers of the third node count" {
  start_gearmand
  group once
  nodes
  local n before
  before=$(cat "$T"/bg.*.err)
  for n in 1 2 3; do gq-enqueue f </dev/null >>"$T/ids"; sleep 1; done
  sleep 2.5  # longer than --peer-timeout
  for n in 1 2 3; do while read -r id; do gq-inspect --store "$T/$n" show "$id" >/dev/null; done <"$T/ids"; done
  [[ $(cat "$T"/bg.*.err) == "$before" ]]
}

# bats test_tags=once
@test "gq-worker: nodes that run hundreds of functions with long names hear each other" {
  start_gearmand
  NODES=(1 2)
  group once --copies 2
  local many n long
  long=$(printf 'x%.0s' {1..240})
  for n in $(seq 300); do many+=(-f "$long$n"); done
  node 1 "${many[@]}"
  node 2 "${many[@]}"
  eventually answered 1 2
  eventually answered 2 1
  gq-enqueue "${long}300" </dev/null
}

# bats test_tags=once
@test "gq-worker: nodes reach each other as long as one of two Gearman servers works" {
  start_gearmand; first=$GEARMAND one=$GQ_SERVERS
  start_gearmand
  export GQ_SERVERS=$one,$GQ_SERVERS
  group once
  nodes
  kill -9 "$first"
  for _ in {1..20}; do seq 5 | gq-enqueue f -l --timeout 20s >>"$T/ids"; sleep 0.1; done
  eventually all_ran_once "$T/ids"
}

@test "gq-replicate: init makes a queue a node without a message; the name cannot change while a program uses the store" {
  gq-enqueue f --local --delay 1h </dev/null >"$T/ids"
  gq-inspect stats
  [[ -z $(gq-replicate init --as rep_1 --group rep_1,rep_2 2>&1) && -z $(gq-inspect check 2>&1) ]]
  background gq-worker --local -f f -- true
  joined() { [[ -e $GQ_STORE/replicate.lock ]] && gq-inspect stats | grep -q rep_2; }
  eventually joined
  fails_with 75 gq-replicate init --as rep_3 --group rep_1,rep_3
  [[ $(jq -r .node "$GQ_STORE/gq.json") == rep_1 ]]
  gq-replicate init --as rep_1 --group rep_1,rep_2,rep_4
}

@test "gq-worker: another node is sent jobs that ran here before the two ever met [run all]" {
  start_gearmand
  group all --copies 1
  gq-enqueue --store "$T/1" f --local </dev/null >"$T/ids"
  node 1
  eventually all_ran_once "$T/ids"
  node 2
  eventually ran_times "$(cat "$T/ids")" 2
}

@test "gq-replicate: jobs that a dead node still owed are passed on by another node [run all]" {
  start_gearmand
  group all
  node 1
  background gq-replicate --store "$T/2" --takeover 3s
  eventually served "$PORT" rep_2
  eventually answered 1 2
  id=$(gq-enqueue f </dev/null)
  eventually ran_times "$id" 1
  kill -9 "${NODE[1]}"
  rm -rf "$T/1"
  node 3
  eventually ran_times "$id" 2
}

@test "gq-worker: jobs of a restored node that the others have seen end and have forgotten become dead, and do not run again [run once]" {
  NODES=(1 2)
  start_gearmand
  group once
  for n in 1 2; do settings '{remember: "1s", clean_after: "0s", segment_size: "4K"}' "$T/$n"; done
  for n in 1 2; do background gq-replicate --store "$T/$n"; NODE[n]=$PID; eventually served "$PORT" rep_$n; done
  eventually meets_all 2
  seq 30 | gq-enqueue --store "$T/2" f --local -l >"$T/ids"
  eventually owes 2 1 0  # else node 2 would tell of these jobs again
  gq-snapshot create "$T/snaps" --store "$T/2"
  kill "${NODE[2]}"; wait "${NODE[2]}"
  node 2
  eventually all_ran_once "$T/ids"
  ended() { [[ -z $(gq-inspect list --store "$T/1") ]]; }
  eventually ended
  forgotten() { seq 30 | gq-enqueue --store "$T/1" g --local -l >/dev/null; [[ $(copies_of "$(head -n 1 "$T/ids")") == 0 ]]; }
  eventually forgotten
  kill "${NODE[2]}"; wait "${NODE[2]}"
  rm -rf "$T/2"
  gq-snapshot restore "$T/snaps" --store "$T/2"
  node 2
  # Node 1 may still know a few jobs, whose records are among others, and tells that they have ended.
  stale() {
    local live
    live=$(gq-inspect list --store "$T/2" -f f --json | jq -c '[.state, .reason]' | sort -u)
    [[ $live == '["dead","stale: '* && $live != *$'\n'* ]]
  }
  eventually stale
  all_ran_once "$T/ids"
}

# Starts a group of two: two_of_which_one_hangs PEER-TIMEOUT. Node 1 ($WORKER) works for f and notes the workloads in
# $T/ran. Node 2 ($PEER) hangs.
two_of_which_one_hangs() {
  start_gearmand
  NODES=(1 2)
  group once
  background gq-worker --store "$T/1" -f f --peer-timeout "$1" -- sh -c 'cat >>"$0"; echo >>"$0"' "$T/ran"
  WORKER=$PID
  background gq-replicate --store "$T/2"
  PEER=$PID
  eventually served "$PORT" f
  eventually answered 1 2
  kill -STOP "$PEER"
}
# Whether the server has so many jobs of f, and so many of them are with a worker: in_server 'JOBS RUNNING'.
in_server() { [[ $(status "$PORT" | awk '$1 == "f" { print $2, $3 }') == "$1" ]]; }

@test "gq-worker: a raw job for which a peer hangs is queued once, and stays with the server if the worker stops before the outcome is decided" {
  two_of_which_one_hangs 1s
  for n in 1 2 3 4; do gearman -h 127.0.0.1 -p "$PORT" -b -f f "raw$n"; done
  eventually grep -q 'taking no more jobs: copies=1/2' "$T/bg.1.err"
  kill -CONT "$PEER"
  eventually in_server '0 0'
  nothing_left() { [[ -z $(gq-inspect --store "$T/1" list) ]]; }
  eventually nothing_left
  [[ $(sort "$T/ran") == $'raw1\nraw2\nraw3\nraw4' ]]
  kill -STOP "$PEER"
  gearman -h 127.0.0.1 -p "$PORT" -b -f f raw5
  here() { [[ $(gq-inspect --store "$T/1" list) == *$'\tpending\t'* ]]; }
  # On a slow machine the worker may first miss the peer's answer, and take no more jobs.
  here_or_closed() { here || (($(grep -c 'taking no more jobs' "$T/bg.1.err") > 1)); }
  eventually here_or_closed
  ! here || in_server '1 1'
  kill "$WORKER"
  wait "$WORKER"
  eventually in_server '1 0'
}

# bats test_tags=long
@test "gq-worker: while raw jobs wait for a peer that hangs, it receives others; at its limit it still receives gq's own records" {
  two_of_which_one_hangs 60s
  hears() { [[ $(echo garbage | timeout 10 gearman -h 127.0.0.1 -p "$PORT" -f f.gq) == 'bad not a whole record' ]]; }
  for n in $(seq 20); do gearman -h 127.0.0.1 -p "$PORT" -b -f f "raw$n"; done
  hears
  eventually in_server '20 15'
  hears
  in_server '20 15'
}

@test "gq-worker: --alone-after does not count while another node answers; stats and list say what the node waits for, and forget ends the wait [run once]" {
  start_gearmand
  NODES=(1 2)
  group once --copies 1
  id=$(gq-enqueue --store "$T/1" f --local </dev/null)
  # Node 2 answers, and never reaches the end of what it has to tell.
  sent="sent rep_1 $(jq -r .identity "$T/1/gq.json") 5"
  printf 'gq1 rep_2 %s %s -\nend 1000\nrunner 0\nroom 1\nrelay 0\n%s\n' 01HZZZZZZZZZZZZZZZZZZZZZZZ 01HZZZZZZZZZZZZZZZZZZZZZZY "$sent" >"$T/answer"
  background gearman -w -h 127.0.0.1 -p "$PORT" -f rep_2 -- cat "$T/answer"
  eventually served "$PORT" rep_2
  node 1 --alone-after 2s
  eventually says "$((${#PIDS[@]} - 1))" 'no job is run until rep_2 has told'
  [[ ! -e $T/ran.1 ]]
  stats 1 | jq -se 'any(.node == "rep_1" and (.waits | startswith("until rep_2 has told")))'
  gq-inspect --store "$T/1" stats | grep -q '^rep_1: runs no job until rep_2 has told'
  gq-inspect --store "$T/1" list | grep -q "^$id.*until rep_2 has told"
  gq-inspect --store "$T/1" list --json | jq -e '.waits | startswith("until rep_2 has told")'
  gq-replicate forget rep_2 --store "$T/1"
  eventually ran_times "$id" 1
  stats 1 | jq -se 'all(.waits | not)'
}

@test "gq-worker: a node that was stopped for longer than --takeover does not run jobs that were taken over, and the other nodes ask, too [run once]" {
  start_gearmand
  NODES=(1 2)
  group once
  COMMAND='sleep 0.2' node 1
  background gq-replicate --store "$T/2" --takeover 3s; two=$PID
  for n in 1 2; do eventually meets_all $n; done
  seq 30 | gq-enqueue f -l >"$T/ids"
  kill "$two"; wait "$two"
  node 2
  eventually meets_all 2
  kill -STOP "${NODE[1]}"
  before=$(cat "$T/ran.1" | wc -l)  # the last one may not have been reported
  all_ran() { [[ $(ran | sort -u) == "$(sort "$T/ids")" ]]; }
  eventually all_ran
  kill -CONT "${NODE[1]}"
  all_finished() { [[ $(stats 1 | jq -r 'select(.function == "f").finished') == 30 ]]; }
  eventually all_finished
  (($(cat "$T/ran.1" | wc -l) <= before + 1))  # only the job that was running when the node was stopped
  cat "$T"/bg.*.err | grep -q 'this node was stopped for'
  cat "$T"/bg.*.err | grep -q 'no other node had answered for'
}

@test "gq-flush: starts no job while the process that serves the node is stopped [run once]" {
  start_gearmand
  NODES=(1 2)
  group once --copies 1
  for n in 1 2; do background gq-replicate --store "$T/$n" --takeover 2s; NODE[n]=$PID; done
  for n in 1 2; do eventually meets_all $n; done
  flush() { gq-flush --store "$T/1" -f f -- sh -c 'echo "$GQ_JOB_ID" >>"$0"' "$T/ran.1"; }
  eventually flush
  gq-enqueue --store "$T/1" f --local </dev/null >"$T/ids"
  kill -STOP "${NODE[1]}"
  stands_still() { stats 1 | jq -se 'any(.waits // "" | contains("it has been silent since"))'; }
  eventually stands_still
  fails_with 75 flush
  [[ ! -e $T/ran.1 ]]
  kill -CONT "${NODE[1]}"
  eventually flush
  eventually all_ran_once "$T/ids"
}

@test "gq-replicate: if forget or init is killed at one of its writes, repeating it or the process that serves the node completes it" {
  start_gearmand
  local call n kills=0 before=
  killed_at() {
    local got=0
    strace -f -qq -o /dev/null -e "inject=$1:signal=KILL:when=$2" gq-replicate --store "$T/1" "${@:3}" 2>/dev/null || got=$?
    [[ $got == 137 ]] && kills=$((kills + 1))
  }
  for call in fdatasync fsync rename,renameat,renameat2; do
    for n in 1 2 3; do
      rm -rf "$T"/[123]
      group once --copies 1
      killed_at $call $n forget rep_3 || continue
      gq-replicate --store "$T/1" forget rep_3
      [[ $(stats 1 | grep -c rep_3) == 0 ]]
      killed_at $call $n init --as rep_9 --group rep_9,rep_2 || continue
      gq-replicate --store "$T/1" init --as rep_9 --group rep_9,rep_2
      [[ $(jq -c '[.node, .group]' "$T/1/gq.json") == '["rep_9",["rep_9","rep_2"]]' ]]
      gq-inspect --store "$T/1" check
    done
  done
  ((kills >= 4))
  fails_with 64 gq-replicate --store "$T/1" forget rep_7
  # gq.json lists two nodes, but the journal says that the third is owed everything. Then nothing would ever be
  # forgotten.
  rm -rf "$T"/[123]
  group once --copies 1
  settings '{group: ["rep_1", "rep_2"]}' "$T/1"
  node 1
  forgotten() { gq-inspect --store "$T/1" journal --json | jq -se 'any(.type == "peer" and .node == "rep_3" and .position > 600000000)'; }
  eventually forgotten
}

# bats test_tags=once,long
@test "gq-worker, gq-replicate, gq-flush: a program of a group ends although a peer and a name server hang [SIGTERM]" {
  NODES=(1 2)
  group once --copies 2
  start_gearmand
  LD_PRELOAD=$PRELOAD node 1 --peer-timeout 100s --servers "127.0.0.1:$PORT,slow.invalid"
  node 2 --peer-timeout 100s
  for n in 1 2; do eventually meets_all $n; done
  kill -STOP "${NODE[2]}"
  background gq-enqueue f --timeout 200s </dev/null
  client=$PID
  waits() { gq-inspect --store "$T/1" list --state pending | grep -q .; }
  eventually waits
  kill "${NODE[1]}"
  eventually no_process "${NODE[1]}"
  wait "$client" || [[ $? == 75 ]]
  background gq-replicate --store "$T/1" --peer-timeout 100s
  replicate=$PID
  eventually served "$PORT" rep_1
  kill "$replicate"
  eventually no_process "$replicate"
  background gq-flush --store "$T/1" --all --peer-timeout 100s -- true
  flush=$PID
  eventually locked "$T/1/replicate.lock"
  kill "$flush"
  eventually no_process "$flush"
  kill -CONT "${NODE[2]}"
}

# bats test_tags=long
@test "gq-worker: a node that runs their function takes jobs over, whether their owner is dead or only has no worker for it [run once]" {
  start_gearmand
  group once
  COMMAND='sleep 60' node 1
  background gq-worker --store "$T/2" -f g --takeover 3s -- true
  eventually served "$PORT" rep_2
  for n in 1 2; do eventually answered $n $((3 - n)); done
  gq-enqueue f </dev/null >"$T/ids"
  kill -9 "${NODE[1]}"
  gq-enqueue --store "$T/2" f --local --owe </dev/null 2>/dev/null >>"$T/ids"
  eventually says "$((${#PIDS[@]} - 1))" 'rep_1 has not answered'
  node 3
  eventually all_ran_once "$T/ids"
  while read -r id; do [[ $(gq-inspect --store "$T/3" show --json "$id" | jq -r .node) == rep_3 ]]; done <"$T/ids"
  [[ $(grep -l 'taken over' "$T"/bg.*.err | wc -l) == 1 ]]
}

# bats test_tags=once
@test "gq-worker: a server that sends packets without end in another node's place delays neither the end of a node nor its jobs [--auth]" {
  start_gearmand
  NODES=(1 2)
  group all --copies 1
  (umask 077; printf '%064d\n' 1 >"$T/key")
  fake_gearmand rep_2 flood
  GQ_SERVERS=$FAKE,$GQ_SERVERS node 1 --auth "$T/key"
  eventually grep -q flood "$FAKE_LOG"
  gq-enqueue f --timeout 20s <<<x >"$T/ids"
  eventually all_ran_once "$T/ids"
  kill "${NODE[1]}"
  timeout 20 tail --pid "${NODE[1]}" -f /dev/null
}

@test "gq-worker: a server that falsely claims to have a node does not keep others from asking it through another server [as one counts a worker whose link was cut]" {
  start_gearmand
  NODES=(1 2)
  group all --copies 1
  fake_gearmand rep_2.ask mute
  GQ_SERVERS=$FAKE,$GQ_SERVERS node 1
  eventually grep -q asked "$FAKE_LOG"
  node 2
  eventually answered 1 2
}

@test "gq-worker: an unreachable server is reported once, however often another node is looked for" {
  start_gearmand
  NODES=(1 2)
  group all --copies 1
  local gone
  gone=$(free_port)
  GQ_SERVERS=$GQ_SERVERS,127.0.0.1:$gone node 1
  eventually says "$((${#PIDS[@]} - 1))" 'rep_2 has not answered'
  [[ $(grep -c "cannot reach 127.0.0.1:$gone: " "$T/bg.1.err") == 1 ]]
}

# Starts a link from node 1 to the Gearman server that carries so many bytes a second to the server: slow_link RATE.
slow_link() {
  LINK=$(free_port)
  background python3 "$BATS_TEST_DIRNAME/relay.py" "$LINK" "$PORT" "$1"
  eventually answers "$LINK"
}

# bats test_tags=once,long
@test "gq-worker: a large job is on a second disk when its client is answered, however slow the link [longer than --peer-timeout]" {
  start_gearmand
  NODES=(1 2)
  group once
  slow_link 1000000
  background gq-replicate --store "$T/2"
  GQ_SERVERS=127.0.0.1:$LINK node 1
  for n in 1 2; do eventually meets_all $n; done
  head -c 4000000 /dev/urandom >"$T/big"
  for _ in 1 2 3; do id=$(gq-enqueue f --key K --timeout 60s "$T/big") && break; done
  [[ $(gq-inspect --store "$T/2" cat "$id" | sha256sum) == "$(sha256sum <"$T/big")" ]]
  [[ -z $(find "$T/2/blobs" -name 'tmp.*') ]]
}

@test "gq-worker: a file of a large job's ID and size that a crash left at another node is not taken for its workload" {
  start_gearmand
  NODES=(1 2)
  group once
  nodes
  local id=01ARZ3NDEKTSV4RRFFQ69G5FAV
  mkdir -p "$T/2/blobs/${id:24}"
  head -c 3000000 /dev/urandom >"$T/2/blobs/${id:24}/$id"
  head -c 3000000 /dev/urandom >"$T/big"
  gq-enqueue --store "$T/1" f --local --delay 1h --id "$id" "$T/big"
  gq-inspect --store "$T/2" cat "$id" | cmp - "$T/big"
}

@test "gq-worker: a node that has another job under the ID of a source does not take a reference for a job that it has" {
  start_gearmand
  NODES=(1 2)
  group once
  local x=01ARZ3NDEKTSV4RRFFQ69G5FAV r
  for n in 1 2; do
    head -c 3000000 /dev/urandom >"$T/big$n"
    gq-enqueue --store "$T/$n" f$n --local --owe --peer-timeout 1s --delay 300d --id $x "$T/big$n"
  done
  nodes
  r=$(gq-enqueue --store "$T/1" f --local --delay 1h --from $x --range 100000:1000000)
  has_it() { gq-inspect --store "$T/2" cat "$r" | cmp - <(tail -c +100001 "$T/big1" | head -c 1000000); }
  eventually has_it
}

@test "gq-worker: another workload under a job's ID, size and checksum is not told to a node in the place of the first [made to have that checksum]" {
  start_gearmand
  NODES=(1 2)
  group once --copies 1
  local id=01ARZ3NDEKTSV4RRFFQ69G5FAV text
  # XXH3 multiplies the second eight bytes by zero if the first eight are those of its secret.
  for text in honest.. another.; do
    printf '\xb8\xfe\x6c\x39\x23\xa4\x4b\xbe%s0123456789abcdef' $text >"$T/$text"
    gq-enqueue --store "$T/1" f --local --owe --peer-timeout 1s --delay 1h --id $id "$T/$text"
  done
  nodes
  is_told() { gq-inspect --store "$T/2" cat $id >"$T/there"; }
  eventually is_told
  cmp "$T/there" "$T/honest.."
}

@test "gq-worker: references to a large workload are taken by another node, however many it is told of together [all of it, and parts: more than 256 MiB]" {
  start_gearmand
  NODES=(1 2)
  group once --copies 1
  nodes
  local x
  x=$(head -c 60000000 /dev/zero | gq-enqueue --store "$T/1" f --local --delay 1h)
  eventually on_nodes "$x" 2
  kill "${NODE[2]}"; wait "${NODE[2]}"
  { yes 0:60000000 | head -n 6; yes 1:55000000 | head -n 6; } | gq-enqueue --store "$T/1" f --local --owe --peer-timeout 1s -l --delay 1h --from "$x" >"$T/ids"
  node 2
  eventually held_by_each "$T/ids"
  not says 1 'are more than 256 MiB'
}

# bats test_tags=once
@test "gq-worker: a large job on a slow link delays neither news of other jobs nor the node's answers" {
  start_gearmand
  NODES=(1 2)
  group once --copies 1
  slow_link 300000
  background gq-replicate --store "$T/2" --takeover 3s
  GQ_SERVERS=127.0.0.1:$LINK node 1
  for n in 1 2; do eventually meets_all $n; done
  big=$(head -c 30000000 /dev/urandom | gq-enqueue f --delay 1h --timeout 60s)
  arrives() { [[ -n $(find "$T/2/blobs" -name 'tmp.*' -size +200k) ]]; }
  eventually arrives
  seq 5 | gq-enqueue f -l --timeout 60s >"$T/ids"
  ends_are_known() { local id; while read -r id; do is_state 2 "$id" finished || return; done <"$T/ids"; }
  eventually ends_are_known
  eventually owes 1 2 1
  fails_with 1 gq-inspect --store "$T/2" show "$big"
  not says 2 'has not answered'
}

@test "gq-worker: a job that a node cannot take blocks no other job, is named, and is still owed [no room for it]" {
  NODES=(1)
  start_gearmand
  store_on_small_disk
  for n in 1 2; do gq-replicate init --store "$([[ $n == 1 ]] && echo "$T/1" || echo "$GQ_STORE")" --as "rep_$n" --group rep_1,rep_2 --copies 1 --run once; done
  background gq-replicate --store "$GQ_STORE"
  node 1
  eventually answered 1 2
  big=$(head -c 20000000 /dev/urandom | gq-enqueue f --delay 1h)
  refused() { stats 1 | jq -se "any(.refused[\"$big\"])"; }
  eventually refused
  says 2 "$big: rep_2 refuses it: "
  seq 20 | gq-enqueue f -l >"$T/ids"
  there() { [[ $(gq-inspect stats --json | jq -r 'select(.function == "f").finished') == 20 ]]; }
  eventually there
  eventually owes 1 2 1
  # Another process that serves the node finds the job owed as well.
  kill "${NODE[1]}"; wait "${NODE[1]}"
  owes 1 2 1
  node 1
  eventually refused
  # The debt is settled when there is no job left to take.
  gq-flush --store "$T/1" --drop "$big"
  eventually owes 1 2 0
}

@test "gq-replicate: a job whose workload cannot be read blocks no other job, is named, and is still owed [EIO from its blob]" {
  start_gearmand
  NODES=(1 2)
  group all
  head -c 100000 /dev/urandom >"$T/large"
  large=$(gq-enqueue --local --owe --store "$T/1" f "$T/large")
  seq 3 | gq-enqueue --store "$T/1" f --local --owe -l
  background strace -f -qq -o /dev/null -P "$(echo "$T"/1/blobs/*/*)" -e trace=pread64 -e inject=pread64:error=EIO gq-replicate --store "$T/1" --peer-timeout 2s
  local tracer=$PID traced
  eventually served "$PORT" rep_1
  traced=$(pgrep -P "$tracer")
  PIDS+=("$traced")
  background gq-replicate --store "$T/2" --peer-timeout 2s
  others_there() { [[ $(gq-inspect --store "$T/2" list | wc -l) == 3 ]]; }
  eventually others_there
  named() { stats 1 | jq -se --arg id "$large" 'any(.owed == 1 and (.unreadable[$id] | test("^cannot read ")) and .refused == null)'; }
  eventually named
  cat "$T"/bg.*.err | grep -q "$large: cannot give it to rep_2: cannot read"
  gq-inspect --store "$T/1" stats | grep "^rep_2: cannot be given $large: cannot read"
  # When the disk returns the blob, the job is sent.
  kill "$traced"; wait "$tracer" || true
  background gq-replicate --store "$T/1" --peer-timeout 2s
  all_there() { on_nodes "$large" 2; }
  eventually all_there
}

@test "gq-worker: a job whose key is taken on another node is settled there and named, and blocks no other job [a recreated node]" {
  start_gearmand
  NODES=(1 2)
  group once
  background gq-replicate --store "$T/2"
  two=$PID
  background gq-worker --store "$T/1" -f f --queue-only --peer-timeout 2s
  one=$PID
  eventually served "$PORT" f.gq
  for n in 1 2; do eventually meets_all $n; done
  first=$(gq-enqueue f --key K <<<hello)
  kill "$two"; wait "$two"
  kill -9 "$one"; wait "$one" || true
  rm -rf "$T/1" "$T/1.database"
  new_store "$T/1"
  gq-replicate init --store "$T/1" --as rep_1 --group rep_1,rep_2 --run once
  background gq-worker --store "$T/1" -f f --queue-only --owe --peer-timeout 2s
  eventually served "$PORT" f.gq
  second=$(gq-enqueue f --key K <<<hello)
  [[ $second != "$first" ]]
  background gq-worker --store "$T/2" -f f -f g --takeover 2s -- true
  two=$((${#PIDS[@]} - 1))
  eventually served "$PORT" g.gq
  named() { says "$two" "$first: rep_1 has another job with this ID or key"; }
  eventually named
  seq 20 | gq-enqueue g -l
  eventually is_state 2 "$first" finished  # it has run, and was not dropped
  eventually owes 2 1 0
}

# bats test_tags=once,long
@test "gq-worker: large jobs for a node that hangs do not accumulate in memory" {
  start_gearmand
  group once
  for n in 2 3; do background gq-replicate --store "$T/$n"; NODE[n]=$PID; done
  background gq-worker --store "$T/1" -f f --queue-only --peer-timeout 60s
  eventually served "$PORT" f.gq
  for n in 1 2 3; do eventually meets_all $n; done
  kill -STOP "${NODE[2]}"
  head -c 16000000 /dev/urandom >"$T/big"
  for n in $(seq 16); do gq-enqueue f --timeout 60s "$T/big"; done
  (($(awk '/VmHWM/ { print $2 }' "/proc/$PID/status") < 250000))
  kill -CONT "${NODE[2]}"
}

@test "gq-inspect: the store of the node that ran a job has its output, and another one names that node; the client asks through gearmand [gq-enqueue --result, run once]" {
  start_gearmand
  group once
  COMMAND='echo "output of $GQ_JOB_ID"'
  nodes
  id=$(gq-enqueue f --result <<<x)
  for n in 1 2 3; do eventually is_state "$n" "$id" finished; done
  owner=$(gq-inspect --store "$T/1" show --json "$id" | jq -r .node)
  for n in 1 2 3; do
    if [[ $owner == "rep_$n" ]]; then
      [[ $(gq-inspect --store "$T/$n" output "$id") == "output of $id" ]]
    else
      fails_with 1 gq-inspect --store "$T/$n" output "$id"
      grep -q "$owner ran it" "$T/failed.err"
    fi
  done
  sound
}

@test "gq-enqueue: a job runs after jobs of other nodes, also on the node that takes it over; a dropped parent makes it dead on all [--after, run once]" {
  local a b id=01ARZ3NDEKTSV4RRFFQ69G5FAV
  start_gearmand
  group once
  nodes
  on() { local n=$1; shift; gq-enqueue --store "$T/$n" --local f "$@"; }
  a=$(on 1 --delay 1h <<<a)
  eventually on_nodes "$a" 3
  b=$(on 2 --after "$a" <<<b)
  eventually on_nodes "$b" 3
  [[ $(state_of 2 "$b") == waiting && $(state_of 1 "$b") == held ]]
  gq-inspect --store "$T/2" list | grep -q "^$b.*after $a$"
  gq-flush --store "$T/1" --kick "$a"
  eventually ran_times "$b" 1
  grep -q "$a" "$T/ran.1"
  grep -q "$b" "$T/ran.2"
  # A parent that has ended is not waited for, and one that is dropped makes the job dead on each node.
  b=$(on 3 --after "$a" <<<b)
  eventually ran_times "$b" 1
  a=$(on 1 --delay 1h <<<a)
  eventually on_nodes "$a" 3
  b=$(on 2 --after "$a" <<<b)
  eventually on_nodes "$b" 3
  gq-flush --store "$T/1" --drop "$a"
  for n in 1 2 3; do eventually is_state "$n" "$b" dead; done
  # An ID that no node knows is 65. A node that takes over a job waits for its parents.
  fails_with 65 on 1 --after $id <<<x
  grep -q 'which no node of the group knows' "$T/failed.err"
  a=$(on 2 --delay 1h <<<a)
  eventually on_nodes "$a" 3
  b=$(on 1 --after "$a" --id $id <<<b)
  eventually on_nodes "$b" 3
  kill -9 "${NODE[1]}"
  taken_over() { [[ $(for n in 2 3; do state_of $n "$b"; done | sort | xargs) == 'held waiting' ]]; }
  eventually taken_over
  fails_with 75 on 2 --after 01ARZ3NDEKTSV4RRFFQ69G5FAX --timeout 3s <<<x
  gq-flush --store "$T/2" --kick "$a"
  eventually ran_times "$b" 1
  node 1
  eventually is_state 1 "$b" finished
  [[ $(on 1 --after "$a" --id $id <<<b) == "$id" ]]
  sound
}

@test "gq-enqueue: a job runs once when its node dies between the end of its parent and its own birth [--after, run once]" {
  local a b i
  start_gearmand
  group once
  nodes
  on() { local n=$1; shift; gq-enqueue --store "$T/$n" --local f "$@"; }
  a=$(on 2 --delay 1h <<<a)
  eventually on_nodes "$a" 3
  b=$(on 1 --after "$a" <<<b)
  eventually on_nodes "$b" 3
  kill -STOP "${NODE[1]}"
  gq-flush --store "$T/2" --kick "$a"
  eventually ran_times "$a" 1
  [[ $(state_of 1 "$b") == waiting ]]
  kill -9 "${NODE[1]}"
  eventually ran_times "$b" 1
  node 1
  for i in 1 2 3; do eventually is_state $i "$b" finished; done
  ran_times "$b" 1
  sound
}

@test "gq-enqueue: a job can be after one that only another node has, when it comes [--after, run once, --copies 1]" {
  local a b
  start_gearmand
  group once --copies 1
  nodes
  kill -STOP "${NODE[1]}"
  a=$(gq-enqueue --store "$T/1" --servers 127.0.0.1:9 --local f --delay 1h <<<a)
  fails_with 75 gq-enqueue --store "$T/2" --local f --after "$a" --peer-timeout 1s <<<b
  grep -q "to run after $a, which this node does not know; " "$T/failed.err"
  kill -CONT "${NODE[1]}"
  b=$(gq-enqueue --store "$T/2" --local f --after "$a" --peer-timeout 20s <<<b)
  [[ $(state_of 2 "$b") == waiting ]]
  gq-flush --store "$T/1" --kick "$a"
  eventually ran_times "$b" 1
  sound
}

@test "gq-enqueue: --after is refused in a group whose nodes all run each job [65]" {
  local a
  start_gearmand
  NODES=(1 2)
  group all
  nodes
  a=$(gq-enqueue f <<<a)
  eventually on_nodes "$a" 2
  fails_with 65 gq-enqueue f --after "$a" <<<b
  grep -q 'in a group whose nodes all run each job, none is after other jobs' "$T/failed.err"
}

@test "gq-flush: a job that is after a cancelled job of another node waits; where each node runs all jobs, a cancelled job makes no children on its node [--cancel, --after, --then]" {
  local a b n
  start_gearmand
  NODES=(1 2)
  group once
  COMMAND='trap "exit 0" TERM; grep -q long && while :; do sleep 0.1; done' nodes
  for n in 1 2; do eventually test -s "$T/$n/peers/rep_$((3 - n)).reads"; done
  a=$(gq-enqueue --store "$T/1" --local f <<<long)
  eventually is_state 1 "$a" running
  eventually on_nodes "$a" 2
  b=$(gq-enqueue --store "$T/2" --local f --after "$a" <<<b)
  gq-flush --store "$T/1" --cancel "$a"
  for n in 1 2; do eventually is_state $n "$a" dead; done
  [[ $(state_of 2 "$b") == waiting && $(gq-inspect --store "$T/2" show "$b" --json | jq -r .waits) == "after $a, which is dead" ]]
  kill "${NODE[@]}"; wait "${NODE[@]}" || true
  sound
  rm -rf "$T"/[12]
  group all
  for n in 1 2; do
    background gq-worker --store "$T/$n" -f f --then g -- sh -c 'trap "exit 0" TERM; cat; while [ ! -e "$0" ]; do sleep 0.1; done' "$T/go.$n"
    NODE[n]=$PID
    eventually served "$PORT" "rep_$n"
  done
  for n in 1 2; do eventually meets_all $n; eventually test -s "$T/$n/peers/rep_$((3 - n)).reads"; done
  a=$(gq-enqueue f <<<long)
  for n in 1 2; do eventually is_state $n "$a" running; done
  gq-flush --store "$T/1" --cancel "$a"
  eventually is_state 1 "$a" dead
  touch "$T/go.2"
  eventually is_state 2 "$a" finished
  [[ -z $(gq-inspect --store "$T/1" list -f g) && $(gq-inspect --store "$T/2" list -f g --state queued | wc -l) == 1 ]]
  sound
}
