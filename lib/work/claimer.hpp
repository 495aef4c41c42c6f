// The claimer holds the jobs that this process has claimed and not started yet. It decides when to look for more jobs,
// and how many to claim.
//
// It claims several short jobs at a time, about 50 ms of work for each slot, so that other processes get their share
// soon. Jobs that have waited too long for a slot are given back. The decisions are pure: Rate, Pauses and
// claim_request().
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/store/append_watch.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/queue.hpp"

namespace gq {

// Spreads starts evenly: at most `per_second` starts a second; 0: no limit. Pure.
class Rate {
 public:
  using Time = std::chrono::steady_clock::time_point;
  explicit Rate(double per_second) : m_per_second(per_second) {}

  double per_second() const { return m_per_second; }
  // Returns the earliest time of the next start.
  Time next() const { return m_next; }
  void started(Time now);

 private:
  double m_per_second;
  Time m_next{};
};

// Functions whose command is broken. Each pauses for a second at first; further pauses double, up to a minute. Pure.
class Pauses {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr Millis first{1000}, longest{60000};

  enum class Begun {
    first,    // the command had worked until now
    again,    // the command failed again after a pause; the new pause is longer
    already,  // the function is paused already; another command of the same start failed, too
  };
  Begun begin(const std::string& function, Time now);
  // The command could be run. Returns true if the function had paused.
  bool end(const std::string& function) { return m_broken.erase(function) > 0; }
  // The functions that pause at this time.
  std::set<std::string> now(Time now) const;
  // Returns when the next pause ends whose end are_over() has not reported yet.
  std::optional<Time> next() const;
  // Whether a pause has ended since the last call.
  bool are_over(Time now);
  std::vector<std::string> functions() const;

 private:
  struct Broken {
    Time until{};
    Millis delay{0};
    bool waiting = false;  // are_over() has not reported the end of this pause yet
  };
  std::map<std::string, Broken> m_broken;
};

// Returns how many jobs to claim for `places` free places. `average_ms` is how long a command takes on average.
size_t jobs_ahead(size_t places, double average_ms, bool stream, double rate);

struct ClaimRules {
  std::vector<std::string> functions{};  // empty: all functions of the store
  uint32_t max_crashes = 0;
  bool stream = false;
  double rate = 0;
  bool polls = false;    // look again every second, because the worker also waits for jobs that other processes hold
  std::string target{};  // as in ClaimRequest
  uint64_t target_backlog = 0;
};

// Returns the request to the store when `places` places are free. The caller adds `owner` and `held`. Pure.
ClaimRequest claim_request(const ClaimRules& rules, const Pauses& pauses, double average_ms, size_t places,
                           Pauses::Time now);

class Claimer {
 public:
  using Clock = std::chrono::steady_clock;
  Claimer(Queue& store, const Owners& owners, ClaimRules config);

  // ---- the jobs that are claimed and not started

  size_t size() const { return m_jobs.size(); }
  bool is_empty() const { return m_jobs.empty(); }
  // Whether the next job is suspect (schedule.hpp): a worker has died while running it, so it needs its own streamed
  // command.
  bool suspect_first() const { return m_config.stream && !m_jobs.empty() && m_jobs.front().job.crashes > 0; }
  Claim take();
  void put_back(Claim claim) { m_jobs.push_front(std::move(claim)); }
  // These functions remove and return jobs that are to be given back: all jobs, the jobs of one function, or all but a
  // suspect first job, which waits until a streamed command has nothing to do.
  std::vector<Claim> take_all() {
    return take_if([](const Claim&) { return true; });
  }
  std::vector<Claim> take_of(const std::string& function);
  std::vector<Claim> take_all_but_suspect();
  // Removes and returns a job that is cancelled, if it is here.
  std::vector<Claim> take_job(const std::string& id);

  // ---- when to look for more

  // Call it when there may be jobs to claim.
  void look_again() { m_look = true; }
  bool may_find_more(Millis wall) const { return m_look || (m_seen.next_due && *m_seen.next_due <= wall); }
  bool is_due(Clock::time_point now, Millis wall) const { return may_find_more(wall) || now >= m_next_look; }
  // Whether, at the last claim, the store had no unfinished job of these functions, neither free nor held by another
  // process.
  bool is_drained() const { return !m_look && m_seen.live == 0; }
  // Returns in how many milliseconds is_due() becomes true; INT64_MAX if only new records in the journal can make it
  // true.
  int64_t due_in(Clock::time_point now, Millis wall) const;

  // Claims jobs for `places` free places. Returns the jobs that must not be started: `abandoned`, because too many
  // workers died while running them, and `expired`, which are recorded as dead already. Throws Error. Before the call,
  // each record that gives a job back must be on stable storage (Queue::claim()).
  Claims claim(size_t places, std::set<std::string> held, Clock::time_point now);
  uint64_t live() const { return m_seen.live; }

  // Returns a descriptor that is readable when the journal may have new records; then call journal_changed(). -1 if
  // there is no descriptor. Call woke() after each wait.
  int watch() const { return m_watch.fd(); }
  void journal_changed();
  void woke(Clock::time_point now);

  // ---- how fast

  Rate& rate() { return m_rate; }
  const Rate& rate() const { return m_rate; }
  Pauses& pauses() { return m_pauses; }
  const Pauses& pauses() const { return m_pauses; }
  // Call it when a command has ended that took this many milliseconds.
  void took(double ms) { m_average_ms = 0.8 * m_average_ms + 0.2 * ms; }

 private:
  template <typename Condition>
  std::vector<Claim> take_if(Condition condition) {
    std::vector<Claim> taken;
    std::deque<Claim> kept;
    for (auto& claim : m_jobs)
      if (condition(claim)) taken.push_back(std::move(claim));
      else kept.push_back(std::move(claim));
    m_jobs = std::move(kept);
    return taken;
  }

  Queue& m_store;
  const Owners& m_owners;
  const ClaimRules m_config;
  Rate m_rate;
  Pauses m_pauses;
  AppendWatch m_watch;
  Lsn m_seen_end = 0;  // the end of the journal when new records were last noticed
  std::deque<Claim> m_jobs;
  Claims m_seen;       // the result of the last claim, without its jobs
  bool m_look = true;  // there may be jobs to claim
  Clock::time_point m_next_look;
  double m_average_ms = 1000;
};

}  // namespace gq
