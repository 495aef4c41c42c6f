// A history: processes that append to a journal, with blobs, sync, read and clean it over a simulated disk, take turns
// in each call, and die, until the power is cut; then others go on with what the disk has kept.
//
// What must hold, whatever happens:
//  - A record that was acknowledged stands at its position, as it was, for every reader from then on. Acknowledged is
//    what commit() returned, and what a process has read before sync_all() returned (where
//    the kernel reads pages anew: what it still reads then).
//  - Where a record is read, its blob is there, whole.
//  - No other record is read: each was sent by somebody, and at a position that no acknowledged one has.
//  - Where no call failed and no page was lost, nothing is read as damaged or missing that the journal does not know to
//    be torn: what a power cut takes was never acknowledged.
//  - Each process comes to its end, and when nothing fails any more, one can append.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "simulated_disk.hpp"

namespace simulate {

struct Plan {
  uint64_t seed = 1;
  bool is_short = false;  // few processes that do little, each call of which the power may be cut at
  uint64_t cut_at = 0;    // the call at which the power is cut; 0: after all that they do, or anywhere if not short
  uint64_t turn = 0;      // what the disk keeps: another one for each
};

struct Played {
  std::optional<std::string> fault;
  uint64_t calls = 0;  // of the disk
  uint64_t acknowledged = 0, losses = 0, boots = 0;
  bool was_cut = false;  // at the call that the plan names
};

// With a `log`, each call stands there, a line each.
Played play(const Plan& plan, std::string* log = nullptr);

}  // namespace simulate
