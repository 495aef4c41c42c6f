load helpers

# Each reader gets two seconds; scripts/fuzz SECONDS and scripts/torture --minutes take longer. corpus/ holds inputs
# that the fuzzer kept in longer runs.
# bats test_tags=sanitized
@test "the readers of bytes from outside: in two seconds a fuzzer finds no crash, no hang and no contradiction [each reader]" {
  cd "$T"
  "$BATS_TEST_DIRNAME/../scripts/fuzz" 2
}
