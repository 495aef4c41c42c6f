// Answers: what is said of a job that somebody wants to queue, and the decision for those that may be known already.
// Pure.
#pragma once

#include <optional>
#include <string>

#include "gq/state/job.hpp"

namespace gq {

enum class Outcome {
  queued,    // on stable storage (whether just now, or by an earlier delivery of the same job)
  same,      // a job with its key is there already; Answer::reason is that one's ID
  conflict,  // there is a job of that ID or key with another workload or function
  refused,   // not stored
  bad,       // cannot be a job: too large, or damaged on its way
  unknown,   // the disk failed in between: it may or may not be there; to repeat it is safe
};

struct Answer {
  Outcome outcome = Outcome::refused;
  std::string reason{};  // refused, bad and unknown
  int error_number = 0;  // refused: the errno, where there is one
  std::string note{};    // queued and same: what is to be said of the job all the same
};

// Whether an add of a job that is known says the same as the one before.
bool is_same(const event::Add& add, uint64_t data_size, uint64_t data_sum, const Job& known);

// The answer to an add that is on stable storage. `known` is the job that the fold has under its ID, or that its key
// stands for, whose ID is `first` then; nullopt where it has neither.
Answer answer_to(const event::Add& add, uint64_t data_size, uint64_t data_sum, const std::optional<Job>& known,
                 const std::optional<std::string>& first);

}  // namespace gq
