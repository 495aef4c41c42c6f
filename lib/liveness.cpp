#include "liveness.hpp"

#include "text.hpp"

namespace gq {
namespace {

constexpr Millis short_silence{5000};  // of one that answers now and then

std::string either(const std::vector<std::string>& names) {
  std::string all;
  for (size_t i = 0; i < names.size(); ++i) all += (i == 0 ? "" : i + 1 < names.size() ? ", " : " or ") + names[i];
  return all;
}

}  // namespace

bool is_gap(const Times& last, const Times& now, Millis longest) { return now.boot - last.boot > longest || now.wall - last.wall > longest; }

std::string encode_beat(const Beat& beat) {
  std::string text;
  for (Millis m : {beat.at.boot, beat.at.wall, beat.longest}) text += std::to_string(m.count()) + " ";
  return text + beat.waits + "\n";
}

std::optional<Beat> parse_beat(std::string_view text) {
  Beat beat;
  size_t at = 0;
  for (Millis* m : {&beat.at.boot, &beat.at.wall, &beat.longest}) {
    size_t end = text.find(' ', at);
    if (end == text.npos) return std::nullopt;
    auto number = parse_count(text.substr(at, end - at));
    if (!number || *number > INT64_MAX / 4) return std::nullopt;
    *m = Millis(static_cast<int64_t>(*number));
    at = end + 1;
  }
  size_t end = text.find('\n', at);
  if (end == text.npos) return std::nullopt;
  beat.waits = printable(text.substr(at, end - at), 1000);
  return beat;
}

Standby wait_of(const std::vector<Heard>& others, Millis silence, Millis takeover, Millis alone_after) {
  Standby behind{Standby::For::news, {}, {}, false}, unasked{Standby::For::answer, {}, {}, false}, anybody{Standby::For::answer, {}, alone_after - silence, true};
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
  if (!functions) m_all = now;
  else for (const auto& f : *functions) m_each[f] = now;
}

bool LastRuns::lacks(const std::string& function, Time now, Millis takeover) const {
  auto it = m_each.find(function);
  return now - std::max(m_all, it == m_each.end() ? m_all : it->second) >= takeover;
}

std::string wait_text(const Standby& wait, Millis now) {
  if (wait.what == Standby::For::nothing) return {};
  std::string text = "until " + either(wait.nodes);
  if (wait.what == Standby::For::answer) text += " can be asked";
  else text += (wait.nodes.size() > 1 ? " have" : " has") + std::string(" told what became of this node's jobs, or is taken out of the group (gq-replicate forget)");
  if (wait.left) text += ", at the latest " + format_time(std::chrono::floor<std::chrono::seconds>(now + *wait.left + std::chrono::seconds(1)));
  return text;
}

}  // namespace gq
