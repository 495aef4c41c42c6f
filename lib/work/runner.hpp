// The runner: claims jobs of a store, starts a command for each, and records how it ended. gq-worker and gq-flush
// differ only in when they stop.
//
// A job's start is in the journal before its command is spawned; its end is in the journal before the slot takes
// another. No lock is held while a command runs. The one surprising fact: the command inherits the lock of its owner's
// file, so that its job stays claimed until it has ended, also when this process was killed.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gq/base/child.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/log.hpp"
#include "gq/replication/intake.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/store.hpp"
#include "gq/work/conclusion.hpp"
#include "gq/work/joblog.hpp"
#include "gq/work/output.hpp"
#include "gq/work/stop.hpp"
#include "gq/work/stream.hpp"

namespace gq {

// The signals that stop a worker: SIGTERM, SIGINT, and SIGHUP where nohup(1) has not had it ignored.
sigset_t stop_signals();
// Whether one of them has come, and waits to be taken.
bool stop_signal_waits();
// What a runner reads from a descriptor: those, SIGCHLD, and SIGUSR1, at which it tells how it is.
sigset_t runner_signals();

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
    bool stream = false;  // the command is fed jobs, see stream.hpp
    size_t slots = 1;
    ConclusionRules rules{};
    uint32_t max_crashes = 3;
    Millis time_limit{0};  // for one attempt; 0: none
    Millis grace{30000};   // from SIGTERM to SIGKILL, and how long commands may go on after the first stop signal
    double rate = 0;       // starts per second; 0: no bound
    bool strict = false;   // a broken command ends the worker
    OutputOptions output;
    std::string joblog;  // a path, or empty
    Until until = Until::stopped;
  };

  // runner_signals() have to be blocked in all threads.
  Runner(Store& store, Config config, Backlog& backlog);
  ~Runner();

  // Runs until what the configuration says, or a signal. `end_intake` is called once: at the first
  // signal, or before it is believed that nothing is left. False where the command was found broken, and that ended it.
  // Throws Error(storage) where the disk fails, for a pass at once, else when it is stopped and cannot record how
  // commands ended.
  bool run(const std::function<void()>& end_intake);
  // Whether commands printed what went nowhere.
  bool lost_output() const { return m_lost_output; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Running {
    Claim claim;
    Clock::time_point started;
    Millis started_at{0};
  };
  struct Slot {
    pid_t pid = 0;             // 0: no command
    Owner owner;               // of the command, or of the next one
    std::deque<Running> jobs;  // one, but for streams
    std::unique_ptr<Output> output;
    std::unique_ptr<Stream> stream;
    CommandLimit limit{Millis(0), Millis(0)};  // of the command
    Clock::time_point answered;                // when it last was
    bool refuses = false;                      // signals, as one of another user does
    bool prints = false;                       // to this process's standard output
  };
  struct Broken {
    Clock::time_point until;
    Millis delay{0};
    bool waiting = false;  // for that moment
  };

  bool start_command(Slot& slot, const Claim& claim, int input, const std::string& path);
  void begin(Slot& slot, Claim claim);
  void reap();
  void ended(Slot& slot, int status);
  void take_answers(Slot& slot);
  void end_attempt(const Slot& slot, const Running& job, AttemptEnd end);
  void record(const Claim& claim, const Conclusion& conclusion);
  void say(Level level, const Claim& claim, const std::string& why, const char* becomes);
  void end_streams();
  void make_way_for_guilty();
  void broken(const std::string& function, const std::string& why);
  void refill();
  void start_jobs();
  Owner take_owner();
  void append_records();
  void appended();
  void settle();
  void give_back();
  bool handle_signals();
  void enforce_time_limit();
  static void send(Slot& slot, int signal);
  void wait();
  bool idle() const;
  int wait_time() const;
  size_t capacity(const Slot& slot) const;
  bool guilty_first() const { return m_config.stream && !m_claimed.empty() && m_claimed.front().job.crashes > 0; }
  size_t room() const;
  Clock::time_point not_before() const;
  void trouble(const Error& error);
  void output_trouble(const Error& error);
  void look_at_outputs();
  bool running() const;
  Printed printed();
  std::string state_line() const;

  Store& m_store;
  const Config m_config;
  Backlog& m_backlog;
  Owners m_owners;
  Fd m_signals;
  Fd m_journal_watch;
  Lsn m_seen_end = 0;  // of the journal, when that last told of news
  std::unique_ptr<Joblog> m_joblog;
  std::vector<Slot> m_slots;
  std::list<Output> m_lingering;       // of commands that have ended while others still hold their descriptors
  std::deque<Claim> m_claimed;         // not started yet
  std::vector<std::string> m_records;  // not in the journal yet
  Seldom m_seldom;                     // what is logged of jobs: whoever can queue them can queue many
  std::vector<Owner> m_ended;          // the commands of which those tell the end
  std::vector<std::string> m_done_blobs;
  std::map<std::string, Broken> m_broken;  // by function
  bool m_broken_ends = false;
  Claims m_seen;             // what the last claim told, without its jobs
  bool m_look = true;        // whether there may be something to claim
  bool m_gave_back = false;  // whether what lets go of a claim has been recorded since the last settle()
  Stop m_stop;
  Clock::time_point m_next_look;
  Clock::time_point m_blocked_until;  // after a failure of the disk
  bool m_troubled = false;
  std::string m_trouble;  // why
  Clock::time_point m_give_up;
  size_t m_unrecorded = 0;              // ends of attempts that are not on stable storage
  std::optional<Error> m_output_error;  // no files for what commands print
  Clock::time_point m_output_until;
  Fd m_nowhere;  // /dev/null
  bool m_lost_output = false;
  bool m_intake_ended = false;
  Clock::time_point m_last_start;
  Clock::time_point m_next_start;  // with a rate
  Clock::time_point m_next_sweep, m_next_status;
  const bool m_notifies = std::getenv("NOTIFY_SOCKET");
  std::string m_status;
  uint64_t m_done = 0, m_failed = 0, m_dead = 0;
  double m_average_ms = 1000;  // how long a command takes
};

}  // namespace gq
