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
// Who tells something older has lost what it was told, or was never told it, and the one whose to tell that was may
// have lost it, too. So what stands here is recorded once more, as this node's (told_state()), and goes to all. That
// comes to an end: states are ordered, and who is told the newer one has nothing older to tell any more.
struct StateVerdict {
  PeerVerdict::Kind kind;
  enum class Record { nothing, what_was_told, what_stands_here } record;
};
StateVerdict verdict_on(const event::State& state, const std::optional<Job>& known);

}  // namespace gq
