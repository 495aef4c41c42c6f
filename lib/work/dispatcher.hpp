// The dispatcher: brings jobs from the claimer to free slots, and what becomes of them to the recorder.
//
// A job's start is in the journal before its command is spawned; its end is in the journal before the slot takes
// another. No lock is held while a command runs.
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
#include "gq/store/store.hpp"
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
  stopped,      // a signal
  drained,      // none of the functions' jobs is queued, running or waiting for a retry, wherever
  nothing_now,  // nothing is left that could be started now and that nobody alive holds
};

struct WorkConfig {
  std::vector<std::string> functions{};  // empty: all that the store knows
  std::vector<std::string> command{};
  bool stream = false;  // the command is fed jobs, see stream.hpp
  size_t slots = 1;
  ConclusionRules rules{};
  uint32_t max_crashes = 3;
  Millis time_limit{0};  // for one attempt; 0: none
  Millis grace{30000};   // from SIGTERM to SIGKILL, and how long commands may go on after the first stop signal
  double rate = 0;       // starts per second; 0: no bound
  bool strict = false;   // a broken command ends the worker
  OutputOptions output{};
  std::string joblog{};  // a path, or empty
  Until until = Until::stopped;
};

// Something that fails now, and is tried again each second.
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
  // Throws Error where what commands print, or the job log, cannot be kept.
  Dispatcher(Store& store, WorkConfig config, Backlog& backlog, const Stop& stop);

  const WorkConfig& config() const { return m_config; }

  // ---- steps of the loop

  // Ends commands by their time limits.
  void enforce_limits();
  // Takes up attempts and commands that have ended.
  void reap();
  // Claims and starts jobs, and records what became of others. Throws Error where the store fails: then it is to be
  // called again, a while later.
  void work();
  void look_again() { m_claimer.look_again(); }
  // Writes what is to be recorded, without waiting for the disk.
  void append() { m_recorder.append(); }
  // Lets others have what is claimed and waits for a slot; give_back_late() only what has waited too long.
  void give_back_waiting();
  void give_back_late();
  // A signal for all commands.
  void send(int signal);
  // The worker stops: streamed commands see the end of their input when they have answered for what they were sent.
  void end_streams();

  // ---- waiting

  // Something can be done at once.
  bool is_ready() const;
  // In how many milliseconds something has to be done, which is not to be started before `earliest`; INT64_MAX: never.
  int64_t due_in(Clock::time_point now, Clock::time_point earliest) const;
  // Adds what to wait for, the journal first. After the wait woke(), with whether that was readable.
  void watch(std::vector<pollfd>& fds) const;
  void woke(bool has_news);

  // ---- how it stands

  bool is_idle() const;  // nothing is claimed, running, or to be recorded
  bool has_jobs() const;
  bool has_commands() const;
  bool has_records() const { return !m_recorder.is_empty(); }
  bool is_drained() const { return m_claimer.is_drained(); }
  bool may_find_more() const { return m_claimer.may_find_more(now_ms()); }
  // The command is broken, and that is to end the worker.
  bool broken_ends() const { return m_broken_ends; }
  // Why no files can be made for what commands print.
  const std::optional<Error>& output_error() const { return m_output_trouble.error; }
  bool lost_output() const { return m_standard_output.lost(); }
  // Ends of attempts that are not on stable storage.
  size_t unrecorded() const { return m_recorder.unrecorded(); }
  void say_left_out();
  std::string text() const;

 private:
  struct Placed {
    Slot* slot;
    Slot::Start start;
  };
  Schedule schedule() const;
  void refill(size_t room);
  void start_jobs();
  std::vector<Placed> choose_starts();
  std::optional<Slot::Start> prepare(Claim claim);
  void record_starts(std::vector<Placed>& starts);
  void end_attempt(Slot::Ended& ended, Output* output);
  void end_command(Slot::End end);
  void pause(const std::string& function, const std::string& why);
  void record(const Claim& claim, const Conclusion& conclusion);
  void give_back(const std::vector<Claim>& claims);
  void say(Level level, const Claim& claim, const std::string& why, const char* becomes);
  void output_trouble(const Error& error);
  void look_at_outputs();
  Clock::time_point not_before() const;

  Store& m_store;
  const WorkConfig m_config;
  Backlog& m_backlog;
  const Stop& m_stop;
  Owners m_owners;
  std::unique_ptr<Joblog> m_joblog;
  StandardOutput m_standard_output;
  const Slot::Setup m_setup;
  std::vector<Slot> m_slots;
  std::list<Output> m_lingering;  // of commands that have ended while others still hold their descriptors
  Claimer m_claimer;
  Recorder m_recorder;
  Seldom m_seldom;  // what is logged of jobs: whoever can queue them can queue many
  Outage m_output_trouble;
  bool m_broken_ends = false;
  Clock::time_point m_last_start;
  Clock::time_point m_next_sweep;
  uint64_t m_done = 0, m_failed = 0, m_dead = 0;
};

}  // namespace gq
