// What becomes of a job: every decision about the state of one, as a function of that job and what is said of it. It
// knows no other job, no table, no clock and no file. What only those can tell (whether a key is taken, which job with
// a serial key is first) it leaves to the fold, and says what it has to see to.
#pragma once

#include "gq/state/job.hpp"

namespace gq {

// The node that a store is, in a replication group; both empty without one. What an index is made of besides the
// journal.
struct Self {
  std::string node;
  std::string store;  // its identity, which is new when a store was set up or restored
};

struct Transition {
  std::optional<Job> job;  // what it is now; none: it is not known

  // The job's place among those with its serial key. One that cannot be started any more has left them.
  enum class Line : uint8_t {
    stays,   // as it was
    enters,  // in its order: it waits, unless it is the first
    heads,   // it goes before all others
  };
  Line line = Line::stays;

  enum class Key : uint8_t {
    stays,
    taken,   // it stands for the job, unless it stands for another one at `key_at`: then the job goes without it
    wanted,  // likewise, but then there is no job: it is the other one, sent again
    ends,    // it stands for the job until `key_at`, where it does so now
    freed,   // likewise, but no longer
  };
  Key key = Key::stays;
  Millis key_at{0};

  bool touched = false;   // its first record is not the only add for it
  bool conflict = false;  // another job has its ID
};

// The job that an event names makes this of it: of none, where it is not known. `head` is that of the record, which
// stands at `lsn`.
Transition next(const std::optional<Job>& job, const Event& event, const RecordHead& head, Lsn lsn, const Self& self);

// Of a job that waits for its copies: that node is another store by now, and has none of it. True where that changes
// it.
bool lose_copy(Job& job, const std::string& node);

// When the one before it with its serial key has left: what it is then.
void take_turn(Job& job);

// Whether it has a place among those with its serial key, and whether it may be started as far as these are concerned.
bool is_in_line(const Job& job);
bool is_startable(const Job& job);

// Whether a job is this node's, and not another's that has been told of here.
bool is_own(const Job& job, const Self& self);

// Whether a job may be run here as far as the group is concerned.
bool may_run(const Job& job, const Self& self);

// Whether it was never started, and is not yet due.
bool waits_for_first(const Job& job);

}  // namespace gq
