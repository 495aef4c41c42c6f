// A command that is started once and fed jobs: gq-worker --stream. See gq-stream(7).
//
// It reads jobs on standard input, each a line "LENGTH ID ATTEMPT FUNCTION" and then LENGTH bytes, and writes one line for each
// to standard output, in order: an exit status as for a command that runs once, and behind a space a reason for people.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "fd.hpp"
#include "store.hpp"

namespace gq {

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

  // Goes on with sending and reading, as far as that goes without waiting.
  void pump();
  // Why the conversation is over, 0 where it is not: the command must not go on, lest it take a piece of a job for the whole.
  // EPIPE: it has closed its input or its output, perhaps by ending. EPROTO: it has answered for a job that it was not sent.
  int failure() const { return m_failure; }
  // What to poll for: -1 where there is nothing to send.
  int input() const { return m_pending.empty() || m_failure ? -1 : m_input.get(); }
  int output() const { return m_output && !m_failure ? m_output.get() : -1; }
  // Bytes that are still to be sent from memory.
  size_t pending() const { return m_pending_bytes; }

  struct Answer {
    int status;
    std::string reason;
  };
  // The next answer, if a whole line of it is there. A line that is not an answer is taken for status 70; one that comes before
  // its job was sent is a failure().
  std::optional<Answer> answer();

 private:
  struct Piece {
    std::string bytes;
    size_t sent = 0;
    Fd blob;  // behind the bytes
    uint64_t blob_left = 0, blob_offset = 0;
  };
  void write();

  Fd m_command_input, m_command_output, m_input, m_output;
  std::deque<Piece> m_pending;
  size_t m_pending_bytes = 0;
  uint64_t m_queued = 0, m_written = 0;  // bytes, since the start
  std::deque<uint64_t> m_ends;           // of the jobs without an answer, in those bytes
  bool m_closing = false;
  int m_failure = 0;  // an errno
  std::string m_answers;
};

}  // namespace gq
