#include "gq/replication/verdict.hpp"

#include <algorithm>

#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {

std::string PeerVerdict::text() const {
  switch (kind) {
    case Kind::have:
      return "have";
    case Kind::need:
      return "need";
    case Kind::conflict:
      return "conflict";
    default:
      return "refused " + printable(reason);
  }
}

PeerVerdict parse_verdict(std::string_view line) {
  if (line == "have") return {PeerVerdict::Kind::have};
  if (line == "need") return {PeerVerdict::Kind::need};
  if (line == "conflict") return {PeerVerdict::Kind::conflict};
  if (line != "refused" && line.substr(0, 8) != "refused ") return {PeerVerdict::Kind::nonsense};
  std::string reason = printable(line.substr(std::min<size_t>(line.size(), 8)));
  if (is_ulid(reason)) return {PeerVerdict::Kind::conflict};  // an older node names the job that has the key
  return {PeerVerdict::Kind::refused, reason};
}

PeerVerdict verdict_on(const Answer& answer) {
  switch (answer.outcome) {
    case Outcome::queued:
      return {PeerVerdict::Kind::have};
    case Outcome::bad:
      return {PeerVerdict::Kind::need};
    case Outcome::conflict:
    case Outcome::same:
      return {PeerVerdict::Kind::conflict};
    default:
      return {PeerVerdict::Kind::refused, answer.reason};
  }
}

StateVerdict verdict_on(const event::State& state, const std::optional<Job>& known, const Self& self) {
  using Kind = PeerVerdict::Kind;
  using What = StateVerdict::Record;
  if (std::max(state.term, state.version) > most_received) return {Kind::have, What::nothing};
  if (known && is_another_job(state, *known)) return {Kind::conflict, What::nothing};
  if (!known && state.state != "finished") return {Kind::need, What::nothing};
  if (known && is_older(state, *known)) return {Kind::have, What::known};
  if (known && !is_newer(state, *known)) return {Kind::have, What::nothing};
  const bool was_own = known && known->node == self.node && known->store == self.store;
  return {Kind::have, was_own && state.state == "dead" ? What::received_as_own : What::received};
}

}  // namespace gq
