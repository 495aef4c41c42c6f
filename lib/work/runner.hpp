// The runner: claims jobs of a store, starts a command for each, and records how it ended. gq-worker and gq-flush
// differ only in when they stop.
//
// It is the loop: the dispatcher has jobs run, Stop says which signals are due when it is to end, and the runner waits
// until one of them has something to do.
#pragma once

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

#include "gq/base/fd.hpp"
#include "gq/replication/intake.hpp"
#include "gq/store/store.hpp"
#include "gq/work/dispatcher.hpp"
#include "gq/work/stop.hpp"

namespace gq {

// The signals that stop a worker: SIGTERM, SIGINT, and SIGHUP where nohup(1) has not had it ignored.
sigset_t stop_signals();
// Whether one of them has come, and waits to be taken.
bool stop_signal_waits();
// What a runner reads from a descriptor: those, SIGCHLD, and SIGUSR1, at which it tells how it is.
sigset_t runner_signals();

class Runner {
 public:
  using Config = WorkConfig;

  // runner_signals() have to be blocked in all threads, and SIGCHLD must not be ignored: nobody would hear that a
  // command has ended.
  Runner(Store& store, Config config, Backlog& backlog);
  ~Runner();

  // Runs until what the configuration says, or a signal. `end_intake` is called once: at the first
  // signal, or before it is believed that nothing is left. False where the command was found broken, and that ended it.
  // Throws Error(storage) where the disk fails, for a pass at once, else when it is stopped and cannot record how
  // commands ended.
  bool run(const std::function<void()>& end_intake);
  // Whether commands printed what went nowhere.
  bool lost_output() const { return m_jobs.lost_output(); }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Next {
    goes_on,
    ends,
    gives_up,  // the disk refuses, and there is nothing that it would have to keep
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

  Store& m_store;
  Stop m_stop;
  Dispatcher m_jobs;
  Fd m_signals;
  const std::function<void()>* m_end_intake = nullptr;
  bool m_intake_ended = false;
  Outage m_trouble;                            // with the store
  std::optional<Clock::time_point> m_give_up;  // when nothing runs any more, and the disk refuses
  const bool m_notifies = std::getenv("NOTIFY_SOCKET");
  std::string m_status;
  Clock::time_point m_next_status;
};

}  // namespace gq
