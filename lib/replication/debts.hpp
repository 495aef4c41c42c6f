// Shows other processes what the other nodes still have to be told: from the journal, and from what the process that
// serves this node publishes beyond that.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "gq/store/ledger.hpp"

namespace gq {

// What the journal says of other nodes, by name.
std::map<std::string, PeerState> known_peers(Ledger& store);

// A record that nothing is owed to a node any more, because it is not in the group.
std::string forgotten_record(const std::string& node);
// A record that a node in the group is owed the whole journal, except jobs that had finished before `since`.
std::string joined_record(const std::string& node, Lsn since);

// When another node last answered this one; 0: never.
Millis answered_at(const Ledger& store, const std::string& node);

// Writes what the serving process knows of its debts to a node (Replica::debts_text()) to a file that other processes
// read. They use it as a hint only, so it is not synced.
void publish_debts(Ledger& store, const std::string& node, const std::string& text);

// What a node still has to be told, as the journal and the process that serves this node say. The serving process may
// be a second ahead.
struct PeerDebt {
  uint64_t jobs = 0;
  std::map<std::string, std::string> refused;     // the jobs among them that the node could not take, and why
  std::map<std::string, std::string> unreadable;  // the jobs among them that this node cannot read, and why
  Millis since{0};                                // when the first of them changed
  Millis answered_at{0};                          // when the node last answered; 0: never
};
std::map<std::string, PeerDebt> debts_of(Ledger& store);

}  // namespace gq
