// The runner: claims jobs of a store, starts a command for each, and records how it ended. gq-worker and gq-flush differ
// only in when they stop.
//
// A job's start is in the journal before its command is spawned; its end is in the journal before the slot takes another.
// No lock is held while a command runs. The one surprising fact: the command inherits the lock of its slot, so that its job
// stays claimed until it has ended, also when this process was killed.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "fd.hpp"
#include "intake.hpp"
#include "owners.hpp"
#include "store.hpp"

namespace gq {

// The signals that stop a worker: SIGTERM, SIGINT, and SIGHUP where nohup(1) has not had it ignored.
sigset_t stop_signals();

class Runner {
 public:
  enum class Until {
    stopped,      // a signal
    drained,      // none of the functions' jobs is queued, running or waiting for a retry, wherever
    nothing_now,  // nothing is left that could be started now and that nobody alive holds
  };
  struct Config {
    std::vector<std::string> functions;  // empty: all that the store knows
    std::vector<std::string> command;
    size_t slots = 1;
    uint32_t max_attempts = 5;
    uint32_t max_crashes = 3;
    Millis backoff{1000};          // before the first retry; doubled for each further one
    Millis longest_backoff{3600000};
    Millis grace{30000};           // how long running commands may go on after the first SIGTERM
    Until until = Until::stopped;
  };

  // SIGCHLD and stop_signals() have to be blocked in all threads.
  Runner(Store& store, Config config, Backlog& backlog);
  ~Runner();

  // Runs until what the configuration says, or a signal. `end_intake` is called once: at the first
  // signal, or before it is believed that nothing is left.
  void run(const std::function<void()>& end_intake);

 private:
  using Clock = std::chrono::steady_clock;
  struct Slot {
    pid_t pid = 0;  // 0: free
    Claim claim;
    Clock::time_point started;
  };

  void reap();
  void finish(Slot& slot, int status);
  void refill();
  void start_jobs();
  void append_records();
  void settle();
  void give_back();
  bool handle_signals();
  void kill_all(int signal);
  bool idle() const;
  int wait_time() const;
  size_t free_slots() const;
  Millis retry_delay(uint32_t failures) const;
  void trouble(const Error& error);

  Store& m_store;
  const Config m_config;
  Backlog& m_backlog;
  Owners m_owners;
  Fd m_signals;
  Fd m_journal_watch;
  std::vector<Slot> m_slots;
  std::deque<Claim> m_claimed;         // not started yet
  std::vector<std::string> m_records;  // not in the journal yet
  std::vector<std::string> m_done_blobs;
  Claims m_seen;  // what the last claim told, without its jobs
  bool m_look = true;  // whether there may be something to claim
  bool m_stopping = false;
  int m_kills = 0;  // how far the stop has gone: 1 SIGTERM sent, 2 SIGKILL sent
  Clock::time_point m_kill_at;
  Clock::time_point m_next_look;
  Clock::time_point m_blocked_until;  // after a failure of the disk
  bool m_troubled = false;
  bool m_intake_ended = false;
  Clock::time_point m_last_start;
  double m_average_ms = 1000;  // how long a command takes
};

}  // namespace gq
