// The table of outcomes: what happens to a job when its command has ended. gq-worker and gq-flush use it, for commands
// with one job and for the answers of streamed commands.
//
//   0                                   done
//   99                                  done, and its output is deleted
//   100, 64, 65, 70, 76, 77, 78, 112    dead: another attempt would not help (numbers of qmail and of sysexits.h)
//   126, 127, or it could not be run    the command is broken, and the job is not at fault
//   any other status, a signal, or the time limit     again, after a delay
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
  // Replaces the row of an exit status. `text` is "CODE=done", "CODE=retry", "CODE=retry:DELAY", "CODE=dead" or
  // "CODE=keep" (done, and the workload is kept), with CODE from 0 to 255. Returns false for any other text.
  bool replace(std::string_view text);
  // Returns the verdict for an exit status.
  const Verdict& of_exit(int code) const { return m_rows[static_cast<size_t>(code) & 0xff]; }

 private:
  std::array<Verdict, 256> m_rows;
};

}  // namespace gq
