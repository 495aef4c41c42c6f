#include "gq/replication/failure_detector.hpp"

#include <utility>

#include "gq/base/text.hpp"
#include "gq/store/lease.hpp"

namespace gq {
namespace {

constexpr Millis short_silence{5000};  // a node that is silent for longer may be gone

std::string either(const std::vector<std::string>& names) {
  std::string all;
  for (size_t i = 0; i < names.size(); ++i) all += (i == 0 ? "" : i + 1 < names.size() ? ", " : " or ") + names[i];
  return all;
}

std::string seconds(Millis duration) { return std::to_string(duration.count() / 1000) + " s"; }

}  // namespace

Standby wait_of(const std::vector<Heard>& others, Millis silence, Millis takeover, Millis alone_after) {
  Standby behind{Standby::For::news, {}, {}, false}, unasked{Standby::For::answer, {}, {}, false},
      any_node{Standby::For::answer, {}, alone_after - silence, true};
  if (others.empty()) return {};
  bool any = false, all_silent = true;
  Millis left{0};
  for (const auto& other : others) {
    any_node.nodes.push_back(other.node);
    if (other.answered && !other.gone) {
      any = true;
      if (other.sent_all) continue;
      // A node that stays silent is gone after a while. Then this node does not wait for it any more.
      all_silent = all_silent && other.silence >= std::min(short_silence, takeover / 2);
      left = std::max(left, takeover - other.silence);
      behind.nodes.push_back(other.node);
    } else if (!other.tried) {
      unasked.nodes.push_back(other.node);
    }
  }
  if (!any) return silence >= alone_after ? Standby() : any_node;
  if (!behind.nodes.empty()) return all_silent ? Standby{Standby::For::answer, behind.nodes, left, false} : behind;
  return unasked.nodes.empty() ? Standby() : unasked;
}

void LastRuns::heard(const std::optional<std::vector<std::string>>& functions, Millis now) {
  constexpr size_t most = 10'000;  // the limit of names, so that a node that invents names cannot fill the memory
  if (!functions) m_all = now;
  else
    for (const auto& f : *functions) {
      if (function_name_problem(f)) continue;
      if (m_each.size() >= most) std::erase_if(m_each, [&](const auto& entry) { return entry.second < now; });
      if (m_each.size() < most || m_each.count(f)) m_each[f] = now;
    }
}

bool LastRuns::lacks(const std::string& function, Millis now, Millis takeover) const {
  auto it = m_each.find(function);
  return now - std::max(m_all, it == m_each.end() ? m_all : it->second) >= takeover;
}

std::string wait_text(const Standby& wait, Millis now) {
  if (wait.what == Standby::For::nothing) return {};
  std::string text = "until " + either(wait.nodes);
  if (wait.what == Standby::For::answer) text += " can be asked";
  else
    text += (wait.nodes.size() > 1 ? " have" : " has") +
            std::string(" told what became of this node's jobs, or is taken out of the group (gq-replicate forget)");
  if (wait.left)
    text += ", at the latest " +
            format_time(std::chrono::floor<std::chrono::seconds>(now + *wait.left + std::chrono::seconds(1)));
  return text;
}

const FailureDetector::Node* FailureDetector::find(const std::string& node) const {
  auto it = m_nodes.find(node);
  return it == m_nodes.end() ? nullptr : &it->second;
}

FailureDetector::Node* FailureDetector::find(const std::string& node) {
  return const_cast<Node*>(std::as_const(*this).find(node));
}

void FailureDetector::add(const std::string& node, Millis now) {
  Node& n = m_nodes[node] = {};
  n.runs.restart(n.last_answer = now);
}

void FailureDetector::is_another(const std::string& node) {
  if (Node* n = find(node)) n->first_end.reset(), n->sent = 0;
}

void FailureDetector::begin(Times now) {
  m_beat = now;
  was_away(now.boot);
}

void FailureDetector::was_away(Millis now) {
  begin_return(now);
  m_heard = now;
  m_back = m_round;
  for (auto& [name, n] : m_nodes) {
    n.asked = false;
    n.awaited = true;
    if (n.has_sent_all()) n.first_end.reset();         // what it had not sent by then, it still has to send
    if (!n.gone) n.runs.restart(n.last_answer = now);  // this node could not receive answers
  }
}

void FailureDetector::begin_return(Millis now) {
  ++m_round;
  m_returned = false;
  m_return_at = now;
}

std::optional<std::string> FailureDetector::beat(Times now) {
  const Times last = std::exchange(m_beat, now);
  if (!is_gap(last, now, longest_gap(m_takeover))) return std::nullopt;
  was_away(now.boot);
  return "this node was stopped for " + seconds(std::max(now.boot - last.boot, now.wall - last.wall));
}

std::optional<std::string> FailureDetector::heard(const std::string& node, Millis now) {
  Node* n = find(node);
  if (!n) return std::nullopt;
  n->last_answer = now;
  n->answered = true;
  const Millis silence = now - std::exchange(m_heard, now);
  if (!m_returned) return std::nullopt;
  if (silence >= m_takeover) {
    was_away(now);
    return "no other node had answered for " + seconds(silence);
  }
  if (!n->first_end || n->has_sent_all()) return std::nullopt;
  begin_return(now);  // the node fell silent before it had sent everything, and answers again
  return std::string();
}

void FailureDetector::failed(const std::string& node, Round asked, bool server_reached, Millis now) {
  Node* n = find(node);
  if (!n) return;
  n->tried = true;
  if (!server_reached) n->runs.restart(n->last_answer = now);
  else if (asked >= m_back) n->asked = true;
}

FailureDetector::News FailureDetector::answered(const std::string& node, Round asked, const AskReply& reply,
                                                std::optional<Lsn> sent, Millis now) {
  Node* n = find(node);
  if (!n) return {};
  n->tried = true;
  if (reply.runner) n->runs.heard(reply.functions, now);
  if (sent) n->sent = *sent;
  News news{.back = std::exchange(n->gone, false)};
  if (reply.taking) return news;
  const bool counts = asked >= m_back, is_first = counts && std::exchange(n->awaited, false);
  n->asked = n->asked || counts;
  if (is_first || !n->first_end) n->first_end = reply.end;
  news.returns = is_first && m_returned && !n->has_sent_all();
  if (news.returns) begin_return(now);
  return news;
}

void FailureDetector::asked_by(const std::string& node, Millis now) {
  if (Node* n = find(node)) n->asked_us = now;
}

std::vector<std::string> FailureDetector::notice_gone(Millis now) {
  std::vector<std::string> gone;
  for (auto& [name, n] : m_nodes)
    if (!n.gone && now - n.last_answer >= m_takeover) n.gone = true, gone.push_back(name);
  return gone;
}

Standby FailureDetector::standby(Millis now, bool has_jobs) const {
  std::vector<Heard> others;
  for (const auto& [name, n] : m_nodes) {
    const bool has_answered = n.first_end && !(n.awaited && n.has_sent_all());
    const bool is_gone = n.gone && !answers(name, now);  // not if it has sent anything since
    others.push_back({name, n.asked, has_answered, n.has_sent_all(), is_gone, now - n.last_answer});
  }
  Standby wait = wait_of(others, now - m_heard, m_takeover, m_alone_after);
  return wait.alone && !has_jobs ? Standby() : wait;
}

bool FailureDetector::end_return(Round round) {
  if (round == m_round) m_returned = true;
  return round == m_round;
}

bool FailureDetector::is_gone(const std::string& node) const {
  const Node* n = find(node);
  return n && n->gone;
}

bool FailureDetector::was_tried(const std::string& node) const {
  const Node* n = find(node);
  return n && n->tried;
}

bool FailureDetector::has_answered(const std::string& node) const {
  const Node* n = find(node);
  return n && n->answered;
}

bool FailureDetector::answers(const std::string& node, Millis now) const {
  const Node* n = find(node);
  return n && now - n->last_answer < m_takeover;
}

bool FailureDetector::stays_gone(const std::string& node, Millis now) const {
  const Node* n = find(node);
  return n && n->gone && now - n->last_answer >= m_takeover && !(n->asked_us && now - *n->asked_us < m_takeover);
}

bool FailureDetector::lacks(const std::string& node, const std::string& function, Millis now) const {
  const Node* n = find(node);
  return !n || n->gone || n->runs.lacks(function, now, m_takeover);
}

}  // namespace gq
