// The lease of the process that serves a node: what the process writes to returned.lock while the node runs its jobs.
// It is valid for as long as a gap may last. So a process that wakes later than it should does not start jobs because
// of what was true before.
//
// There is a gap if the process was silent for more than half of --takeover, by the clock that continues while the
// machine sleeps, or by the wall clock, which continues while a virtual machine is stored in a file. A false alarm
// costs one question. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/base/clock.hpp"

namespace gq {

// How long the serving process may be silent if other nodes take over its jobs after `takeover`.
inline Millis longest_gap(Millis takeover) { return takeover / 2; }

// Whether more than `longest` has passed by either clock.
bool is_gap(const Times& last, const Times& now, Millis longest);

// What the serving process writes to returned.lock: "BOOT WALL LONGEST TEXT", two times and a duration in milliseconds.
struct Beat {
  Times at;
  Millis longest{0};
  std::string waits;  // what the node waits for before it runs its jobs; empty: nothing
};
std::string encode_beat(const Beat& beat);
std::optional<Beat> parse_beat(std::string_view text);

}  // namespace gq
