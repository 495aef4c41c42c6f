// What other nodes are still to be told, for who looks at it from another process: the journal says it, and the process
// that serves this node what it knows beyond that.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "gq/store/store.hpp"

namespace gq {

// What the journal says of other nodes, by name.
std::map<std::string, PeerState> known_peers(Store& store);

// Says in the journal that nothing is owed to a node any more, since it is not in the group.
std::string forgotten_record(const std::string& node);
// And that a node in the group is owed all of the journal, but not what had finished before `since`.
std::string joined_record(const std::string& node, Lsn since);

// When another node last answered this one; 0: never.
Millis answered_at(const Store& store, const std::string& node);

// Leaves what the serving process knows of its debts to a node (Replica::debts_text()) where others find it. Who reads
// it may believe nothing of it, so nothing is synced.
void publish_debts(Store& store, const std::string& node, const std::string& text);

// What a node is still to be told of, as the journal says and who serves this node; that may know a second's worth
// more.
struct PeerDebt {
  uint64_t jobs = 0;
  std::map<std::string, std::string> refused;     // those of them that it could not take, and why
  std::map<std::string, std::string> unreadable;  // likewise that this node's disk does not give back
  Millis since{0};                                // when the first of them changed
  Millis answered_at{0};                          // when the node last answered; 0: never
};
std::map<std::string, PeerDebt> debts_of(Store& store);

}  // namespace gq
