// How often a node is believed to be another one than before. Pure.
#pragma once

#include <chrono>
#include <deque>

namespace gq {

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

}  // namespace gq
