load helpers

@test "gq: kill -9 of worker, enqueuer, flush and gearmand, 50 rounds: nothing acknowledged is lost, nothing runs twice at once" {
  python3 "$BATS_TEST_DIRNAME/crash.py" --rounds 50
}
