#include "gq/base/log.hpp"

#include <utility>

#include "gq/base/short_hold.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

LogSink& sink() {
  static LogSink s;
  return s;
}

}  // namespace

void set_log_sink(LogSink s) { sink() = std::move(s); }

std::string kind_of(const std::string& text) {
  std::string kind;
  for (const auto& word : split(text, ' '))
    if (word.find_first_of("0123456789") == std::string::npos) kind += word + " ";
  return kind;
}

std::optional<std::string> LogLimit::admit(const std::string& kind, Time now) {
  constexpr size_t most_kinds = 100;
  if (m_kinds.size() >= most_kinds)
    std::erase_if(m_kinds, [&](const auto& entry) { return entry.second.next <= now && entry.second.left_out == 0; });
  Kind& k = m_kinds.size() < most_kinds || m_kinds.count(kind) ? m_kinds[kind] : m_kinds.begin()->second;
  if (now < k.next) {
    ++k.left_out;
    return std::nullopt;
  }
  k.next = now + std::chrono::minutes(1);
  uint64_t left_out = std::exchange(k.left_out, 0);
  return left_out ? " (and " + std::to_string(left_out) + " more like it since this was last said)" : std::string();
}

std::map<std::string, uint64_t> LogLimit::take_left_out() {
  std::map<std::string, uint64_t> all;
  for (auto& [kind, k] : m_kinds)
    if (uint64_t n = std::exchange(k.left_out, 0)) all[kind] = n;
  return all;
}

void log(Level level, const std::string& text) {
  check_no_short_hold("a log line");
  if (sink()) sink()(level, text);
}

}  // namespace gq
