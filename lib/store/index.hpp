// The index of a store: a table that is kept equal to the fold of the journal, shared by all processes that claim or
// look. It is derived and disposable.
//
// Trust: users hold a shared lock on index.users. Who gets it exclusively is alone; he believes the file only where
// index.seal describes it, and else removes it, and it is folded again from the journal. The last user to leave syncs
// the index and seals it; the first to change it removes the seal. So after a crash of users that have changed it, or a
// power cut, there is no seal; those that only read leave it as it was. (Tokyo Cabinet's own mark of a clean close is
// never synced and cannot be believed.)
//
// Without a seal the index is also believed where no power cut can have taken anything of it: index.users has a mark of
// the machine's start, the mount, the file, and how the last visit left that. While a visit changes it there is none.
// (The machine's start is not enough: a file system may lose what was not synced and be mounted again.)
//
// A visit opens the table under index.lock, folds in chunks of fold_chunk records, lets go of the lock between them,
// does its own work in a last step, and closes. No fdatasync and no waiting happens in there, and writers that only add
// never come here.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "gq/base/directory.hpp"
#include "gq/base/mutex.hpp"
#include "gq/state/fold.hpp"

namespace gq {

class TokyoTable;

// Records folded in one transaction: 0.1 s and 7 MB at most, as measured.
inline constexpr size_t fold_chunk = 10000;

// Removes the index of a store that nobody has open.
void remove_index(const Directory& store);

class Index {
 public:
  Index(const Directory& store, Journal& journal, Self self);
  ~Index();  // leave(), quietly
  Index(const Index&) = delete;

  // Brings the index up to date and calls `body` with it, under the lock. Throws Error(storage) when the disk is full;
  // the index stays then, and is behind the journal.
  void visit(const std::function<void(Fold&)>& body) EXCLUDES(m_mutex);

  // In a body: folds what has come to the journal. Throws Error(storage) if that is not all before `end`: then a
  // segment from elsewhere says that the journal goes on behind that, and what is appended is never read.
  void fold_on(Fold& fold, Lsn end = 0) NO_THREAD_SAFETY_ANALYSIS;  // visit() holds m_mutex around the body

  // How many jobs may change in one transaction, up to so many, with the room that the disk has.
  size_t jobs_with_room(size_t most) const;

  // Makes the index anew where it is many times as large as what is in it: Tokyo Cabinet does not give back what was
  // removed.
  void shrink() EXCLUDES(m_mutex);

  // Gives up the place among the users; the last one seals the index.
  void leave() EXCLUDES(m_mutex);

  // The same for a process that a signal is about to end: other threads do not get in again.
  void leave_for_good() EXCLUDES(m_mutex) NO_THREAD_SAFETY_ANALYSIS;  // keeps m_mutex

 private:
  void give_up_place() REQUIRES(m_mutex);
  void remove_seal() REQUIRES(m_mutex);
  bool is_sealed(Fd seal) const;
  std::string mark() const;
  void check_journal(const Fold& fold) REQUIRES(m_mutex);
  void join() REQUIRES(m_mutex);
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
  bool m_proven GUARDED_BY(m_mutex) = false;  // that it is of this journal
  bool m_seal_removed GUARDED_BY(m_mutex) = false;
  bool m_said_unusable GUARDED_BY(m_mutex) = false;  // since it was last used
  bool m_sync_owed GUARDED_BY(m_mutex) = false;
  size_t m_chunk GUARDED_BY(m_mutex) = fold_chunk;  // fewer after there was no room for so many
  std::unique_ptr<EventReader> m_reader GUARDED_BY(m_mutex);
};

}  // namespace gq
