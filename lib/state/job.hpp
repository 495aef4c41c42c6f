// What a store knows about a job: the state that the fold of the journal gives it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gq/journal/journal.hpp"
#include "gq/state/event.hpp"

namespace gq {

enum class State : uint8_t {
  queued,    // may be started
  delayed,   // may be started from `due` on
  claimed,   // taken by a process that has not started it yet; people are shown "queued"
  running,   // started
  dead,      // will not be started again by itself
  waiting,   // behind another job with its serial key
  pending,   // not yet on as many nodes as it must be
  held,      // another node's to run
  kept,      // done, and its workload stays until it is released
  finished,  // done or dropped; only its ID, size and sum are remembered
};
inline constexpr size_t state_count = 10;

// The word people are shown: queued, running, delayed, dead, waiting, pending, held, kept or finished. (A job that was
// dropped is finished, too; see Job::dropped.)
const char* state_name(State state);

// Of what was asked for, `due` moves on with each attempt, and `key` is empty where another job had it.
struct Job : Submission {
  State state = State::queued;
  uint32_t starts = 0;                                   // how often its command was started
  uint32_t failures = 0;                                 // attempts used up
  uint32_t crashes = 0;                                  // starts whose worker died
  uint32_t term = 0, version = 0, copies = 0, once = 0;  // see event::State and event::Add
  uint32_t keep = 0;                                     // whether its workload stays when it is done
  Lsn first_lsn = 0;                                     // its place in the order
  Lsn location = 0;     // the frame of its newest add record; of what ended it, once it is finished
  uint64_t offset = 0;  // with a source: where in that job's workload this one's begins
  uint64_t size = 0;    // of the workload, in bytes
  uint64_t sum = 0;
  Millis enqueued_at{0};
  Millis changed_at{0};
  std::string owner;        // claimed, running
  std::string why;          // delayed, dead
  std::string node, store;  // whose the job is, with a replication group
  std::string peers;        // pending: the nodes that have it too, separated by commas
  std::string source;       // the job whose blob holds the workload; empty: its own

  uint32_t tries = 0;                   // finished, kept: the attempts that it had
  uint32_t exit = no_exit, signal = 0;  // how the last command ended of which that is known
  uint32_t dropped = 0;                 // finished: by a person, and not done

  // Those used up, and the one that runs or succeeded. (starts also counts those that were cut off.)
  uint32_t attempts() const {
    return state == State::finished || state == State::kept ? tries : failures + (state == State::running ? 1 : 0);
  }
  bool is_inline() const { return source.empty() && size <= max_inline_data; }
  bool operator==(const Job&) const = default;
};

// Whether it has been done, or was dropped; it may be kept all the same.
inline bool has_ended(const Job& job) { return job.state == State::finished || job.state == State::kept; }

// Whether there is nothing to say of a job that its add does not say.
inline bool is_fresh(const Job& job) { return job.term == 0 && job.version == 0; }

// What there is to say of a job to other nodes.
event::State state_of(const std::string& id, const Job& job);

// The job whose blob a job's workload is in; empty where it stands in the journal.
std::string blob_of(const std::string& id, const Job& job);

// No real job has a higher term or version. The first bounds what a stream says, the second what another node tells;
// the room between them is for what becomes of an imported job later.
inline constexpr uint32_t most_imported = uint32_t{1} << 30, most_told = uint32_t{1} << 31;

// Whether the other nodes take it when another one becomes its owner, which is a term and a version more.
inline bool can_change_owner(const Job& job) { return std::max(job.term, job.version) < most_told; }

// Whether size and sum of its workload are known. Else only its end is, told by a node of before, which tells neither.
inline bool knows_workload(const Job& job) { return job.size != 0 || job.sum != 0; }

// Whether a job with its ID is this one: nothing else tells two such jobs apart.
inline bool is_of(const Job& job, std::string_view function, uint64_t size, uint64_t sum) {
  return job.size == size && job.sum == sum && job.function == function;
}

// Whether that is said of another job, which has the same ID: two clients have chosen it, or a stranger has.
bool is_another_job(const event::State& state, const Job& job);

// Whether that tells something newer than the job's own state, or something older. An end is never undone; before that
// the higher term wins, then the higher version. Every node decides alike, in whatever order the records arrive.
bool is_newer(const event::State& state, const Job& job);
bool is_older(const event::State& state, const Job& job);

// The process part of an owner's name.
std::string owner_process(const std::string& owner);

std::string encode_job(const Job& job);
// Throws TableError on bytes that encode_job() did not make.
Job decode_job(std::string_view bytes);

}  // namespace gq
