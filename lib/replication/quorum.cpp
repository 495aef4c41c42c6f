#include "gq/replication/quorum.hpp"

#include <algorithm>
#include <numeric>

namespace gq {

uint32_t copies_to_count(const Job& job, const Self& self, bool owed, uint32_t copies) {
  if (job.state == State::pending) return job.copies;
  // The job was taken over. It may have been pending until then, so its copies may never have been counted.
  if (job.once && job.term > 0 && !has_ended(job)) return copies;
  if (is_own(job, self)) return 0;  // the copies have been counted, or fewer were enough
  // Another node owns the job, and only the owner knows whether the copies have been counted. If the job runs on one
  // node, a later state of it shows that they have. If all nodes run the job, its end on this node does not show that.
  return (job.once ? is_fresh(job) : !has_ended(job) || owed) ? job.copies : 0;
}

RawStep next_raw_step(Outcome outcome, bool open) {
  switch (outcome) {
    case Outcome::queued:
    case Outcome::same:
    case Outcome::conflict:
      return RawStep::answer;
    case Outcome::unknown:
      return RawStep::again;
    case Outcome::refused:
      return open ? RawStep::again : RawStep::give_back;
    default:
      return RawStep::give_back;
  }
}

Quorum::Quorum(Rule rule, Self self, std::vector<Asked> jobs) : m_rule(rule), m_self(std::move(self)) {
  for (auto& asked : jobs) {
    m_decided_later = m_decided_later || (m_rule.keeps && asked.decided_later);
    m_jobs.push_back({.asked = std::move(asked), .wanted = rule.copies});
  }
  m_answers.resize(m_jobs.size());
}

Quorum::Effect Quorum::next(Time now, const Others& others) {
  switch (m_stage) {
    case Stage::begun: {
      const size_t wanted = m_rule.copies ? m_rule.copies : others.identities.size() + own();
      const size_t there = others.up + own();
      if (there < wanted && !m_rule.owe) {
        const std::string why = "only " + std::to_string(there) + " of the " + std::to_string(wanted) +
                                " nodes that must have it can be reached";
        return Reply{std::vector<Answer>(m_jobs.size(), {Outcome::refused, why}), true};
      }
      if (m_rule.keeps) {
        m_stage = Stage::appending;
        return Append{!m_decided_later};
      }
      for (size_t n = 0; n < m_jobs.size(); ++n) {
        m_jobs[n].wanted = static_cast<uint32_t>(wanted);
        m_answers[n].outcome = Outcome::queued;
      }
      [[fallthrough]];
    }
    case Stage::stored: {
      m_stage = Stage::waiting;
      std::vector<size_t> all(m_jobs.size());
      std::iota(all.begin(), all.end(), 0);
      if (Send send = to_send(all); !send.numbers.empty()) return send;
      [[fallthrough]];
    }
    case Stage::waiting:
    case Stage::whole: {
      const Time limit = std::min(m_deadline, m_limit);
      if (!is_reached(others) && m_open > 0 && now < limit) return Wait{limit};
      if (m_stage == Stage::waiting)
        if (auto send = parts(others)) return *send;
      m_stage = Stage::concluded;
      if (Record record = conclude(others); m_rule.keeps && !record.copied.empty()) return record;
      [[fallthrough]];
    }
    default:
      return Reply{std::move(m_answers), m_counted};
  }
}

Quorum::Send Quorum::to_send(const std::vector<size_t>& numbers) {
  Send send;
  for (size_t n : numbers) {
    if (m_jobs[n].handed || m_jobs[n].wanted <= own()) continue;
    m_jobs[n].handed = true;
    send.numbers.push_back(n);
  }
  return send;
}

void Quorum::stored(std::vector<Answer> answers, const std::vector<std::optional<Known>>& known) {
  m_answers = std::move(answers);
  m_stage = m_decided_later ? Stage::stored : Stage::waiting;
  for (size_t n = 0; n < m_jobs.size(); ++n) {
    Of& job = m_jobs[n];
    const bool queued = m_answers[n].outcome == Outcome::queued;
    if (!queued && m_answers[n].outcome != Outcome::same) {
      job.wanted = 0;
      continue;
    }
    if (!m_decided_later) continue;
    const bool is_over = known[n] && known[n]->job.once && has_ended(known[n]->job);
    job.wanted = std::max(queued && !is_over ? m_rule.copies : 0,
                          known[n] ? copies_to_count(known[n]->job, m_self, known[n]->owed, m_rule.copies) : 0);
    if (!known[n] || job.wanted <= 1) continue;
    // If this node sent the job as its own, other nodes would take this node for the owner, although another node owns
    // the job.
    const bool of_another = !known[n]->job.node.empty() && known[n]->job.store != m_self.store;
    if (!queued || of_another) job.standing = {queued ? job.asked.id : m_answers[n].reason, known[n]->job};
  }
}

const Quorum::Standing* Quorum::stands_for(size_t number) const {
  return m_jobs[number].standing ? &*m_jobs[number].standing : nullptr;
}

void Quorum::cannot_send(size_t number, const std::string& why) {
  m_answers[number] = {Outcome::unknown, why};
  m_jobs[number].wanted = 0;
  m_jobs[number].handed = false;
}

void Quorum::sent(size_t calls, Time now) {
  m_open += calls;
  progressed(now);
}

void Quorum::progressed(Time now) { m_deadline = std::max(m_deadline, now + m_rule.peer_timeout); }

void Quorum::ended() {
  if (m_open > 0) --m_open;
}

void Quorum::answered(size_t number, const std::string& node, const std::string& identity, const PeerVerdict& verdict) {
  Of& job = m_jobs[number];
  if (verdict.kind == PeerVerdict::Kind::have) {
    job.holders[node] = identity;
    return;
  }
  const std::string why = verdict.kind == PeerVerdict::Kind::conflict  ? node + " has another job with this ID or key"
                          : verdict.kind == PeerVerdict::Kind::refused ? node + " refuses it: " + verdict.reason
                                                                       : std::string();
  if (!why.empty()) job.why += (job.why.empty() ? "" : "; ") + why;
}

void Quorum::hurry(Time limit) { m_limit = std::min(m_limit, limit); }

// Whether the node still has the identity under which it said that it has the job.
bool Quorum::counts(const std::pair<const std::string, std::string>& holder, const Others& others) {
  auto now = others.identities.find(holder.first);
  return now != others.identities.end() && now->second == holder.second;
}

// Returns the nodes that have the job, and their identities. Commas separate the entries of each list.
std::pair<std::string, std::string> Quorum::holders(const Of& job, const Others& others) {
  std::pair<std::string, std::string> holders;
  for (const auto& holder : job.holders) {
    if (!counts(holder, others)) continue;
    holders.first += (holders.first.empty() ? "" : ",") + holder.first;
    holders.second += (holders.second.empty() ? "" : ",") + holder.second;
  }
  return holders;
}

// Returns how many nodes have the job, including this node.
size_t Quorum::nodes(const Of& job, const Others& others) const {
  return own() + static_cast<size_t>(std::count_if(job.holders.begin(), job.holders.end(),
                                                   [&](const auto& holder) { return counts(holder, others); }));
}

bool Quorum::is_reached(const Others& others) const {
  return std::all_of(m_jobs.begin(), m_jobs.end(),
                     [&](const Of& job) { return !job.handed || nodes(job, others) >= job.wanted; });
}

// A job's workload may be a part of another job's, which a node lacks. Returns the jobs to send once more with the part
// itself, if too few nodes have them.
std::optional<Quorum::Send> Quorum::parts(const Others& others) {
  m_stage = Stage::whole;
  Send send{{}, true};
  for (size_t n = 0; n < m_jobs.size(); ++n)
    if (m_jobs[n].handed && m_jobs[n].asked.is_part && nodes(m_jobs[n], others) < m_jobs[n].wanted)
      send.numbers.push_back(n);
  if (send.numbers.empty()) return std::nullopt;
  return send;
}

Quorum::Record Quorum::conclude(const Others& others) {
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> held;  // jobs, by holders
  for (size_t n = 0; n < m_jobs.size(); ++n) {
    const Of& job = m_jobs[n];
    Answer& answer = m_answers[n];
    if (!job.handed || (answer.outcome != Outcome::queued && answer.outcome != Outcome::same)) continue;
    const size_t there = nodes(job, others);
    if (there > 1 || m_rule.owe)
      held[holders(job, others)].push_back(answer.outcome == Outcome::same ? answer.reason : job.asked.id);
    if (there >= job.wanted) continue;
    m_counted = false;
    const std::string copies = "copies=" + std::to_string(there) + "/" + std::to_string(job.wanted);
    if (m_rule.owe) answer.note = copies;
    else
      answer = {Outcome::unknown,
                m_rule.keeps ? copies + ": " + (job.why.empty() ? "too few nodes have it so far" : job.why) : copies};
  }
  Record record{{}, m_rule.owe};
  for (auto& [who, ids] : held)
    record.copied.push_back({.ids = std::move(ids), .peers = who.first, .stores = who.second, .enough = m_rule.owe});
  return record;
}

void Quorum::recorded(bool well) {
  m_stage = Stage::recorded;
  m_counted = m_counted && well;
}

}  // namespace gq
