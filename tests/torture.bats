load helpers

# Each test runs the short form of a fault with one seed, so that it samples the same calls each time. scripts/torture
# uses other seeds.
torture() { python3 "$BATS_TEST_DIRNAME/torture.py" --seed 1 --only "$@"; }
needs_root() { ((EUID == 0)) || skip "needs root, for file systems and namespaces of its own"; }

@test "gq: with kill -9 of worker, enqueuer, flush and gearmand in 50 rounds, nothing acknowledged is lost, and no job runs twice at the same time" {
  torture kill --rounds 50
}

@test "gq: if a program is killed at the n-th call of each writing system call, nothing acknowledged is lost [each program]" {
  torture killed-at-calls
}

@test "gq: if the n-th system call returns an I/O error, nothing acknowledged is lost [each program]" {
  torture failing-calls
}

@test "gq: if the n-th system call reports a full disk or quota, nothing acknowledged is lost [each program]" {
  torture full-at-calls
}

@test "gq: a power cut loses nothing that was acknowledged [ext4, xfs]" {
  needs_root
  torture power-cut
}

@test "gq: if syncs fail and then the power goes, nothing that was acknowledged is lost [ext4, xfs]" {
  needs_root
  torture failing-syncs
}

@test "gq: on a disk full of jobs it refuses new jobs, runs the queued ones, and goes on without a restart [tmpfs, ext4]" {
  needs_root
  torture full-disk
}

@test "gq: if gearmand is killed, stopped, replaced or cut off in mid-packet, nothing acknowledged is lost" {
  torture gearmand
}

@test "gq: without free descriptors or memory a program reports an error, and nothing acknowledged is lost [each program]" {
  torture exhausted
}

@test "gq: clocks that are years apart and reused pids change nothing" {
  needs_root
  torture clock,pids
}

@test "gq: a store that cannot be written, or that other machines may share, is refused and left as it was" {
  needs_root
  torture refused
}

@test "gq: a group of three nodes and two servers loses nothing that it acknowledged, whatever happens to one of them" {
  torture group --rounds 2  # one round for each policy; scripts/torture goes on with 20
}

@test "gq: a stranger at the servers of a group, with keys and without, stops no job, program or log [valid, altered and random records, transfers, answers]" {
  torture stranger
}

@test "the journal: cut, altered, swapped and doubled segments show no wrong job, and lose only the records that were hit" {
  torture altered-bytes
}

# The same faults, with programs that are built with AddressSanitizer and UndefinedBehaviorSanitizer.
sanitized() {
  export GQ_BUILD=$GQ_BUILD/sanitized
  torture "$@"
}

# bats test_tags=sanitized
@test "gq: killed programs, alone and in a group, make no memory error [sanitizers]" {
  sanitized kill --rounds 10
  torture group --rounds 1
  torture gearmand
}

# bats test_tags=sanitized
@test "gq: programs that are killed at the n-th call make no memory error [sanitizers]" {
  sanitized killed-at-calls
}

# bats test_tags=sanitized
@test "gq: programs make no memory error on full disks [sanitizers]" {
  sanitized full-at-calls
}

# bats test_tags=sanitized
@test "gq: programs make no memory error after I/O errors [sanitizers]" {
  sanitized failing-calls
}

# bats test_tags=sanitized
@test "gq: programs make no memory error with a damaged journal [sanitizers]" {
  sanitized altered-bytes
}

# bats test_tags=sanitized
@test "gq: programs make no memory error on disks that fail or fill up [sanitizers]" {
  needs_root
  sanitized power-cut,failing-syncs,full-disk,pids,refused
}

# bats test_tags=sanitized
@test "the library: its unit tests make no memory error [sanitizers]" {
  "$GQ_BUILD/sanitized/gq-unit" "$T"
}

@test "gq: if the store is cleaned while every event happens to jobs, and the cleaning is killed, the journal still says the same" {
  torture cleaning
}

@test "gq: snapshots that are taken while workers run and are killed are whole, and hold all that was acknowledged before" {
  torture snapshots
}

@test "gq: with its store in a database, whose helpers are killed and whose copy is lost, nothing acknowledged is lost" {
  torture database
}

@test "gq: after a day's jobs have passed through a store, the disk holds little more than what is needed" {
  python3 "$BATS_TEST_DIRNAME/torture.py" --churn --jobs 60000
}
