// What a worker and a streamed command say to each other (gq-stream(7)): which jobs the command has, and which of them
// each of its lines ends. Pure: it does no I/O and asks no clock. stream.hpp carries the bytes.
//
// The worker sends jobs, each a line "LENGTH ID ATTEMPT FUNCTION" and then LENGTH bytes. The command writes lines
// "STATUS [ID] reason". The first of these rules that fits decides what such a line means:
//
// 1. It names a job that was sent as a whole before the line began, and has no answer: it is the answer for that job.
// 2. It names one of the latest 4096 jobs that were answered: it is left out.
// 3. It names a job that was not sent as a whole, or there is no job for it: the command breaks the protocol. This
//    line and all behind it mean nothing, for they may be about something else.
// 4. It is the answer for the first job that has none, which must have been sent as a whole.
//
// When the command ends, the attempt of that first job has ended, too. The others without an answer have not begun.
//
// What was sent cannot be taken back: a command that hangs holds all of it. So room() allows few jobs ahead.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "gq/store/claiming.hpp"

namespace gq {

// How long a command took for some answers that came together.
struct Pace {
  double ms = 0;
  size_t answers = 1;
};

// How many jobs a command may have at once, going by its latest answers and by how long it has been at work since. It
// is one before its first answer, after an answer that took over a second, and once it works that long (`running_ms`).
// Else it is what the command does in 50 ms, from 2 to 256: the command may wait a moment for a second job.
size_t stream_window(const std::deque<Pace>& latest, double running_ms);

class Dialogue {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  static constexpr size_t longest_line = 4096;  // what is behind that is left out
  static constexpr size_t most_answered = 4096;
  static constexpr int broken_answer = 70;  // EX_SOFTWARE: the status of a line that has none from 0 to 255

  // The command is to have this job. Returns the line that is to be sent before its workload.
  std::string add(const Claim& claim, uint32_t attempt);
  // So many more bytes of lines and workloads were written to the command.
  void sent(uint64_t bytes, Time now);
  // No job is to follow.
  void close() { m_closing = true; }
  bool is_closing() const { return m_closing; }

  struct Answer {
    std::string id;  // of the job that it is for
    int status;      // 0 to 255
    std::string reason;
  };
  // The command printed this. Returns the answers whose lines are complete now, in the order of the lines. It makes no
  // difference in which pieces a line comes.
  std::vector<Answer> heard(std::string_view text, Time now);

  // The bytes cannot be carried on, for this errno: EPIPE where the command has closed its input or its output.
  void fail(int error);
  // Why the dialogue is over, 0 where it is not: the first errno of fail(), or EPROTO where the command broke the
  // protocol before that. The command must be ended, or it could take a piece of a job for the whole.
  int failure() const { return m_failure; }

  // The first job that has no answer; empty where each has one.
  std::string current() const { return m_unanswered.empty() ? std::string() : m_unanswered.front().id; }
  // How many more jobs the command may have now.
  size_t room(Time now) const;

 private:
  struct Sent {
    std::string id;
    uint64_t end;  // of its workload, in bytes since the start
  };
  void take_line(std::vector<Answer>& answers);
  double running_ms(Time now) const;

  uint64_t m_added = 0, m_sent = 0;  // bytes, since the start
  std::deque<Sent> m_unanswered;     // in the order in which they were added
  std::deque<std::string> m_answered;
  std::unordered_multiset<std::string> m_answered_set;  // the same; an ID comes again where its job did
  std::deque<Pace> m_latest;
  Time m_working_since{};  // on what is unanswered

  std::string m_line;            // as much of it as was heard
  uint64_t m_sent_at_line = 0;   // m_sent, when its first byte was heard
  bool m_line_is_taken = false;  // it was as long as can be; the rest is left out
  bool m_broken = false;         // the protocol is
  bool m_closing = false;
  int m_failure = 0;
};

}  // namespace gq
