// The ledger is the record of what happened to a store's jobs. It keeps this record in the store's directory, which any
// number of processes of one machine share safely. The ledger owns the journal, the blobs and the index, and keeps
// their rules: in which order they become durable, when a blob may be removed, how much room is left. It does not
// decide what happens to a job: the queue (queue.hpp) decides that for programs and their users, and replication for
// the group.
//
//   store/                 mode 0700
//     gq.json              format version, store ID, replication group (settings.hpp)
//     journal/<LSN>.gqj    the records; only gq.json and blobs cannot be rebuilt from them (journal.hpp)
//     blobs/<xx>/<ID>      workloads and outputs over 64 KiB (blobs.hpp)
//     index.tcb, .seal     the state of every job, derived from the journal (index.hpp)
//     owners/<ULID>.<n>    one locked file for each process that runs jobs, and each command (owners.hpp)
//     damaged/             segments of the journal that could not be read completely
//     clean.lock           held by a process that cleans the journal (cleaner.hpp) or removes blobs; shared by
//                          processes that take a snapshot
//     append.lock          held by a process that appends to the journal (journal.hpp)
//     index.lock           held by a process that uses the index (index.hpp)
//     index.users          locked, shared, by each process that has used the index and will use it again
//     database, mirror, mirror.cleaning, mirror.users
//                          only if the directory is the copy of a database (mirror.hpp)
//
// All locks are flock(2). A process that takes several of them takes them in this order: clean.lock, index.lock,
// mirror, append.lock. names.hpp has the names of all files, also those of replication.
//
// A record is on stable storage when commit() or sync_all() returns, not when append() does.
#pragma once

#include <fcntl.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/journal/durability.hpp"
#include "gq/journal/journal.hpp"
#include "gq/state/event_reader.hpp"
#include "gq/state/job.hpp"
#include "gq/store/blobs.hpp"
#include "gq/store/index.hpp"
#include "gq/store/names.hpp"
#include "gq/store/settings.hpp"

namespace gq {

// A job's workload, verified against the checksum that was computed when the job was enqueued.
struct Workload {
  Fd blob;              // the file that holds it, open for reading at offset 0; empty if the journal holds it
  std::string data;     // the workload, if the journal holds it
  std::string path;     // of the file that holds it
  uint64_t offset = 0;  // where the workload begins in that file
};

// All functions throw Error(storage) if the disk fails, and Error(retry) if a user's database does not answer. They may
// be called by several threads at once, except workload() without a reader.
class Ledger {
 public:
  // Opens the ledger in this directory. `settings` are those of the store (settings.hpp). To open a store by its name,
  // see open_store.hpp.
  Ledger(Directory directory, Settings settings, std::shared_ptr<Durability> durability);

  const Directory& directory() const { return m_directory; }
  const std::string& id() const { return m_settings.store_id; }
  // The group, as it was when the store was opened.
  const Group& group() const { return m_settings.group; }
  const Limits& limits() const { return m_settings.limits; }
  const Directory& owners_directory() const { return m_owners; }

  // ------------------------------------------------------------------------------------------------------------- look

  // Calls `body` with the index, up to date, under its lock: keep it short. `body` is called again if the index has to
  // be rebuilt.
  void look(const std::function<void(Fold&)>& body) { m_index.visit(body); }
  // Calls `body` with each function that the store knows, without the lock. Each visit to the index reads some
  // functions.
  void for_each_function(const std::function<void(const std::string& function, const Counters&)>& body);

  // The same for each trouble that the fold has noted (Fold::troubles()).
  void for_each_trouble(const std::function<void(const Trouble&)>& body);

  // Returns a reader of the journal that begins at `from`: 0, or a position that another reader reported. The ledger
  // must outlive the reader.
  EventReader read(Lsn from) { return EventReader(m_journal, from); }
  // The position after the last append.
  Lsn end() const { return m_journal.end(); }
  // A position before which everything was on stable storage at some time (Journal::synced()).
  std::optional<Lsn> synced() const { return m_journal.synced(); }
  // segments() returns the segments of the journal, by LSN; end_and_segments() the end and the segments at one moment.
  std::vector<SegmentInfo> segments() const { return m_journal.segments(); }
  std::pair<Lsn, std::vector<SegmentInfo>> end_and_segments() { return m_journal.snapshot(); }
  // The path of a file that each append changes, so that a process can watch it with inotify.
  std::string watched_path() const { return m_journal.lock_path(); }

  // Reads and verifies a workload. Returns nullopt and sets `reason` if the workload is damaged or gone.
  std::optional<Workload> workload(const std::string& id, const Job& job, std::string& reason);
  // The same with the caller's own reader. Any thread may call this one.
  std::optional<Workload> workload(const std::string& id, const Job& job, std::string& reason,
                                   EventReader& reader) const;

  // Reads and verifies the output of a job, for which the job's output_lsn is not 0. Returns nullopt and sets `reason`
  // if it is damaged or gone.
  std::optional<Workload> output(const std::string& id, const Job& job, std::string& reason);

  // ----------------------------------------------------------------------------------------------------------- append

  // Throws an Error if the disk has no room to queue `size` bytes and to run their jobs (`run` bytes, see
  // room_to_run()).
  void check_room(uint64_t size, uint64_t run = 0);

  // Appends records and returns their positions. The records are not durable yet.
  std::vector<Placed> append(const std::vector<RecordBytes>& records, Room room) {
    return m_journal.append(records, room);
  }
  // Appends records. They are on stable storage on return. Throws Error(retry) if the outcome is unknown.
  void commit(const std::vector<RecordBytes>& records, Room room) { m_journal.commit(records, room); }
  // The same for the records that `decide` returns when it is called with the index. The records are folded before
  // another process can use the index. If the index has to be rebuilt before the records are appended, `decide` is
  // called again; after that it is not.
  void commit(const std::function<std::vector<std::string>(Fold&)>& decide, Room room);
  // Waits until all records in the journal are on stable storage, also those of other processes.
  void sync_all() { m_journal.sync_all(); }

  // ------------------------------------------------------------------------------------------------------------ blobs

  // Opens a blob for reading. Returns an empty Fd if there is none.
  Fd open_blob(const std::string& id) const { return m_blobs.open(id); }
  // Whether a blob is still needed.
  static bool needs_blob(Fold& fold, const std::string& id);
  // As Blobs::put_part(), for a workload that arrives in parts.
  Arrived put_part(const std::string& id, uint64_t sum, uint64_t offset, std::string_view part) {
    return m_blobs.put_part(id, sum, offset, part);
  }
  void remove(const Arrived& arrived) const { m_blobs.remove(arrived); }

  // Notes that the blob of the job `id` can be removed. Call it after the record that finished the job has been synced.
  void forget_blob(const std::string& id);
  // Removes the noted blobs now; Queue::claim() also removes them.
  void forget_blobs();
  // Removes the blobs of these jobs that are not needed any more.
  void remove_blobs_of(const std::vector<std::string>& ids);
  // Removes those of the blobs that no job needs, also blobs whose job is not known.
  void remove_unneeded(const std::vector<std::string>& ids);

  // Whether there is room for outputs of together that many bytes: on the disk, and by Limits::outputs. (Processes that
  // record ends at the same moment may together exceed that limit by what they record.)
  bool has_output_room(uint64_t size);
  // Whether the disk has room for `size` bytes of an output, besides what the jobs need.
  bool has_free_room(uint64_t size) { return available() >= reserved() && size <= available() - reserved(); }
  // Makes `data` the durable blob of a job's output, before the record of the job's end is appended. `arrived` is as in
  // Blobs::put(). The job is one that this process runs. Returns a locked descriptor, which the caller holds until that
  // record is on stable storage; an empty one if there is an output of an earlier run that cannot be removed now.
  Fd put_output(const std::string& id, std::string_view data, Arrived* arrived);
  // Where the files are made that become blobs.
  const Directory& blobs_directory() const { return m_blobs.directory(); }

  // ------------------------------------------------------------------------------------------------------ maintenance

  Fd open_clean_lock() const { return m_directory.open(clean_lock_name, O_RDWR | O_CREAT); }
  // available(): the free bytes of the disk. reserved(): how many of them must stay free when work is done that could
  // wait.
  uint64_t available() const { return m_journal.available(); }
  uint64_t reserved() const { return m_journal.reserved(); }
  // Returns a cleaned segment that will replace the segments from `base` on. The ledger must outlive it.
  CleanedSegment begin_cleaned(Lsn base, Lsn previous_end) const {
    return CleanedSegment(m_journal, base, previous_end);
  }
  // For a store with a second copy: the records that the cleaner changes and removes (Durability::begin_cleaning(),
  // Durability::change(), Durability::remove()).
  void begin_cleaning(Lsn base, Lsn end) { m_durability->begin_cleaning(base, end); }
  void end_cleaning() { m_durability->end_cleaning(); }
  std::optional<std::pair<Lsn, Lsn>> half_cleaned() { return m_durability->half_cleaned(); }
  void change_records(const std::vector<std::pair<Lsn, RecordBytes>>& records) {
    m_durability->change(m_journal, records);
  }
  void remove_records(const std::vector<Lsn>& adds, const std::vector<Lsn>& others) {
    m_durability->remove(adds, others);
  }
  // For a store with a second copy: compares it with the directory, and calls `wrong` for each error in the copy. As
  // Durability::verify().
  std::optional<std::pair<Lsn, Lsn>> verify(const std::function<void(Lsn lsn, const std::string& what)>& wrong) {
    return m_durability->verify(m_journal, wrong);
  }
  // Rebuilds the index if its file is many times as large as its content.
  void shrink_index() { m_index.shrink(); }
  // leave() stops using the index; the last user seals it. leave_for_good() is for a process that a signal is about to
  // end: after it, the other threads cannot use the index any more.
  void leave() { m_index.leave(); }
  void leave_for_good() { m_index.leave_for_good(); }

 protected:
  // The following is for the queue, which decides and appends within one look().

  // Call it before a look() that appends (Journal::prepare()).
  void prepare() { m_journal.prepare(); }
  // Within a look(): folds the records that were appended since it began. Throws as Index::fold_on() does if they do
  // not reach up to `end`.
  void fold_on(Fold& fold, Lsn end = 0) { m_index.fold_on(fold, end); }
  // As Journal::sync() and Journal::make_safe().
  bool sync(Lsn from, Lsn end) { return m_journal.sync(from, end); }
  void make_safe(const std::vector<RecordBytes>& records, std::vector<Placed> placed, Room room) {
    m_journal.make_safe(records, std::move(placed), room);
  }
  // Returns how many jobs may be claimed with the free space of the disk: `few` if it is nearly full, otherwise up to
  // `most`. Does what prepare() does. Throws Error(storage) if there is no room to record how the jobs end.
  size_t room_to_claim(size_t few, size_t most);

  // As Blobs::put().
  std::optional<Fd> put_blob(const std::string& id, std::string_view data, uint64_t sum, Arrived* arrived) {
    return m_blobs.put(id, data, sum, arrived);
  }
  // Removes a blob whose job is not known.
  void remove_unknown_blob(const std::string& id);
  // Blobs that are about to be removed, and the lock under which no process can take a snapshot.
  struct Removal {
    Fd clean_lock;
    std::vector<Blobs::Taken> blobs;
  };
  // Within a look(): takes some of the noted blobs. After the look(), remove() removes them.
  void take_free_blobs(Fold& fold, Removal& removal);
  void remove(Removal removal);

 private:
  std::vector<Blobs::Taken> take_blobs(Fold& fold, const std::vector<std::string>& ids,
                                       const std::function<bool(const std::string& id)>& is_free);
  void restore(Workload& workload, const std::string& id, const Job& job, std::string& reason) const;

  const Directory m_directory;
  const Settings m_settings;
  const std::shared_ptr<Durability> m_durability;
  const Directory m_owners;
  Journal m_journal;
  Blobs m_blobs;
  Index m_index;
  Mutex m_free_mutex;
  std::vector<std::string> m_free_blobs GUARDED_BY(m_free_mutex);
  EventReader m_reader;  // for workloads, which are mostly read in their order in the journal
};

}  // namespace gq
