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

// Of a state of a job, as far as it is known here; and whether it is news, which has to be recorded before that is
// said.
struct StateVerdict {
  PeerVerdict::Kind kind;
  bool is_news;
};
StateVerdict verdict_on(const event::State& state, const std::optional<Job>& known);

}  // namespace gq
