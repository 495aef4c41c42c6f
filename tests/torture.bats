load helpers

# The short form of each fault, with one seed, so that it samples the same calls each time; scripts/torture takes others.
torture() { python3 "$BATS_TEST_DIRNAME/torture.py" --seed 1 --only "$@"; }
needs_root() { ((EUID == 0)) || skip "needs root, for file systems and namespaces of its own"; }

@test "gq: kill -9 of worker, enqueuer, flush and gearmand, 50 rounds: nothing acknowledged is lost, nothing runs twice at once" {
  torture kill --rounds 50
}

@test "gq: killed at the n-th call of each writing system call, nothing acknowledged is lost [each program]" {
  torture killed-at-calls
}

@test "gq: told of an I/O error at the n-th system call, nothing acknowledged is lost [each program]" {
  torture failing-calls
}

@test "gq: told of a full disk or quota at the n-th system call, nothing acknowledged is lost [each program]" {
  torture full-at-calls
}

@test "gq: a power cut loses nothing that was acknowledged [ext4, xfs]" {
  needs_root
  torture power-cut
}

@test "gq: where syncs fail and then the power goes, nothing that was acknowledged is lost [ext4, xfs]" {
  needs_root
  torture failing-syncs
}

@test "gq: a disk full of jobs refuses more, works them off, and goes on without a restart [tmpfs, ext4]" {
  needs_root
  torture full-disk
}

@test "gq: gearmand killed, stopped, replaced, cut off in mid-packet: nothing acknowledged is lost" {
  torture gearmand
}

@test "gq: no descriptors and no memory left is an error, and nothing acknowledged is lost [each program]" {
  torture exhausted
}

@test "gq: clocks that are years apart, and pids that come again, change nothing" {
  needs_root
  torture clock,pids
}

@test "gq: a store that cannot be written, or that other machines may share, is refused and left as it was" {
  needs_root
  torture refused
}

@test "gq: a group of three nodes and two servers loses nothing that it answered for, whatever happens to one of them" {
  torture group --rounds 2  # one for each policy; scripts/torture goes on with 20
}

@test "gq: a stranger at the servers of a group, with keys and without, stops no job, program or log [valid, altered and random records, transfers, answers]" {
  torture stranger
}

@test "the journal: cut, altered, swapped and doubled segments show no wrong job and lose no more than was hit" {
  torture altered-bytes
}

# Built with AddressSanitizer and UndefinedBehaviorSanitizer, the same.
sanitized() {
  export GQ_BUILD=$GQ_BUILD/sanitized
  torture "$@"
}

# bats test_tags=sanitized
@test "gq: killed, alone and in a group, no error in memory [sanitizers]" {
  sanitized kill --rounds 10
  torture group --rounds 1
  torture gearmand
}

# bats test_tags=sanitized
@test "gq: killed at the n-th call, no error in memory [sanitizers]" {
  sanitized killed-at-calls
}

# bats test_tags=sanitized
@test "gq: on full disks, no error in memory [sanitizers]" {
  sanitized full-at-calls
}

# bats test_tags=sanitized
@test "gq: told of I/O errors, no error in memory [sanitizers]" {
  sanitized failing-calls
}

# bats test_tags=sanitized
@test "gq: with a damaged journal, no error in memory [sanitizers]" {
  sanitized altered-bytes
}

# bats test_tags=sanitized
@test "gq: on disks that fail or fill up, no error in memory [sanitizers]" {
  needs_root
  sanitized power-cut,failing-syncs,full-disk,pids,refused
}

# bats test_tags=sanitized
@test "the library: its unit tests show no error in memory [sanitizers]" {
  "$GQ_BUILD/sanitized/gq-unit" "$T"
}

@test "gq: cleaned while all happens to jobs that can, and killed while cleaning, the journal says what it said" {
  torture cleaning
}

@test "gq: snapshots taken while workers run and are killed are whole, and hold all that was acknowledged before" {
  torture snapshots
}

@test "gq: with its store in a database, whose helpers are killed and whose copy is lost, nothing acknowledged is lost" {
  torture database
}

@test "gq: a day's jobs pass through a store, and the disk holds little more than what is needed" {
  python3 "$BATS_TEST_DIRNAME/torture.py" --churn --jobs 60000
}
