// The outboxes of this process, one for each other node. An outbox stays until the process ends, even if its node is
// removed from the group. Thread-safe.
#pragma once

#include <list>
#include <string>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/replication/outbox.hpp"

namespace gq {

class Peers {
 public:
  explicit Peers(Monitor& monitor) : m_monitor(monitor) {}

  // Creates an outbox for each other node of the group. Call it again when the group has changed. Throws Error(retry)
  // if no thread can be started; then the next call creates the remaining ones.
  void keep_up();
  // Waits until all threads have ended. Call it after Monitor::stop().
  void join();

  // Returns the outbox of a node; nullptr for a node that is not in the group.
  Outbox* find(const std::string& node);
  // The outboxes of the nodes in the group.
  std::vector<Outbox*> all();
  // Asks a node which of these jobs it knows. Throws Error if the node does not answer or is not in the group.
  AskReply ask(const std::string& node, const std::vector<std::string>& ids);

 private:
  std::vector<Outbox*> every() EXCLUDES(m_mutex);

  Monitor& m_monitor;
  Mutex m_mutex;
  std::list<Outbox> m_peers GUARDED_BY(m_mutex);
};

}  // namespace gq
