// Debts: what this node still has to send to the other nodes. Any process of the store can show them: it reads them
// from the journal, and from files in which the process that serves this node publishes the details.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "gq/store/ledger.hpp"

namespace gq {

// Returns what the journal says about the other nodes, by name.
std::map<std::string, PeerState> known_peers(Ledger& ledger);

// Returns a record that says: nothing is owed to this node any more, because it is not in the group.
std::string forgotten_record(const std::string& node);
// Returns a record that says: this node of the group is owed the whole journal, except jobs that had finished before
// `since`.
std::string joined_record(const std::string& node, Lsn since);

// Returns when another node last answered this node; 0: never.
Millis answered_at(const Ledger& ledger, const std::string& node);

// Writes the debts to a node, as the serving process knows them (Replica::debts_text()), to a file for other processes.
// They use the file only as a hint, so it is not synced.
void publish_debts(Ledger& ledger, const std::string& node, const std::string& text);

// The debts to one node, from the journal and from the serving process's file. The file may be a second old.
struct PeerDebt {
  uint64_t jobs = 0;
  std::map<std::string, std::string> refused;     // by ID: the jobs among them that the node has refused, and why
  std::map<std::string, std::string> unreadable;  // by ID: the jobs among them that this node cannot read, and why
  Millis since{0};                                // when the first of the jobs changed
  Millis answered_at{0};                          // when the node last answered; 0: never
};
std::map<std::string, PeerDebt> debts_of(Ledger& ledger);

}  // namespace gq
