// A verdict is a node's answer to a record that another node has sent. Pure; transfer.hpp has the words of the
// protocol.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gq/state/answer.hpp"
#include "gq/state/transition.hpp"

namespace gq {

struct PeerVerdict {
  enum class Kind { have, need, conflict, refused, nonsense };
  Kind kind = Kind::have;
  std::string reason{};  // the reason, if refused

  // The verdict as text in the protocol, without a line feed.
  std::string text() const;
};
PeerVerdict parse_verdict(std::string_view line);

// Returns the verdict on an add record, from the store's answer.
PeerVerdict verdict_on(const Answer& answer);

// The verdict on a state record of another node, and the record to append before the verdict is sent. Both depend on
// what this node knows of the job.
//
// If a node sends an older state, it has lost the newer state or never received it. The node that should have sent the
// newer state may have lost it, too. So this node appends its own state once more (state_to_send()), and the outboxes
// send that to all nodes. This terminates: the states of a job are ordered, and a node that has received the newer
// state sends no older one.
//
// If a node says that a job of this node is dead, this node records that as its own news, so that its outboxes send it
// on: this node may have sent the job to a node that refused it from the other one, because of its key.
struct StateVerdict {
  PeerVerdict::Kind kind;
  enum class Record { nothing, received, received_as_own, known } record;
};
StateVerdict verdict_on(const event::State& state, const std::optional<Job>& known, const Self& self);

}  // namespace gq
