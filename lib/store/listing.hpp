// Lists the jobs of a store that have not ended, in many short visits to the index, while other processes continue.
//
// Each job that exists during the whole listing is listed exactly once, although it may move from one order of the
// index to another between two visits. If no record since the start of the listing names a job, the job has not moved:
// a visit finds it and lists it. If a record names the job, the visits may find it twice or never. So such a job is
// looked up by its ID at the end, and listed unless it was listed before. A job with a serial key also moves when
// another job with that key ends, and the record of that end names only the other job. So jobs with a serial key are
// read from the order `l` (fold.hpp), which such a job does not leave before it ends or is dead.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "gq/store/claiming.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

inline constexpr std::string_view runnable = "runnable";  // queued, delayed, claimed or running

struct Listed {
  std::string state;     // the word that users see, or `runnable`; empty: all
  std::string function;  // empty: all functions
  size_t page = 2000;    // the jobs read in one visit: the lock is held for some milliseconds, and memory stays small
};

// Calls `visit` for each job, without the lock, until it returns false. For the states queued and running, it lists all
// claimed and running jobs; the caller looks at Job::state.
void list_jobs(Ledger& ledger, const Listed& what, const std::function<bool(Claim&)>& visit);

}  // namespace gq
