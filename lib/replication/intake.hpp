// The intake of a worker takes jobs from gearmand and answers each job when it is on stable storage.
//
// While the store refuses jobs, the intake unregisters the raw functions, because gearmand deletes a background job
// that a worker refuses. When the backlog is full, it unregisters all functions.
//
// If a sync fails, or if the record of a raw job may be in a peer's journal, the outcome is unknown. Then the intake
// neither answers the job nor gives it back to gearmand, because gearmand would send it again, and it would become a
// second job. The intake retries the same record, with the same ID, until the outcome is known, and takes no other raw
// job meanwhile.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "gq/base/log.hpp"
#include "gq/base/mutex.hpp"
#include "gq/gearman/receivers.hpp"
#include "gq/replication/end_watch.hpp"
#include "gq/state/answer.hpp"
#include "gq/store/ledger.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

// The unfinished jobs of a worker's functions, as far as the worker knows; shared with the runner.
struct Backlog {
  std::atomic<int64_t> live{0};
  // The number of those that are not due yet and were never started. A new job has to wait only for the others.
  std::atomic<int64_t> later{0};
  int64_t limit = 0;  // 0: none
  bool full() const { return limit > 0 && live - later >= limit; }
};

// Whether a worker reports that its backlog is full: from the moment when it is full until half of it is done. So a
// worker whose backlog stays near the limit reports it once. `was`: the previous result.
inline bool is_at_bound(bool was, int64_t jobs, int64_t limit) {
  return limit > 0 && (was ? jobs > limit / 2 : jobs >= limit);
}

class Intake {
 public:
  struct Config {
    std::vector<Server> servers;
    std::vector<std::string> functions;
    uint64_t max_workload = 0;
    bool raw = true;  // also takes raw jobs
    // 0: the answer to a raw job comes when it is queued. Else the answer is its result, when it has ended, if a client
    // waits for it; and so many raw jobs of each server can wait for that at the same time.
    size_t waiting = 0;
    // Returns the stores to ask for the results of jobs that are added now (pull_wire.hpp). Called by several threads.
    std::function<std::vector<std::string>()> stores{};
    std::vector<Service> others{};  // services that do not add jobs
  };
  // Stores jobs and returns an answer for each. Called by several threads.
  using Add = std::function<std::vector<Answer>(std::vector<NewJob>)>;
  Intake(Ledger& ledger, Config config, Add add, Backlog& backlog);
  ~Intake() { stop(); }

  // Throws Error(config) as Receivers::start() does.
  void start();
  // Answers the jobs that have been taken, except raw jobs whose outcome is not known yet: those stay with gearmand.
  void stop();

 private:
  std::vector<Service> services();
  Receivers::Serve wanted();
  bool backlog_full();
  void count_backlog();
  uint64_t count_due(const std::vector<std::string>& functions, uint64_t most);
  void say_if_full(const std::string& function);
  std::string take_records(std::string_view payload, const std::string& function);
  std::string take_group(std::string_view payload, const std::string& function, bool& has_result);
  bool wait_to_copy(std::unique_lock<std::timed_mutex>& copying);
  std::optional<std::string> take_raw(std::string_view payload, const std::string& function);
  Response respond_raw(const Delivery& delivery, const std::string& function);
  Response respond_at_end(const std::string& id);
  std::optional<Answer> store_raw(const NewJob& job);
  std::vector<Service> raw_services();
  void accepted(Millis due);
  void refused(const std::string& reason);
  Answer try_raw(const NewJob& job);
  void say_once(const std::string& function, const Answer& answer);

  Ledger& m_ledger;
  const Config m_config;
  const Add m_add;
  Backlog& m_backlog;
  std::timed_mutex m_copying;  // held by a delivery that copies many parts of other jobs' workloads
  Mutex m_mutex;
  std::string m_logged GUARDED_BY(m_mutex);  // the logged reason why jobs are refused
  bool m_had_refused GUARDED_BY(m_mutex) = false;
  LogLimit m_log_limit GUARDED_BY(m_mutex);
  bool m_refusing GUARDED_BY(m_mutex) = false;
  size_t m_open GUARDED_BY(m_mutex) = 0;  // the number of raw jobs whose outcome is not known
  bool m_stop GUARDED_BY(m_mutex) = false;
  std::condition_variable m_stopping;
  std::set<std::string> m_said GUARDED_BY(m_mutex);  // the kinds of refused records that were logged
  std::chrono::steady_clock::time_point m_retry_at GUARDED_BY(m_mutex);  // while the store refuses: when to try again
  Millis m_retry_delay GUARDED_BY(m_mutex){0};
  std::chrono::steady_clock::time_point m_count_at GUARDED_BY(m_mutex);
  bool m_at_bound GUARDED_BY(m_mutex) = false;  // the backlog is reported as full
  EndWatch m_ends;
  // The last members: their threads use the others.
  Receivers m_receivers;
  std::optional<Receivers> m_waiting;  // of raw jobs that are answered when they have ended
};

}  // namespace gq
