#include "gq/replication/peers.hpp"

#include <algorithm>

namespace gq {

void Peers::keep_up() {
  const Group group = m_monitor.step([](Replica& r) { return r.group(); });
  for (const auto& node : group.members) {
    if (node == group.self.node) continue;
    Outbox* outbox;
    {
      MutexLock guard(m_mutex);
      auto it = std::find_if(m_peers.begin(), m_peers.end(), [&](const Outbox& o) { return o.node() == node; });
      outbox = it == m_peers.end() ? &m_peers.emplace_back(m_monitor, node) : &*it;
    }
    outbox->start();
  }
}

void Peers::join() {
  for (Outbox* outbox : every()) outbox->join();
}

// Returns all outboxes, also those of nodes that were removed from the group.
std::vector<Outbox*> Peers::every() {
  std::vector<Outbox*> every;
  MutexLock guard(m_mutex);
  for (auto& outbox : m_peers) every.push_back(&outbox);
  return every;
}

Outbox* Peers::find(const std::string& node) {
  if (!m_monitor.step([&](Replica& r) { return r.members().has(node); })) return nullptr;
  MutexLock guard(m_mutex);
  for (auto& outbox : m_peers)
    if (outbox.node() == node) return &outbox;
  return nullptr;
}

std::vector<Outbox*> Peers::all() {
  std::vector<Outbox*> all = every();
  m_monitor.step(
      [&](Replica& r) { std::erase_if(all, [&](const Outbox* outbox) { return !r.members().has(outbox->node()); }); });
  return all;
}

AskReply Peers::ask(const std::string& node, const std::vector<std::string>& ids) {
  Outbox* outbox = find(node);
  if (!outbox) throw Error(Exit::retry, node + " is not in this group any more");
  return outbox->line().ask(ids);
}

}  // namespace gq
