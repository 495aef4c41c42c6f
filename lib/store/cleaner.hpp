// The cleaner: frees the disk space of data that no job needs any more.
//
// A segment of the journal that is mostly garbage is rewritten without the garbage, and takes the old segment's name. A
// small segment is merged into the cleaned segment before it. The remaining records keep their order and their
// positions, so the journal still says the same: the fold of it does not change, nor do the records that other nodes
// have yet to receive. The cleaner may leave out:
//
//   - every record of a job that is not known. For this, a `forget` record first says which jobs need not be known any
//     more: those that finished at least Limits::remember ago, whose key has expired, and whose end every node of the
//     group knows;
//   - the workload of a finished job, if no node and no other job needs it;
//   - all records of a finished job but the first and its end, unless other nodes know the job;
//   - from claims and copies, the IDs of jobs that are not known, and of finished jobs that no other node knows;
//   - the records of a peer, except its current position and the first record of each identity;
//   - from `forget` records, the IDs of jobs that have left no trace. (The record of how a job ended stays as long as
//     another segment may contain the job's first record.)
//
// A crash in the middle leaves the old segments, or the new segment and old ones that it replaces, which are not read.
// A segment with damage is moved to damaged/, and its readable records are used.
//
// The surprising fact: a job must not be forgotten while the journal contains an add that was taken for this job
// because of its ID or its key. Without the job, that add would create a new job (Fold::touched).
#pragma once

#include <condition_variable>
#include <thread>

#include "gq/base/mutex.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

class Cleaner {
 public:
  explicit Cleaner(Ledger& store);
  ~Cleaner();  // stop()

  // Cleans one segment. Returns false if none needs it, or if another process cleans or takes a snapshot. Throws
  // Error(storage) if there is no room for the records that have to stay.
  bool step();

  // Removes what crashes left: blobs without a job, and temporary files. This reads the names of all blobs, so it is
  // done once a day, unless `now` is set.
  void sweep(bool now = false);

  // Cleans and sweeps from time to time, in a thread of its own.
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

  Ledger& m_store;
  const Directory m_journal;
  Mutex m_mutex;
  std::condition_variable m_stopping;
  bool m_stop GUARDED_BY(m_mutex) = false;
  std::thread m_thread;
};

}  // namespace gq
