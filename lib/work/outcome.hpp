// What becomes of a job when its command has ended. This is the one table of outcomes, for gq-worker and gq-flush,
// whether the command ran for one job or answers for many.
//
//   0                                   done
//   99                                  done, and its output is deleted
//   100, 64, 65, 70, 76, 77, 78, 112    dead: another attempt would not help (qmail's and sysexits.h's numbers)
//   126, 127, or it could not be run    the command is broken, not the job
//   anything else, a signal, the time limit     again, after a delay
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "gq/base/clock.hpp"

namespace gq {

struct Verdict {
  enum class What { done, discard, keep, retry, dead, broken };
  What what = What::retry;
  std::optional<Millis> delay;  // retry: replaces the usual delay
};

class Outcomes {
 public:
  Outcomes();
  // Replaces a row: "CODE=done", "CODE=retry", "CODE=retry:DELAY", "CODE=dead" or "CODE=keep" (done, and the workload
  // is kept), with CODE from 0 to 255. Returns false for any other text.
  bool replace(std::string_view text);
  // The verdict for an exit status.
  const Verdict& of_exit(int code) const { return m_rows[static_cast<size_t>(code) & 0xff]; }

 private:
  std::array<Verdict, 256> m_rows;
};

}  // namespace gq
