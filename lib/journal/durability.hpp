// Durability: what makes the bytes of a store stable. That is the disk below its directory (local_disk.hpp), or a
// user's database (mirror.hpp), of which the directory is a copy. Each keeps its promise in its own way; the journal,
// the blobs and the cleaner tell it what they have done, and ask the same of both.
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

// A segment that this process appends to. Its descriptor is opened before the first write and never replaced, so that
// it hears of each write that the kernel loses.
struct ActiveSegment {
  ActiveSegment(Lsn first, Fd descriptor) : base(first), fd(std::move(descriptor)) {}
  const Lsn base;
  const Fd fd;
  std::atomic<bool> failed = false;  // what was not synced before is lost, and nothing more may go in here
  Lsn appended = 0, synced = 0;      // of this process's records; the Durability's own
};

class Durability {
 public:
  virtual ~Durability() = default;

  // All before this position has been stable; nullopt where nothing tells. After a power cut it may be older than the
  // truth, never newer.
  virtual std::optional<Lsn> synced() const = 0;

  // This process has written records through the segment's descriptor, which end there.
  virtual void wrote(const std::shared_ptr<ActiveSegment>& segment, Lsn end) = 0;
  // Nothing more is appended to this segment, which is open for writing; all of it has to be stable before the next one
  // is begun. Throws Error(storage).
  virtual void finish(int segment) = 0;

  // Waits until all that this process appended between two positions is stable; one request answers all threads that
  // wait. False where it may be lost: then it has to be appended again. Throws Error(retry) where that cannot be told;
  // the next call does it again.
  virtual bool sync(Journal& journal, Lsn from, Lsn end) = 0;
  // The same for all that has been appended, whoever has written it. Throws Error(storage), too.
  virtual void sync_all(Journal& journal) = 0;
  // Waits until the directory's disk has the segments, as far as the directory is believed after a restart. Throws
  // Error(storage).
  virtual void sync_files(Journal& journal) = 0;

  // Throws Error(retry) where the last request failed, and one made now does too.
  virtual void check(Journal& journal) = 0;

  // After the blob's file and its name have been synced.
  virtual void put_blob(const std::string& id, std::string_view data) = 0;
  // Before the file is removed; its size tells how many pieces there are.
  virtual void remove_blob(const std::string& id, uint64_t size) = 0;
  // Writes the blob's file anew from a second copy; false where there is no whole one of that size.
  virtual bool restore_blob(const std::string& id, uint64_t size) = 0;

  // The second copy of a record, head and data; nullopt where there is none.
  virtual std::optional<std::string> record(Lsn lsn) = 0;
  // What cleaning makes of records, before the cleaned segment is named. They depend on what has been appended by now,
  // which is stable first.
  virtual void change(Journal& journal, const std::vector<std::pair<Lsn, RecordBytes>>& records) = 0;
  // What cleaning leaves out. Adds go first: a crash in between may leave the end of a job without its beginning, never
  // the other way.
  virtual void remove(const std::vector<Lsn>& adds, const std::vector<Lsn>& others) = 0;

  // Compares all of the second copy with the directory, while nothing is cleaned, and says what is wrong there.
  virtual void verify(Journal& journal, const std::function<void(Lsn lsn, const std::string& what)>& wrong) = 0;

  // A reader has found damage in the directory. Throws Error(retry) where that is made anew from a second copy when
  // nobody has it open.
  virtual void report_damage() = 0;
};

}  // namespace gq
