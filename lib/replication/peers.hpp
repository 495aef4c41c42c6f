// The other nodes, as this process deals with them: an outbox each, which stays until the process ends, also where the
// node is taken out of the group. Thread-safe.
#pragma once

#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "gq/replication/outbox.hpp"

namespace gq {

class Peers {
 public:
  explicit Peers(Monitor& monitor) : m_monitor(monitor) {}

  // One for each other node of the group; to be called again when that has changed. Throws Error(retry) where no thread
  // can be started, and goes on from there the next time.
  void keep_up();
  // Waits until all are at their end; after Monitor::stop().
  void join();

  // nullptr for what is not in the group.
  Outbox* find(const std::string& node);
  // Of those in the group.
  std::vector<Outbox*> all();
  // Asks a node which of these jobs it knows. Throws Error where it does not answer, or is not in the group.
  AskReply ask(const std::string& node, const std::vector<std::string>& ids);

 private:
  Monitor& m_monitor;
  std::mutex m_mutex;  // for what follows
  std::list<Outbox> m_peers;
};

}  // namespace gq
