// Lists the jobs of a store, in many short visits to the index, while other processes continue.
//
// Each job that exists during the whole listing is listed exactly once, although it may move from one order of the
// index to another between two visits. If no record since the start of the listing names a job, the job has not moved:
// a visit finds it and lists it. If a record names the job, the visits may find it twice or never. So such a job is
// looked up by its ID at the end, and listed unless it was listed before. A job with a serial key also moves when
// another job with that key ends, and the record of that end names only the other job. So jobs with a serial key are
// read from the order `l` (fold.hpp), which such a job does not leave before it ends or is dead.
//
// Finished jobs are in no order. A listing that is to contain them reads all jobs by their IDs instead, which takes as
// long as the store remembers many.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/store/claiming.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

inline constexpr std::string_view runnable = "runnable";  // queued, delayed, claimed or running

struct Listed {
  std::vector<std::string> states;     // the words that users see, or `runnable`; empty: all but finished
  std::vector<std::string> functions;  // empty: all functions
  size_t page = 2000;  // the jobs read in one visit: the lock is held for some milliseconds, and memory stays small
};

// Calls `visit` for each job, without the lock, until it returns false. For the states queued and running, it lists all
// claimed and running jobs; the caller looks at Job::state.
void list_jobs(Ledger& ledger, const Listed& what, const std::function<bool(Claim&)>& visit);

// Returns the IDs of up to `most` jobs, also finished ones, whose IDs begin so.
std::vector<std::string> jobs_with_prefix(Ledger& ledger, const std::string& prefix, size_t most);

}  // namespace gq
