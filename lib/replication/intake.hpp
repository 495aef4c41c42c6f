// The intake of a worker: takes jobs from gearmand and answers each when it is on stable storage.
//
// While the store refuses, raw functions are given back, because gearmand deletes a background job that is refused; at
// the bound of `backlog` all are.
//
// The record of a raw job may be in a peer's journal, or behind a sync that failed. Then the intake neither answers the
// job nor gives it back, since it would become a second job: it tries the same record, with its ID, again until that is
// decided, and takes no other raw job meanwhile.
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
#include "gq/gearman/receivers.hpp"
#include "gq/store/store.hpp"

namespace gq {

// Jobs that a worker has taken in and that are not finished, as far as it knows; shared with the runner.
struct Backlog {
  std::atomic<int64_t> live{0};
  std::atomic<int64_t> later{
      0};  // those of them that wait for their time, and were never started: what others have to wait for is the rest
  int64_t limit = 0;  // 0: none
  bool full() const { return limit > 0 && live - later >= limit; }
};

// Whether a worker is said to be at its bound: from when it is full until half of that is done, so that one that stays
// near it says it once.
inline bool is_at_bound(bool was, int64_t jobs, int64_t limit) {
  return limit > 0 && (was ? jobs > limit / 2 : jobs >= limit);
}

class Intake {
 public:
  struct Config {
    std::vector<Server> servers;
    std::vector<std::string> functions;
    uint64_t max_workload = 0;
    bool raw = true;  // take raw jobs, too
  };
  // What stores jobs and answers for each; called by several threads.
  using Add = std::function<std::vector<Answer>(std::vector<NewJob>)>;
  Intake(Store& store, Config config, Add add, Backlog& backlog);
  ~Intake() { stop(); }

  // Throws Error(config) as Receivers::start() does.
  void start();
  // What has been taken is answered, but for raw jobs that are not decided yet: those stay with gearmand.
  void stop();

 private:
  std::vector<Service> services();
  Receivers::Serve wanted();
  bool backlog_full();
  void count_backlog();
  void say_if_full(const std::string& function);
  std::string take_records(std::string_view payload, const std::string& function);
  std::string take_group(std::string_view payload, const std::string& function);
  std::optional<std::string> take_raw(std::string_view payload, const std::string& function);
  void accepted(Millis due);
  void refused(const std::string& reason);
  Answer try_raw(const NewJob& job);
  void say_once(const std::string& function, const Answer& answer);

  Store& m_store;
  const Config m_config;
  const Add m_add;
  Backlog& m_backlog;
  std::mutex m_mutex;
  // While the store refuses: when to try again.
  std::string m_told;  // why jobs are refused, as it was logged
  bool m_had_refused = false;
  Seldom m_seldom;
  bool m_refusing = false;
  size_t m_open = 0;  // raw jobs that are not decided
  bool m_stop = false;
  std::condition_variable m_stopping;
  std::set<std::string> m_said;  // kinds of records that were refused
  std::chrono::steady_clock::time_point m_retry_at;
  Millis m_retry_delay{0};
  std::chrono::steady_clock::time_point m_count_at;
  bool m_at_bound = false;  // of the backlog
  Receivers m_receivers;    // the last: its threads use the others
};

}  // namespace gq
