// Liveness: whether a node of a group may run its jobs, and what it waits for before it does. Pure: each is a function of what
// was heard and of the times that are given.
//
// A node returns when it begins to serve, after a gap, and when it hears again of others after none has answered for --takeover:
// the others may have believed it gone, and have taken its jobs over. A gap is that the process that serves it was silent for over half
// of --takeover, by the clock that goes on while the machine sleeps, or by the wall clock, which goes on while its machine is no
// more than a file. A false alarm costs one question.
//
// While it runs jobs, that process beats: what it says is a lease, good for as long as a gap may last. So nobody who wakes
// later than it should starts anything on the strength of what was true before.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clock.hpp"

namespace gq {

// Whether more than `longest` went by.
bool is_gap(const Times& last, const Times& now, Millis longest);

// What the serving process says in returned.lock: "BOOT WALL LONGEST TEXT", two times and a duration in milliseconds.
struct Beat {
  Times at;
  Millis longest{0};
  std::string waits;  // what the node waits for before it runs its jobs; empty: nothing
};
std::string encode_beat(const Beat& beat);
std::optional<Beat> parse_beat(std::string_view text);

// What a node that returns knows of another one.
struct Heard {
  std::string node;
  bool tried = false;     // it was asked since, whether it answered or not
  bool answered = false;  // it has answered since
  bool told = false;      // and has told since what it knew then
  bool gone = false;
  Millis silence{0};      // how long ago it last answered
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

// "until rep_1 or rep_2 can be asked, at the latest TIME"; empty where it waits for nothing.
std::string wait_text(const Standby& wait, Millis now);

}  // namespace gq
