// The index of a store: a table that is kept equal to the fold of the journal. All processes that claim or list jobs
// share it. It is derived from the journal and can be rebuilt at any time.
//
// To "fold" the journal is to apply its records to the table, one after the other (fold.hpp).
//
// Trust: each process that uses the index holds a shared lock on index.users. A process that gets the exclusive lock is
// the only user. It trusts the index in two cases: the file index.seal describes the index; or there is no seal, and
// the mark in index.users matches the index. Otherwise it removes the index, which is then rebuilt from the journal.
// If all users of a trusted index have died twice in a row, the next user rebuilds the index: a damaged page may have
// killed them. The last user that leaves syncs the index and writes the seal. The first user that changes the index
// removes the seal. So after a crash or a power cut there is no seal if the index had been changed. Users that only
// read leave the seal in place. (Tokyo Cabinet's own mark of a clean close is never synced and cannot be trusted.)
//
// The mark shows that an index without a seal is complete because there was no power cut since. It contains the boot of
// the machine, the mount, the file, and the state in which the last visit left the file. While a visit changes the
// index, there is no mark. (The boot alone is not enough: a file system may lose unsynced data and be mounted again.)
//
// A visit is one use of the index. In a loop it takes index.lock, opens the table, folds up to fold_chunk records,
// closes the table, and releases the lock. In the last round, when all records are folded, it calls the visitor's
// function before it closes the table. That function may be called several times: if it folds records that were
// appended meanwhile, and they are many, or if the index is found to be damaged. A visit syncs nothing, except when it
// removes the seal, and does not wait under the lock. A writer does not visit the index if it only adds jobs with IDs
// that gq made, without keys, which wait for no other jobs and are no parts of other workloads.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "gq/base/directory.hpp"
#include "gq/base/mutex.hpp"
#include "gq/state/fold.hpp"

namespace gq {

class IndexTable;

// How many records are folded in one transaction. This takes at most 0.1 s and 7 MB, as measured.
inline constexpr size_t fold_chunk = 10000;

// Removes the index of a store that no process has open. Throws Error(storage).
void remove_index(const Directory& store);

class Index {
 public:
  Index(const Directory& store, Journal& journal, Self self);
  ~Index();  // calls leave(), and ignores errors
  Index(const Index&) = delete;

  // Brings the index up to date and calls `body` with it, under the lock. Throws Error(storage) if the disk is full;
  // then the index stays, without the latest records of the journal.
  void visit(const std::function<void(Fold&)>& body) EXCLUDES(m_mutex);

  // Call it within a `body`: folds the new records of the journal. If they are more than one transaction takes, for
  // example because another process has appended a record of very many jobs, leaves the body by an exception; visit()
  // folds them in rounds, and calls the body again. Throws Error(storage) if the records do not reach up to `end`: then
  // a segment that was copied into the journal claims positions beyond the end, and records that are appended would
  // never be read.
  void fold_on(Fold& fold, Lsn end = 0) NO_THREAD_SAFETY_ANALYSIS;  // visit() holds m_mutex around the body

  // Returns how many jobs (at most `most`) may change in one transaction with the free space of the disk.
  size_t jobs_with_room(size_t most) const;

  // Rebuilds the index if the file is many times as large as its content: Tokyo Cabinet does not free the space of
  // removed entries.
  void shrink() EXCLUDES(m_mutex);

  // Stops using the index. The last user seals it.
  void leave() EXCLUDES(m_mutex);

  // As leave(), for a process that a signal is about to end. After it, the other threads cannot visit the index any
  // more.
  void leave_for_good() EXCLUDES(m_mutex) NO_THREAD_SAFETY_ANALYSIS;  // keeps m_mutex

 private:
  void give_up_place() REQUIRES(m_mutex);
  void remove_seal() REQUIRES(m_mutex);
  bool is_sealed(Fd seal) const;
  std::string mark() const;
  void check_journal(const Fold& fold) REQUIRES(m_mutex);
  void join() REQUIRES(m_mutex);
  std::unique_ptr<IndexTable> open_to_visit() REQUIRES(m_mutex);
  void finish(Fold& fold, IndexTable& table) REQUIRES(m_mutex);
  std::string visit_once(const std::function<void(Fold&)>& body, bool& body_done) REQUIRES(m_mutex);
  void discard() REQUIRES(m_mutex);
  size_t records_with_room(uint64_t bytes, size_t most) const;
  size_t records_with_room(const Fold& fold) const;
  std::optional<std::string> seal_text(const FoldPosition& position) const;

  const Directory m_directory;
  Journal& m_journal;
  const Self m_self;
  Mutex m_mutex;
  Fd m_lock;
  Fd m_users GUARDED_BY(m_mutex);
  const std::string m_mount;
  bool m_proven GUARDED_BY(m_mutex) = false;  // it is known that the index belongs to this journal
  bool m_seal_removed GUARDED_BY(m_mutex) = false;
  bool m_said_unusable GUARDED_BY(m_mutex) = false;  // the error was logged since the last visit that succeeded
  bool m_sync_owed GUARDED_BY(m_mutex) = false;
  size_t m_chunk GUARDED_BY(m_mutex) = fold_chunk;  // reduced after the disk was full
  std::unique_ptr<EventReader> m_reader GUARDED_BY(m_mutex);
};

}  // namespace gq
