// A ShortHold marks the time in which a thread holds a lock that other processes wait for, and that it must release
// soon. It is used only for index.lock (gq/store/index.hpp), while a process visits or shrinks the index.
//
// Under a ShortHold a thread does only short work: it must not sync, ask a database or write a log line. If it starts
// such work, a developer build prints the name of the work and aborts. LongWorkInHold allows the exceptions.
#pragma once

namespace gq {

class ShortHold {
 public:
  ShortHold();
  ~ShortHold();
  ShortHold(const ShortHold&) = delete;
  static bool is_held();  // whether this thread has a ShortHold
};

// Allows long work that cannot be done elsewhere. A comment at each use says why.
class LongWorkInHold {
 public:
  LongWorkInHold();
  ~LongWorkInHold();
  LongWorkInHold(const LongWorkInHold&) = delete;
};

// The holds of a thread. A simulator exchanges them when its thread goes on as another process.
struct Holds {
  int holds = 0, exceptions = 0;
};
Holds exchange_holds(Holds other);

// Call it before work that may take long. `what` names the work, as in "a sync"; it appears in the message.
void check_no_short_hold(const char* what);

}  // namespace gq
