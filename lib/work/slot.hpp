// A slot runs one command at a time, from its start to its end. It has the command's process, the owner that holds its
// jobs, its input, its output, and its time limit. A streamed command gets many jobs, any other command gets one.
//
// The slot does not decide what happens to a job after an attempt: it reports which attempts have ended, and how
// (AttemptEnd). It records nothing: the caller gives it a job after the job's start is in the journal.
//
// The surprising fact: the command inherits the lock of its owner's file. So its jobs stay claimed until the command
// has ended, even if this process is killed.
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
#include "gq/store/claiming.hpp"
#include "gq/store/ledger.hpp"
#include "gq/store/owners.hpp"
#include "gq/work/conclusion.hpp"
#include "gq/work/output.hpp"
#include "gq/work/schedule.hpp"
#include "gq/work/stop.hpp"
#include "gq/work/stream.hpp"

namespace gq {

class Slot {
 public:
  using Clock = std::chrono::steady_clock;
  // The data that all slots of a runner share.
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
  // The state of this slot for the schedule.
  Place place() const { return {m_jobs.size(), room(), is_running(), is_closing()}; }

  // The owner of the jobs that the slot starts next. The caller sets it. If a command cannot be started, its owner is
  // used for the next command.
  Owner& owner() { return m_owner; }

  // A job, and the resources that its command needs. They are created before the job's start is recorded.
  struct Start {
    Claim claim{};
    Workload workload{};
    Fd input{};                      // standard input; not used for streams
    std::unique_ptr<Output> output;  // not used for streams
  };
  struct Failed {
    Claim claim;
    std::string why;
  };
  // Gives the job to the slot's command. Starts the command if the slot has none. Returns the job if this fails.
  std::optional<Failed> give(Start start, Clock::time_point now);

  // An attempt that has ended.
  struct Ended {
    Claim claim;
    AttemptEnd end;
    Millis started_at{0};   // since 1970
    double ms = 0;          // how long the attempt took; in a stream, since the previous answer
    uint64_t received = 0;  // bytes of output that went through the worker
  };
  // Sends more to a streamed command, and returns its answers. Kills a command that cannot continue.
  std::vector<Ended> answers();

  // The end of a command.
  struct End {
    Owner owner;                 // to be freed once the following is recorded
    std::vector<Ended> ended;    // the last answers of a streamed command, and the attempt that ended with it
    std::vector<Claim> unbegun;  // jobs that were sent to the command and that it did not begin
    std::unique_ptr<Output> output;
  };
  // If the command has ended, reaps it and returns its end. `cut_off`: the worker has told all commands to end.
  std::optional<End> reap(bool cut_off);

  // The next three are for a streamed command that has nothing to do: the end of its input.
  bool is_idle_stream() const { return m_stream && m_jobs.empty(); }
  void close(Clock::time_point now);  // if the command does not end within the grace, it gets signals
  void close_for_stop();              // the stop of the worker ends the command if it does not end by itself

  // If the command works on this job, tells it to end: SIGTERM, and SIGKILL after the grace.
  void cancel(const std::string& id, Clock::time_point now);

  // Sends the signal that is due by the command's time limit, or because its job is cancelled.
  void enforce_limit(Clock::time_point now);
  std::optional<Clock::time_point> limit_at() const {
    return is_running() && !m_has_ended ? m_limit.at() : std::nullopt;
  }
  // Sends a signal to the command's process group. If the command belongs to another user, logs once that this fails.
  void send(int signal);

  // watch() adds the descriptors to wait for; after the wait, pump() passes on the output that has come.
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
  // Returns the ID of the job whose attempt ends with the command, or an empty text. The other jobs have not begun.
  std::string current() const;

  const Setup* m_setup;
  Owners* m_owners;
  StandardOutput* m_standard_output;
  pid_t m_pid = 0;           // 0: no command
  bool m_has_ended = false;  // the command has, and its output still has to be passed on
  Owner m_owner;
  std::deque<Running> m_jobs;  // at most one, except for streams
  std::unique_ptr<Output> m_output;
  std::unique_ptr<Stream> m_stream;
  CommandLimit m_limit{Millis(0), Millis(0)};
  Clock::time_point m_answered;  // the time of the last answer
  std::string m_cancelled;       // the job because of which the command was told to end
  bool m_refuses = false;        // signals fail, because the command belongs to another user
  bool m_prints = false;         // the command prints to this process's standard output
};

}  // namespace gq
