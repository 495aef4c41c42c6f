// A snapshot is a consistent copy of a store at one position of its journal. One directory contains many snapshots:
//
//   DIRECTORY/<time>/manifest            the files, with sizes and checksums; written last: a directory without it is
//                                        not a snapshot
//                    gq.json
//                    journal/<LSN>.gqj   the segments; the last one only up to the position
//                    blobs/<xx>/<ID>
//   DIRECTORY/tmp.<ULID>/                a snapshot that a process is making or removing; the process holds a lock
//                                        on it
//
// If the snapshot is on the file system of the store, files that never change are hard-linked, not copied. On another
// file system they are linked to the same files in the previous snapshot, if it has them. So a snapshot on the same
// file system protects against mistakes, but not against a failing disk.
//
// While a snapshot is made, other processes wait only to remove files: the snapshot holds clean.lock, shared, while it
// links files.
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
  std::string path;                     // the directory of the snapshot
  std::optional<Directory> collection;  // the directory that contains it; none if a user named the snapshot itself
  std::string name;                     // the time at which the snapshot was made: 20260131T120000.000Z
  std::string store;                    // the ID of the store
  Millis created_at{0};
  Lsn position = 0;
  uint64_t jobs = 0;     // how many jobs had not ended; not exact, because other processes continue meanwhile
  bool damaged = false;  // the store was damaged: data that it should have is missing in the snapshot
  uint64_t file_count = 0, bytes = 0;
  std::map<std::string, SnapshotFile> files;  // to save memory, only the last snapshot of a list has its files

  Directory directory() const {
    return collection ? collection->below_of_any(name, Exit::bad_data) : Directory(path, Exit::bad_data);
  }
};

// Called with the number of files that are done, and the number of their bytes.
using ShowProgress = std::function<void(uint64_t files, uint64_t bytes)>;

// Makes a snapshot in a directory, which is created if it is missing. If data of the store is known to be missing or
// damaged, the snapshot is marked as damaged. Throws Error: storage, or config if the directory holds snapshots of
// another store.
Snapshot create_snapshot(Ledger& ledger, const std::string& directory, const ShowProgress& progress);

// Returns the snapshots in a directory; or, if the directory itself is a snapshot, that snapshot. The last one has its
// files. Calls `bad` with the reason for each snapshot whose manifest is missing or damaged. Throws Error(no_input) if
// the directory cannot be read.
std::vector<Snapshot> list_snapshots(const std::string& path,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad);
std::vector<Snapshot> list_snapshots(const Directory& directory,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad);

// Reads every file of a snapshot. Calls `bad` for each file that is missing or has changed. Returns false if there is
// such a file.
bool verify_snapshot(const Snapshot& snapshot,
                     const std::function<void(const std::string& path, const std::string& why)>& bad,
                     const ShowProgress& progress);

// Copies a snapshot to a store. The store's directory must be missing or empty, or contain only files of an earlier
// call that was interrupted. A node of a group gets a new identity. Returns the group to which the store belongs, if
// any. Throws Error: bad_data if a file of the snapshot has changed, config if the directory is not empty, retry if
// another process is restoring to it. After an error, the directory contains no files of the snapshot.
Group restore_snapshot(const Snapshot& snapshot, const std::string& store_directory, const ShowProgress& progress);

// The retention rules: how many of the last snapshots to keep; and for how many hours, days and so on that have
// snapshots to keep the last one of each.
struct Retention {
  uint64_t last = 0, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0;
};

// Removes the snapshots that the retention rules do not keep, and the files of processes that died while they made a
// snapshot. The rules are applied twice: to the snapshots of an undamaged store; and to those snapshots of a damaged
// store that are newer than the last undamaged one. All other snapshots of a damaged store are removed. Returns the
// names of the removed snapshots. Calls `bad` for each file that cannot be removed.
std::vector<std::string> prune_snapshots(
    const std::string& directory, const Retention& retention,
    const std::function<void(const std::string& path, const std::string& why)>& bad);

}  // namespace gq
