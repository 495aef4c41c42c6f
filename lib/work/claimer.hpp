// The claimer: which jobs this process has claimed and not started yet, when to look for more, and how many to claim.
//
// Short jobs are claimed several at a time, about 50 ms of work for each slot, so that others get their share soon;
// what has waited for a slot too long is given back. What decides that is pure: Rate, Pauses and claim_request().
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/store.hpp"

namespace gq {

// So many starts in a second, evenly; 0: no bound. Pure.
class Rate {
 public:
  using Time = std::chrono::steady_clock::time_point;
  explicit Rate(double per_second) : m_per_second(per_second) {}

  double per_second() const { return m_per_second; }
  // When the next start may be.
  Time next() const { return m_next; }
  void started(Time now);

 private:
  double m_per_second;
  Time m_next{};
};

// Functions whose command is broken, each of which pauses for a second at first and for a minute at most. Pure.
class Pauses {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr Millis first{1000}, longest{60000};

  enum class Begun {
    first,    // it worked until now
    again,    // for longer than before
    already,  // another command of the same start
  };
  Begun begin(const std::string& function, Time now);
  // The command was run; true where the function had paused.
  bool end(const std::string& function) { return m_broken.erase(function) > 0; }
  // Functions that pause now, or are waited for by their command.
  std::set<std::string> now(Time now) const;
  // When the next pause ends that has not been told of by are_over().
  std::optional<Time> next() const;
  // Whether one has ended since the last call.
  bool are_over(Time now);
  std::vector<std::string> functions() const;

 private:
  struct Broken {
    Time until{};
    Millis delay{0};
    bool waiting = false;  // for that moment
  };
  std::map<std::string, Broken> m_broken;
};

// How many jobs to claim for so many free places. `average_ms` is how long a command takes.
size_t jobs_ahead(size_t places, double average_ms, bool stream, double rate);

struct ClaimRules {
  std::vector<std::string> functions{};  // empty: all that the store knows
  uint32_t max_crashes = 0;
  bool stream = false;
  double rate = 0;
  bool polls = false;  // what others hold is waited for, whatever it is
};

// What to ask the store for, where there are so many free places; who asks, and what it holds, is to be added. Pure.
ClaimRequest claim_request(const ClaimRules& rules, const Pauses& pauses, double average_ms, size_t places,
                           Pauses::Time now);

class Claimer {
 public:
  using Clock = std::chrono::steady_clock;
  Claimer(Store& store, const Owners& owners, ClaimRules config);

  // ---- what is claimed and not started

  size_t size() const { return m_jobs.size(); }
  bool is_empty() const { return m_jobs.empty(); }
  // The next job is one that a worker has died of, and a streamed command is needed for it alone.
  bool guilty_first() const { return m_config.stream && !m_jobs.empty() && m_jobs.front().job.crashes > 0; }
  Claim take();
  void put_back(Claim claim) { m_jobs.push_front(std::move(claim)); }
  // Takes away what is to be given back: all, those of a function, or those that wait for no stream to run empty.
  std::vector<Claim> take_all() {
    return take_if([](const Claim&) { return true; });
  }
  std::vector<Claim> take_of(const std::string& function);
  std::vector<Claim> take_unguilty();

  // ---- when to look for more

  // There may be something to claim.
  void look_again() { m_look = true; }
  bool may_find_more(Millis wall) const { return m_look || (m_seen.next_due && *m_seen.next_due <= wall); }
  bool is_due(Clock::time_point now, Millis wall) const { return may_find_more(wall) || now >= m_next_look; }
  // None of the functions' jobs is left, wherever; as it was when it last looked.
  bool is_drained() const { return !m_look && m_seen.live == 0; }
  // In how many milliseconds it is due; INT64_MAX where only the journal tells.
  int64_t due_in(Clock::time_point now, Millis wall) const;

  // Claims as many as there are places for. Returns those that are not to be started again, for their workers died.
  // Throws Error. All that gives jobs back must be on stable storage (Store::claim()).
  std::vector<Claim> claim(size_t places, std::set<std::string> held, Clock::time_point now);
  uint64_t live() const { return m_seen.live; }

  // The descriptor that is readable when the journal may have news, or -1: then heard() is to be called. woke() is to
  // be called after each wait.
  int watch() const { return m_watch ? m_watch.get() : -1; }
  void heard();
  void woke(Clock::time_point now);

  // ---- how fast

  Rate& rate() { return m_rate; }
  const Rate& rate() const { return m_rate; }
  Pauses& pauses() { return m_pauses; }
  const Pauses& pauses() const { return m_pauses; }
  // A command has taken that long.
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

  Store& m_store;
  const Owners& m_owners;
  const ClaimRules m_config;
  Rate m_rate;
  Pauses m_pauses;
  Fd m_watch;
  Lsn m_seen_end = 0;  // of the journal, when that last told of news
  std::deque<Claim> m_jobs;
  Claims m_seen;       // what the last claim told, without its jobs
  bool m_look = true;  // whether there may be something to claim
  Clock::time_point m_next_look;
  double m_average_ms = 1000;
};

}  // namespace gq
