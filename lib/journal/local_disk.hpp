// Durability on the disk under a store's directory. Each process syncs its own records, with fdatasync on a descriptor
// that it opened before it wrote. Linux reports a failed write-back only to descriptors that were open at that moment,
// so a process never relies on the sync of another process.
//
// append.lock holds marks, after the journal's hint. A mark {position, checksum} says that everything before its
// position has been synced. There are several slots for marks, and each process uses one slot, so that it needs no lock
// to raise its mark. Neither the marks nor the hint are synced.
#pragma once

#include <unistd.h>

#include <condition_variable>

#include "gq/base/directory.hpp"
#include "gq/base/mutex.hpp"
#include "gq/journal/durability.hpp"

namespace gq {

class LocalDisk : public Durability {
 public:
  // `store_id` seeds the checksums. `process` is a number that selects the slot for this process's mark. It should
  // differ between processes, so that few of them share a slot. Throws Error(storage).
  LocalDisk(const Directory& store, std::string_view store_id, long process = ::getpid());

  std::optional<Lsn> synced() const override;
  void wrote(const std::shared_ptr<ActiveSegment>& segment, Lsn end) override;
  void finish(int segment) override;
  bool sync(Journal& journal, Lsn from, Lsn end) override;
  void sync_all(Journal& journal) override { sync_files(journal); }
  void sync_files(Journal& journal) override;

  // The store's files are the only copy, so there is nothing more to do.
  void check(Journal&) override {}
  void put_blob(const std::string&, std::string_view) override {}
  void remove_blob(const std::string&, uint64_t) override {}
  bool restore_blob(const std::string&, uint64_t) override { return false; }
  std::optional<std::string> record(Lsn) override { return std::nullopt; }
  void begin_cleaning(Lsn, Lsn) override {}
  void end_cleaning() override {}
  std::optional<std::pair<Lsn, Lsn>> half_cleaned() override { return std::nullopt; }
  void change(Journal&, const std::vector<std::pair<Lsn, RecordBytes>>&) override {}
  void remove(const std::vector<Lsn>&, const std::vector<Lsn>&) override {}
  std::optional<std::pair<Lsn, Lsn>> verify(Journal&, const std::function<void(Lsn, const std::string&)>&) override {
    return std::nullopt;
  }
  void report_damage() override {}

 private:
  void mark_new();
  std::string mark(Lsn synced, size_t slot) const;
  void publish(Lsn synced) noexcept;
  bool sync_now(ActiveSegment& segment, Lsn end) REQUIRES(m_mutex);

  const Directory m_store;
  const uint64_t m_seed;
  const Fd m_marks;
  const size_t m_slot;  // of this process's mark

  Mutex m_mutex;
  std::condition_variable m_sync_done;
  bool m_syncing GUARDED_BY(m_mutex) = false;
  std::vector<std::shared_ptr<ActiveSegment>> m_unsynced GUARDED_BY(m_mutex);  // by LSN
};

}  // namespace gq
