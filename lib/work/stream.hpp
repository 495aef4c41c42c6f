// A command that is started once and fed jobs: gq-worker --stream. See gq-stream(7).
//
// It reads jobs on standard input, each a line "LENGTH ID ATTEMPT FUNCTION" and then LENGTH bytes, and writes one line
// for each to standard output: an exit status as for a command that runs once, and behind a space a reason for people.
// An answer whose reason begins with the ID of a job is for that job, any other one for the first job that has none.
//
// What was sent cannot be taken back: a command that hangs holds all of it. So no more is sent ahead than window()
// says.
#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <unordered_set>

#include "gq/base/fd.hpp"
#include "gq/store/store.hpp"

namespace gq {

// How long a command took for some answers that came together.
struct Pace {
  double ms = 0;
  size_t answers = 1;
};

// How many jobs a command may have at once: one before its first answer, while it takes over a second for the job that
// it has
// (`running_ms`), and after such a one; else what it does in 50 ms by its latest answers, but at least two, for it may
// wait a moment for others to come.
size_t stream_window(const std::deque<Pace>& latest, double running_ms);

class Stream {
 public:
  Stream();  // throws Error where there are no pipes

  // The ends for the command; close_ends() once it has been started.
  int command_input() const { return m_command_input.get(); }
  int command_output() const { return m_command_output.get(); }
  void close_ends();

  // Sends a job, or rather begins to.
  void send(const Claim& claim, uint32_t attempt, Workload workload);
  // No more jobs: the command sees the end of its input when it has read those that were sent.
  void close();
  bool closing() const { return m_closing; }

  // Goes on with sending and reading, as far as that goes without waiting.
  void pump();
  // Why the conversation is over, 0 where it is not: the command must not go on, lest it take a piece of a job for the
  // whole. EPIPE: it has closed its input or its output, perhaps by ending. EPROTO: it has answered for a job that it
  // was not sent.
  int failure() const { return m_failure; }
  // What to poll for: -1 where there is nothing to send.
  int input() const { return m_pending.empty() || m_failure ? -1 : m_input.get(); }
  int output() const { return m_output && !m_failure ? m_output.get() : -1; }
  // Bytes that are still to be sent from memory.
  size_t pending() const { return m_pending_bytes; }
  // See stream_window().
  size_t window() const;

  struct Answer {
    std::string id;  // of the job that it is for
    int status;
    std::string reason;
  };
  // The answers of which a whole line is there. A line that is not an answer is taken for status 70; one that names a
  // job that has an answer already is left out; one that comes before its job was sent is a failure().
  std::deque<Answer> answers();

 private:
  struct Piece {
    std::string bytes;
    size_t sent = 0;
    Fd blob;  // behind the bytes
    uint64_t blob_left = 0, blob_offset = 0;
  };
  struct Sent {
    std::string id;
    uint64_t end;  // in the bytes since the start
  };
  using Clock = std::chrono::steady_clock;
  void write();
  std::optional<Answer> answer();
  double running_ms() const;

  Fd m_command_input, m_command_output, m_input, m_output;
  std::deque<Piece> m_pending;
  size_t m_pending_bytes = 0;
  uint64_t m_queued = 0, m_written = 0;  // bytes, since the start
  std::deque<Sent> m_unanswered;
  std::deque<std::string> m_answered;  // the latest
  std::unordered_set<std::string> m_answered_set;
  std::deque<Pace> m_latest;
  Clock::time_point m_working_since;  // on what is unanswered
  bool m_closing = false;
  int m_failure = 0;  // an errno
  std::string m_answers;
  bool m_early = false;  // what has been read of the next answer was written before there was a job for it
};

}  // namespace gq
