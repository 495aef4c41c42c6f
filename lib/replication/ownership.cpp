#include "gq/replication/ownership.hpp"

#include <algorithm>
#include <utility>

namespace gq {
namespace {

constexpr Millis attempt_interval{1000};

bool runs_more(const RunHere& here, const RunHere& before) {
  return (here.all && !before.all) ||
         !std::includes(before.functions.begin(), before.functions.end(), here.functions.begin(), here.functions.end());
}

template <typename Condition>
void leave_out(std::vector<HeldJob>& jobs, Condition condition) {
  jobs.erase(std::remove_if(jobs.begin(), jobs.end(), condition), jobs.end());
}

// Returns the jobs of the question that the answering node knows.
std::set<std::string> known_of(const std::vector<std::string>& ids, const AskReply& reply) {
  std::set<std::string> known;
  for (size_t i = 0; i < ids.size(); ++i)
    if (reply.known[i]) known.insert(ids[i]);
  return known;
}

}  // namespace

event::State passed_on(event::State state, const Self& self) {
  state.from = self.node;
  state.from_store = self.store;
  return state;
}

event::State state_to_send(const std::string& id, const Job& job, const Self& self) {
  return passed_on(state_of(id, job), self);
}

bool is_mine_to_send(const Membership& members, const FailureDetector& detector, const std::string& origin,
                     const std::string& store) {
  if (origin == members.group().self.node || !members.has(origin) || detector.is_gone(origin)) return true;
  return !members.store_of(origin).empty() && !members.is(origin, store);
}

std::vector<std::string> SendThenAppend::then_append() && {
  std::vector<std::string> records;
  for (auto& change : m_changes) records.push_back(std::move(change.appended));
  m_changes.clear();
  return records;
}

std::vector<Takeover> Ownership::due(const HeldHere& held, const Membership& members, const FailureDetector& detector,
                                     Millis now) {
  using Cause = Takeover::Cause;
  if (!members.group().once || !detector.has_returned()) return {};
  if (runs_more(held.runs, m_run_here))
    for (auto& [name, node] : m_nodes) node.check = true;
  m_run_here = held.runs;
  std::vector<Takeover> all, some;
  for (const auto& name : members.group().members) {
    if (!members.has(name)) continue;
    Node& node = m_nodes[name];
    if (now < node.next_attempt) continue;
    node.next_attempt = now + attempt_interval;
    if (now >= node.next_check) node.check = true, node.next_check = now + m_check_interval;
    if (std::any_of(held.functions.begin(), held.functions.end(),
                    [&](const std::string& f) { return detector.lacks(name, f, now); }))
      all.push_back({name, detector.is_gone(name) ? Cause::gone : Cause::idle, now >= node.next_sending});
    // This check is independent of the one above: the node may not run some functions, and may have lost jobs of
    // others.
    if (detector.has_answered(name) && !detector.is_gone(name) && std::exchange(node.check, false))
      some.push_back({name, Cause::lost, now >= node.next_sending});
  }
  all.insert(all.end(), some.begin(), some.end());
  if (now < m_next_former) return all;
  m_next_former = now + attempt_interval;
  for (const auto& name : held.nodes)
    if (!members.has(name)) all.push_back({name, Cause::former, now >= m_nodes[name].next_sending});
  return all;
}

void Ownership::takeover_ended(const Takeover& what, size_t taken, Millis began, Millis now) {
  if (taken > 0 || (what.cause != Takeover::Cause::gone && what.cause != Takeover::Cause::idle)) return;
  m_nodes[what.node].next_attempt = now + std::max(attempt_interval, 20 * (now - began));
}

void Ownership::leave_others(std::vector<HeldJob>& jobs, const Takeover& what, const RunHere& here,
                             const FailureDetector& detector, Millis now) {
  const bool lacking = what.cause == Takeover::Cause::gone || what.cause == Takeover::Cause::idle;
  leave_out(jobs, [&](const HeldJob& j) {
    return !here.has(j.job.function) || (lacking && !detector.lacks(what.node, j.job.function, now));
  });
}

std::vector<event::State> Ownership::leave_ended(std::vector<HeldJob>& jobs, const AskReply& reply) const {
  std::vector<event::State> doubted;
  for (const auto& [id, job] : jobs)
    if (reply.ended.count(id)) doubted.push_back(state_to_send(id, job, m_self));
  leave_out(jobs, [&](const HeldJob& j) { return reply.ended.count(j.id) > 0; });
  return doubted;
}

std::vector<event::State> Ownership::leave_to_owner(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                                    const AskReply& reply, const std::string& node,
                                                    const Membership& members) const {
  std::vector<event::State> doubted;
  for (const auto& [id, job] : jobs)
    if (reply.yours.count(id) || reply.others.count(id)) doubted.push_back(state_to_send(id, job, m_self));
  const auto known = known_of(ids, reply);
  const std::string& store = members.store_of(node);
  leave_out(jobs, [&](const HeldJob& j) { return known.count(j.id) && (store.empty() || j.job.store == store); });
  return doubted;
}

std::vector<std::string> Ownership::before(const Takeover& what, const Membership& members,
                                           const FailureDetector& detector) const {
  const bool lost = what.cause == Takeover::Cause::lost;
  std::vector<std::string> nodes;
  for (const auto& name : members.group().members) {
    if (name == m_self.node && !lost) break;
    // For Cause::lost, also ask the node itself: if a store with an older identity owned the jobs, the present store of
    // that name may take them over.
    const bool is_owner = name == what.node && !lost;
    if (members.has(name) && !is_owner && !detector.is_gone(name)) nodes.push_back(name);
  }
  return nodes;
}

std::vector<std::string> Ownership::ids_of(const std::vector<HeldJob>& jobs) {
  std::vector<std::string> ids;
  for (const auto& j : jobs) ids.push_back(j.id);
  return ids;
}

std::vector<std::string> Ownership::to_ask(const std::vector<HeldJob>& jobs, const std::string& node,
                                           const RunHere& here, const Membership& members,
                                           const FailureDetector& detector, Millis now) const {
  const auto& order = members.group().members;
  const bool is_earlier =
      std::find(order.begin(), order.end(), node) < std::find(order.begin(), order.end(), m_self.node);
  std::vector<std::string> ids;
  for (const auto& j : jobs)
    if (!detector.lacks(node, j.job.function, now) && (is_earlier || !here.has(j.job.function))) ids.push_back(j.id);
  return ids;
}

void Ownership::leave_to_those_before(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                      const AskReply& reply) {
  const auto known = known_of(ids, reply);
  leave_out(jobs, [&](const HeldJob& j) { return known.count(j.id) && !reply.yours.count(j.id); });
}

std::vector<std::string> Ownership::maybe_stale(const std::vector<HeldJob>& jobs, Millis remember, Millis now) {
  std::vector<std::string> ids;
  for (const auto& j : jobs)
    if (j.job.changed_at + remember < now) ids.push_back(j.id);
  return ids;
}

std::optional<std::vector<std::string>> Ownership::all_others(const Membership& members,
                                                              const FailureDetector& detector) {
  std::vector<std::string> nodes;
  for (const auto& name : members.group().members) {
    if (!members.has(name) || members.is_relay(name)) continue;
    if (detector.is_gone(name) || !detector.has_answered(name)) return std::nullopt;
    nodes.push_back(name);
  }
  return nodes;
}

std::optional<SendThenAppend> Ownership::take(const Takeover& what, std::vector<HeldJob> jobs,
                                              const std::set<std::string>& stale, const FailureDetector& detector,
                                              Times now) {
  if (!detector.has_returned()) return std::nullopt;
  if (what.cause == Takeover::Cause::gone && !detector.stays_gone(what.node, now.boot)) return std::nullopt;
  m_taking = what.node;
  // Leave out jobs whose term has reached the limit. No real job does, and there could be no newer state of such a job.
  leave_out(jobs, [](const HeldJob& j) { return !can_change_owner(j.job); });
  std::vector<SendThenAppend::Change> changes;
  for (auto& [id, job] : jobs) {
    job.node = m_self.node;
    job.store = m_self.store;
    ++job.term;
    ++job.version;
    job.changed_at = now.wall;
    const bool is_stale = stale.count(id) > 0;
    if (is_stale) {
      job.state = State::dead;
      job.why = "stale: no other node knows it any more";
    }
    changes.push_back({id, job, record_to_send(id, job, m_self), encode_record(state_of(id, job)), is_stale});
  }
  return SendThenAppend(std::move(changes));
}

}  // namespace gq
