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
  claimed,   // by a process that has not started it yet; users see "queued"
  running,   // started
  dead,      // not started again unless a user kicks it
  waiting,   // behind another job with its serial key
  pending,   // not yet on as many nodes as it must be
  held,      // for another node to run
  kept,      // done, and its workload stays until it is released
  finished,  // done or dropped; only its ID, size and sum are remembered
};
inline constexpr size_t state_count = 10;

// The word that users see: queued, running, delayed, dead, waiting, pending, held, kept or finished. (A job that was
// dropped is finished, too; see Job::dropped.)
const char* state_name(State state);

// In the Submission, `due` changes with each attempt, and `key` is empty if another job had the key.
struct Job : Submission {
  State state = State::queued;
  uint32_t starts = 0;                                   // how often its command has been started
  uint32_t failures = 0;                                 // attempts used up
  uint32_t crashes = 0;                                  // starts whose worker died
  uint32_t term = 0, version = 0, copies = 0, once = 0;  // see event::State and event::Add
  uint32_t keep = 0;                                     // whether its workload stays when it is done
  Lsn first_lsn = 0;                                     // its place in the order
  Lsn location = 0;     // its newest add record; once it is finished, the record that ended it
  uint64_t offset = 0;  // with a source: where in the source's workload this one begins
  uint64_t size = 0;    // of the workload, in bytes
  uint64_t sum = 0;
  Millis enqueued_at{0};
  Millis changed_at{0};
  std::string owner;        // claimed, running
  std::string why;          // delayed, dead
  std::string node, store;  // the node that owns the job, in a replication group
  std::string peers;        // pending: the nodes that have it too, separated by commas
  std::string source;       // the job whose blob holds the workload; empty: its own

  uint32_t tries = 0;                   // finished, kept: the attempts that it had
  uint32_t exit = no_exit, signal = 0;  // how the last command with a known end ended
  uint32_t dropped = 0;                 // finished: a user dropped it, it was not done

  // The attempts used up, and the one that runs or succeeded. (`starts` also counts attempts that were cut off.)
  uint32_t attempts() const {
    return state == State::finished || state == State::kept ? tries : failures + (state == State::running ? 1 : 0);
  }
  bool is_inline() const { return source.empty() && size <= max_inline_data; }
  bool operator==(const Job&) const = default;
};

// Whether the job was done or dropped; its workload may still be kept.
inline bool has_ended(const Job& job) { return job.state == State::finished || job.state == State::kept; }

// Whether the job's add says everything about it.
inline bool is_fresh(const Job& job) { return job.term == 0 && job.version == 0; }

// What other nodes are told about a job.
event::State state_of(const std::string& id, const Job& job);

// The job whose blob has this job's workload; empty if the workload is in the journal.
std::string blob_of(const std::string& id, const Job& job);

// No real job has a higher term or version. most_imported is the limit for jobs from a stream, most_told for what
// another node tells. The difference is room for later changes of an imported job.
inline constexpr uint32_t most_imported = uint32_t{1} << 30, most_told = uint32_t{1} << 31;

// Whether the other nodes accept another owner for the job, which raises its term and its version by one.
inline bool can_change_owner(const Job& job) { return std::max(job.term, job.version) < most_told; }

// Whether size and sum of its workload are known. If not, the store knows only the job's end, from a node with an older
// program, which tells neither.
inline bool knows_workload(const Job& job) { return job.size != 0 || job.sum != 0; }

// Whether a job with the same ID is this job: nothing else tells two such jobs apart.
inline bool is_of(const Job& job, std::string_view function, uint64_t size, uint64_t sum) {
  return job.size == size && job.sum == sum && job.function == function;
}

// Whether a state is of another job with the same ID: two clients have chosen the ID, or a stranger has.
bool is_another_job(const event::State& state, const Job& job);

// Whether a state is newer, or older, than the job's own state. An end is never undone. Before that the higher term
// wins, then the higher version. Every node decides alike, in whatever order the records arrive.
bool is_newer(const event::State& state, const Job& job);
bool is_older(const event::State& state, const Job& job);

// The process part of an owner's name.
std::string owner_process(const std::string& owner);

std::string encode_job(const Job& job);
// Throws TableError on bytes that encode_job() did not make.
Job decode_job(std::string_view bytes);

}  // namespace gq
