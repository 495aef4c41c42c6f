// Snapshots: consistent copies of a store as of one position of its journal, side by side in one directory.
//
//   DIRECTORY/<time>/manifest            what is in it, with sizes and checksums; written last, and without it there is
//   no snapshot
//                    gq.json
//                    journal/<LSN>.gqj   segments; the last one up to the position
//                    blobs/<xx>/<ID>
//   DIRECTORY/tmp.<ULID>/                one that is being made or removed, which its maker holds a lock on
//
// On one file system what never changes is linked, not copied; on another it is linked to the snapshot before, where
// that has it. So a snapshot on the same file system guards against mistakes, not against the disk.
//
// Nothing waits for a snapshot but the removal of files: clean.lock is held, shared, while they are linked.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gq/store/store.hpp"

namespace gq {

struct SnapshotFile {
  uint64_t size = 0;
  uint64_t sum = 0;  // sum64
};

struct Snapshot {
  std::string path;                     // of its directory
  std::optional<Directory> collection;  // that it is in; none where the path is that of a person
  std::string name;                     // the time at which it was made: 20260131T120000.000Z
  std::string store;                    // the ID of the store
  Millis created_at{0};
  Lsn position = 0;
  uint64_t jobs = 0;     // that had not ended; about, as the store was working on
  bool damaged = false;  // the store was: something that it was to have is not in here
  uint64_t file_count = 0, bytes = 0;
  std::map<std::string, SnapshotFile> files;  // of the last of those that are listed; they take memory

  Directory directory() const {
    return collection ? collection->below_of_any(name, Exit::bad_data) : Directory(path, Exit::bad_data);
  }
};

// Told how many files, and how many bytes of them, are done.
using ShowProgress = std::function<void(uint64_t files, uint64_t bytes)>;

// Makes a snapshot in a directory, which is made where it is missing. One of a store of which something is known to be
// missing or damaged is marked. Throws Error: storage, or config where the directory holds those of another store.
Snapshot create_snapshot(Store& store, const std::string& directory, const ShowProgress& progress);

// The snapshots of a directory, or the one that it is, the last one with its files. Those whose manifest is missing or
// damaged are given to `bad` with the reason. Throws Error(no_input) where the directory cannot be read.
std::vector<Snapshot> list_snapshots(const std::string& path,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad);
std::vector<Snapshot> list_snapshots(const Directory& directory,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad);

// Reads every file; `bad` is told which are missing or not what they were. False where it was.
bool verify_snapshot(const Snapshot& snapshot,
                     const std::function<void(const std::string& path, const std::string& why)>& bad,
                     const ShowProgress& progress);

// Copies a snapshot to a store, which must not be there, or be an empty directory, or what an earlier call left that
// did not come to its end. A node of a group gets a new identity. Throws Error: bad_data where a file is not what it
// was, config where the directory is not empty. Then nothing of it is left there. Returns the group that the store is a
// node of, if any.
Group restore_snapshot(const Snapshot& snapshot, const std::string& store_directory, const ShowProgress& progress);

// How many to keep: the last ones, and the last one of each of so many hours, days, ... that have any.
struct Retention {
  uint64_t last = 0, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0;
};

// Those of a damaged store do not count: the same rules choose among those of them that are younger than the last good
// one. Removes the others, and what makers that died have left; returns the names of those snapshots. `bad` is told
// what cannot be removed.
std::vector<std::string> prune_snapshots(
    const std::string& directory, const Retention& retention,
    const std::function<void(const std::string& path, const std::string& why)>& bad);

}  // namespace gq
