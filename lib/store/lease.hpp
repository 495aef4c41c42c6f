// The lease of the process that serves a node. The process writes it to returned.lock while the node runs its jobs, and
// renews it. A lease is valid for the longest allowed gap. So after a pause of the machine, no process starts jobs on
// the strength of an old lease.
//
// There is a gap if the process was silent for more than half of --takeover. Two clocks are compared: the one that
// continues while the machine sleeps, and the wall clock, which continues while a virtual machine is saved to a file. A
// false alarm costs one question. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/base/clock.hpp"

namespace gq {

// Returns how long the serving process may be silent if other nodes take over its jobs after `takeover`.
inline Millis longest_gap(Millis takeover) { return takeover / 2; }

// Whether more than `longest` has passed by either clock.
bool is_gap(const Times& last, const Times& now, Millis longest);

// The content of returned.lock, which the serving process writes: "BOOT WALL LONGEST TEXT", two times and a duration in
// milliseconds.
struct Beat {
  Times at;
  Millis longest{0};
  std::string waits;  // what the node waits for before it runs its jobs; empty: nothing
};
std::string encode_beat(const Beat& beat);
std::optional<Beat> parse_beat(std::string_view text);

}  // namespace gq
