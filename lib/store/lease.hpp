// The lease of the process that serves a node: what it says in returned.lock while the node runs its jobs, good for as
// long as a gap may last. So a process that wakes later than it should starts nothing on the strength of what was true
// before.
//
// A gap is that the process was silent for over half of --takeover, by the clock that goes on while the machine sleeps,
// or by the wall clock, which goes on while its machine is no more than a file. A false alarm costs one question. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/base/clock.hpp"

namespace gq {

// How long the serving process may be silent where a node is gone after `takeover`.
inline Millis longest_gap(Millis takeover) { return takeover / 2; }

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

}  // namespace gq
