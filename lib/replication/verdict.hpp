// Verdicts: what a node says of each record that another node gives it. Pure; transfer.hpp has the words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/state/answer.hpp"

namespace gq {

struct PeerVerdict {
  enum class Kind { have, need, conflict, refused, nonsense };
  Kind kind = Kind::have;
  std::string reason{};  // if refused

  // The wire text, without the end of its line.
  std::string text() const;
};
PeerVerdict parse_verdict(std::string_view line);

// On an add record, from the store's answer.
PeerVerdict verdict_on(const Answer& answer);

// On a state of a job, by what is known of the job here; and what to record before the verdict is sent.
//
// A node that tells an older state has lost the newer one, or never heard it; the node that had to tell it may have
// lost it, too. So this node records its own state of the job once more (told_state()), which goes to all. This ends,
// because states are ordered, and a node that has heard the newer state tells no older one.
struct StateVerdict {
  PeerVerdict::Kind kind;
  enum class Record { nothing, what_was_told, what_stands_here } record;
};
StateVerdict verdict_on(const event::State& state, const std::optional<Job>& known);

}  // namespace gq
