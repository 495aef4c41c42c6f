// The runner claims jobs of a store, starts a command for each, and records how the command ended. gq-worker and
// gq-flush differ only in when they stop.
//
// The runner is the loop. The dispatcher runs the jobs; Stop decides which signals are due when the worker has to end.
// The runner waits until one of these two has something to do.
#pragma once

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

#include "gq/base/fd.hpp"
#include "gq/replication/intake.hpp"
#include "gq/store/queue.hpp"
#include "gq/work/dispatcher.hpp"
#include "gq/work/stop.hpp"

namespace gq {

// The signals that stop a worker: SIGTERM, SIGINT, and SIGHUP unless nohup(1) made the process ignore it.
sigset_t stop_signals();
// Whether one of them is pending.
bool stop_signal_waits();
// The signals that a runner reads from a descriptor: stop_signals(), SIGCHLD, and SIGUSR1, which makes it log its
// state.
sigset_t runner_signals();

class Runner {
 public:
  using Config = WorkConfig;

  // The caller must block runner_signals() in all threads and must not ignore SIGCHLD: otherwise the runner does not
  // notice that a command has ended.
  Runner(Queue& store, Config config, Backlog& backlog);
  ~Runner();

  // Runs until the configured end, or until a signal. Calls `end_intake` once: at the first signal, or before it
  // decides that no job is left. Returns false if a broken command ended the run. Throws Error(storage) if the disk
  // fails: with Until::nothing_now at once; otherwise only when the runner has to stop and cannot record how commands
  // ended.
  bool run(const std::function<void()>& end_intake);
  // Whether commands printed output that was lost.
  bool lost_output() const { return m_jobs.lost_output(); }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Next {
    goes_on,
    ends,
    gives_up,  // the disk still fails, and no record is lost if the worker ends
  };

  bool handle_signals();
  void work();
  Next look_for_end();
  bool gives_up();
  void wait();
  int wait_time() const;
  void stop_intake();
  std::string state_line() const;
  int show_status(int time);

  Queue& m_store;
  Stop m_stop;
  Dispatcher m_jobs;
  Fd m_signals;
  const std::function<void()>* m_end_intake = nullptr;
  bool m_intake_ended = false;
  Outage m_trouble;  // an outage of the store
  // When to stop retrying a disk that fails, after all commands have ended.
  std::optional<Clock::time_point> m_give_up;
  const bool m_notifies = std::getenv("NOTIFY_SOCKET");
  std::string m_status;
  Clock::time_point m_next_status;
};

}  // namespace gq
