// A store: one directory that holds a queue, shared safely by any number of processes of one machine.
//
//   store/                 mode 0700
//     gq.json              format version, store ID, replication group (settings.hpp)
//     journal/<LSN>.gqj    the records: the truth (journal.hpp)
//     blobs/<xx>/<ID>      workloads over 64 KiB (blobs.hpp)
//     index.tcb, .seal     the state of every job, derived from the journal (index.hpp)
//     owners/<ULID>.<n>    one locked file for each process that runs jobs, and each command (owners.hpp)
//     damaged/             segments of the journal that could not be read whole
//     clean.lock           held by who cleans the journal (cleaner.hpp) or removes blobs; shared, by who takes a
//                          snapshot
//     append.lock, index.lock, index.users
//                          flock(2), in this order: clean, index, mirror, append
//     database, mirror, mirror.users
//                          only where the directory is the copy of a database (mirror.hpp)
//
// add() is the promise: what it calls queued is on stable storage.
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

// A job that is to be queued: its add record, as it is understood and its head as bytes, and its workload (not copied).
struct NewJob {
  event::Add add;
  std::string head;
  std::string_view data;
  uint64_t data_sum = 0;
  std::shared_ptr<const std::string> own;  // what data refers to, where it is nobody else's
  std::string state;                       // a record that is to stand behind it, or empty
  std::shared_ptr<Arrived> arrived;        // the file that `data` stands in, which may become its blob

  // After `add` or the data have changed.
  void encode() { head = encode_record_head(add, data.size(), data_sum); }
  // The data are its own from now on, and no part of another job's workload.
  void take_data(std::string bytes);
};

inline constexpr uint64_t to_the_end = UINT64_MAX;

// Makes a job with its add record, under a new ID where none is given. `data` must outlive it; or else the workload is
// a part of another job's, which may have the length to_the_end.
NewJob make_job(Submission asked, std::string_view data, const std::string& id = {}, Part part = {});

// What the parts of other jobs' workloads cost that jobs of one delivery refer to: a part of a workload in the journal
// is copied, a part of a blob is read for its checksum.
class PartsCost {
 public:
  static constexpr uint64_t most_copied = 32 << 20, most_read = 256 << 20;  // bytes
  // Adds a part; false, and adds nothing, if the parts would be more than that together. The first part of a blob may
  // have any length.
  bool add(uint64_t copied, uint64_t read);

 private:
  uint64_t m_copied = 0, m_read = 0;
};

// What a person may say of a job.
enum class Change { kick, drop, keep, release };
std::string_view change_name(Change what);

// A job's workload, verified against the sum that was made when it was enqueued.
struct Workload {
  Fd blob;              // what it stands in, open for reading at offset 0; empty where that is the journal
  std::string data;     // then this is it
  std::string path;     // of the blob
  uint64_t offset = 0;  // in the blob
};

class Store {
 public:
  // The store in this directory, whose settings these are (settings.hpp). `ends` is empty where no user says how jobs
  // end. Throws Error(storage) where the disk fails. By a store's name: open_store.hpp.
  Store(Directory directory, Settings settings, std::shared_ptr<Durability> durability,
        std::shared_ptr<Ends> ends = nullptr);

  const Directory& directory() const { return m_directory; }
  const std::string& id() const { return m_settings.store_id; }
  // As it was when the store was opened.
  const Group& group() const { return m_settings.group; }
  const Limits& limits() const { return m_settings.limits; }

  // Queues jobs as one group and answers for each. Thread-safe; concurrent calls share one fdatasync. `appended` is
  // called with the numbers of those that stand in the journal, and where, before they are synced.
  using Appended = std::function<void(const std::vector<size_t>& numbers, Lsn from, Lsn end)>;
  std::vector<Answer> add(const std::vector<NewJob>& jobs, const Appended& appended = {});

  // Finds out what jobs refer to whose workload is a part of another's, which has to be done before they are queued.
  // Where that is a blob, they name it and the sum of the part; else they are given the part itself. For each job, an
  // answer where it cannot be. What costs more than PartsCost allows is refused.
  std::vector<std::optional<Answer>> resolve(std::vector<NewJob>& jobs);

  // Throws the Error that add() of so many bytes would run into at once, if any: no room.
  void check_room(uint64_t size, uint64_t run = 0);

  // Claims jobs that nobody alive holds: those of dead owners, then due and queued ones in order. Also removes blobs
  // that forget_blob() named. What the caller has given back has to be settled before: settle() may append it again,
  // and it would let go of the new claim, too. Throws Error(storage) without claiming when there would be no room to
  // record how they end.
  Claims claim(const ClaimRequest& request);

  // What a person says of jobs; drop also frees the key of one that is finished. For each, why that cannot be done, or
  // nullopt when it is, on stable storage. A job that somebody alive holds is left alone.
  std::vector<std::optional<std::string>> change(Change what, const std::vector<std::string>& ids);

  // Pauses or resumes a function for all processes; on stable storage on return.
  void pause(const std::string& function, bool paused);

  // Appends records of jobs that this process holds, without waiting for the disk; settle() waits.
  void append(const std::vector<std::string>& records);
  // Waits until everything that append() appended is on stable storage.
  void settle();

  // After the record that finished a job has been synced: its blob, which is that of the job `id`, can go.
  void forget_blob(const std::string& id);
  // Removes these now; claim() does it in passing.
  void forget_blobs();
  // Whether the blob of a job is still needed.
  bool needs_blob(Fold& fold, const std::string& id);

  // Reads and verifies a workload. nullopt with a reason when it is damaged or gone; throws Error(storage) when the
  // disk cannot be read.
  std::optional<Workload> workload(const std::string& id, const Job& job, std::string& reason);
  // The same with a reader of one's own, for other threads.
  std::optional<Workload> workload(const std::string& id, const Job& job, std::string& reason,
                                   EventReader& reader) const;

  // Of a group whose jobs run once: whether this node knows by now what the others did with its jobs while it was away,
  // and a process serves it. Whoever starts a job looks right before (lease.hpp).
  bool has_returned() const { return waits().empty(); }
  bool may_start() const { return !group().once || has_returned(); }
  // What it waits for, for people; empty where it waits for nothing.
  std::string waits() const;

  // Removes those of these blobs that no job needs, known or not.
  void remove_unneeded(const std::vector<std::string>& ids);
  // Removes the blobs of those jobs that are not needed any more.
  void remove_blobs_of(const std::vector<std::string>& ids);
  Fd open_clean_lock() const { return m_directory.open(clean_lock_name, O_RDWR | O_CREAT); }

  // Looks at the index, up to date, under its lock: keep it short.
  void look(const std::function<void(Fold&)>& body) { m_index.visit(body); }

  // Calls `body` with each function that the store knows. It looks at some at a time, and calls without the lock.
  void for_each_function(const std::function<void(const std::string& function, const Counters&)>& body);

  Journal& journal() { return m_journal; }
  Index& index() { return m_index; }
  Blobs& blobs() { return m_blobs; }
  const Directory& owners_directory() const { return m_owners; }

 private:
  // Blobs that are about to be removed, and that nobody takes a snapshot meanwhile.
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
  EventReader m_reader;  // of workloads, which mostly stand one behind the other
  size_t m_turn = 0;     // which of the functions is the next to be claimed first
};

}  // namespace gq
