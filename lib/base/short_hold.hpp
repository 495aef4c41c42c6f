// Locks that all processes of a store wait for, so that a thread that holds one does only short work: index.lock
// (gq/store/index.hpp).
//
// A thread that has a ShortHold must not sync, ask a database or write a log line. If it is about to, a developer build
// says what and aborts.
#pragma once

namespace gq {

class ShortHold {
 public:
  ShortHold();
  ~ShortHold();
  ShortHold(const ShortHold&) = delete;
  static bool is_held();  // by this thread
};

// Allows long work that cannot be done elsewhere. A comment at each use says why.
class LongWorkInHold {
 public:
  LongWorkInHold();
  ~LongWorkInHold();
  LongWorkInHold(const LongWorkInHold&) = delete;
};

// Call it before work that may take long. `what` names the work, as in "a sync"; it appears in the message.
void check_no_short_hold(const char* what);

}  // namespace gq
