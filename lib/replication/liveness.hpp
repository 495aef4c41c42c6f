// Liveness: whether a node of a group may run its jobs, and what it waits for before it does. Pure: each is a function
// of what was heard and of the times that are given.
//
// A node returns when it begins to serve, after a gap (lease.hpp), and when it hears again of others after a time of
// --takeover in which none answered: the others may have believed it gone, and have taken its jobs over.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/clock.hpp"

namespace gq {

// What a node that returns knows of another one.
struct Heard {
  std::string node;
  bool tried = false;     // it was asked since, whether it answered or not
  bool answered = false;  // it has answered since
  bool told = false;      // and has told since what it knew then
  bool gone = false;
  Millis silence{0};  // how long ago it last answered
};

struct Standby {
  enum class For { nothing, answer, news };
  For what = For::nothing;
  std::vector<std::string> nodes;
  std::optional<Millis> left;  // it ends then, whatever they do
  bool alone = false;          // nobody answers
};
// What a node waits for that returns. `silence` is how long nobody has answered since it began to.
Standby wait_of(const std::vector<Heard>& others, Millis silence, Millis takeover, Millis alone_after);

// When functions last ran on a node, as far as it said.
class LastRuns {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // As if all had run: where nothing could be heard, silence says nothing.
  void restart(Time now) { m_all = now; }
  // nullopt: all of them.
  void heard(const std::optional<std::vector<std::string>>& functions, Time now);
  // Whether the function has not run there for so long that it is not expected to.
  bool lacks(const std::string& function, Time now, Millis takeover) const;

 private:
  Time m_all{};
  std::map<std::string, Time> m_each;
};

// When a node is believed to be another one than before: set up anew, or a relay now. Each time that costs a record and
// telling it all again, and without keys anybody can answer for it; so a few times are believed at once, and then one a
// minute.
class Turnover {
 public:
  using Time = std::chrono::steady_clock::time_point;
  bool believes(Time now);

 private:
  std::deque<Time> m_believed;  // the last of those
};

// "until rep_1 or rep_2 can be asked, at the latest TIME"; empty where it waits for nothing.
std::string wait_text(const Standby& wait, Millis now);

}  // namespace gq
