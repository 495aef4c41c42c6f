// The answers to a client that wants to queue a job, and the decision which answer to give if the store may know the
// job already. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gq/state/job.hpp"

namespace gq {

enum class Outcome {
  queued,    // the job is on stable storage, from this delivery or from an earlier delivery of the same job
  same,      // the store has a job with the same key; Answer::reason is the ID of that job
  conflict,  // the store has a job with the same ID or key, but with another workload or function
  refused,   // the job is not stored
  bad,       // the bytes cannot be a job: too large, or damaged on their way
  unknown,   // the disk failed in between: the job may or may not be stored; it is safe to send it again
};

struct Answer {
  Outcome outcome = Outcome::refused;
  std::string reason{};  // refused, bad and unknown
  int error_number = 0;  // refused: the errno that caused the refusal; 0 if there is none
  std::string note{};    // queued and same: a remark for the client, or empty
  // For a client that has sent a job with a result: the stores to ask for it (pull_wire.hpp), the likeliest first.
  std::vector<std::string> stores{};
};

// Whether the job of an add record has the same function and workload as a known job.
bool is_same(const event::Add& add, uint64_t data_size, uint64_t data_sum, const Job& known);

// Returns the answer to an add record that is on stable storage. `known` is the job that the fold has under the
// record's ID; else the job that has the record's key, and then `first` is the ID of that job; nullopt if there is
// neither.
Answer answer_to(const event::Add& add, uint64_t data_size, uint64_t data_sum, const std::optional<Job>& known,
                 const std::optional<std::string>& first);

}  // namespace gq
