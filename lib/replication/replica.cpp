#include "gq/replication/replica.hpp"

#include <algorithm>

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr Millis save_interval{1000};
constexpr Millis quiet_wait{3000};     // a wait that is longer is logged
constexpr size_t most_refusals = 100;  // the most refusals that are logged for a node, each once

PeerState peer_of(const std::map<std::string, PeerState>& known, const std::string& node) {
  auto it = known.find(node);
  return it == known.end() ? PeerState() : it->second;
}

LogLimit::Time time_of(Times now) { return LogLimit::Time(now.boot); }

}  // namespace

Replica::Replica(const Group& group, Rules rules, const std::map<std::string, PeerState>& known, Times now)
    : m_rules(rules),
      m_self(group.self),
      m_members(group),
      m_detector(rules.takeover, rules.alone_after),
      m_ownership(group.self, rules.check_interval),
      m_sessions(rules.session_period) {
  for (const auto& node : group.members)
    if (m_members.has(node)) join(node, peer_of(known, node), now);
}

const Replica::Other* Replica::find(const std::string& node) const {
  auto it = m_others.find(node);
  return it == m_others.end() ? nullptr : &it->second;
}

Replica::Other* Replica::find(const std::string& node) { return const_cast<Other*>(std::as_const(*this).find(node)); }

// A node joins the group, or this process begins to serve. Forgets everything that was received from the node.
void Replica::join(const std::string& node, const PeerState& known, Times now) {
  m_members.take_up(node, known);
  m_detector.add(node, now.boot);
  m_ownership.may_have_lost(node);
  m_others[node].take_up(known.position, known.since);
}

void Replica::say_limited(Level level, const std::string& kind, const std::string& text, Times now) {
  if (auto suffix = m_log_limit.admit(kind, time_of(now))) say(level, text + *suffix);
}

// ----------------------------------------------------------------------------------------------------------- the group

GroupChange Replica::change(const Group& group, const std::map<std::string, PeerState>& known, Lsn end,
                            Millis session_period, Times now) {
  GroupChange change = m_members.change(group, known);
  if (change.of_another) return change;
  // For a removed node, write the forgotten record again: a record about the node may be on its way, and reach the
  // journal after the first one.
  change.forgotten.insert(change.forgotten.end(), change.removed.begin(), change.removed.end());
  m_forget.insert(change.forgotten.begin(), change.forgotten.end());
  for (const auto& node : change.removed) {
    m_others.erase(node);
    m_detector.remove(node);
  }
  for (const auto& node : group.members) {
    m_forget.erase(node);
    if (m_members.has(node) && !find(node)) join(node, peer_of(known, node), now);
  }
  // As a node that joins, it is owed everything except jobs that have already finished.
  for (const auto& node : change.returned) {
    join(node, {.position = 0, .since = end, .former = known.at(node).former}, now);
    find(node)->must_record = true;
  }
  if (m_rules.is_signed) m_sessions.set_period(session_period);
  return change;
}

std::vector<std::string> Replica::to_forget() const {
  std::vector<std::string> nodes;
  std::set_difference(m_forget.begin(), m_forget.end(), m_recording.begin(), m_recording.end(),
                      std::back_inserter(nodes));
  return nodes;
}

// ----------------------------------------------------------------------------------------------------------- this node

void Replica::serve(const std::map<std::string, PeerState>& known, Times now) {
  for (const auto& [node, other] : m_others) join(node, peer_of(known, node), now);
  m_detector.begin(now);
  begin_to_return({});
  m_serves = true;
}

void Replica::beat(Times now) {
  if (auto why = m_detector.beat(now)) begin_to_return(*why);
}

// From now on this node starts no job, until the other nodes have sent it what happened to its jobs.
void Replica::begin_to_return(const std::string& why) {
  m_ready.reset();
  m_effects.lease = true;
  if (!group().once) return;
  m_waits = "until the other nodes can be asked";
  m_waits_said.clear();
  if (!why.empty())
    say(Level::warning, why + ": no job is started until the other nodes have told what became of this node's jobs");
}

void Replica::standby(bool has_jobs, Times now) {
  if (!is_returning()) return;
  if (group().once) {
    const Standby wait = m_detector.standby(now.boot, has_jobs);
    if (wait.what != Standby::For::nothing) {
      m_ready.reset();
      const std::string text = wait_text(wait, now.wall);
      if (std::exchange(m_waits, text) != text) m_effects.lease = true;
      const auto about = text.substr(0, text.find(','));
      if (!has_jobs || m_waits_said == about || m_detector.returning_for(now.boot) < quiet_wait) return;
      say(Level::warning, "no job is run " + text);
      m_waits_said = about;
      return;
    }
  }
  m_ready = m_detector.round();
  m_effects.lease = true;
}

Replica::Lease Replica::lease(Times now) {
  using What = Lease::What;
  beat(now);
  const Round round = m_detector.round();
  return {m_detector.has_returned() ? What::hold
          : m_ready == round        ? What::take
                                    : What::let_go,
          round,
          {now, longest_gap(m_rules.takeover), m_waits}};
}

bool Replica::end_return(Round round, Times now) {
  beat(now);
  if (m_ready != round || !m_detector.end_return(round)) return false;
  m_waits.clear();
  return true;
}

void Replica::holds_lease(Round round) {
  m_holds_lease = round;
  m_effects.returned = true;
}

// ------------------------------------------------------------------------------------------------ what other nodes
// have sent

// Carries out the result of Membership::meet() or meet_sender().
void Replica::take_up(const std::string& node, Other& other, const Meeting& meeting, Lsn end, Times now) {
  using What = Meeting::What;
  if (meeting.restarted) m_ownership.may_have_lost(node);
  if (meeting.what == What::unproved)
    say_limited(Level::warning, "identity " + node,
                "a transfer from " + node + " has another identity than the node that answers as " + node, now);
  if (meeting.what == What::another) {
    say_limited(Level::warning, "another store " + node,
                node + " is another store than before; it is told everything that is not finished", now);
    other.take_up(0, end);
    for (auto& [name, o] : m_others) o.reported.is_another(node);
    m_detector.is_another(node);
    walk_again(node);
  }
  if (meeting.what != What::first && meeting.what != What::another) return;
  m_ownership.may_have_lost(node);
  other.must_record = m_serves;
}

// From now on, this node also passes on the records that came from `origin`.
void Replica::walk_again(const std::string& origin) {
  for (auto& [name, other] : m_others) other.progress.walk_again(origin);
}

Replica::Acceptance Replica::accept(const std::string& node, const std::string& store, const std::string& session,
                                    std::optional<Lsn> end, Millis asked, Times now) {
  Other* other = find(node);
  if (!other) return {.refused = node + " is not in this group"};
  const std::string& known = m_members.store_of(node);
  if (!end && !known.empty() && store != known) return {.needs_end = true};
  if (m_serves) beat(now);  // if this process was away, the silence of other nodes proves nothing
  const Meeting meeting = m_members.meet(node, store, session, m_detector.answers(node, now.boot), asked, now.boot);
  if (meeting.what == Meeting::What::refused) return {.refused = meeting.reason};
  take_up(node, *other, meeting, end.value_or(0), now);
  if (auto why = m_detector.heard(node, now.boot)) begin_to_return(*why);
  return {};
}

std::optional<std::string> Replica::answered(const std::string& node, Round round, const AskReply& reply, Lsn here,
                                             Times now) {
  Other* other = find(node);
  if (!other) return node + " is not in this group";
  if (reply.relay && !m_members.set_relay(node, *reply.relay, now.boot)) return Membership::turned_over(node);
  std::optional<Lsn> sent_here;
  for (const auto& sent : reply.sent) {
    // This is about the store that received it, not about another store that has its name now.
    if (!m_members.is(sent.node, sent.store)) continue;
    if (sent.node == m_self.node) sent_here = sent.upto;
    else other->reported.sent_to(sent.node, sent.upto);
  }
  const auto news = m_detector.answered(node, round, reply, sent_here, now.boot);
  if (news.back) say(Level::warning, node + " is back");
  if (news.returns) begin_to_return({});
  const bool relay = m_members.is_relay(node);
  other->up = reply.room && !relay;
  if (other->up || relay) {
    if (!other->trouble.empty()) say(Level::info, node + " answers again");
    other->trouble.clear(), other->unsaid = false;
  }
  if (m_serves && other->progress.set_relay(relay, here)) other->must_record = true;
  other->reported.ended(reply.end, here);
  return std::nullopt;
}

// Marks the node as not up. Logs the trouble, unless it is empty, if it differs from the last one since the node
// answered. If too many lines were logged, a later call with this trouble logs it.
void Replica::failed(const std::string& node, const std::string& trouble, Times now) {
  Other* other = find(node);
  if (!other) return;
  other->up = false;
  if (trouble.empty()) return;
  const bool is_new = std::exchange(other->trouble, trouble) != trouble;
  if (!is_new && !other->unsaid) return;
  auto suffix = other->said.allows(now.boot) ? m_log_limit.admit(trouble, time_of(now)) : std::nullopt;
  other->unsaid = !suffix;  // it will be logged later, if it lasts
  if (suffix) say(Level::warning, trouble + *suffix);
}

// Checks a transfer. Only if it is not a repetition is its sender's identity used.
Replica::Admission Replica::admit(const Transfer& t, Times now) {
  Admission admission{.refusal = m_members.refuse(t)};
  if (admission.refusal) return admission;
  auto refuse = [&](std::string reason) {
    admission.refusal = Refusal{"", std::move(reason)};
    return admission;
  };
  if (t.kind != "take" && t.kind != "part" && t.kind != "ask") return refuse("it is neither take nor ask");
  using Verdict = Sessions::Verdict;
  const auto verdict =
      m_rules.is_signed ? m_sessions.take(t.to_session, t.session, t.number, now.boot) : Verdict::taken;
  admission.again = verdict == Verdict::unknown;
  if (admission.again) return admission;
  if (verdict == Verdict::repeated) return refuse("it has been here before");
  const Meeting meeting = m_members.meet_sender(t.node, t.store, m_detector.answers(t.node, now.boot), now.boot);
  if (meeting.what == Meeting::What::refused) return refuse(meeting.reason);
  if (Other* other = find(t.node)) take_up(t.node, *other, meeting, 0, now);
  if (t.kind != "ask") return admission;
  m_detector.asked_by(t.node, now.boot);
  admission.taking = m_ownership.is_taking(t.node);
  return admission;
}

std::optional<std::string> Replica::refuse(const event::Add& job) {
  if (m_members.has(job.node) && !m_members.is(job.node, job.store)) m_ownership.may_have_lost(job.node);
  if (m_members.is_relay(job.node) && (job.once != group().once || job.copies > group().members.size()))
    return "a relayed job with another policy than the group's";
  return std::nullopt;
}

// ------------------------------------------------------------------------------------------------------------- clients

Quorum::Others Replica::others() const {
  Quorum::Others others;
  for (const auto& [node, other] : m_others) {
    others.identities[node] = m_members.store_of(node);
    others.up += other.up;
  }
  return others;
}

std::vector<std::string> Replica::up() const {
  std::vector<std::string> nodes;
  for (const auto& node : group().members)
    if (const Other* other = find(node); other && other->up) nodes.push_back(node);
  return nodes;
}

// ----------------------------------------------------------------------------------- what to send to other nodes

void Replica::sent_at_once(const std::string& node, Lsn from, Lsn end) {
  if (Other* other = find(node); other && m_serves) other->progress.sent_at_once(from, end);
}

void Replica::came_from(const std::string& node, const std::string& store, Lsn from, Lsn end) {
  if (m_members.is(node, store)) sent_at_once(node, from, end);
}

void Replica::not_sent(Lsn from) {
  for (auto& [node, other] : m_others) other.progress.not_sent(from);
}

bool Replica::asks(const std::string& node) const {
  const Other* other = find(node);
  return other && (m_serves || !other->up);
}

bool Replica::pays(const std::string& node) const {
  const Other* other = find(node);
  return other && m_serves && other->up && m_detector.has_answered(node);
}

bool Replica::is_reached(const std::string& node) const {
  const Other* other = find(node);
  return other && other->up && m_detector.has_answered(node) && !m_detector.is_gone(node);
}

std::optional<Walk> Replica::walk(const std::string& node, Lsn end) {
  Other* other = find(node);
  return other ? other->progress.walk(m_self.node, node, m_members.store_of(node), end) : std::nullopt;
}

bool Replica::is_mine_to_send(const std::string& origin, const std::string& store) const {
  return gq::is_mine_to_send(m_members, m_detector, origin, store);
}

bool Replica::walked(const std::string& node, Walk& walk, Lsn end, Times now) {
  Other* other = find(node);
  if (!other) return false;
  const auto left = other->progress.walked(walk, m_members.store_of(node), now.boot);
  if (!left) return true;
  for (const auto& what : *left) say_left(node, *other, what);
  for (auto& blob : other->progress.take_blobs()) m_blobs.push_back(std::move(blob));
  return walk.upto() < end;
}

// Logs, once for each job, that a node does not have the job yet or will never have it.
void Replica::say_left(const std::string& node, Other& other, const Progress::Left& left) {
  using What = Progress::Left::What;
  if (other.named.size() >= most_refusals || !other.named.insert(left.id).second) return;
  if (left.what == What::conflict)
    say(Level::error,
        left.id + ": " + node + " has another job with this ID or key" +
            (left.pending ? "; as long as too few nodes have it, it is pending (gq-flush --drop ends that)" : ""));
  else if (left.what == What::unreadable)
    say(Level::error,
        left.id + ": cannot give it to " + node + ": " + left.why + "; it is still owed, and tried again now and then");
  else
    say(Level::warning,
        left.id + ": " + node + " refuses it: " + left.why + "; it is still owed, and offered again now and then");
}

std::optional<Replica::Next> Replica::next_single(const std::string& node, Times now) {
  Other* other = find(node);
  if (!other) return std::nullopt;
  auto next = other->progress.next_single(now.boot);
  if (!next) return std::nullopt;
  return Next{next->first, next->second.needs_add, next->second.location, other->progress.since()};
}

void Replica::nothing_to_send(const std::string& node, const std::string& id) {
  if (Other* other = find(node)) other->progress.nothing_to_send(id);
}

void Replica::retry_at(const std::string& node, const std::string& id, Millis next) {
  if (Other* other = find(node)) other->progress.retry_at(id, next);
}

void Replica::ended(const std::string& node, Debt& debt, Times now) {
  Other* other = find(node);
  if (!other) return;
  if (auto left = other->progress.ended(debt, now.boot)) say_left(node, *other, *left);
}

void Replica::move_on(const std::string& node, Times now) {
  Other* other = find(node);
  if (!other || now.boot < other->next_move) return;
  auto confirmed = [&](const std::string& origin) {
    const Other* its = find(origin);
    return its ? its->reported.confirmed(node) : nothing_owed;
  };
  if (other->progress.moves_on(confirmed)) other->must_record = true;
}

std::optional<event::Peer> Replica::record(const std::string& node, bool last, Times now) {
  Other* other = find(node);
  if (!other || !m_serves) return std::nullopt;
  if (last ? !other->must_record && !other->progress.is_unsaved()
           : !other->must_record || now.boot < other->next_record)
    return std::nullopt;
  other->must_record = false;
  m_recording.insert(node);
  other->being_recorded = other->progress.position();
  return event::Peer{.node = node,
                     .store = m_members.store_of(node),
                     .at = now.wall,
                     .position = other->progress.position(),
                     .since = other->progress.since()};
}

std::vector<std::string> Replica::recorded(const std::string& node, bool well, Times now) {
  m_recording.erase(node);
  Other* other = find(node);
  if (!other) return {};
  other->progress.recorded(well);
  other->next_move = now.boot + save_interval;
  if (!well) {
    other->must_record = true;
    other->next_record = other->next_move;
    return {};
  }
  other->recorded = other->being_recorded;
  Lsn least = nothing_owed;
  for (const auto& [name, o] : m_others) least = std::min(least, o.recorded);
  std::vector<std::string> done_with;
  std::erase_if(m_blobs, [&](auto& blob) {
    if (blob.first >= least) return false;
    done_with.push_back(std::move(blob.second));
    return true;
  });
  return done_with;
}

std::string Replica::debts_text(const std::string& node) const {
  std::string text;
  const Other* other = find(node);
  if (!other) return text;
  const Progress& progress = other->progress;
  if (progress.sent() > progress.position())
    text = m_members.store_of(node) + " " + std::to_string(progress.sent()) + "\n";
  for (const auto& [id, single] : progress.singles())
    text += id + " " +
            (single.unreadable.empty() ? printable(single.refused) : unreadable_mark + printable(single.unreadable)) +
            "\n";
  return text;
}

std::vector<AskReply::Sent> Replica::sent() const {
  std::vector<AskReply::Sent> sent;
  for (const auto& [node, other] : m_others)
    if (const auto& store = m_members.store_of(node); !store.empty())
      sent.push_back({node, store, other.progress.sent()});
  return sent;
}

bool Replica::have_all(Lsn target) const {
  return m_serves && std::all_of(m_others.begin(), m_others.end(), [&](const auto& named) {
           const auto& [node, other] = named;
           return m_detector.was_tried(node) &&
                  (!other.up || (other.progress.sent() >= target && other.progress.has_answered_singles(target)));
         });
}

// ---------------------------------------------------------------------------------------------------------- take-overs

std::vector<Takeover> Replica::due(const HeldHere& held, Times now) {
  beat(now);
  for (const auto& node : m_detector.notice_gone(now.boot)) {
    say(Level::warning, node + " has not answered for " + std::to_string(m_rules.takeover.count() / 1000) + " s");
    walk_again(node);
  }
  return m_ownership.due(held, m_members, m_detector, now.boot);
}

std::optional<Inquiry::Question> Replica::next_question(Inquiry& inquiry, Millis remember, Times now) const {
  return inquiry.next(m_ownership, m_members, m_detector, remember, now);
}

std::vector<event::State> Replica::answered(Inquiry& inquiry, const AskReply& reply, Times now) {
  auto doubted = inquiry.answered(reply, m_ownership, m_members, m_detector, now);
  if (!doubted.empty()) m_ownership.states_sent(inquiry.what(), now.boot);
  return doubted;
}

std::optional<SendThenAppend> Replica::take(Inquiry& inquiry, Times now) {
  beat(now);  // this node itself may have been away
  auto effect = m_ownership.take(inquiry.what(), inquiry.take_jobs(), inquiry.stale(), m_detector, now);
  if (!effect) return effect;
  for (const auto& change : effect->to_send())
    if (change.stale)
      say_limited(Level::warning, "stale", change.id + ": " + change.job.why + "; it is kept as dead", now);
  return effect;
}

}  // namespace gq
