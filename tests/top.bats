load helpers

screen() { "$BATS_TEST_DIRNAME/screen.py" "$@"; }

# bats test_tags=view
@test "gq-inspect: top shows functions, a worker and what it runs, and the disk; q ends it" {
  seq 3 | gq-enqueue resize --local -l >"$T/ids"
  background gq-worker --local -f resize -- sleep 600
  is_running() { [[ -n $(gq-inspect list --state running) ]]; }
  eventually is_running
  screen 24x80 'wait:RUNS' show send:q end -- gq-inspect top >"$T/out"
  grep -qE '^FUNCTION +QUEUED +OLDEST +RUNNING' "$T/out"
  grep -qE '^resize +2 +[0-9]+s +1' "$T/out"
  grep -qE "^$PID +[^ ]+ +resize +[0-9]+s +resize +$(gq-inspect list --state running --format id)" "$T/out"
  grep -qE '^jobs: 2 queued, 1 running, 0 delayed, 0 dead' "$T/out"
  grep -qE '^disk: .* free; journal ' "$T/out"
  grep -q '^exit 0$' "$T/out"
}

# bats test_tags=view
@test "gq-inspect: top shows what changes, sorts and filters, and follows the size of the terminal" {
  for f in alpha beta gamma; do gq-enqueue $f --local <<<x >"$T/ids"; done
  screen 24x80 wait:gamma 'run:seq 50 | gq-enqueue beta --local -l >/dev/null; gq-worker --local --drain -f alpha -- true' wait:IN/s wait:DONE/s wait:█ show \
    send:s 'wait:sort: queued' send:/ send:bet gone:gamma 'send:\r' 'wait:filter: bet' show 'send:\e' wait:gamma \
    size:10x40 gone:gamma wait:beta show size:30x120 'wait:MINUTES' send:q end -- gq-inspect top >"$T/out"
  grep -qE '^beta +51 .* [0-9.]+$' "$T/out"
  grep -qE '^alpha .* [0-9.]+ +█$' "$T/out"
  grep -q '^beta ' "$T/out"
  grep -q '^exit 0$' "$T/out"
}

# bats test_tags=view
@test "gq-inspect: top gives the terminal back at SIGTERM, and says that it needs a terminal [64]" {
  gq-enqueue f --local <<<x >"$T/id"
  screen 24x80 wait:UTC signal:15 end -- gq-inspect top >"$T/out"
  grep -q '^exit -15$' "$T/out"
  fails_with 64 gq-inspect top
  screen 24x80 end -- sh -c 'TERM=nonsense gq-inspect top' >"$T/out"
  grep -q 'exit 64' "$T/out"
  grep -q 'cannot draw on this terminal: TERM is nonsense' "$T/out"
}
