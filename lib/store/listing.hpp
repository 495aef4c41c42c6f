// Lists the jobs of a store that have not ended, in many short visits to the index, while other processes go on.
//
// Each job that is there all the time is listed exactly once, though it may move between the visits from one order of
// the index to another. A job that no record has named since the listing began has not moved, and is listed when a
// visit reaches it. The visits may reach a job that a record has named twice, or never. Such a job is looked up at the
// end, and listed unless it was listed before. A job with a serial key also moves when another job ends, and the record
// of that end names only the other job. So a job with a serial key is looked for in an order that it does not leave,
// that of the jobs with a serial key.
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
  std::string function;  // empty: all
  size_t page = 2000;    // jobs read in one visit: the lock is held some milliseconds, and memory stays small
};

// Calls `visit` for each job, outside the lock, until it returns false. The states queued and running both list all
// jobs that are claimed or running; the caller looks at Job::state.
void list_jobs(Ledger& store, const Listed& what, const std::function<bool(Claim&)>& visit);

}  // namespace gq
