// The cleaner: gives back the disk space of what nobody needs any more.
//
// A segment of the journal that is mostly garbage is written anew without it, and takes the old one's name; a small one
// joins the cleaned one before it. What is left keeps its order and its positions, so that the journal still says the
// same: what a fold makes of it, and what other nodes are owed, do not change. What may be left out:
//
//   - every record of a job that is not known; so first a `forget` record says which jobs need not be known any more:
//   those that have
//     been finished for Limits::remember, whose key has expired, and of whose end every node of the group knows;
//   - of a finished job its workload, and, unless other nodes know it, all but its first record and its end;
//   - of claims, the jobs for which that holds; of the positions of peers all but the last; of `forget` records those
//   whose jobs have
//     left no trace. (How a job ended stays as long as its beginning may stand in another segment.)
//
// A crash in the middle leaves the old segments, or the new one and old ones that it stands for, which nobody reads. A
// segment with damage is moved to damaged/, and what can be read in it is used.
//
// The surprising fact: a job may not be forgotten while an add stands in the journal that was taken for it, because of
// its ID or its key: without the job it would be taken for a new one (Fold::touched).
#pragma once

#include <condition_variable>
#include <thread>

#include "gq/base/mutex.hpp"
#include "gq/store/store.hpp"

namespace gq {

class Cleaner {
 public:
  explicit Cleaner(Store& store) : m_store(store) {}
  ~Cleaner();  // stop()

  // Cleans one segment; false where none needs it, or another process cleans or takes a snapshot. Throws Error(storage)
  // where there is no room for what has to be kept.
  bool step();

  // Removes what crashes left: blobs of jobs that are not there, and temporary files. Reads the names of all blobs, so
  // it does that once a day, unless `now` is set.
  void sweep(bool now = false);

  // Does both from time to time in a thread of its own.
  void start();
  void stop();

 private:
  struct Range;
  std::optional<Range> choose(Fd& lock);
  static Millis ended_at(const Job& job, const Range& range, Millis now);
  void forget(const Range& range);
  void rewrite(const Range& range);
  void work();
  void set_aside();

  Store& m_store;
  Mutex m_mutex;
  std::condition_variable m_stopping;
  bool m_stop GUARDED_BY(m_mutex) = false;
  std::thread m_thread;
};

}  // namespace gq
