// The answer to a program that waits for a job: whether the job has ended, and the exit status that stands for its end,
// as sh(1) and timeout(1) have them. Pure.
#pragma once

#include <optional>
#include <string>

#include "gq/state/job.hpp"

namespace gq {

inline constexpr int status_still_waits = 124, status_unknown = 125, status_signal = 128, last_status = 255;

struct Result {
  // 0: done, or kept. Else the exit status of the job's command; status_signal and the number of the signal that ended
  // it; or status_unknown if neither says how the job ended, or if its output is lacking.
  int status = 0;
  bool has_output = false;  // it is kept
  std::string problem{};    // if the status is not 0: why, as text for users
};

// Returns nullopt while the job has not ended. `job` is nullopt if the store does not know it. `needs_output`: the
// program that waits needs the output, even if the job was added without the request to keep it; if the output is
// lacking, the status is status_unknown. `self` is the name of this node.
std::optional<Result> result_of(const std::optional<Job>& job, bool needs_output, const std::string& self);

}  // namespace gq
