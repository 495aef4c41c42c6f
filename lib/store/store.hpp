// A store: one directory that holds a queue, shared safely by any number of processes of one machine.
//
//   store/                 mode 0700
//     gq.json              format version, store ID, replication group (settings.hpp)
//     journal/<LSN>.gqj    the records: the truth (journal.hpp)
//     blobs/<xx>/<ID>      workloads over 64 KiB (blobs.hpp)
//     index.tcb, .seal     the state of every job, derived from the journal (index.hpp)
//     owners/<ULID>.<n>    one locked file for each process that runs jobs, and each command (owners.hpp)
//     damaged/             segments of the journal that could not be read completely
//     clean.lock           held by a process that cleans the journal (cleaner.hpp) or removes blobs; shared by
//                          processes that take a snapshot
//     append.lock, index.lock, index.users
//                          flock(2), in this order: clean, index, mirror, append
//     database, mirror, mirror.users
//                          only if the directory is the copy of a database (mirror.hpp)
//
// add() makes the promise: a job that it reports as queued is on stable storage.
#pragma once

#include <fcntl.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/journal/durability.hpp"
#include "gq/journal/journal.hpp"
#include "gq/journal/record.hpp"
#include "gq/state/answer.hpp"
#include "gq/state/job.hpp"
#include "gq/store/blobs.hpp"
#include "gq/store/claiming.hpp"
#include "gq/store/ends.hpp"
#include "gq/store/index.hpp"
#include "gq/store/names.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/settings.hpp"

namespace gq {

// A job that is to be queued: its add record, parsed and as bytes (`head`), and its workload (not copied).
struct NewJob {
  event::Add add;
  std::string head;
  std::string_view data;
  uint64_t data_sum = 0;
  std::shared_ptr<const std::string> own;  // the bytes that `data` refers to, if this owns them
  std::string state;                       // a record to append behind the add record, or empty
  std::shared_ptr<Arrived> arrived;        // the file that holds `data` and may become its blob

  // Call it after a change of `add` or the data.
  void encode() { head = encode_record_head(add, data.size(), data_sum); }
  // Makes these bytes the job's own workload, which is then no part of another job's workload.
  void take_data(std::string bytes);
};

inline constexpr uint64_t to_the_end = UINT64_MAX;

// Makes a job with its add record, under a new ID if none is given. `data` must outlive the job. Instead of `data`, the
// workload may be a part of another job's workload, whose length may be to_the_end.
NewJob make_job(Submission asked, std::string_view data, const std::string& id = {}, Part part = {});

// The cost of the parts of other jobs' workloads that the jobs of one delivery refer to: a part of a workload in the
// journal is copied, a part of a blob is read for its checksum.
class PartsCost {
 public:
  static constexpr uint64_t most_copied = 32 << 20, most_read = 256 << 20;  // bytes
  // Adds a part. Returns false, and adds nothing, if all parts together would exceed a limit. The first part of a blob
  // may have any length.
  bool add(uint64_t copied, uint64_t read);

 private:
  uint64_t m_copied = 0, m_read = 0;
};

// What a user may do with a job.
enum class Change { kick, drop, keep, release };
std::string_view change_name(Change what);

// A job's workload, verified against the checksum that was computed when the job was enqueued.
struct Workload {
  Fd blob;              // the file that holds it, open for reading at offset 0; empty if the journal holds it
  std::string data;     // the workload, if the journal holds it
  std::string path;     // of the blob
  uint64_t offset = 0;  // in the blob
};

class Store {
 public:
  // The store in this directory, with its settings (settings.hpp). `ends` is empty if no user's program marks jobs as
  // done. Throws Error(storage) if the disk fails. To open a store by its name: open_store.hpp.
  Store(Directory directory, Settings settings, std::shared_ptr<Durability> durability,
        std::shared_ptr<Ends> ends = nullptr);

  const Directory& directory() const { return m_directory; }
  const std::string& id() const { return m_settings.store_id; }
  // As it was when the store was opened.
  const Group& group() const { return m_settings.group; }
  const Limits& limits() const { return m_settings.limits; }

  // Queues jobs as one group and returns an answer for each. Thread-safe; concurrent calls share one fdatasync.
  // `appended` is called before the sync, with the numbers of the jobs that were appended to the journal, and where.
  using Appended = std::function<void(const std::vector<size_t>& numbers, Lsn from, Lsn end)>;
  std::vector<Answer> add(const std::vector<NewJob>& jobs, const Appended& appended = {});

  // Resolves the jobs whose workload is a part of another job's workload. Call it before such jobs are queued. If that
  // other workload is in a blob, the job then names the blob and the sum of the part; else the job gets the part
  // itself. Returns an answer for each job that cannot be resolved. Refuses jobs whose parts cost more than PartsCost
  // allows.
  std::vector<std::optional<Answer>> resolve(std::vector<NewJob>& jobs);

  // Throws an Error if there is no room for `size` bytes, so that add() would refuse them.
  void check_room(uint64_t size, uint64_t run = 0);

  // Claims jobs that no living process holds: those of dead owners, then due and queued jobs in order. Also removes
  // blobs that forget_blob() named. The caller must settle() the records of jobs that it has released before it calls
  // this: settle() may append them again, and they would release the new claim, too. Throws Error(storage) without
  // claiming if there is no room to record how the jobs end.
  Claims claim(const ClaimRequest& request);

  // Does with jobs what a user asks for; drop also frees the key of a finished job. Returns for each job why that
  // cannot be done, or nullopt if it is done and on stable storage. A job that a living process holds is neither kicked
  // nor dropped.
  std::vector<std::optional<std::string>> change(Change what, const std::vector<std::string>& ids);

  // Pauses or resumes a function for all processes; on stable storage on return.
  void pause(const std::string& function, bool paused);

  // Appends records of jobs that this process holds, without waiting for the disk; settle() waits.
  void append(const std::vector<std::string>& records);
  // Waits until everything that append() appended is on stable storage.
  void settle();

  // Call it after the record that finished a job has been synced: notes that the blob of the job `id` can be removed.
  void forget_blob(const std::string& id);
  // Removes the noted blobs now; claim() also removes them.
  void forget_blobs();
  // Whether the blob of a job is still needed.
  bool needs_blob(Fold& fold, const std::string& id);

  // Reads and verifies a workload. Returns nullopt and sets `reason` if the workload is damaged or gone. Throws
  // Error(storage) if the disk cannot be read.
  std::optional<Workload> workload(const std::string& id, const Job& job, std::string& reason);
  // The same with the caller's own reader, for other threads.
  std::optional<Workload> workload(const std::string& id, const Job& job, std::string& reason,
                                   EventReader& reader) const;

  // For a group in which each job runs on one node. False while this node has to wait: it may not know yet which of its
  // jobs other nodes took over, or no process serves it (waits() says why). Ask right before a job is started;
  // may_start() is the same for all groups. See lease.hpp.
  bool has_returned() const { return waits().empty(); }
  bool may_start() const { return !group().once || has_returned(); }
  // What the node waits for, as text for users; empty if it waits for nothing.
  std::string waits() const;

  // Removes the blobs among these that no job needs, also those whose job is not known.
  void remove_unneeded(const std::vector<std::string>& ids);
  // Removes the blobs of these jobs that are not needed any more.
  void remove_blobs_of(const std::vector<std::string>& ids);
  Fd open_clean_lock() const { return m_directory.open(clean_lock_name, O_RDWR | O_CREAT); }

  // Calls `body` with the index, up to date, under its lock: keep it short.
  void look(const std::function<void(Fold&)>& body) { m_index.visit(body); }

  // Calls `body` with each function that the store knows. Each visit reads some functions; `body` is called without the
  // lock.
  void for_each_function(const std::function<void(const std::string& function, const Counters&)>& body);

  Journal& journal() { return m_journal; }
  Index& index() { return m_index; }
  Blobs& blobs() { return m_blobs; }
  const Directory& owners_directory() const { return m_owners; }

 private:
  // Blobs that are about to be removed, and the lock that keeps snapshots away meanwhile.
  struct Removal {
    Fd clean_lock;
    std::vector<Blobs::Taken> blobs;
  };
  std::vector<Blobs::Taken> take_blobs(Fold& fold, const std::vector<std::string>& ids,
                                       const std::function<bool(const std::string& id)>& is_free);
  void take_free_blobs(Fold& fold, Removal& removal);
  void remove(Removal removal);
  void take_ends();
  void leave_out_ended(std::vector<Claim>& jobs);
  void record_claim(Fold& fold, const std::string& owner, Millis now, std::vector<Claim>& jobs,
                    const std::vector<Claim>& strays);
  void restore(Workload& workload, const std::string& id, const Job& job, std::string& reason) const;
  std::vector<Placed> append_references(const std::vector<NewJob>& jobs, std::vector<size_t>& of,
                                        std::vector<RecordBytes>& bytes, std::vector<Answer>& answers);
  std::optional<Answer> put_blob(const NewJob& job, std::vector<Fd>& holds);
  void remove_unknown_blob(const std::string& id);

  const Directory m_directory;
  const Settings m_settings;
  const std::shared_ptr<Durability> m_durability;
  const std::shared_ptr<Ends> m_ends;
  const Directory m_owners;
  Journal m_journal;
  Blobs m_blobs;
  Index m_index;
  std::vector<std::string> m_unsettled;  // records that append() appended and settle() has not seen synced
  Lsn m_unsettled_from = 0, m_unsettled_end = 0;
  Mutex m_free_mutex;
  std::vector<std::string> m_free_blobs GUARDED_BY(m_free_mutex);
  EventReader m_reader;  // of workloads, which are mostly read in their order in the journal
  size_t m_turn = 0;     // which function comes first in the next claim
};

}  // namespace gq
