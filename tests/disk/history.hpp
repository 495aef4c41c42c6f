// Histories: what processes do over a simulated disk (machine.hpp), and what must hold.
//
// Of the journal: processes append to a journal with blobs, and sync, read and clean it. Invariants:
//  - After a record is acknowledged, every reader finds it at its position, unchanged. A record is acknowledged when
//    commit() has returned its position, or when a process has read the record and sync_all() has returned after that.
//    (If the kernel reads pages again from the disk, the process must also still find the record after sync_all().)
//  - If a record can be read, its blob exists and is complete.
//  - A reader finds no record that no process sent, and no other record at the position of an acknowledged one.
//  - If no call failed and no page was lost, a reader finds no damaged or missing bytes except those that the journal
//    knows to be torn. A power cut takes only records that were never acknowledged.
//  - Each process ends. When no call fails any more, a process can append.
//
// Of the store: processes create a store, add jobs, claim and end them, drop them, clean the store, check it, and make
// snapshots. The index is a table in a file that nobody syncs (simulated_table.hpp). Invariants:
//  - A job that was acknowledged is there with its workload, until its end has been acknowledged or may have been
//    recorded. No job has another workload than it was given.
//  - A job whose end was acknowledged is not claimed again. A job that a living process has claimed is not claimed by
//    another one.
//  - Each process ends. When nothing fails any more, each acknowledged job can be run to its end, also on
//    a disk of fixed size that the jobs have filled. Then cleaning makes room for new jobs.
//  - If no call failed and no page was lost, a check of the store finds nothing damaged or missing, and what it calls
//    torn was never acknowledged, even if other processes continue meanwhile.
//  - A finished snapshot stays, and can be restored to another store, also if the power is cut afterwards. That store
//    has each job that was acknowledged before the snapshot was begun, and no job whose end was. An unfinished snapshot
//    is not listed, or is as good as a finished one.
//  - If a hand from outside removes or alters a file that was synced, a check says so, or says that it cannot tell, or
//    the change does no harm.
//
// Of a mirror: the same, with a store in a database (simulated_database.hpp). The disk, which has only a copy, may also
// be lost. If the database is set back, what counts is what was acknowledged when its state was saved. A job is done,
// too, once a user's own program has stored the mark of its end.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "simulated_disk.hpp"

namespace simulate {

enum class Of { journal, store, mirror };

struct Plan {
  uint64_t seed = 1;
  Of of = Of::journal;
  bool is_short = false;  // few steps, so that the search can cut the power at each call
  uint64_t cut_at = 0;    // the call at which the power is cut; 0: after the last call, or at random if not short
  uint64_t turn = 0;      // each turn lets the disk keep other bytes
};

struct Played {
  std::optional<std::string> fault;
  uint64_t calls = 0;  // how many calls of the disk there were
  uint64_t acknowledged = 0, losses = 0, boots = 0;
  bool was_cut = false;  // the power was cut at a chosen call
};

// Plays a history. If `log` is not null, appends a line to it for each call.
Played play_journal(const Plan& plan, std::string* log = nullptr);
Played play_store(const Plan& plan, std::string* log = nullptr);
Played play_mirror(const Plan& plan, std::string* log = nullptr);
inline Played play(const Plan& plan, std::string* log = nullptr) {
  return plan.of == Of::journal ? play_journal(plan, log)
         : plan.of == Of::store ? play_store(plan, log)
                                : play_mirror(plan, log);
}

}  // namespace simulate
