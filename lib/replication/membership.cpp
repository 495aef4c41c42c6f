#include "gq/replication/membership.hpp"

#include <algorithm>
#include <utility>

#include "gq/base/text.hpp"

namespace gq {

bool RateLimit::allows(Millis now) {
  constexpr int at_once = 3;
  constexpr std::chrono::minutes each{1};
  while (!m_allowed.empty() && now - m_allowed.front() >= at_once * each) m_allowed.pop_front();
  if (m_allowed.size() >= at_once) return false;
  m_allowed.push_back(now);
  return true;
}

Membership::Membership(const Group& group) : m_group(group), m_group_id(group.id()) {
  for (const auto& member : group.members)
    if (member != group.self.node) m_others[member];
}

const std::string& Membership::store_of(const std::string& node) const {
  static const std::string none;
  auto it = m_others.find(node);
  return it == m_others.end() ? none : it->second.store;
}

bool Membership::is(const std::string& node, const std::string& store) const {
  if (store.empty()) return false;
  return (node == m_group.self.node ? m_group.self.store : store_of(node)) == store;
}

bool Membership::is_relay(const std::string& node) const {
  auto it = m_others.find(node);
  return it != m_others.end() && it->second.relay;
}

GroupChange Membership::change(const Group& group, const std::map<std::string, PeerState>& known) {
  GroupChange change;
  if (group.self.node != m_group.self.node || group.self.store != m_group.self.store) {
    change.of_another = true;
    return change;
  }
  for (const auto& [node, other] : m_others)
    if (!group.has(node)) change.removed.push_back(node);
  for (const auto& node : change.removed) m_others.erase(node);
  for (const auto& member : group.members)
    if (member != group.self.node) m_others.try_emplace(member);
  // Find nodes for which the journal and the group differ. Either gq-replicate ended before it wrote the record for its
  // change of the group, or this process has overwritten that record because it did not know the change yet.
  for (const auto& [node, state] : known) {
    const bool owed_nothing = state.position == UINT64_MAX;
    if (!group.has(node) && !owed_nothing) change.forgotten.push_back(node);
    if (group.has(node) && owed_nothing && state.store.empty()) change.returned.push_back(node);  // else it is a relay
  }
  m_group = group;
  return change;
}

void Membership::take_up(const std::string& node, const PeerState& state) {
  auto it = m_others.find(node);
  if (it != m_others.end()) it->second.store = state.store, it->second.former = state.former;
}

std::optional<Refusal> Membership::refuse(const Transfer& transfer) const {
  if (transfer.group != m_group_id)
    return Refusal{"group", "it is for the group " + printable(transfer.group) + ", and this node is in " + m_group_id};
  if (transfer.to != m_group.self.node)
    return Refusal{"to", "it is for " + printable(transfer.to) + ", and this is " + m_group.self.node};
  if (!has(transfer.node)) return Refusal{"node", printable(transfer.node) + " is not in this group"};
  return std::nullopt;
}

// Returns why a store cannot be the node with this name; empty if it can.
std::string Membership::problem_with(const std::string& node, const Other& other, const std::string& store,
                                     bool alive) const {
  if (store == other.store) return {};
  bool taken = store == m_group.self.store ||
               std::any_of(m_others.begin(), m_others.end(), [&](const auto& o) { return o.second.store == store; });
  if (taken)
    return node + " has the identity of another node (a copied store? gq-replicate init gives it one of its own)";
  // If the node was forgotten and is in the group again, its known identity is empty, and no other store uses the name.
  if (alive && !other.store.empty() && std::find(other.former.begin(), other.former.end(), store) != other.former.end())
    return "two nodes claim the name " + node;
  return {};
}

Meeting Membership::meet(const std::string& node, const std::string& store, const std::string& session, bool alive,
                         Millis asked, Millis now) {
  using What = Meeting::What;
  auto it = m_others.find(node);
  if (it == m_others.end()) return {What::refused, node + " is not in this group"};
  Other& other = it->second;
  What what = What::as_before;
  if (store != other.store) {
    if (auto problem = problem_with(node, other, store, alive); !problem.empty()) return {What::refused, problem};
    what = other.store.empty() ? What::first : What::another;
  }
  if (what == What::another) {
    if (asked <= other.met) return {What::refused, "an answer of the store that was " + node + " before"};
    if (!other.turnover.allows(now)) return {What::refused, turned_over(node)};
    other.former.push_back(other.store);
    if (other.former.size() > most_former) other.former.erase(other.former.begin());
  }
  if (what != What::as_before) other.met = now;
  other.store = store;
  return {what, {}, std::exchange(other.session, session) != session};
}

Meeting Membership::meet_sender(const std::string& node, const std::string& store, bool alive, Millis now) {
  using What = Meeting::What;
  auto it = m_others.find(node);
  if (it == m_others.end()) return {What::refused, node + " is not in this group"};
  Other& other = it->second;
  if (store == other.store) return {What::as_before};
  if (auto problem = problem_with(node, other, store, alive); !problem.empty()) return {What::refused, problem};
  if (!other.store.empty()) return {What::unproved};
  other.met = now;
  other.store = store;
  return {What::first};
}

std::optional<bool> Membership::set_relay(const std::string& node, bool relay, Millis now) {
  auto it = m_others.find(node);
  if (it == m_others.end() || it->second.relay == relay) return false;
  if (!it->second.turnover.allows(now)) return std::nullopt;
  it->second.relay = relay;
  return true;
}

}  // namespace gq
