// A command slot: one command at a time, from its start to its end, with its process, the owner that holds its jobs,
// what it was given, what it prints, and its time limit. A streamed command is given many jobs, any other one.
//
// The slot does not know what becomes of a job: it says which attempts have ended, and how (AttemptEnd). It records
// nothing: a job is given to it once its start stands in the journal.
//
// The surprising fact: the command inherits the lock of its owner's file, so its jobs stay claimed until it has ended,
// also when this process was killed.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gq/base/child.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/store.hpp"
#include "gq/work/conclusion.hpp"
#include "gq/work/output.hpp"
#include "gq/work/schedule.hpp"
#include "gq/work/stop.hpp"
#include "gq/work/stream.hpp"

namespace gq {

class Slot {
 public:
  using Clock = std::chrono::steady_clock;
  // What the slots of a runner have in common.
  struct Setup {
    std::vector<std::string> command{};
    bool stream = false;
    Millis time_limit{0}, grace{0};
    OutputOptions output{};
    ConclusionRules rules{};
    std::string store{};  // for GQ_STORE
  };

  Slot(const Setup& setup, Owners& owners, StandardOutput& standard_output)
      : m_setup(&setup), m_owners(&owners), m_standard_output(&standard_output) {}

  bool is_running() const { return m_pid != 0; }
  size_t jobs() const { return m_jobs.size(); }
  void add_ids(std::set<std::string>& ids) const;
  // What the schedule has to know of it.
  Place place() const { return {m_jobs.size(), room(), is_running(), is_closing()}; }

  // Who holds what the slot starts next: taken by the caller, and passed on by a command that could not be started.
  Owner& owner() { return m_owner; }

  // A job, and what its command needs, which is made before its start is recorded.
  struct Start {
    Claim claim{};
    Workload workload{};
    Fd input{};                      // standard input, but for streams
    std::unique_ptr<Output> output;  // likewise
  };
  struct Failed {
    Claim claim;
    std::string why;
  };
  // Gives it to its command, which is started where there is none. Returns the job where that cannot be.
  std::optional<Failed> give(Start start, Clock::time_point now);

  // An attempt that has ended.
  struct Ended {
    Claim claim;
    AttemptEnd end;
    Millis started_at{0};   // since 1970
    double ms = 0;          // how long it took; of a streamed one, since the answer before
    uint64_t received = 0;  // bytes that it printed, as far as they came here
  };
  // Goes on with feeding a streamed command. Returns what it has answered. One that cannot go on is ended.
  std::vector<Ended> answers();

  // The end of a command.
  struct End {
    Owner owner;                 // to be let go once the rest is recorded
    std::vector<Ended> ended;    // the last answers of a streamed command, and the attempt that ended with it
    std::vector<Claim> unbegun;  // jobs that it was given and did not get to
    std::unique_ptr<Output> output;
  };
  // Where the command has ended. `cut_off`: the worker has told all commands to end.
  std::optional<End> reap(bool cut_off);

  // A streamed command that has nothing to do sees the end of its input.
  bool is_idle_stream() const { return m_stream && m_jobs.empty(); }
  void close(Clock::time_point now);  // it is told to end after the grace
  void close_for_stop();              // what ends it is the stop of the worker

  // Sends it the signal that is due by its time limit.
  void enforce_limit(Clock::time_point now);
  std::optional<Clock::time_point> limit_at() const { return is_running() ? m_limit.at() : std::nullopt; }
  // To the command's process group. It is said once where the command belongs to another user.
  void send(int signal);

  // Adds what to wait for; then passes on what has come.
  void watch(std::vector<pollfd>& fds) const;
  void pump();

 private:
  struct Running {
    Claim claim;
    Clock::time_point started;
    Millis started_at{0};
  };
  size_t room() const;
  bool is_closing() const { return m_stream && m_stream->dialogue().is_closing(); }
  std::string run(const Claim& claim, const std::string& path, int input);
  Ended ended(Running job, AttemptEnd end) const;
  Running take(const std::string& id);
  // The job whose attempt ends with the command, or nothing. The others have not begun.
  std::string current() const;

  const Setup* m_setup;
  Owners* m_owners;
  StandardOutput* m_standard_output;
  pid_t m_pid = 0;  // 0: no command
  Owner m_owner;
  std::deque<Running> m_jobs;  // one, but for streams
  std::unique_ptr<Output> m_output;
  std::unique_ptr<Stream> m_stream;
  CommandLimit m_limit{Millis(0), Millis(0)};
  Clock::time_point m_answered;  // when it last was
  bool m_refuses = false;        // signals, as one of another user does
  bool m_prints = false;         // to this process's standard output
};

}  // namespace gq
