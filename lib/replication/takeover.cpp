#include "gq/replication/takeover.hpp"

#include "gq/base/log.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr long jobs_at_once = 2000;  // their IDs fit into a question

}  // namespace

void TakeoverWatch::take_over_due() {
  const HeldHere held = held_here();
  const auto due = m_monitor.step([&](Replica& r) { return r.due(held, read_times()); });
  for (const auto& what : due) {
    const Millis began = read_times().boot;
    try {
      const size_t taken = take_over(what, held.runs);
      m_monitor.step([&](Replica& r) { r.takeover_ended(what, taken, began, read_times()); });
    } catch (const Error&) {
      m_monitor.step([&](Replica& r) { r.takeover_failed(what); });
      throw;
    }
  }
}

// Returns the owners and functions of other nodes' jobs in this store, and the functions that run on this node.
HeldHere TakeoverWatch::held_here() {
  HeldHere held;
  if (!m_monitor.step([](Replica& r) { return r.group().once; })) return held;
  held.runs = running_here(m_monitor.ledger().owners_directory());
  if (!held.runs.any) return held;
  m_monitor.ledger().for_each_function([&](const std::string& function, const Counters& c) {
    if (c.jobs[static_cast<size_t>(State::held)] > 0 && held.runs.has(function)) held.functions.insert(function);
  });
  if (!held.functions.empty()) m_monitor.ledger().look([&](Fold& fold) { held.nodes = fold.held_nodes(); });
  return held;
}

// Returns the next jobs of a node after `cursor`, and advances `cursor`. Sets `last` if there are no more.
std::vector<HeldJob> TakeoverWatch::held_by(const std::string& node, std::string& cursor, bool& last) {
  std::vector<HeldJob> jobs;
  m_monitor.ledger().look([&](Fold& fold) {
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

// Takes over those of a node's jobs that this node must run. Returns how many.
size_t TakeoverWatch::take_over(const Takeover& what, const RunHere& here) {
  size_t count = 0;
  std::string cursor;
  for (bool last = false; !last;) {
    Inquiry inquiry(what, here, held_by(what.node, cursor, last));
    ask_for(inquiry);
    if (inquiry.jobs().empty()) continue;
    auto effect = m_monitor.step([&](Replica& r) { return r.take(inquiry, read_times()); });
    if (!effect) return count;
    struct Taking {
      Monitor& monitor;
      ~Taking() {
        monitor.step([](Replica& r) { r.taken(); });
      }
    } taking{m_monitor};
    if (effect->to_send().empty()) continue;
    for (Outbox* outbox : m_peers.all()) outbox->send_now(effect->to_send());
    const auto records = std::move(*effect).then_append();
    m_monitor.ledger().commit({records.begin(), records.end()}, Room::completion);
    count += records.size();
    log(Level::warning, counted(records.size(), "job") + " of " + what.node + " taken over");
  }
  return count;
}

// Sends the questions of an inquiry to the other nodes, and passes the answers to the inquiry.
void TakeoverWatch::ask_for(Inquiry& inquiry) {
  const Millis remember = m_monitor.ledger().limits().remember;
  while (auto question = m_monitor.step([&](Replica& r) { return r.next_question(inquiry, remember, read_times()); })) {
    const AskReply reply = m_peers.ask(question->node, question->ids);
    const auto states = m_monitor.step([&](Replica& r) { return r.answered(inquiry, reply, read_times()); });
    std::vector<std::string> records;
    for (const auto& state : states) records.push_back(encode_record(state));
    if (!records.empty()) m_monitor.ledger().commit({records.begin(), records.end()}, Room::completion);
  }
}

}  // namespace gq
