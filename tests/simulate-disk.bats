load helpers

# gq-simulate-disk searches what stands on a disk for a moment at which a crash or a failing disk breaks a promise;
# tests/disk/history.hpp says which, and tests/disk/simulated_disk.hpp what a disk is. Its seed is the tree's, as that of gq-simulate.
setup() {
  T=$BATS_TEST_TMPDIR
  PATH=$GQ_BUILD:$PATH
}
teardown() { :; }

seed() {
  local hash
  hash=$(git -C "$BATS_TEST_DIRNAME" rev-parse 'HEAD^{tree}' 2>"$T/git") || hash=1
  echo "$((16#${hash:0:12}))"
}

@test "gq-simulate-disk: finds no crash and no failing disk that breaks a promise of the journal, in some seconds" {
  gq-simulate-disk --seed "$(seed)" --seconds "${GQ_SIMULATE_SECONDS:-10}"
}
