#include "gq/replication/progress.hpp"

#include <algorithm>
#include <tuple>

namespace gq {
namespace {

constexpr size_t max_jobs = 2000;  // the most jobs in one walk
constexpr size_t max_singles = 2000;
constexpr size_t most_pairs = 4096;
constexpr Millis first_again{1000}, longest_again{60'000};  // delays before a refused job is offered again

}  // namespace

bool is_change(const Event& event) {
  const auto* wake = std::get_if<event::Wake>(&event);
  return (wake && wake->dropped) || is_any_of<event::Start, event::Done, event::Fail, event::Dead, event::Kick,
                                              event::Drop, event::Keep, event::Release, event::Cancel>(event);
}

bool Debt::take(const PeerVerdict& verdict) {
  switch (verdict.kind) {
    case PeerVerdict::Kind::have:
      break;
    case PeerVerdict::Kind::need:
      again = true;
      break;
    case PeerVerdict::Kind::conflict:
      conflict = true;
      break;
    case PeerVerdict::Kind::refused:
      refused = verdict.reason;
      break;
    case PeerVerdict::Kind::nonsense:
      return false;
  }
  return true;
}

event::Add add_to_send(event::Add add, const Job& job) {
  if (!job.once || !is_fresh(job) || add.store == job.store) return add;
  add.node = job.node;
  add.store = job.store;
  add.at = job.changed_at;
  return add;
}

std::optional<Debt> single_debt(const std::string& id, const std::optional<Job>& job, bool needs_add, Lsn location,
                                Lsn since) {
  if (!job || job->node.empty()) return std::nullopt;
  const bool finished = job->state == State::finished;
  if (finished && !job->once && job->first_lsn < since) return std::nullopt;  // it ended before the node joined
  Debt debt{id, *job};
  debt.job.location = location;
  debt.state = job->once && (finished || !is_fresh(*job));
  debt.needs_add = (!finished || !job->once) && (!debt.state || needs_add);
  return debt;
}

// ---------------------------------------------------------------------------------------------------------------- walk

Lsn Walk::skip() {
  for (auto part = m_sent_at_once.find(m_upto); part != m_sent_at_once.end(); part = m_sent_at_once.find(m_upto)) {
    m_upto = part->second;
    m_relevant = true;
  }
  return m_upto;
}

bool Walk::is_full() const { return m_order.size() >= max_jobs || m_bytes >= max_transfer; }

Walk::Touched& Walk::touch(const std::string& id, Lsn lsn) {
  auto [it, is_new] = m_touched.try_emplace(id);
  if (is_new) m_order.push_back(id), it->second.first = lsn;
  return it->second;
}

void Walk::see(const Event& event, const RecordHead& head, Lsn lsn, Lsn end, std::string_view bytes,
               const IsMine& is_mine) {
  m_upto = end;
  if (auto* copied = std::get_if<event::Copied>(&event)) {
    // Ignore copies that the node had under an older identity.
    if (lsn >= m_since && copied->says(m_node, m_identity))
      for (const auto& id : copied->ids)
        if (auto it = m_touched.find(id); it != m_touched.end()) it->second.has = true;
    return;
  }
  auto* add = std::get_if<event::Add>(&event);
  auto* state = std::get_if<event::State>(&event);
  if (!add && !state && !is_change(event)) return;
  if (add && add->node.empty()) return;  // an add record without a node is older than the group
  m_relevant = true;
  if (add && !add->once && head.data_size > max_inline_data) m_blobs.emplace_back(lsn, add->id);
  std::string origin, origin_store;  // the node that sent this record, and its identity; empty: this node
  if (add) std::tie(origin, origin_store) = std::tie(add->node, add->store);
  if (state) std::tie(origin, origin_store) = std::tie(state->from, state->from_store);
  const bool came_from_there = origin == m_node && origin_store == m_identity;
  // A state record that another node sent, about a job that this node owns. Either this node became the owner just now,
  // or it lost its own record in a power cut. In both cases this node, as the owner, sends the state to all nodes and
  // counts the copies.
  const bool is_about_own_job = state && state->node == m_self && origin != m_self;
  if (came_from_there && !is_about_own_job) return;
  if (!origin.empty() && !is_about_own_job && !is_mine(origin, origin_store)) {
    auto [it, is_new] = m_foreign.try_emplace(origin, lsn, lsn);
    it->second.second = lsn;
    return;
  }
  Touched& t = touch(id_of(event), lsn);
  if (!add) {
    t.changed = true;
    t.has = t.has || came_from_there;
    return;
  }
  t.again = add->given || !add->asked.key.empty();
  Added its{lsn,
            origin != m_self,
            add->asked.function,
            add->workload_size(head.data_size),
            add->workload_sum(head.data_sum),
            std::string(bytes),
            add->store};
  auto twin = std::find_if(t.adds.begin(), t.adds.end(), [&](const Added& a) { return a.is_twin(its); });
  if (twin == t.adds.end()) t.adds.push_back(std::move(its));
  else *twin = std::move(its);
  m_bytes += bytes.size();
}

// Returns the IDs of the jobs to look up in the store. Usually the node already has a new job (a copied record says so)
// and no later record changes the job: then no lookup is needed. A job whose ID a user chose, or that has a key, is
// always looked up: it may have been accepted before. Then this second acceptance may have changed its owner, or the
// node may have refused the job before and not know that it has ended.
std::vector<std::string> Walk::jobs() const {
  std::vector<std::string> jobs;
  for (const auto& id : m_order)
    if (const Touched& t = m_touched.at(id); !t.has || t.changed || t.again) jobs.push_back(id);
  return jobs;
}

void Walk::restart_lookup() { m_debts.clear(), m_unsure.clear(), m_pending.clear(); }

void Walk::looked_up(const std::string& id, const std::optional<Job>& job) {
  const Touched& t = m_touched.at(id);
  if (!job || job->node.empty()) return;
  const bool finished = job->state == State::finished;
  // Ignore add records that had no effect: those before the job's first record, when another job had the key; and those
  // of another job with this ID.
  auto add = std::find_if(t.adds.begin(), t.adds.end(), [&](const Added& a) {
    return a.lsn >= job->first_lsn && (!knows_workload(*job) || is_of(*job, a.function, a.size, a.sum));
  });
  const bool added = add != t.adds.end();
  if (!added && !t.changed) return;
  if (job->state == State::pending) m_pending.push_back(id);
  if (!job->once && (!added || t.has || (finished && add->lsn < m_since))) return;
  if (job->once && t.has && is_fresh(*job) && (!added || add->lsn == job->first_lsn)) return;
  Debt debt{id, *job};
  if (added) debt.job.location = add->lsn;                   // of a finished job it is not the newest add record
  const bool is_owners = added && add->store == job->store;  // otherwise see add_to_send()
  // If the job was sent more than once, its workload is the one of its first record: see Ledger::workload().
  const bool is_first = added && add->lsn == job->first_lsn;
  if (is_first && (!job->once || (is_owners && !t.has && !finished && !add->unsure))) debt.add = add->record;
  debt.needs_add = !job->once;
  debt.state = job->once && (finished || !is_fresh(*job) || debt.add.empty());
  if (!job->once && (add->unsure || add->record.empty())) m_unsure.push_back(id);
  if (debt.reads_add() && job->size > max_transfer) debt.again = true;  // send it separately
  m_debts.push_back(std::move(debt));
}

void Walk::knows(const std::string& id) {
  std::erase_if(m_debts, [&](const Debt& d) { return d.id == id; });
}

std::vector<std::string> Walk::copied() const {
  std::set<std::string> not_there;
  for (const auto& debt : m_debts)
    if (!debt.is_there()) not_there.insert(debt.id);
  std::vector<std::string> copied;
  for (const auto& id : m_pending)
    if (!not_there.count(id)) copied.push_back(id);
  return copied;
}

// --------------------------------------------------------------------------------------------------- reported progress

void ReportedProgress::ended(Lsn end, Lsn here) {
  if (!m_pairs.empty() && (m_pairs.back().first == end || m_pairs.size() >= most_pairs)) m_pairs.pop_back();
  m_pairs.emplace_back(end, here);
  Lsn least = UINT64_MAX;
  for (const auto& [node, upto] : m_sent_to) {
    least = std::min(least, upto);
    for (const auto& [there, at] : m_pairs)
      if (there <= upto) m_confirmed[node] = std::max(m_confirmed[node], at);
  }
  while (m_pairs.size() > 1 && m_pairs[1].first <= least) m_pairs.pop_front();
}

Lsn ReportedProgress::confirmed(const std::string& node) const {
  auto it = m_confirmed.find(node);
  return it == m_confirmed.end() ? 0 : it->second;
}

// ------------------------------------------------------------------------------------------------------------ progress

void Progress::take_up(Lsn position, Lsn since) {
  *this = {};
  m_position = m_sent = position;
  m_since = since;
}

bool Progress::set_relay(bool relay, Lsn end) {
  if (relay == (m_position == nothing_owed)) return false;
  m_position = m_sent = relay ? nothing_owed : 0;
  if (!relay) m_since = end;
  return true;
}

void Progress::not_sent(Lsn from) {
  m_sent_at_once.erase(from);
  if (from && m_sent > from) m_sent = from;
}

void Progress::walk_again(const std::string& origin) {
  m_sent = m_position;
  m_foreign.erase(origin);
}

std::optional<Walk> Progress::walk(const std::string& self, const std::string& node, const std::string& identity,
                                   Lsn end) {
  if (m_sent >= end || m_singles.size() >= max_singles) return std::nullopt;
  m_sent_at_once.erase(m_sent_at_once.begin(), m_sent_at_once.lower_bound(m_sent));
  return Walk(self, node, identity, m_sent, m_since, m_sent_at_once);
}

std::optional<std::vector<Progress::Left>> Progress::walked(Walk& walk, const std::string& identity, Millis now) {
  if (m_sent != walk.m_from || identity != walk.m_identity) return std::nullopt;
  std::vector<Left> left;
  for (const auto& debt : walk.m_debts) {
    if (auto it = m_singles.find(debt.id); it != m_singles.end() && !debt.conflict)
      it->second.changed = true, it->second.location = debt.job.location;
    else if (auto what = leave(debt, walk.m_touched.at(debt.id).first, now)) left.push_back(std::move(*what));
  }
  m_sent = walk.m_upto;
  m_unsaved = m_unsaved || walk.m_relevant;
  for (const auto& [origin, range] : walk.m_foreign) {
    auto [it, is_new] = m_foreign.try_emplace(origin, range);
    it->second.second = range.second;
  }
  for (auto& blob : walk.m_blobs) m_blobs.push_back(std::move(blob));
  return left;
}

// Handles a job that was sent. If the node does not have the job yet, the job is sent separately from now on. If the
// node will never have it, the debt is settled.
std::optional<Progress::Left> Progress::leave(const Debt& debt, Lsn lsn, Millis now) {
  const bool pending = debt.job.state == State::pending;
  if (debt.conflict) {
    m_singles.erase(debt.id);
    return Left{debt.id, Left::What::conflict, {}, pending};
  }
  if (debt.is_there()) return std::nullopt;
  auto [it, is_new] = m_singles.try_emplace(debt.id);
  Single& single = it->second;
  if (is_new) single.lsn = lsn;
  single.under_way = false;
  single.location = debt.job.location;
  single.needs_add = single.needs_add || debt.again;
  single.refused = debt.refused;
  single.unreadable = debt.unreadable;
  single.delay = !single.is_left() ? Millis(0) : std::clamp(single.delay * 2, first_again, longest_again);
  single.next = now + single.delay;
  if (!single.unreadable.empty()) return Left{debt.id, Left::What::unreadable, single.unreadable, pending};
  if (!single.refused.empty()) return Left{debt.id, Left::What::refused, single.refused, pending};
  return std::nullopt;
}

std::optional<std::pair<std::string, Progress::Single>> Progress::next_single(Millis now) {
  auto next = m_singles.end();
  for (auto it = m_singles.begin(); it != m_singles.end(); ++it)
    if (!it->second.under_way && it->second.next <= now &&
        (next == m_singles.end() || it->second.lsn < next->second.lsn))
      next = it;
  if (next == m_singles.end()) return std::nullopt;
  next->second.under_way = true;
  return *next;
}

void Progress::retry_at(const std::string& id, Millis next) {
  if (auto it = m_singles.find(id); it != m_singles.end()) it->second.under_way = false, it->second.next = next;
}

std::optional<Progress::Left> Progress::ended(Debt& debt, Millis now) {
  if (debt.again && debt.needs_add && !debt.conflict && debt.refused.empty())
    debt.refused = "it asks again for the record that it was given";
  auto it = m_singles.find(debt.id);
  if (it == m_singles.end()) return std::nullopt;  // the node has got a new identity
  Single& single = it->second;
  const bool changed = std::exchange(single.changed, false);
  if (!debt.is_there()) return leave(debt, single.lsn, now);
  if (!changed) {
    m_singles.erase(it);
    return std::nullopt;
  }
  single.under_way = single.needs_add = false;
  single.refused.clear(), single.unreadable.clear();
  single.next = now;
  return std::nullopt;
}

bool Progress::has_answered_singles(Lsn target) const {
  return std::all_of(m_singles.begin(), m_singles.end(),
                     [&](const auto& a) { return a.second.lsn >= target || a.second.is_left(); });
}

bool Progress::moves_on(const std::function<Lsn(const std::string& origin)>& confirmed) {
  Lsn bound = m_sent;
  for (const auto& [id, single] : m_singles) bound = std::min(bound, single.lsn);
  for (auto it = m_foreign.begin(); it != m_foreign.end();) {
    const Lsn known = confirmed(it->first);
    if (known > it->second.second) {
      it = m_foreign.erase(it);
      continue;
    }
    bound = std::min(bound, std::max(it->second.first, known));
    ++it;
  }
  if (!m_unsaved || bound <= m_position) return false;
  m_position = bound;
  return true;
}

}  // namespace gq
