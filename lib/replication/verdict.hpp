// Verdicts: what a node says of each record that another one gives it. Pure; transfer.hpp has the words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/state/answer.hpp"

namespace gq {

struct PeerVerdict {
  enum class Kind { have, need, conflict, refused, nonsense };
  Kind kind = Kind::have;
  std::string reason{};  // refused

  // As it travels, without the end of its line.
  std::string text() const;
};
PeerVerdict parse_verdict(std::string_view line);

// Of an add, which has had that answer here.
PeerVerdict verdict_on(const Answer& answer);

// Of a state of a job, as far as it is known here; and what is to be recorded before that is said.
//
// A node that tells something older has lost the newer state, or never heard it; the node that had to tell it may have
// lost it, too. So this node records what stands here once more as its own (told_state()), which goes to all. This
// ends: states are ordered, and a node that has heard the newer state tells nothing older any more.
struct StateVerdict {
  PeerVerdict::Kind kind;
  enum class Record { nothing, what_was_told, what_stands_here } record;
};
StateVerdict verdict_on(const event::State& state, const std::optional<Job>& known);

}  // namespace gq
