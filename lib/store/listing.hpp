// Lists the jobs of a store that have not ended, in many short visits to the index, while everything runs.
//
// What is listed: each job that was there all the time, exactly once, though it may move between the visits from one
// order of the index to another. A job that no record has named since the listing began is where it was, and is shown
// when it is come by. One that was named may be come by twice, or never: it is looked up at the end, and shown unless
// it has been. A job with a serial key also moves when another one ends, which names only that; so it is looked for
// where it stays, among those with its key.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "gq/store/store.hpp"

namespace gq {

inline constexpr std::string_view runnable = "runnable";  // queued, delayed, claimed or running

struct Listed {
  std::string state;     // the word that people are shown, or `runnable`; empty: all
  std::string function;  // empty: all
  size_t page = 2000;    // jobs read in one visit: the lock is held some milliseconds, and memory stays small
};

// Calls `visit`, outside the lock, until it returns false. Of the states queued and running, those that are claimed or
// running.
void list_jobs(Store& store, const Listed& what, const std::function<bool(Claim&)>& visit);

}  // namespace gq
