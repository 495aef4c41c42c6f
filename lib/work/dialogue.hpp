// The protocol between a worker and a streamed command (gq-stream(7)): which jobs the command has, and which of them
// each of its lines ends. Pure: it does no I/O and reads no clock. stream.hpp carries the bytes.
//
// The worker sends jobs, each as a line "LENGTH ID ATTEMPT FUNCTION" followed by LENGTH bytes. The command writes lines
// "STATUS [ID] reason". The first of these rules that applies decides what such a line means:
//
// 1. The line names a job that was completely sent before the line began and has no answer: it answers that job.
// 2. The line names one of the latest 4096 answered jobs: it is ignored.
// 3. The line names a job that was not completely sent, or there is no job that it could answer: the command breaks the
//    protocol. This line and all later lines are ignored, because they may be about another job.
// 4. The line answers the first unanswered job, which must have been completely sent.
//
// When the command ends, the attempt of the first unanswered job has ended, too. The other unanswered jobs have not
// begun.
//
// The worker cannot take back jobs that it has sent: a command that hangs holds all of them. So room() allows only few
// jobs ahead.
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

// How long a command took for a number of answers that came together.
struct Pace {
  double ms = 0;
  size_t answers = 1;
};

// Returns how many jobs a command may have at once. Depends on its latest answers, and on how long it has been working
// since (`running_ms`). The window is one job before the first answer, after an answer that took over a second, and
// when the command has been working for over a second. Otherwise the window is what the command does in 50 ms, from 2
// to 256: two, because a command may wait a moment for a second job.
size_t stream_window(const std::deque<Pace>& latest, double running_ms);

class Dialogue {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  static constexpr size_t longest_line = 4096;  // further bytes of a line are ignored
  static constexpr size_t most_answered = 4096;
  static constexpr int broken_answer = 70;  // EX_SOFTWARE: the status of a line that has none from 0 to 255

  // Adds a job that the command is to get. Returns the line that must be sent before the job's workload.
  std::string add(const Claim& claim, uint32_t attempt);
  // Call it when `bytes` more bytes of lines and workloads were written to the command.
  void sent(uint64_t bytes, Time now);
  // No further job follows.
  void close() { m_closing = true; }
  bool is_closing() const { return m_closing; }

  struct Answer {
    std::string id;  // of the answered job
    int status;      // 0 to 255
    std::string reason;
  };
  // Takes text that the command has printed. Returns the answers whose lines are complete now, in the order of the
  // lines. A line may come in any number of pieces.
  std::vector<Answer> receive(std::string_view text, Time now);

  // Call it when the pipes have failed with this errno: EPIPE if the command has closed its input or its output.
  void fail(int error);
  // The reason why the dialogue is over: the first errno given to fail(), or EPROTO if the command broke the protocol
  // before that; 0 while the dialogue is not over. When it is over, the caller must end the command, because the
  // command could take a part of a job for the whole job.
  int failure() const { return m_failure; }

  // The ID of the first unanswered job; empty if all jobs are answered.
  std::string current() const { return m_unanswered.empty() ? std::string() : m_unanswered.front().id; }
  // How many more jobs the command may have now.
  size_t room(Time now) const;

 private:
  struct Sent {
    std::string id;
    uint64_t end;  // the end of its workload, in bytes since the start of the command
  };
  void take_line(std::vector<Answer>& answers);
  double running_ms(Time now) const;

  uint64_t m_added = 0, m_sent = 0;  // bytes since the start of the command
  std::deque<Sent> m_unanswered;     // in the order in which they were added
  std::deque<std::string> m_answered;
  std::unordered_multiset<std::string> m_answered_set;  // the same IDs; an ID occurs twice if its job came twice
  std::deque<Pace> m_latest;
  Time m_working_since{};  // when it began to work on the unanswered jobs; {}: it has nothing to work on

  std::string m_line;            // the part of the current line that has been read
  uint64_t m_sent_at_line = 0;   // m_sent when the first byte of the line was read
  bool m_line_is_taken = false;  // the line has reached longest_line; the rest is ignored
  bool m_broken = false;         // the command broke the protocol
  bool m_closing = false;
  int m_failure = 0;
};

}  // namespace gq
