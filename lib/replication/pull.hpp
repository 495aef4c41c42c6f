// Pull decides which store a client asks how which of its jobs have ended, and when. Pure: the caller asks the store,
// and passes the answer to Pull, or reports that there was none. Each job has a list of stores that may know its end.
// The list begins with the stores that the answer to the job's submission named, the likeliest first. A store that is
// asked may name another store (StoreSays::store), which is added to the list.
//
// Pull asks a store for the first time after 50 ms, and then less and less often, down to once a second; more often
// again after an answer with an end. If a store does not answer, Pull asks the next store of each job. A question is
// only about the first jobs that have not ended (at most most_asked), because the results are shown in order. So a
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
  // The store has answered the question; `says` has an item for each job of the question.
  void answered(const Question& question, const std::vector<StoreSays>& says, Time now);
  // The store has not answered, or the answer was not from the store.
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
