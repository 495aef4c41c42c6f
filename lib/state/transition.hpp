// What becomes of a job: every decision about the state of one job, as a function of that job and of an event. It reads
// no other job, no table, no clock and no file. Decisions that need those (whether a key is taken, which job with a
// serial key is first) are left to the fold, which is told what to decide.
#pragma once

#include "gq/state/job.hpp"

namespace gq {

// The node that a store is, in a replication group; both empty without one. An index depends on this besides the
// journal.
struct Self {
  std::string node;
  std::string store;  // its identity, which is new when a store was set up or restored
};

struct Transition {
  std::optional<Job> job;  // the job afterwards; none: it is not known

  // The job's place in the line of the jobs with its serial key. A job that cannot be started any more has left the
  // line.
  enum class Line : uint8_t {
    stays,   // as it was
    enters,  // in its order: it waits, unless it is the first
    heads,   // it goes before all others
  };
  Line line = Line::stays;

  enum class Key : uint8_t {
    stays,
    taken,   // it stands for the job; but if it stands for another job at `key_at`, this job loses its key
    wanted,  // likewise, but in that case this job does not exist: it is the other job, sent again
    ends,    // if it stands for the job now, it does so until `key_at`
    freed,   // if it stands for the job now, it does so no longer
  };
  Key key = Key::stays;
  Millis key_at{0};

  bool touched = false;   // there is another add for it besides its first record
  bool conflict = false;  // another job has its ID
};

// Returns what an event makes of the job that it names. `job` is nullopt if that job is not known. `head` is the head
// of the record, which is at `lsn`.
Transition next(const std::optional<Job>& job, const Event& event, const RecordHead& head, Lsn lsn, const Self& self);

// For a job that waits for its copies: the node is another store now, and has lost its copy. Returns whether that
// changes the job.
bool lose_copy(Job& job, const std::string& node);

// Call it when the job before it with its serial key has left: makes it delayed or queued.
void take_turn(Job& job);

// Whether a job is in the line of its serial key, and whether it may be started as far as the line is concerned.
bool is_in_line(const Job& job);
bool is_startable(const Job& job);

// Whether a job belongs to this node, not to another node that told this one about it.
bool is_own(const Job& job, const Self& self);

// Whether a job may be run here as far as the group is concerned.
bool may_run(const Job& job, const Self& self);

// Whether a job is delayed and was never started.
bool waits_for_first(const Job& job);

}  // namespace gq
