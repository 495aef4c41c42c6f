#include "gq/work/conclusion.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "gq/base/error.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr Millis unsent_retry{1000};

bool is_good(const Verdict& verdict) {
  return verdict.what == Verdict::What::done || verdict.what == Verdict::What::discard ||
         verdict.what == Verdict::What::keep;
}

// Rule 4 (conclusion.hpp).
Verdict judge(const AttemptEnd& end, const Outcomes& outcomes) {
  if (end.signal) return {};
  Verdict verdict = outcomes.of_exit(end.exit);
  if (end.of == AttemptEnd::Of::stream && verdict.what != Verdict::What::broken) return {};
  if (end.at_limit && !is_good(verdict)) return {};
  return verdict;
}

std::string reason(const AttemptEnd& end, const Verdict& verdict) {
  std::string why = end.at_limit ? "time limit"
                    : end.signal ? "signal " + std::to_string(end.signal)
                                 : "exit " + std::to_string(end.exit);
  if (!end.said.empty()) why += ": " + end.said;
  if (end.of == AttemptEnd::Of::stream && !end.signal && verdict.what != Verdict::What::broken)
    why = "no answer: " + why;
  return why;
}

Millis retry_delay(uint32_t failures, const ConclusionRules& rules, double random) {
  double base = static_cast<double>(rules.backoff.count()) * std::pow(2.0, std::min(failures, 40u) - 1);
  base = std::min(base, static_cast<double>(rules.longest_backoff.count()));
  return Millis(std::llround(base * (0.75 + random / 2)));
}

}  // namespace

std::optional<uint64_t> output_limit(const Job& job, const ConclusionRules& rules) {
  if (job.result) return std::max(rules.keep_output, usual_output);
  return rules.keep_output ? std::optional(rules.keep_output) : std::nullopt;
}

bool depends_on_output(const AttemptEnd& end, const ConclusionRules& rules) {
  return end.prints && !end.at_limit && !end.cancelled && !end.cut_off &&
         judge(end, rules.outcomes).what == Verdict::What::retry;
}

bool has_offspring(const AttemptEnd& end, const ConclusionRules& rules) {
  const Verdict verdict = judge(end, rules.outcomes);
  return !rules.then.function.empty() && !end.cancelled && is_good(verdict) && verdict.what != Verdict::What::discard;
}

Conclusion conclude(const AttemptEnd& end, const Job& job, const ConclusionRules& rules, Millis now, double random) {
  using What = Conclusion::What;
  const Verdict verdict = judge(end, rules.outcomes);
  const std::string why = reason(end, verdict);
  if (end.cancelled)
    return {.what = What::dead,
            .spent = true,
            .why = "cancelled",
            .exit = end.signal ? no_exit : static_cast<uint32_t>(end.exit),
            .signal = static_cast<uint32_t>(end.signal)};
  if (end.cut_off && !is_good(verdict)) return given_back("stopped with its worker");
  if (end.printed != Printed::arrives && depends_on_output(end, rules))
    return given_back("its output could not be written: " + why,
                      end.printed == Printed::nowhere ? Millis(0) : now + rules.pause());
  // Rule 3 does not apply to EPIPE and EPROTO, because these are the command's fault.
  if (end.unsent != 0 && end.unsent != EPIPE && end.unsent != EPROTO)
    return given_back("the job could not be sent to the command: " + errno_text(end.unsent), now + unsent_retry);
  const Offspring& offspring = end.offspring;
  if (offspring.passes) return given_back(offspring.problem, now + rules.pause());
  Conclusion conclusion{.spent = true,
                        .why = why,
                        .exit = end.signal ? no_exit : static_cast<uint32_t>(end.exit),
                        .signal = static_cast<uint32_t>(end.signal)};
  switch (verdict.what) {
    case Verdict::What::done:
    case Verdict::What::discard:
    case Verdict::What::keep:
      conclusion.what = offspring.problem.empty() ? What::done : What::dead;
      if (!offspring.problem.empty()) conclusion.why = offspring.problem;
      conclusion.children = offspring.jobs;
      conclusion.keep = rules.keep || verdict.what == Verdict::What::keep;
      conclusion.discard = verdict.what == Verdict::What::discard;
      break;
    case Verdict::What::broken:
      return {.what = What::broken, .discard = true, .why = why};
    case Verdict::What::retry:
    case Verdict::What::dead:
      if (verdict.what == Verdict::What::dead || job.failures + 1 >= rules.attempts(job)) {
        conclusion.what = What::dead;
      } else {
        conclusion.what = What::again;
        conclusion.due = now + verdict.delay.value_or(retry_delay(job.failures + 1, rules, random));
      }
  }
  if (conclusion.what != What::again) conclusion.output = end.output;
  return conclusion;
}

std::string conclusion_record(const Claim& claim, const Conclusion& c, Millis now, std::string_view output) {
  const auto record = [&](auto event) {
    event.id = claim.id, event.at = now, event.owner = claim.job.owner, event.start = claim.job.starts;
    event.exit = c.exit, event.signal = c.signal;
    if constexpr (requires { event.output; }) event.output = static_cast<uint32_t>(c.output);
    if constexpr (requires { event.children; }) event.children = c.children;
    std::string bytes = encode_record_head(event, output.size(), sum64(output));
    if (output.size() <= max_inline_data) bytes += output;
    return bytes;
  };
  switch (c.what) {
    case Conclusion::What::done:
      return record(event::Done{.attempts = claim.job.failures + 1, .keep = c.keep});
    case Conclusion::What::dead:
      return record(event::Dead{.spent = c.spent, .why = c.why});
    case Conclusion::What::again:
    case Conclusion::What::given_back:
    case Conclusion::What::broken:
      break;
  }
  return record(event::Fail{.spent = c.spent, .due = c.due, .why = c.why});
}

}  // namespace gq
