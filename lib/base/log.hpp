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

// Returns the text without its words that contain digits, such as IDs: messages of one kind differ in these words only.
std::string kind_of(const std::string& text);

// Limits log lines that other programs can cause as often as they like: one line a minute of each kind.
class LogLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // Returns a suffix for a line of this kind: the number of lines that were left out since the last one, or an empty
  // text if there were none. Returns nullopt if this line must be left out.
  std::optional<std::string> admit(const std::string& kind, Time now);
  // Returns how many lines of each kind were left out and not reported yet. The next call does not return them again.
  std::map<std::string, uint64_t> take_left_out();

 private:
  struct Kind {
    Time next{};
    uint64_t left_out = 0;
  };
  std::map<std::string, Kind> m_kinds;
};

}  // namespace gq
