// The disk below a store's directory, as what makes its bytes stable: by an fdatasync of this process on a descriptor
// that it opened before it wrote. Linux reports a lost write only to descriptors that were open, so nobody relies on
// another process's sync.
//
// append.lock holds, behind the journal's hint, up to which position all has been synced: {position, sum} of each of so
// many processes, so that they need no lock to raise theirs. Like the hint it is not synced itself.
#pragma once

#include <unistd.h>

#include <condition_variable>

#include "gq/base/directory.hpp"
#include "gq/base/mutex.hpp"
#include "gq/journal/durability.hpp"

namespace gq {

class LocalDisk : public Durability {
 public:
  // `store_id` seeds the sums. Few processes at a time should have the same number. Throws Error(storage).
  LocalDisk(const Directory& store, std::string_view store_id, long process = ::getpid());

  std::optional<Lsn> synced() const override;
  void wrote(const std::shared_ptr<ActiveSegment>& segment, Lsn end) override;
  void finish(int segment) override;
  bool sync(Journal& journal, Lsn from, Lsn end) override;
  void sync_all(Journal& journal) override { sync_files(journal); }
  void sync_files(Journal& journal) override;

  // The store's own files are all that there is of it.
  void check(Journal&) override {}
  void put_blob(const std::string&, std::string_view) override {}
  void remove_blob(const std::string&, uint64_t) override {}
  bool restore_blob(const std::string&, uint64_t) override { return false; }
  std::optional<std::string> record(Lsn) override { return std::nullopt; }
  void change(Journal&, const std::vector<std::pair<Lsn, RecordBytes>>&) override {}
  void remove(const std::vector<Lsn>&, const std::vector<Lsn>&) override {}
  void verify(Journal&, const std::function<void(Lsn, const std::string&)>&) override {}
  void report_damage() override {}

 private:
  void mark_new();
  std::string mark(Lsn synced, size_t slot) const;
  void publish(Lsn synced) noexcept;
  bool sync_now(ActiveSegment& segment, Lsn end) REQUIRES(m_mutex);

  const Directory m_store;
  const uint64_t m_seed;
  const Fd m_marks;
  const size_t m_slot;  // of the marks, this process's

  Mutex m_mutex;
  std::condition_variable m_sync_done;
  bool m_syncing GUARDED_BY(m_mutex) = false;
  std::vector<std::shared_ptr<ActiveSegment>> m_unsynced GUARDED_BY(m_mutex);  // by LSN
};

}  // namespace gq
