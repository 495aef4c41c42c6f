// The overview: what a store holds and does now, for the programs and pages that show it. It only reads, in short
// visits to the index, and never reads all jobs: its work grows with the number of functions, and of jobs that
// processes hold.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/replication/debts.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/queue.hpp"

namespace gq {

struct FunctionStats {
  Counters counters;
  std::optional<Millis> paused{};        // when it was paused
  std::optional<uint32_t> limit{};       // how many of its jobs may run at a time
  std::optional<StartRate> rate{};       // how many of its jobs may be started in which time
  std::optional<std::string> letters{};  // the function of its dead letters
  std::optional<Millis> waits_since{};   // see Fold::waits_since()

  uint64_t at(State state) const { return counters.jobs[static_cast<size_t>(state)]; }
  uint64_t queued() const { return at(State::queued) + at(State::claimed); }  // as users count them
};

// Returns the functions that the store knows, by name. Jobs that a dead owner was running count as queued, which they
// will be.
std::map<std::string, FunctionStats> stats_of_functions(Ledger& ledger);

// Returns how many parts of the journal are damaged or missing (Fold::troubles()).
uint64_t count_troubles(Ledger& ledger);

struct DiskUse {
  uint64_t journal = 0, needed = 0;  // the bytes of the journal, and how many of them jobs still need
  uint64_t damaged = 0;              // how many segments were set aside, because they could not be read whole
  uint64_t outputs = 0;              // the bytes of outputs that are kept
  uint64_t free = 0;                 // the free bytes of the disk
};
DiskUse disk_use(Ledger& ledger);

struct Overview {
  Millis at{0};
  std::map<std::string, FunctionStats> functions{};
  std::vector<std::pair<std::string, OwnerInfo>> processes{};  // those of this machine that run jobs (processes_here())
  RunHere workers{};                                           // what they run
  std::map<std::string, PeerDebt> nodes{};                     // the other nodes of the group
  std::string waits{};                                         // why this node runs no jobs yet; empty: it runs them
  DiskUse disk{};
  uint64_t troubles = 0;
};
Overview overview_of(Queue& store);

}  // namespace gq
