load helpers

# The short form of each fault, with a seed of its own each time; scripts/torture runs the long ones.
torture() { python3 "$BATS_TEST_DIRNAME/torture.py" --only "$@"; }

@test "gq: kill -9 of worker, enqueuer, flush and gearmand, 50 rounds: nothing acknowledged is lost, nothing runs twice at once" {
  torture kill --rounds 50
}
