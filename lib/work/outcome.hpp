// What becomes of a job when its command has ended: the one table of it, for gq-worker and gq-flush, whether the
// command ran once for the job or answers for many.
//
//   0                                   done
//   99                                  done, and its output is thrown away
//   100, 64, 65, 70, 76, 77, 78, 112    dead: to try again would not help (qmail's and sysexits.h's numbers)
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
  std::optional<Millis> delay;  // retry: in place of the usual one
};

class Outcomes {
 public:
  Outcomes();
  // Replaces a row: "CODE=done", "CODE=retry", "CODE=retry:DELAY", "CODE=dead" or "CODE=keep" (done, and the workload
  // stays), with CODE from 0 to 255. False for anything else.
  bool replace(std::string_view text);
  // For the status of an exit.
  const Verdict& of_exit(int code) const { return m_rows[static_cast<size_t>(code) & 0xff]; }

 private:
  std::array<Verdict, 256> m_rows;
};

}  // namespace gq
