// Snapshots: consistent copies of a store as of one position of its journal, side by side in one directory.
//
//   DIRECTORY/<time>/manifest            the files, with sizes and checksums; written last: without it there is no
//                                        snapshot
//                    gq.json
//                    journal/<LSN>.gqj   segments; the last one up to the position
//                    blobs/<xx>/<ID>
//   DIRECTORY/tmp.<ULID>/                a snapshot that is being made or removed by a process, which locks it
//
// Files that never change are hard-linked, not copied, if the snapshot is on the file system of the store. On another
// file system they are linked to the snapshot before, if that has them. So a snapshot on the same file system protects
// from mistakes, not from a failing disk.
//
// Only the removal of files waits for a snapshot: clean.lock is held, shared, while files are linked.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gq/store/ledger.hpp"

namespace gq {

struct SnapshotFile {
  uint64_t size = 0;
  uint64_t sum = 0;  // sum64
};

struct Snapshot {
  std::string path;                     // its directory
  std::optional<Directory> collection;  // the directory that contains it; none if a user named the snapshot itself
  std::string name;                     // the time at which it was made: 20260131T120000.000Z
  std::string store;                    // the ID of the store
  Millis created_at{0};
  Lsn position = 0;
  uint64_t jobs = 0;     // that had not ended; not exact, since other processes go on meanwhile
  bool damaged = false;  // the store was damaged: something that it should have is missing here
  uint64_t file_count = 0, bytes = 0;
  std::map<std::string, SnapshotFile> files;  // to save memory, only the last snapshot of a list has them

  Directory directory() const {
    return collection ? collection->below_of_any(name, Exit::bad_data) : Directory(path, Exit::bad_data);
  }
};

// Called with the number of files that are done, and of their bytes.
using ShowProgress = std::function<void(uint64_t files, uint64_t bytes)>;

// Makes a snapshot in a directory, which is created if it is missing. If something of the store is known to be missing
// or damaged, the snapshot is marked as damaged. Throws Error: storage, or config if the directory holds snapshots of
// another store.
Snapshot create_snapshot(Ledger& store, const std::string& directory, const ShowProgress& progress);

// Returns the snapshots of a directory, or the one snapshot that the directory is, the last one with its files. Calls
// `bad` with the reason for each snapshot whose manifest is missing or damaged. Throws Error(no_input) if the directory
// cannot be read.
std::vector<Snapshot> list_snapshots(const std::string& path,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad);
std::vector<Snapshot> list_snapshots(const Directory& directory,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad);

// Reads every file. Calls `bad` for each file that is missing or has changed. Returns false if there was any.
bool verify_snapshot(const Snapshot& snapshot,
                     const std::function<void(const std::string& path, const std::string& why)>& bad,
                     const ShowProgress& progress);

// Copies a snapshot to a store. The store's directory must be missing or empty, or hold what an earlier call left that
// was interrupted. A node of a group gets a new identity. Returns the group that the store is a node of, if any. Throws
// Error: bad_data if a file of the snapshot has changed, config if the directory is not empty, retry if another process
// is restoring to it. After an error, nothing of the snapshot is left there.
Group restore_snapshot(const Snapshot& snapshot, const std::string& store_directory, const ShowProgress& progress);

// How many snapshots to keep: the last ones, and the last one of each of so many hours, days, ... that have any.
struct Retention {
  uint64_t last = 0, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0;
};

// Removes the snapshots that the retention does not keep, and what processes that died while making a snapshot left.
// Snapshots of a damaged store do not count: the same rules choose among those of them that are newer than the last
// good snapshot. Returns the names of the removed snapshots. Calls `bad` for what cannot be removed.
std::vector<std::string> prune_snapshots(
    const std::string& directory, const Retention& retention,
    const std::function<void(const std::string& path, const std::string& why)>& bad);

}  // namespace gq
