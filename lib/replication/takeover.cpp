#include "gq/replication/takeover.hpp"

#include "gq/base/log.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr long jobs_at_once = 2000;  // their IDs fit into a question

}  // namespace

void TakeoverWatch::look() {
  const HeldHere held = held_here();
  const auto due = m_monitor.step([&](Replica& r) { return r.due(held, read_times()); });
  for (const auto& what : due) {
    const Millis began = read_times().boot;
    try {
      const size_t taken = take_over(what, held.runs);
      m_monitor.step([&](Replica& r) { r.ownership().looked(what, taken, began, read_times().boot); });
    } catch (const Error&) {
      m_monitor.step([&](Replica& r) { r.ownership().failed(what); });
      throw;
    }
  }
}

// What there is of others' jobs here, and runs here.
HeldHere TakeoverWatch::held_here() {
  HeldHere held;
  if (!m_monitor.step([](Replica& r) { return r.group().once; })) return held;
  held.runs = running_here(m_monitor.store().owners_directory());
  if (!held.runs.any) return held;
  m_monitor.store().look([&](Fold& fold) {
    held.functions.clear();
    for (const auto& [function, c] : fold.counters())
      if (c.jobs[static_cast<size_t>(State::held)] > 0 && held.runs.has(function)) held.functions.insert(function);
    held.nodes = held.functions.empty() ? std::vector<std::string>() : fold.held_nodes();
  });
  return held;
}

// The next jobs of a node from `cursor` on, which moves on; `last` when there are no more.
std::vector<HeldJob> TakeoverWatch::held_by(const std::string& node, std::string& cursor, bool& last) {
  std::vector<HeldJob> jobs;
  m_monitor.store().look([&](Fold& fold) {
    jobs.clear();
    std::vector<std::string> ids;
    std::string next = cursor;
    last = fold.page('o', node, jobs_at_once, next, ids);
    for (const auto& id : ids)
      if (auto job = fold.get(id)) jobs.push_back({.id = id, .job = std::move(*job)});
    cursor = next;
  });
  return jobs;
}

// Takes over what is to be taken of a node's jobs; returns how many.
size_t TakeoverWatch::take_over(const Takeover& what, const RunHere& here) {
  size_t count = 0;
  std::string cursor;
  for (bool last = false; !last;) {
    std::vector<HeldJob> jobs = held_by(what.node, cursor, last);
    leave_to_others(what, here, jobs);
    const auto stale = what.node == m_monitor.self().node ? unknown_everywhere(jobs) : std::set<std::string>();
    if (jobs.empty()) continue;
    auto effect = m_monitor.step([&](Replica& r) { return r.take(what, std::move(jobs), stale, read_times()); });
    if (!effect) return count;
    struct Taking {
      Monitor& monitor;
      ~Taking() {
        monitor.step([](Replica& r) { r.ownership().taken(); });
      }
    } taking{m_monitor};
    for (Outbox* outbox : m_peers.all()) outbox->tell(effect->tell());
    const auto records = std::move(*effect).then_append();
    m_monitor.journal().commit({records.begin(), records.end()}, Room::completion);
    count += records.size();
    log(Level::warning, counted(records.size(), "job") + " of " + what.node + " taken over");
  }
  return count;
}

// Leaves the jobs that are for this node to take over, as the others say.
void TakeoverWatch::leave_to_others(const Takeover& what, const RunHere& here, std::vector<HeldJob>& jobs) {
  auto leave_others = [&] {
    m_monitor.step([&](Replica& r) { Ownership::leave_others(jobs, what, here, r.detector(), read_times().boot); });
  };
  leave_others();
  if (what.cause == Takeover::Cause::lost && !jobs.empty()) {
    const auto ids = Ownership::ids_of(jobs);
    const AskReply reply = m_peers.ask(what.node, ids);
    const auto doubted = m_monitor.step(
        [&](Replica& r) { return r.ownership().leave_to_owner(jobs, ids, reply, what.node, r.members()); });
    std::vector<std::string> records;
    for (const auto& state : doubted) records.push_back(encode_record(state));
    if (!records.empty()) m_monitor.journal().commit({records.begin(), records.end()}, Room::completion);
  }
  const auto earlier =
      m_monitor.step([&](Replica& r) { return r.ownership().earlier(what, r.members(), r.detector()); });
  for (const auto& node : earlier) {
    const auto ids =
        m_monitor.step([&](Replica& r) { return Ownership::to_ask(jobs, node, r.detector(), read_times().boot); });
    if (ids.empty()) continue;
    Ownership::leave_to_earlier(jobs, ids, m_peers.ask(node, ids));
  }
  // All this took its time. An owner that lives may run them again by now: it is asked once more. What begins there
  // between its answer and what it is told here can run twice.
  if (what.cause != Takeover::Cause::idle || jobs.empty()) return;
  m_peers.ask(what.node, {});
  leave_others();
}

// Of jobs that this node owned before it was restored or set up anew: those that are stale. None where not all others
// can be asked.
std::set<std::string> TakeoverWatch::unknown_everywhere(const std::vector<HeldJob>& jobs) {
  const auto ids = Ownership::maybe_stale(jobs, m_monitor.store().limits().remember, now_ms());
  const auto others = m_monitor.step([](Replica& r) { return Ownership::all_others(r.members(), r.detector()); });
  if (ids.empty() || !others || others->empty()) return {};
  std::set<std::string> unknown(ids.begin(), ids.end());
  for (const auto& node : *others) {
    const auto known = m_peers.ask(node, ids).known;
    for (size_t i = 0; i < ids.size(); ++i)
      if (known[i]) unknown.erase(ids[i]);
  }
  return unknown;
}

}  // namespace gq
