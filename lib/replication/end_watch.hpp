// Tells threads how jobs end. The threads wait; one thread looks at the store for all of them.
#pragma once

#include <condition_variable>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "gq/base/mutex.hpp"
#include "gq/state/result.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

class EndWatch {
 public:
  // The ledger must outlive the object.
  explicit EndWatch(Ledger& ledger) : m_ledger(ledger) {}
  ~EndWatch() { stop(); }

  // Starts the thread.
  void start();
  // Makes every wait() return.
  void stop();

  struct End {
    Job job;
    Result result;  // as result_of() has it if the output is needed
  };
  // Waits until the end of the job is on stable storage. Returns nullopt if stop() is called before. Thread-safe.
  std::optional<End> wait(const std::string& id);

 private:
  struct Awaited {
    size_t threads = 0;
    std::optional<End> end{};
  };
  void watch();
  void look(const std::vector<std::string>& ids);

  Ledger& m_ledger;
  Mutex m_mutex;
  std::condition_variable m_changed;
  std::map<std::string, Awaited> m_awaited GUARDED_BY(m_mutex);
  bool m_stop GUARDED_BY(m_mutex) = false;
  std::thread m_thread;
};

}  // namespace gq
