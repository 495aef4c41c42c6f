// Job: what a store knows about a job, as the fold computes it from the journal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gq/journal/journal.hpp"
#include "gq/state/event.hpp"

namespace gq {

enum class State : uint8_t {
  queued,    // it may be started
  delayed,   // it may be started at `due` or later
  claimed,   // a process has claimed it and not started it yet; users see "queued"
  running,   // its command has been started
  dead,      // it is not started again, unless a user kicks it
  waiting,   // its parents, or another job with its serial key, must end first
  pending,   // fewer nodes have it than it asks for, or it is not born yet, or it is spooled
  held,      // another node owns it and runs it
  kept,      // done, but its workload stays until a user releases it
  finished,  // done or dropped; only its ID, size and sum are remembered
};
inline constexpr size_t state_count = 10;

// The word that users see: queued, running, delayed, dead, waiting, pending, held, kept or finished. (A job that was
// dropped is finished, too; see Job::dropped.) With a job, also spooled.
const char* state_name(State state);
struct Job;
const char* state_name(const Job& job);

// A job's `expire` once a user has kicked it, so that it does not expire any more.
inline constexpr Millis lifted{-1};

// Of the inherited members, `due` changes with each attempt, `key` is empty if another job had the key, `expire` may be
// `lifted`, and `parents_sum` is 0 when all parents are recorded.
struct Job : Submission {
  State state = State::queued;
  uint32_t starts = 0;                                   // how often its command has been started
  uint32_t failures = 0;                                 // how many attempts are used up
  uint32_t crashes = 0;                                  // how many starts ended with the death of the worker
  uint32_t term = 0, version = 0, copies = 0, once = 0;  // see event::State and event::Add
  uint32_t keep = 0;                                     // 1: its workload stays when it is done
  Lsn first_lsn = 0;    // the position of its first record, which determines its place in the order
  Lsn location = 0;     // the position of its newest add record; for a finished job, of the record that ended it
  uint64_t offset = 0;  // with a source: where this job's workload begins in the source's workload
  uint64_t size = 0;    // of the workload, in bytes
  uint64_t sum = 0;
  Millis enqueued_at{0};
  Millis changed_at{0};
  std::string owner;        // claimed and running: the process that holds it (owners.hpp)
  std::string why;          // delayed and dead: the reason
  std::string node, store;  // the node that owns the job, in a replication group
  std::string peers;        // pending: the other nodes that are known to have it, separated by commas
  std::string source;       // the job whose workload contains this job's workload; empty: it has its own
  std::string parent;       // the job whose output became this job; empty: it is no child
  uint32_t unborn = 0;      // not 0: it is not born yet; the start of its parent that made it

  uint32_t tries = 0;                   // finished and kept: how many attempts it had
  uint32_t exit = no_exit, signal = 0;  // how the command ended when its end was last known
  uint32_t dropped = 0;                 // finished: 1 if a user dropped it, 0 if it was done

  uint32_t edges = 0;  // how many of its parents are recorded: event::After
  uint32_t unmet = 0;  // for how many of these it still waits

  // finished, kept and dead: the output of its command, if it is kept: the data of the record at that position.
  Kept output = Kept::not_asked;
  Lsn output_lsn = 0;  // 0: not kept
  uint64_t output_size = 0, output_sum = 0;

  uint32_t cancelled = 0;  // claimed, running and held: 1 if a user has cancelled it
  uint32_t spooled = 0;    // pending and dead: 1 if it is for another store (event::Add)

  // Returns how many attempts the job has had: those used up, and the one that runs or succeeded. (`starts` also counts
  // attempts that were interrupted.)
  uint32_t attempts() const {
    return state == State::finished || state == State::kept ? tries : failures + (state == State::running ? 1 : 0);
  }
  bool is_inline() const { return source.empty() && size <= max_inline_data; }
  bool operator==(const Job&) const = default;
};

// Whether the job was done or dropped; its workload may still be kept.
inline bool has_ended(const Job& job) { return job.state == State::finished || job.state == State::kept; }

// Whether the job is to be forwarded to another store.
inline bool is_spooled(const Job& job) { return job.spooled && job.state == State::pending; }

// Whether parents of the job have not ended, or are not recorded yet.
inline bool is_blocked(const Job& job) { return job.edges < job.after || job.unmet > 0; }

// Whether the job's output is kept in a blob; else a kept output is in the journal.
inline bool has_output_blob(const Job& job) { return job.output_lsn != 0 && job.output_size > max_inline_data; }

// Why a job that has ended, or is dead, has no output here, as text for users. `self` is the name of this node.
std::string no_output_reason(const Job& job, const std::string& self);

// Whether the job is still as its add record says: no owner and no state has changed since.
inline bool is_fresh(const Job& job) { return job.term == 0 && job.version == 0; }

// Whether it is too late to start the job for the first time.
inline bool is_late(const Job& job, Millis now) {
  return job.expire.count() > 0 && job.starts == 0 && job.expire <= now;
}

// Returns the record that tells other nodes the state of a job.
event::State state_of(const std::string& id, const Job& job);

// Returns the ID of the job whose blob has this job's workload; empty if the workload is in the journal.
std::string blob_of(const std::string& id, const Job& job);

// Upper limits of term and version, which no real job reaches. most_imported is the limit for jobs from a stream,
// most_received the limit for states from other nodes. The difference leaves room for later changes of an imported job.
inline constexpr uint32_t most_imported = uint32_t{1} << 30, most_received = uint32_t{1} << 31;

// Whether the job can get another owner. This raises its term and its version by one, and other nodes accept neither
// above most_received.
inline bool can_change_owner(const Job& job) { return std::max(job.term, job.version) < most_received; }

// Whether the size and the sum of the workload are known. If not, the store knows only the job's end, from a node with
// an older program, which sends neither.
inline bool knows_workload(const Job& job) { return job.size != 0 || job.sum != 0; }

// Whether a job with the same ID is this job. Only function, size and sum distinguish two jobs with one ID.
inline bool is_of(const Job& job, std::string_view function, uint64_t size, uint64_t sum) {
  return job.size == size && job.sum == sum && job.function == function;
}

// Whether a state belongs to another job with the same ID: two clients have chosen the ID, or a stranger has reused it.
bool is_another_job(const event::State& state, const Job& job);

// Whether a state is newer, or older, than the state that this node has of the job. An end is never undone. Of two
// states of an unfinished job, the one with the higher term is newer; if the terms are equal, the one with the higher
// version. So all nodes decide alike, in whatever order the records arrive.
bool is_newer(const event::State& state, const Job& job);
bool is_older(const event::State& state, const Job& job);

// Returns the part of an owner's name that names the process.
std::string owner_process(const std::string& owner);

std::string encode_job(const Job& job);
// Decodes a job. Throws TableError if encode_job() cannot have made the bytes.
Job decode_job(std::string_view bytes);

}  // namespace gq
