load helpers

# gq-simulate searches the decisions of a group's nodes; tests/simulate/world.hpp says what must hold. The search's seed is
# made from the tree, so that a commit's result repeats. The mutants' seed is fixed, so that luck decides nothing.
# scripts/torture takes new seeds.
setup() {
  T=$BATS_TEST_TMPDIR
  PATH=$GQ_BUILD:$PATH
}
teardown() { :; }

@test "gq-simulate: finds no order of events that breaks a promise, in some seconds" {
  gq-simulate --seed "$(seed)" --seconds "${GQ_SIMULATE_SECONDS:-10}"
}

@test "gq-simulate: scripts that once broke a promise no longer do [each script]" {
  gq-simulate "$BATS_TEST_DIRNAME"/simulate/scripts/*.txt
}

@test "gq-simulate: a script that it prints can be played again with the same result; a bad line is named [65]" {
  local mutant=$GQ_BUILD/gq-simulate-pending-is-answered script
  build_target gq-simulate-pending-is-answered
  run -1 "$mutant" --seed 1 --seconds 300
  echo "$output" >"$T/found.txt"
  run -1 "$mutant" "$T/found.txt"
  [[ $output == *found.txt:* ]]
  gq-simulate "$T/found.txt"
  echo "step rep_1" >"$T/bad.txt"
  run -65 gq-simulate "$T/bad.txt"
  [[ $output == *"line 1"* ]]
}

@test "gq-simulate: finds each known fault in a short time when its fix is reverted [each of tests/simulate/mutants]" {
  local patch mutant script
  build_target gq-mutants
  for patch in "$BATS_TEST_DIRNAME"/simulate/mutants/*.patch; do
    mutant=gq-simulate-$(basename "$patch" .patch)
    script=$(sed -n 's/^Script: //p' "$patch")  # set if a search would meet the fault too seldom
    if [[ $script ]]; then run -1 "$mutant" "$BATS_TEST_DIRNAME/simulate/scripts/$script"
    else run -1 "$mutant" --seed 1 --groups 8000 --seconds 600; fi  # a minute and a half of one core
  done
}
