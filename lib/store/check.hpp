// The check of a store. It verifies every checksum of the journal and of the blobs, and that the index matches the
// journal.
//
// It reads the journal once, from beginning to end, while other processes continue. It verifies each record and folds
// it into a second table. Then it goes through the index in short visits, compares the index with the second table, and
// looks for the workload of each job. Its memory does not grow with the store. The second table becomes as large as the
// index. Its file is created in TMPDIR, or in /var/tmp without that variable, and unlinked at once.
//
// The surprising fact: if the cleaner rewrites a part of the journal that has been read already, the two tables may
// differ without an error. Then the check reads the journal once more, under a lock under which no process cleans.
#pragma once

#include <functional>
#include <string>

#include "gq/store/ledger.hpp"

namespace gq {

struct Finding {
  // "damage"; "torn" (bytes that were never acknowledged); "missing" (bytes that are gone); "conflict"; "database";
  // "index"; or "unknown" (the check could not find out).
  const char* kind;
  Lsn lsn = 0;       // the position in the journal, or 0
  std::string id{};  // the ID of the job, or empty
  std::string text;
  bool is_bad = true;
};

// The progress of the check.
struct CheckProgress {
  uint64_t read = 0, journal = 0;  // bytes of the journal: read so far, and in all
  uint64_t jobs = 0;               // jobs whose workloads were looked for
};

// Calls `found` for each finding, without any lock, and `progress` from time to time. Throws Error(storage) if the disk
// cannot be read; also, after everything else has been checked, if there was no room for the second table. Throws
// Error(retry) if another process holds a lock for too long.
void check_store(Ledger& ledger, const std::function<void(const Finding&)>& found,
                 const std::function<void(const CheckProgress&)>& progress = {});

}  // namespace gq
