// The queue of a store: what programs and their users do with jobs. It is the ledger (ledger.hpp) and decides what the
// ledger records: how a job that is added is answered, which jobs a process claims, what a user may change.
//
// add() makes the promise: a job that it reports as queued is on stable storage.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gq/state/answer.hpp"
#include "gq/store/claiming.hpp"
#include "gq/store/ends.hpp"
#include "gq/store/ledger.hpp"
#include "gq/store/new_job.hpp"
#include "gq/store/owners.hpp"

namespace gq {

// What a user may do with a job.
enum class Change { kick, drop, keep, release };
std::string_view change_name(Change what);

class Queue : public Ledger {
 public:
  // `ends` is empty if no user's program marks jobs as done.
  Queue(Directory directory, Settings settings, std::shared_ptr<Durability> durability,
        std::shared_ptr<Ends> ends = nullptr);

  // Queues jobs as one group and returns an answer for each. Thread-safe; concurrent calls share one fdatasync.
  // `appended` is called before the sync, with the numbers of the jobs that were appended to the journal, and where.
  using Appended = std::function<void(const std::vector<size_t>& numbers, Lsn from, Lsn end)>;
  std::vector<Answer> add(const std::vector<NewJob>& jobs, const Appended& appended = {});

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
  using Ledger::append;
  void append(const std::vector<std::string>& records);
  // Waits until everything that append() appended is on stable storage.
  void settle();

  // For a group in which each job runs on one node. False while this node has to wait: it may not know yet which of its
  // jobs other nodes took over, or no process serves it (waits() says why). Ask right before a job is started;
  // may_start() is the same for all groups. See lease.hpp.
  bool has_returned() const { return waits().empty(); }
  bool may_start() const { return !group().once || has_returned(); }
  // What the node waits for, as text for users; empty if it waits for nothing.
  std::string waits() const;

 private:
  struct Adding;
  bool check_room_for(Adding& adding);
  void put_blobs(Adding& adding);
  std::optional<Answer> put_blob_of(const NewJob& job, std::vector<Fd>& holds);
  void append_jobs(Adding& adding, const Appended& appended);
  std::vector<Placed> append_references(Adding& adding);
  void withdraw(Adding& adding, const Error& error);
  void answer_given(Adding& adding);

  ClaimContext context_of(const ClaimRequest& request);
  std::vector<std::string> functions_of(const ClaimRequest& request);
  void record_claim(Fold& fold, const std::string& owner, Millis now, std::vector<Claim>& jobs,
                    const std::vector<Claim>& strays);
  bool is_held(const Job& job) const;
  std::optional<std::string> why_not(Fold& fold, Change what, const std::string& id, const std::optional<Job>& job);
  void take_ends();
  void leave_out_ended(std::vector<Claim>& jobs);

  const std::shared_ptr<Ends> m_ends;
  std::vector<std::string> m_unsettled;  // records that append() appended and settle() has not seen synced
  Lsn m_unsettled_from = 0, m_unsettled_end = 0;
  size_t m_turn = 0;  // which function comes first in the next claim
};

}  // namespace gq
