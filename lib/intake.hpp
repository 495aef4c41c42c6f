// The intake of a worker: takes jobs from gearmand and answers each when it is on stable storage.
//
// Each receiver is a thread with a libgearman handle of its own for one server, their number following the load: one
// for a client that sends one job at a time, more while jobs wait, so that one fdatasync serves many. A server that is down
// holds nothing up. While the store refuses, raw functions are given back, because gearmand deletes a background job that
// is refused; at the bound of `backlog` all are.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gearman.hpp"
#include "store.hpp"

namespace gq {

// Jobs that a worker has taken in and that are not finished, as far as it knows; shared with the runner.
struct Backlog {
  std::atomic<int64_t> live{0};
  int64_t limit = 0;  // 0: none
  bool full() const { return limit > 0 && live.load() >= limit; }
};

class Intake {
 public:
  struct Config {
    std::vector<Server> servers;
    std::vector<std::string> functions;
    uint64_t max_workload = 0;
  };
  Intake(Store& store, Config config, Backlog& backlog);
  ~Intake();  // stop()

  void start();
  // Takes no more; what has been taken is answered. Returns when all receivers are gone.
  void stop();

 private:
  enum class Serve { nothing, records, all };
  struct Group;     // the receivers of one server
  struct Function;  // what libgearman's callback is given
  struct Receiver;

  Serve wanted();
  bool backlog_full();
  void count_backlog();
  void add_receiver(Group& group);
  void receive(Receiver& self);
  std::string take_records(std::string_view payload, const std::string& function);
  std::optional<std::string> take_raw(std::string_view payload, const std::string& function);
  void refused(const std::string& reason);
  bool pause(Millis duration);
  static void* on_job(gearman_job_st* job, void* context, size_t* result_size, gearman_return_t* rc) noexcept;

  Store& m_store;
  const Config m_config;
  Backlog& m_backlog;
  std::list<Group> m_groups;
  std::mutex m_mutex;
  std::condition_variable m_stopping;
  bool m_stop = false;
  std::list<Receiver> m_receivers;
  // While the store refuses: when to try again.
  bool m_refusing = false;
  std::chrono::steady_clock::time_point m_retry_at;
  Millis m_retry_delay{0};
  std::chrono::steady_clock::time_point m_count_at;
};

}  // namespace gq
