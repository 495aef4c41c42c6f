// Messages to the person who runs a program. The library never prints: it hands lines to the sink that the program
// installed before it started any thread; without one they are dropped.
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

// A text without what differs from one time to the next: words with digits in them, as IDs.
std::string kind_of(const std::string& text);

// What others can cause as often as they like: a line a minute of each kind.
class Seldom {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // What is to stand behind a line of that kind, about those that were left out since the last one; nullopt where it is
  // to be left out, too.
  std::optional<std::string> behind(const std::string& kind, Time now);
  // Those that are left out and were not told of yet, by kind; they are told of with that.
  std::map<std::string, uint64_t> take_left_out();

 private:
  struct Kind {
    Time next{};
    uint64_t left_out = 0;
  };
  std::map<std::string, Kind> m_kinds;
};

}  // namespace gq
