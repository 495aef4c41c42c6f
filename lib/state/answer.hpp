// Answers: what a client is told about a job that it wants to queue, and the decision for a job that may be known
// already. Pure.
#pragma once

#include <optional>
#include <string>

#include "gq/state/job.hpp"

namespace gq {

enum class Outcome {
  queued,    // on stable storage (whether just now, or by an earlier delivery of the same job)
  same,      // a job with its key is there already; Answer::reason is the ID of that job
  conflict,  // there is a job of that ID or key with another workload or function
  refused,   // not stored
  bad,       // cannot be a job: too large, or damaged on its way
  unknown,   // the disk failed in between: the job may or may not be there; it is safe to send it again
};

struct Answer {
  Outcome outcome = Outcome::refused;
  std::string reason{};  // refused, bad and unknown
  int error_number = 0;  // refused: the errno, if there is one
  std::string note{};    // queued and same: a remark for the client, or empty
};

// Whether an add has the same function and workload as a known job.
bool is_same(const event::Add& add, uint64_t data_size, uint64_t data_sum, const Job& known);

// Returns the answer to an add that is on stable storage. `known` is the job that the fold has under the add's ID, or
// else the job that the add's key stands for, whose ID is `first` then; nullopt if there is neither.
Answer answer_to(const event::Add& add, uint64_t data_size, uint64_t data_sum, const std::optional<Job>& known,
                 const std::optional<std::string>& first);

}  // namespace gq
