#include "gq/journal/local_disk.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "gq/base/bytes.hpp"
#include "gq/base/disk.hpp"
#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/journal/journal.hpp"

namespace gq {
namespace {

constexpr size_t mark_size = 16, mark_slots = 16;

bool has_segments(const Directory& store) {
  const auto journal = store.find_below(journal_name);
  return journal && !list_segments(*journal).empty();
}

}  // namespace

LocalDisk::LocalDisk(const Directory& store, std::string_view store_id, long process)
    : m_store(store),
      m_seed(sum64(store_id)),
      m_marks(store.open(lock_name, O_RDWR | O_CREAT)),
      m_slot(static_cast<size_t>(process) % mark_slots) {
  mark_new();
}

// Writes and syncs the first mark of a new store, before the first segment exists. So if a store has no mark at all, an
// older version has created it, which wrote no marks: a power cut cannot have removed them. A mark that another process
// has written may not be on the disk: its sync may have failed. So the mark is written again, and synced through this
// descriptor.
void LocalDisk::mark_new() {
  if (has_segments(m_store)) return;
  FileLock lock(m_marks.get(), FileLock::Mode::exclusive);
  if (has_segments(m_store)) return;
  write_all_at(m_marks.get(), mark(synced().value_or(0), 0), marks_offset, m_store.path_of(lock_name));
  if (disk().fsync(m_marks.get()) != 0) throw_errno(Exit::storage, "sync " + m_store.path_of(lock_name));
}

// Returns the content of a slot: the position and a checksum.
std::string LocalDisk::mark(Lsn synced, size_t slot) const {
  std::string entry;
  put_le<uint64_t>(entry, synced);
  put_le<uint64_t>(entry, sum64(entry, m_seed + slot));
  return entry;
}

std::optional<Lsn> LocalDisk::synced() const {
  char bytes[mark_size * mark_slots];
  std::string_view all(bytes, read_at(m_marks.get(), bytes, sizeof bytes, marks_offset));
  std::optional<Lsn> greatest;
  for (size_t slot = 0; (slot + 1) * mark_size <= all.size(); ++slot) {
    std::string_view entry = all.substr(slot * mark_size, mark_size);
    if (get_le<uint64_t>(entry, 8) == sum64(entry.substr(0, 8), m_seed + slot))
      greatest = std::max(greatest.value_or(0), get_le<uint64_t>(entry, 0));
  }
  return greatest;
}

// Raises the mark after a sync. Ignores a failure: then the mark stays too low, which is safe.
void LocalDisk::publish(Lsn end) noexcept {
  try {
    if (synced().value_or(0) >= end) return;
  } catch (const std::exception&) {
    return;
  }
  const std::string entry = mark(end, m_slot);
  [[maybe_unused]] ssize_t n =
      disk().pwrite(m_marks.get(), entry.data(), entry.size(), static_cast<off_t>(marks_offset + m_slot * mark_size));
}

void LocalDisk::wrote(const std::shared_ptr<ActiveSegment>& segment, Lsn end) {
  MutexLock guard(m_mutex);
  segment->appended = end;
  if (std::find(m_unsynced.begin(), m_unsynced.end(), segment) == m_unsynced.end()) m_unsynced.push_back(segment);
}

void LocalDisk::finish(int segment) {
  if (disk().fdatasync(segment) != 0) throw_errno(Exit::storage, "sync the journal");
}

// Syncs the segment up to `end`, and releases the mutex meanwhile. No other thread may be syncing. If the sync fails,
// marks the segment as failed, sets errno and returns false.
bool LocalDisk::sync_now(ActiveSegment& segment, Lsn end) {
  m_syncing = true;
  m_mutex.unlock();
  const int rc = disk().fdatasync(segment.fd.get()), saved = errno;
  if (rc == 0) publish(end);
  m_mutex.lock();
  m_syncing = false;
  if (rc != 0) segment.failed = true;
  m_sync_done.notify_all();
  errno = saved;
  return rc == 0;
}

bool LocalDisk::sync(Journal&, Lsn from, Lsn end) {
  MutexLock lock(m_mutex);
  for (;;) {
    auto it = std::find_if(m_unsynced.begin(), m_unsynced.end(), [&](const auto& s) {
      return s->base < end && s->appended > from && s->synced < std::min(end, s->appended);
    });
    if (it == m_unsynced.end()) return true;
    std::shared_ptr<ActiveSegment> segment = *it;
    if (segment->failed) return false;
    if (m_syncing) {
      m_sync_done.wait(lock);
      continue;
    }
    // No thread is syncing. This thread syncs everything that has been appended so far, for all threads that wait.
    const Lsn upto = segment->appended;
    if (sync_now(*segment, upto)) segment->synced = std::max(segment->synced, upto);
    else log(Level::warning, "cannot sync the journal: " + errno_text(errno) + "; appending again in a new segment");
    // Drop the synced segments. A failed segment stays, so that every thread that waits for it sees the failure.
    if (m_unsynced.size() > 1)
      m_unsynced.erase(std::remove_if(m_unsynced.begin(), m_unsynced.end(),
                                      [](const auto& s) { return !s->failed && s->synced == s->appended; }),
                       m_unsynced.end());
  }
}

// Only the last segment has to be synced: each earlier segment was synced before the next one began.
void LocalDisk::sync_files(Journal& journal) {
  const auto tail = journal.tail();
  if (!tail) return;
  MutexLock lock(m_mutex);
  m_sync_done.wait(lock, [this]() REQUIRES(m_mutex) { return !m_syncing; });
  if (!sync_now(*tail->segment, tail->end)) throw_errno(Exit::storage, "sync the journal");
}

}  // namespace gq
