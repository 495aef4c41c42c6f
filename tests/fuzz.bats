load helpers

# Two seconds each; scripts/fuzz SECONDS goes on for longer, and so does scripts/torture --minutes. What the fuzzer kept of longer runs is in corpus/.
# bats test_tags=sanitized
@test "readers of bytes from outside: two seconds of a fuzzer find no crash, no hang and no contradiction [each reader]" {
  cd "$T"
  "$BATS_TEST_DIRNAME/../scripts/fuzz" 2
}
