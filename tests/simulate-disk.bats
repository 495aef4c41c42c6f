load helpers

# gq-simulate-disk searches for a moment at which a crash or a failing disk breaks a promise. tests/disk/history.hpp lists the
# promises, and tests/disk/simulated_disk.hpp says what a disk does. The seeds are chosen as for gq-simulate.
setup() {
  T=$BATS_TEST_TMPDIR
  PATH=$GQ_BUILD:$PATH
}
teardown() { :; }

@test "gq-simulate-disk: finds no crash and no failing disk that breaks a promise of the journal, in some seconds" {
  gq-simulate-disk --seed "$(seed)" --seconds "${GQ_SIMULATE_SECONDS:-10}"
}

# Which histories meet the fault of a patch, and the first seed of the search.
of() {
  if grep -qE '^(Of: mirror|--- a/lib/database)' "$1"; then echo mirror
  elif grep -qE '^(Of: store|--- a/lib/store/[^b])' "$1"; then echo store
  else echo journal; fi
}
seed_of() {
  local seed
  seed=$(sed -n 's/^Seed: //p' "$1")
  echo "${seed:-1}"
}

mutant() {
  build_target "gq-simulate-disk-$1"
}

@test "gq-simulate-disk: what it prints can be played again with the same result" {
  mutant lost-pages-are-vouched-for
  run -1 gq-simulate-disk-lost-pages-are-vouched-for --seed 1 --seconds 300 --of journal
  [[ $output =~ --play\ ([^ ]+):\ ([^$'\n']+) ]]
  local plan=${BASH_REMATCH[1]} what=${BASH_REMATCH[2]}
  run -1 gq-simulate-disk-lost-pages-are-vouched-for --play "$plan"
  [[ $output == "$what" ]]
  gq-simulate-disk --play "$plan"
  run -65 gq-simulate-disk --play 1:2
}

@test "gq-simulate-disk: finds each known fault in a short time when its fix is reverted [each of tests/disk/mutants]" {
  local patch name
  for patch in "$BATS_TEST_DIRNAME"/disk/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    mutant "$name"
    run -1 "gq-simulate-disk-$name" --seed "$(seed_of "$patch")" --seconds 600 --of "$(of "$patch")"
    [[ $output == *--play* ]]
  done
}
