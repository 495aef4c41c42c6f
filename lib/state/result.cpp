#include "gq/state/result.hpp"

namespace gq {

std::optional<Result> result_of(const std::optional<Job>& job, bool needs_output, const std::string& self) {
  const auto unknown = [](const std::string& problem) { return Result{.status = status_unknown, .problem = problem}; };
  if (!job) return unknown("this store does not know it, or has forgotten it");
  if (!has_ended(*job) && job->state != State::dead) return std::nullopt;
  if (job->dropped) return unknown(no_output_reason(*job, self));
  Result result{.has_output = job->output == Kept::whole};
  if (job->state == State::dead) {
    // A record from elsewhere may have numbers that no command ends with. Of these the caller would see the last 8
    // bits, which may be 0.
    const bool has_status = job->exit != 0 && job->exit <= last_status;
    const bool has_signal = job->signal != 0 && job->signal <= last_status - status_signal;
    result.status = has_status   ? static_cast<int>(job->exit)
                    : has_signal ? status_signal + static_cast<int>(job->signal)
                                 : status_unknown;
    result.problem = "it is dead: " + job->why;
  } else if (!result.has_output && (needs_output || job->result || job->output != Kept::not_asked)) {
    return unknown(no_output_reason(*job, self));
  }
  return result;
}

}  // namespace gq
