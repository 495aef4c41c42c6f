// Locks that all processes of a store wait for, so that whoever holds one does short work only: index.lock
// (gq/store/index.hpp).
//
// While a thread has a ShortHold it syncs nothing, asks no database and writes no log line. Developer builds end where
// it does, and say what it was about to do.
#pragma once

namespace gq {

class ShortHold {
 public:
  ShortHold();
  ~ShortHold();
  ShortHold(const ShortHold&) = delete;
  static bool is_held();  // by this thread
};

// For what cannot be done elsewhere; where one is made, a comment says why.
class LongWorkInHold {
 public:
  LongWorkInHold();
  ~LongWorkInHold();
  LongWorkInHold(const LongWorkInHold&) = delete;
};

// Before work that may take long: `what`, as in "a sync".
void check_no_short_hold(const char* what);

}  // namespace gq
