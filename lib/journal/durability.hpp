// Durability: the interface to the storage that makes a store durable. The storage is either the disk under the store's
// directory (local_disk.hpp), or a user's database (mirror.hpp); then the directory is a copy of the database. The
// journal, the blobs and the cleaner report to this interface what they have written. Both kinds of storage give the
// same guarantees.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gq/base/fd.hpp"

namespace gq {

class Journal;
struct RecordBytes;
using Lsn = uint64_t;

// A segment that this process appends to. The descriptor is opened before the first write and never replaced, so that a
// sync through it reports each write-back that has failed.
struct ActiveSegment {
  ActiveSegment(Lsn first, Fd descriptor) : base(first), fd(std::move(descriptor)) {}
  const Lsn base;
  const Fd fd;
  std::atomic<bool> failed = false;  // a sync failed: unsynced bytes may be lost, and nothing more may be appended
  Lsn appended = 0, synced = 0;      // ends of this process's records; only the Durability uses them
};

class Durability {
 public:
  virtual ~Durability() = default;

  // Returns a position before which everything was durable at some time; nullopt if no such position is known. After a
  // power cut the position may be too low, but never too high.
  virtual std::optional<Lsn> synced() const = 0;

  // The journal calls it after this process has written records through the segment's descriptor, up to `end`.
  virtual void wrote(const std::shared_ptr<ActiveSegment>& segment, Lsn end) = 0;
  // The journal calls it when nothing more will be appended to a segment, before it begins the next segment. `segment`
  // is a descriptor that is open for writing. On return the whole segment is durable. Throws Error(storage).
  virtual void finish(int segment) = 0;

  // Waits until all records that this process appended between two positions are durable. Threads that wait at the same
  // time share one request. Returns false if the records may be lost: the caller has to append them again. Throws
  // Error(retry) if the outcome is unknown; the next call tries again.
  virtual bool sync(Journal& journal, Lsn from, Lsn end) = 0;
  // The same for all records in the journal, also those of other processes. Throws Error(storage), too.
  virtual void sync_all(Journal& journal) = 0;
  // Waits until all segments are on the directory's disk, even if the directory is only a copy. Throws Error(storage).
  virtual void sync_files(Journal& journal) = 0;

  // If the last request failed, makes a new request, and throws Error(retry) if that fails, too.
  virtual void check(Journal& journal) = 0;

  // Called after the blob's file and its name have been synced.
  virtual void put_blob(const std::string& id, std::string_view data) = 0;
  // Called before the blob's file is removed. `size` is that of the file, in bytes; it determines the number of pieces.
  virtual void remove_blob(const std::string& id, uint64_t size) = 0;
  // Rebuilds the blob's file from the second copy (the copy in the database). Returns false if there is no complete
  // copy of that size.
  virtual bool restore_blob(const std::string& id, uint64_t size) = 0;

  // Returns the second copy of a record, head and data; nullopt if there is none.
  virtual std::optional<std::string> record(Lsn lsn) = 0;
  // The cleaner calls begin_cleaning() before it changes or removes records of a range, and end_cleaning() after the
  // cleaned segment has got its name. In between, the second copy may lack records that the directory has.
  virtual void begin_cleaning(Lsn base, Lsn end) = 0;
  virtual void end_cleaning() = 0;
  // The range (base, end) whose cleaning has begun and not ended; nullopt if there is none. To a process that has the
  // lock of cleaning, this cleaning was interrupted, and the next one has to clean this range first.
  virtual std::optional<std::pair<Lsn, Lsn>> half_cleaned() = 0;
  // The cleaner calls it with the records that it has changed, before the cleaned segment gets its name. The changes
  // follow from records that were appended before this call, so those records are made durable first.
  virtual void change(Journal& journal, const std::vector<std::pair<Lsn, RecordBytes>>& records) = 0;
  // The cleaner calls it with the records that it leaves out. `adds` are removed first: a crash in between may leave
  // the record of a job's end without the job's add record, but never an add record without the end.
  virtual void remove(const std::vector<Lsn>& adds, const std::vector<Lsn>& others) = 0;

  // Compares the whole second copy with the directory, and calls `wrong` for each error in the copy. No process can
  // clean the journal meanwhile. Does not compare the records of a range that is half cleaned, and returns this range.
  virtual std::optional<std::pair<Lsn, Lsn>> verify(
      Journal& journal, const std::function<void(Lsn lsn, const std::string& what)>& wrong) = 0;

  // A reader calls it when it has found damage in the directory. Throws Error(retry) if the directory will be rebuilt
  // from the second copy, as soon as no process has the store open.
  virtual void report_damage() = 0;
};

}  // namespace gq
