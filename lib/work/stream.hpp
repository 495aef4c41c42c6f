// The pipes between a worker and a streamed command. Dialogue has the protocol.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/store/claiming.hpp"
#include "gq/store/ledger.hpp"
#include "gq/work/dialogue.hpp"

namespace gq {

class Stream {
 public:
  Stream();  // throws Error if pipes cannot be made

  // The descriptors for the command. Call close_ends() once the command has been started.
  int command_input() const { return m_command_input.get(); }
  int command_output() const { return m_command_output.get(); }
  void close_ends();

  const Dialogue& dialogue() const { return m_dialogue; }
  // Queues a job that pump() sends.
  void send(const Claim& claim, uint32_t attempt, Workload workload);
  // Call it when no more jobs follow: the command sees the end of its input when it has read everything that was sent.
  void close();
  // Reads and sends as much as possible without waiting. Returns the command's answers.
  std::vector<Dialogue::Answer> pump();

  // The descriptors to poll for; -1 if there is nothing to send or to read.
  int input() const { return m_pending.empty() || m_dialogue.failure() ? -1 : m_input.get(); }
  int output() const { return m_dialogue.failure() ? -1 : m_output.get(); }
  // the number of bytes in memory that are still to be sent
  size_t pending() const { return m_pending_bytes; }

 private:
  struct Piece {
    std::string bytes;
    size_t sent = 0;
    Fd blob;  // its bytes follow `bytes`
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
