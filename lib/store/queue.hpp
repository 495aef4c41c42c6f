// The queue of a store has the operations on jobs for programs and their users. It is a ledger (ledger.hpp), and
// decides what the ledger records: the answer to a job that is added, which jobs a process claims, what a user may
// change.
//
// Its guarantee: a job that add() reports as queued is on stable storage.
#pragma once

#include <functional>
#include <map>
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
enum class Change { kick, drop, keep, release, cancel };
std::string_view change_name(Change what);

class Queue : public Ledger {
 public:
  // `ends` is nullptr if no user's program marks jobs as done (ends.hpp).
  Queue(Directory directory, Settings settings, std::shared_ptr<Durability> durability,
        std::shared_ptr<Ends> ends = nullptr);

  // Queues jobs as one group and returns an answer for each. Thread-safe; concurrent calls share one fdatasync.
  // `appended` is called before the sync, with the numbers of the jobs that were appended to the journal, and with the
  // range of their records.
  using Appended = std::function<void(const std::vector<size_t>& numbers, Lsn from, Lsn end)>;
  std::vector<Answer> add(const std::vector<NewJob>& jobs, const Appended& appended = {});

  // Claims jobs that no living process holds: those of dead owners, then due and queued jobs in order. Before that,
  // wakes jobs of all functions whose parents have ended, but not very many (Claims::again). Also records the jobs that
  // have expired as dead, queues the dead letters about jobs of all functions (dead_letters()), forgets the unborn
  // children of the jobs that dead owners have left, and removes the blobs that were passed to forget_blob(). If the
  // caller has appended records that release jobs, it must call settle() before this: settle() may append the records
  // again, and they would release the new claim, too. Throws Error(storage) and claims nothing if there is no room to
  // record how the jobs end.
  Claims claim(const ClaimRequest& request);

  // Changes jobs as a user asks. A drop also frees the key of a finished job. Returns for each job the reason why it
  // cannot be changed; nullopt if the change is done and on stable storage. A job that a living process holds is
  // neither kicked nor dropped. If such a job is cancelled, that process ends it; any other job that is cancelled is
  // dead at once.
  std::vector<std::optional<std::string>> change(Change what, const std::vector<std::string>& ids);

  // Returns the cancelled jobs that a process has claimed or runs.
  std::vector<std::string> cancelled();

  // Forgets the unborn children of these jobs, which will not be born. On stable storage on return.
  void forget_unborn(const std::vector<std::string>& parents);

  // Takes the lock under which spooled jobs are forwarded; returns an empty Fd if another process has it. Closing the
  // descriptor frees the lock. While a process has it, spooled jobs are neither cancelled nor dropped.
  Fd lock_forwarding() const;
  // Returns the first spooled jobs of a function, up to `most`, in their order.
  std::vector<Claim> spooled(const std::string& function, size_t most);
  // Forgets the spooled jobs that another store has now; jobs that have become jobs of this store stay. Records the
  // jobs that are refused for good as dead, each for this reason. On stable storage on return. At most most_claims
  // jobs.
  void end_spooled(const std::vector<std::string>& forwarded, const std::map<std::string, std::string>& refused);

  // Pauses or resumes a function for all processes. The change is on stable storage on return.
  void pause(const std::string& function, bool paused);
  // Lets only so many jobs of a function run at a time, in all processes together; 0: any number. On stable storage on
  // return.
  void limit(const std::string& function, uint32_t jobs);

  // Lets only so many jobs of a function be started in each period, in all processes together; no starts: any number.
  // On stable storage on return.
  void rate(const std::string& function, const StartRate& rate);

  // When a job of the function ends dead, in any process, a dead letter about it becomes a job of the function `to`;
  // empty: not any more. On stable storage on return.
  void dead_letters(const std::string& function, const std::string& to);

  // Appends records of jobs that this process holds, without waiting for the disk; settle() waits.
  using Ledger::append;
  void append(const std::vector<std::string>& records);
  // Waits until all records that append() has appended are on stable storage.
  void settle();

  // For a group in which each job runs on one node. Returns false while this node has to wait: because it may not know
  // yet which of its jobs other nodes took over, or because no process serves it (waits() returns the reason). Call it
  // right before a job is started. may_start() does the same for stores of all kinds. See lease.hpp.
  bool has_returned() const { return waits().empty(); }
  bool may_start() const { return !group().once || has_returned(); }
  // Returns what the node waits for, as a text for users; empty if it waits for nothing.
  std::string waits() const;

 private:
  struct Adding;
  std::map<size_t, std::string> add_once(Adding& adding, const Appended& appended);
  bool check_room_for(Adding& adding);
  void put_blobs(Adding& adding);
  std::optional<Answer> put_blob_of(const NewJob& job, std::vector<Fd>& holds);
  void append_jobs(Adding& adding, const Appended& appended);
  std::vector<Placed> append_that_refer(Adding& adding);
  std::optional<Answer> refusal_of(Fold& fold, const NewJob& job, bool& is_known);
  void withdraw(Adding& adding, const Error& error);
  std::map<size_t, std::string> answer_given(Adding& adding);
  void add_again(Adding& adding, const std::map<size_t, std::string>& expired);

  ClaimContext context_of(const ClaimRequest& request);
  std::vector<std::string> functions_of(const ClaimRequest& request);
  bool wake();
  Lsn append_letters(std::vector<Claims::Letter>& letters, Millis now, uint64_t& lacking);
  Lsn append_claim(Fold& fold, const std::string& owner, Millis now, const Chosen& chosen,
                   std::vector<std::string>& blobs);
  void remove_blobs_of_forgotten(const std::vector<std::string>& blobs);
  bool is_held(const Job& job) const;
  bool is_forwarding() const;
  std::optional<std::string> why_not(Fold& fold, Change what, const std::string& id, const std::optional<Job>& job);
  std::optional<std::string> why_not_cancelled(Fold& fold, const std::string& id, const Job& job) const;
  void take_ends();
  void leave_out_ended(std::vector<Claim>& jobs, Lsn grounds);

  const std::shared_ptr<Ends> m_ends;
  std::vector<std::string> m_unsettled;  // records that append() has appended, and that settle() has not synced yet
  Lsn m_unsettled_from = 0, m_unsettled_end = 0;
  size_t m_turn = 0;         // the function that comes first in the next claim
  Millis m_letters_from{0};  // see ClaimContext
};

}  // namespace gq
