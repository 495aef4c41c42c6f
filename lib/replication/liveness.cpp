#include "gq/replication/liveness.hpp"

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr Millis short_silence{5000};  // of one that answers now and then

std::string either(const std::vector<std::string>& names) {
  std::string all;
  for (size_t i = 0; i < names.size(); ++i) all += (i == 0 ? "" : i + 1 < names.size() ? ", " : " or ") + names[i];
  return all;
}

}  // namespace

Standby wait_of(const std::vector<Heard>& others, Millis silence, Millis takeover, Millis alone_after) {
  Standby behind{Standby::For::news, {}, {}, false}, unasked{Standby::For::answer, {}, {}, false},
      anybody{Standby::For::answer, {}, alone_after - silence, true};
  if (others.empty()) return {};
  bool any = false, all_silent = true;
  Millis left{0};
  for (const auto& other : others) {
    anybody.nodes.push_back(other.node);
    if (other.answered && !other.gone) {
      any = true;
      if (other.told) continue;
      // One that has fallen silent is gone in a while, and then there is nothing to wait for.
      all_silent = all_silent && other.silence >= std::min(short_silence, takeover / 2);
      left = std::max(left, takeover - other.silence);
      behind.nodes.push_back(other.node);
    } else if (!other.tried && !other.answered) {
      unasked.nodes.push_back(other.node);
    }
  }
  if (!any) return silence >= alone_after ? Standby() : anybody;
  if (!behind.nodes.empty()) return all_silent ? Standby{Standby::For::answer, behind.nodes, left, false} : behind;
  return unasked.nodes.empty() ? Standby() : unasked;
}

void LastRuns::heard(const std::optional<std::vector<std::string>>& functions, Time now) {
  constexpr size_t most = 10'000;  // that a node runs, so that one who makes up names fills no memory
  if (!functions) m_all = now;
  else
    for (const auto& f : *functions) {
      if (function_name_problem(f)) continue;
      if (m_each.size() >= most) std::erase_if(m_each, [&](const auto& entry) { return entry.second < now; });
      if (m_each.size() < most || m_each.count(f)) m_each[f] = now;
    }
}

bool LastRuns::lacks(const std::string& function, Time now, Millis takeover) const {
  auto it = m_each.find(function);
  return now - std::max(m_all, it == m_each.end() ? m_all : it->second) >= takeover;
}

bool Turnover::believes(Time now) {
  constexpr size_t at_once = 3;
  constexpr std::chrono::minutes each{1};
  while (!m_believed.empty() && now - m_believed.front() >= at_once * each) m_believed.pop_front();
  if (m_believed.size() >= at_once) return false;
  m_believed.push_back(now);
  return true;
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

}  // namespace gq
