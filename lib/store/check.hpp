// The check of a store: verifies every checksum of its journal and its blobs, and that its index matches its journal.
//
// It reads the journal once, from its beginning to its end, while other processes go on. It verifies each record and
// folds it into a table of its own. Then it goes through the index in short visits, compares the index with that table,
// and looks for the workload of each job. Its memory does not grow with the store. The table is as large as the index.
// It is created in TMPDIR, or in /var/tmp without that variable, and its name is removed at once.
//
// The surprising fact: if the cleaner rewrites a part of the journal that has been read already, the table and the
// index may seem to differ. Then the journal is read once more, under a lock that keeps cleaners away.
#pragma once

#include <functional>
#include <string>

#include "gq/store/ledger.hpp"

namespace gq {

struct Finding {
  // "damage", "torn" (never acknowledged), "missing" (gone), "conflict", "database", "index", or "unknown" (it cannot
  // be determined).
  const char* kind;
  Lsn lsn = 0;       // where in the journal, or 0
  std::string id{};  // the job's, or empty
  std::string text;
  bool is_bad = true;
};

// How far the check has come.
struct CheckProgress {
  uint64_t read = 0, journal = 0;  // bytes of the journal
  uint64_t jobs = 0;               // jobs whose workloads have been looked for
};

// Calls `found` for each finding, outside all locks, and `progress` from time to time. Throws Error(storage) if the
// disk cannot be read, or, after everything else has been checked, if there was no room for the table; Error(retry) if
// another process holds a lock for too long.
void check_store(Ledger& store, const std::function<void(const Finding&)>& found,
                 const std::function<void(const CheckProgress&)>& progress = {});

}  // namespace gq
