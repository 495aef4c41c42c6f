// The pipes between a worker and a streamed command. What goes over them, and what it means, is Dialogue's.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/store/store.hpp"
#include "gq/work/dialogue.hpp"

namespace gq {

class Stream {
 public:
  Stream();  // throws Error where there are no pipes

  // The ends for the command; close_ends() once it has been started.
  int command_input() const { return m_command_input.get(); }
  int command_output() const { return m_command_output.get(); }
  void close_ends();

  const Dialogue& dialogue() const { return m_dialogue; }
  // Takes a job that pump() is to send.
  void send(const Claim& claim, uint32_t attempt, Workload workload);
  // No more jobs: the command sees the end of its input when it has read those that were sent.
  void close();
  // Reads and sends as much as that goes without waiting. Returns what the command has answered.
  std::vector<Dialogue::Answer> pump();

  // What to poll for: -1 where there is nothing to send.
  int input() const { return m_pending.empty() || m_dialogue.failure() ? -1 : m_input.get(); }
  int output() const { return m_dialogue.failure() ? -1 : m_output.get(); }
  // Bytes that are still to be sent from memory.
  size_t pending() const { return m_pending_bytes; }

 private:
  struct Piece {
    std::string bytes;
    size_t sent = 0;
    Fd blob;  // behind the bytes
    uint64_t blob_left = 0, blob_offset = 0;
  };
  std::vector<Dialogue::Answer> read();
  void write();

  Dialogue m_dialogue;
  Fd m_command_input, m_command_output, m_input, m_output;
  std::deque<Piece> m_pending;
  size_t m_pending_bytes = 0;
};

}  // namespace gq
