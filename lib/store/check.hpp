// The check of a store: every checksum of its journal and its blobs, and that the index is what the journal says.
//
// It reads the journal once, from its beginning to its end, while others go on: what it reads is verified, and folded
// into a table of its own. Then it goes through the index in short visits, compares it with that table, and looks for
// the workload of each job. Its memory does not grow with the store. The table is as large as the index; it stands in
// TMPDIR, else in /var/tmp, and its name is removed at once.
//
// The surprising fact: where the cleaner rewrites what has been read already, the two may seem to differ. Then the
// journal is read once more, while nobody cleans.
#pragma once

#include <functional>
#include <string>

#include "gq/store/store.hpp"

namespace gq {

struct Finding {
  // "damage", "torn" (never acknowledged), "missing" (gone), "conflict", "database", "index", or "unknown": what cannot
  // be told.
  const char* kind;
  Lsn lsn = 0;       // where, or 0
  std::string id{};  // of which job, or empty
  std::string text;
  bool is_bad = true;
};

// How far it is.
struct CheckProgress {
  uint64_t read = 0, journal = 0;  // bytes of the journal
  uint64_t jobs = 0;               // whose workloads have been looked for
};

// Calls `found` for what it finds, outside all locks, and `progress` now and then. Throws Error(storage) where the disk
// cannot be read, and, after all else has been looked at, where there is no room for the table; Error(retry) where
// another process holds a lock for too long.
void check_store(Store& store, const std::function<void(const Finding&)>& found,
                 const std::function<void(const CheckProgress&)>& progress = {});

}  // namespace gq
