// The dispatcher brings jobs from the claimer to free slots, and the results of attempts to the recorder.
//
// A job's start is in the journal before its command is spawned. A job's end is in the journal before the slot takes
// another job. No lock is held while a command runs.
#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gq/base/error.hpp"
#include "gq/base/log.hpp"
#include "gq/replication/intake.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/queue.hpp"
#include "gq/work/children.hpp"
#include "gq/work/claimer.hpp"
#include "gq/work/conclusion.hpp"
#include "gq/work/joblog.hpp"
#include "gq/work/output.hpp"
#include "gq/work/recorder.hpp"
#include "gq/work/schedule.hpp"
#include "gq/work/slot.hpp"
#include "gq/work/stop.hpp"

namespace gq {

enum class Until {
  stopped,      // by a signal
  drained,      // no job of the functions is unfinished (Counters::live), in any process of the store
  nothing_now,  // each job that could be started now is held by a living process
};

struct WorkConfig {
  std::vector<std::string> functions{};  // empty: all functions of the store
  std::vector<std::string> command{};
  bool stream = false;  // the command gets many jobs, see stream.hpp
  size_t slots = 1;
  ConclusionRules rules{};
  uint32_t max_crashes = 3;
  Millis time_limit{0};  // of one attempt; 0: none
  Millis grace{30000};   // from SIGTERM to SIGKILL, and from the first stop signal to SIGTERM
  double rate = 0;       // starts per second; 0: no limit
  // With rules.then: no job is claimed while that function has more unfinished jobs; 0: no limit.
  uint64_t target_backlog = 0;
  bool strict = false;  // a broken command ends the worker
  OutputOptions output{};
  std::string joblog{};  // a path, or empty
  Until until = Until::stopped;
};

// Work that fails at present. The dispatcher retries it every second.
struct Outage {
  using Clock = std::chrono::steady_clock;
  std::optional<Error> error{};
  Clock::time_point until{};
  explicit operator bool() const { return error.has_value(); }
  void begin(const Error& e);
  bool may_try(Clock::time_point now) const { return !error || now >= until; }
};

class Dispatcher {
 public:
  using Clock = std::chrono::steady_clock;
  // Throws Error if the output of commands or the job log cannot be written.
  Dispatcher(Queue& store, WorkConfig config, Backlog& backlog, const Stop& stop);

  const WorkConfig& config() const { return m_config; }

  // ---- steps of the loop

  // Sends the signals that are due by the commands' time limits.
  void enforce_limits();
  // Collects the attempts and commands that have ended.
  void reap();
  // Claims and starts jobs, and records how others ended. Throws Error if the store fails; the caller then calls it
  // again later.
  void work();
  void look_again() { m_claimer.look_again(); }
  // Writes the waiting records, without waiting for the disk.
  void append() { m_recorder.append(); }
  // Gives back claimed jobs that wait for a slot. give_back_late() gives back only those that have waited too long.
  void give_back_waiting();
  void give_back_late();
  // Sends a signal to all commands.
  void send(int signal);
  // Call it when the worker stops: each streamed command gets the end of its input when it has answered all jobs that
  // it was sent.
  void end_streams();

  // ---- waiting

  // Whether something can be done at once.
  bool is_ready() const;
  // Returns in how many milliseconds something must be done, at the earliest at `earliest`; INT64_MAX: never.
  int64_t due_in(Clock::time_point now, Clock::time_point earliest) const;
  // Adds the descriptors to wait for; the first one is the journal's. After the wait, call woke() with whether that
  // first descriptor was readable.
  void watch(std::vector<pollfd>& fds) const;
  void woke(bool has_news);

  // ---- the state

  bool is_idle() const;  // no job is claimed, running, or waiting to be recorded
  bool has_jobs() const;
  bool has_commands() const;
  bool has_records() const { return !m_recorder.is_empty(); }
  bool is_drained() const { return m_claimer.is_drained(); }
  bool may_find_more() const { return m_claimer.may_find_more(now_ms()); }
  // Whether the command is broken and this must end the worker.
  bool broken_ends() const { return m_broken_ends; }
  // The reason why no files can be created for the output of commands; empty if they can.
  const std::optional<Error>& output_error() const { return m_output_trouble.error; }
  bool lost_output() const { return m_standard_output.lost(); }
  // How many ends of attempts are not on stable storage yet.
  size_t unrecorded() const { return m_recorder.unrecorded(); }
  void say_left_out();
  std::string text() const;

 private:
  struct Placed {
    Slot* slot;
    Slot::Start start;
  };
  Schedule schedule() const;
  void look_for_cancelled();
  void refill(size_t room);
  void start_jobs();
  std::vector<Placed> choose_starts();
  std::optional<Slot::Start> prepare(Claim claim);
  void record_starts(std::vector<Placed>& starts);
  void make_children(std::vector<Slot::End>& ends);
  void end_attempt(Slot::Ended& ended, Output* output);
  void end_command(Slot::End end);
  void pause(const std::string& function, const std::string& why);
  void record(const Claim& claim, const Conclusion& conclusion, std::unique_ptr<Capture> output = nullptr);
  void give_back(const std::vector<Claim>& claims);
  void say(Level level, const Claim& claim, const std::string& why, const char* becomes);
  void output_trouble(const Error& error);
  void look_at_outputs();
  Clock::time_point not_before() const;

  Queue& m_store;
  const WorkConfig m_config;
  Backlog& m_backlog;
  const Stop& m_stop;
  Owners m_owners;
  std::unique_ptr<Joblog> m_joblog;
  StandardOutput m_standard_output;
  const Slot::Setup m_setup;
  std::vector<Slot> m_slots;
  std::list<Output> m_lingering;  // of commands that have ended, while other processes hold their descriptors
  Claimer m_claimer;
  LogLimit m_log_limit;  // limits log lines about jobs, because a client can queue many jobs
  Recorder m_recorder;
  Outage m_output_trouble;
  bool m_broken_ends = false;
  Clock::time_point m_last_start;
  Clock::time_point m_next_sweep, m_next_cancel_look;
  Lsn m_cancels_seen = 0;        // the end of the journal when this process last looked for cancelled jobs
  bool m_has_cancelled = false;  // there were some, of this or other processes
  uint64_t m_done = 0, m_failed = 0, m_dead = 0;
};

}  // namespace gq
