// Messages to the user of a program. The library never prints: it passes lines to the sink that the program installed
// before it started any thread. Without a sink, lines are dropped.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace gq {

enum class Level { error, warning, info, debug };

using LogSink = std::function<void(Level, const std::string&)>;

void set_log_sink(LogSink sink);
void log(Level level, const std::string& text);

// A text without the words that differ from one time to the next: those with digits, such as IDs.
std::string kind_of(const std::string& text);

// Limits log lines that other programs can cause as often as they like: one line a minute of each kind.
class Seldom {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // A suffix for a line of that kind, which counts the lines that were left out since the last one; nullopt if this
  // line must be left out, too.
  std::optional<std::string> behind(const std::string& kind, Time now);
  // The lines that were left out and are not reported yet, by kind. They count as reported from now on.
  std::map<std::string, uint64_t> take_left_out();

 private:
  struct Kind {
    Time next{};
    uint64_t left_out = 0;
  };
  std::map<std::string, Kind> m_kinds;
};

}  // namespace gq
