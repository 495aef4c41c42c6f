// Pull: which store a client asks for the ends of which of its jobs, and when. Pure: the caller asks, and passes what
// came of it. The stores of a job are those that the answer to its submission named, the likeliest first, and those
// that these name (pull_wire.hpp).
//
// A store is asked after 50 ms, and then less and less often, down to once a second. While a store is silent, the next
// one is asked. Only the first jobs that have not ended are asked for, since the results are shown in order. So a
// client with many jobs asks as often as a client with few.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/replication/pull_wire.hpp"

namespace gq {

class Pull {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr Millis first_interval{50}, longest_interval{1000};
  // A store that was silent is avoided for this time, if another store can be asked.
  static constexpr Millis avoided{5000};

  struct Waiting {
    std::string id;
    std::vector<std::string> stores;  // one or more; see pull_name()
  };
  Pull(std::vector<Waiting> jobs, Time now);

  struct Question {
    std::string store;
    std::vector<size_t> jobs;  // their numbers, in ascending order; most_asked at most
    Time at;                   // when to ask
  };
  // Returns the next question; nullopt when all jobs have ended.
  std::optional<Question> next();
  // The store has answered, with a word about each of these jobs.
  void answered(const Question& question, const std::vector<StoreSays>& says, Time now);
  // The store has not answered, or what answered was not the store.
  void silent(const Question& question, Time now);

  const std::string& id(size_t job) const { return m_jobs[job].id; }
  size_t size() const { return m_jobs.size(); }
  // How the job has ended; nullptr if that is not known yet. If no store knows the job, the end is `unknown`.
  const StoreSays* end(size_t job) const { return m_jobs[job].end ? &*m_jobs[job].end : nullptr; }
  // The store that has said how it ended, and has its output.
  const std::string& store(size_t job) const { return m_jobs[job].stores[m_jobs[job].at]; }
  // Whether a store has said that the job has ended, but not how.
  bool is_over(size_t job) const { return m_jobs[job].is_over; }

 private:
  struct One : Waiting {
    size_t at = 0;                    // of the store to ask next
    std::set<std::string> unknown{};  // the stores that do not know it
    std::optional<StoreSays> end{};
    bool is_over = false;
  };
  struct Store {
    Time next{}, avoid_until{};
    Millis interval = first_interval;
  };
  void go_to(One& job, const std::string& store, Time now);
  void go_on(One& job, Time now);
  Store& known(const std::string& store, Time now);

  std::vector<One> m_jobs;
  size_t m_first = 0;  // all jobs before it have ended
  std::map<std::string, Store> m_stores;
};

}  // namespace gq
