// The cleaner: frees the disk space of data that no job needs any more.
//
// It rewrites a segment of the journal that is mostly garbage without the garbage; the new segment takes the old
// segment's name. A small segment is merged into the cleaned segment before it. The remaining records keep their order
// and their positions. So the fold of the journal does not change, and the records that other nodes have not received
// yet stay. The cleaner removes:
//
//  - every record of a forgotten job. Before that, the cleaner appends a `forget` record for jobs that finished at
//    least Limits::remember ago, whose keys have expired, whose end every node of the group knows, and that no other
//    job needs (Fold::may_forget());
//  - the workload of a finished job, if no node and no other job needs it;
//  - the output of an attempt, if the job was kicked or dropped after the attempt;
//  - all records of a finished job except the first and the end, unless other nodes know the job;
//  - from claim and copied records, the IDs of forgotten jobs, and of finished jobs that no other node knows;
//  - the values of the tally, except the latest ones;
//  - the records of a peer, except its current position and the first record of each identity;
//  - from `forget` records, the IDs of jobs of which no record is left.
//
// Of a forgotten job, the record of its end stays as long as another segment may contain its first record. Otherwise
// the job would be unfinished again when the journal is folded.
//
// A crash in the middle leaves the old segments; or the new segment, and old segments that it replaces and that are not
// read any more. A segment with damage is moved to damaged/, and its readable records go into the new segment.
//
// The surprising fact: a job must not be forgotten while the journal contains a further add record with its ID or its
// key. Without the job, that add record would create a new job (Fold::touched).
#pragma once

#include <condition_variable>
#include <thread>

#include "gq/base/mutex.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

class Cleaner {
 public:
  explicit Cleaner(Ledger& ledger);
  ~Cleaner();  // calls stop()

  // Cleans one segment. Returns false if no segment needs cleaning, or if another process cleans or takes a snapshot.
  // Throws Error(storage) if there is no room for the records that have to stay.
  bool step();

  // Removes files that crashes have left: blobs without a job, and temporary files. This reads the names of all blobs,
  // so it happens once a day, unless `now` is true.
  void sweep(bool now = false);

  // Starts a thread that cleans and sweeps from time to time.
  void start();
  void stop();

 private:
  struct Range;
  std::optional<Range> choose(Fd& lock);
  static Millis ended_at(const Job& job, const Range& range, Millis now);
  void keep_tally(Lsn end);
  void forget(const Range& range);
  void rewrite(const Range& range);
  void work();
  void set_aside();

  Ledger& m_ledger;
  const Directory m_journal;
  std::optional<Millis> m_pass{};  // when the current pass began: calls of step() up to the one that returns false
  Lsn m_tallied = 0;               // this process has appended the tally's values for all records before this position
  Mutex m_mutex;
  std::condition_variable m_stopping;
  bool m_stop GUARDED_BY(m_mutex) = false;
  std::thread m_thread;
};

}  // namespace gq
