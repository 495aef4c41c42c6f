// Every decision about the state of one job, as a function of that job and of an event. It reads no other job, no
// table, no clock and no file. The fold makes the decisions that need these (whether another job has a key, which job
// with a serial key is first); the result tells the fold what it has to decide.
#pragma once

#include "gq/state/job.hpp"

namespace gq {

// The name and the identity of this node in a replication group; both empty without a group. An index depends on these
// and on the journal.
struct Self {
  std::string node;
  std::string store;  // the node's identity, which changes when its store is set up again or restored
};

struct Transition {
  std::optional<Job> job;  // the job after the event; nullopt: the store does not know the job then

  // What happens to the job's place in the line of the jobs with its serial key. If the job cannot be started any more,
  // it leaves the line in any case.
  enum class Line : uint8_t {
    stays,   // its place does not change
    enters,  // it enters the line at its place in the order, and waits unless it is the first
    heads,   // it goes to the head of the line
  };
  Line line = Line::stays;

  enum class Key : uint8_t {
    stays,
    taken,   // the job gets its key; if another job has the key at `key_at`, this job has no key
    wanted,  // the job gets its key; if another job has the key at `key_at`, this is that job, sent again
    ends,    // if the job has its key now, it keeps the key until `key_at`
    freed,   // if the job has its key now, it loses the key
  };
  Key key = Key::stays;
  Millis key_at{0};

  bool touched = false;   // the event is a further add record of a known job
  bool conflict = false;  // the event is about another job with the same ID
};

// Returns what an event does to the job that it names. `job` is nullopt if the store does not know that job. `head` is
// the head of the record, which is at `lsn`.
Transition next(const std::optional<Job>& job, const Event& event, const RecordHead& head, Lsn lsn, const Self& self);

// Returns what it does to a job that `edges` more of its parents are recorded, of which `unmet` have not ended.
Transition with_parents(const Job& job, uint32_t edges, uint32_t unmet);

// Returns what a wake record does to a job that still waited for `met` of the parents that the record names.
Transition woken(const Job& job, const event::Wake& wake, uint32_t met, const Self& self);

// Whether the end of a parent lets a job go on that waits for it: until it is done or, if `any`, until its end.
bool lets_go_on(const Job& parent, bool any);
// Returns what becomes of an unborn child when it is born.
Transition born(const Job& child, Millis at, const Self& self);

// Call it for a pending job when `node` has a new identity, and so has lost its copy of the job. Returns whether this
// changes the job.
bool lose_copy(Job& job, const std::string& node);

// Call it when the job is first in the line of its serial key, if it has one: makes the job delayed or queued, or
// waiting if it has parents that have not ended.
void take_turn(Job& job);

// is_in_line(): whether a job is in the line of its serial key. is_startable(): whether it is queued, delayed, claimed
// or running.
bool is_in_line(const Job& job);
bool is_startable(const Job& job);

// Whether this node owns a job.
bool is_own(const Job& job, const Self& self);

// Whether the rules of the group let this node run a job.
bool may_run(const Job& job, const Self& self);

// Whether a job can expire: it has a time at which it expires, no process has claimed it, and it was never started. A
// pending job cannot expire, because its client has no answer yet; nor can a held job, because the node that owns it
// decides, by its own clock.
bool can_expire(const Job& job);

// Whether a job is delayed and was never started.
bool waits_for_first(const Job& job);

}  // namespace gq
