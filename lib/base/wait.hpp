// Waits for another process: for a lock that the process holds, or for its answer. After a few seconds a log line names
// the process. If the wait takes too long, or if this program has been told to stop, the wait ends with an
// Error(retry).
//
// The surprising fact: only a signal with a handler can end a wait in flock(2), and a library must not install a
// handler. So gq tries again and again to take the lock (fd.hpp). As measured with 2 to 8 processes, it gets the lock
// no later than through the kernel's queue.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "gq/base/clock.hpp"

namespace gq {

// How long this program waits for another process before it gives up, unless a caller says otherwise: by default a
// minute. A program that retries by itself sets a shorter time.
void set_patience(Millis patience);
inline constexpr Millis usual_patience{0}, short_patience{5'000}, endless_patience = Millis::max();

// Call it when this program has been told to stop: from now on each wait ends after a second. The same holds while a
// stop signal (SIGTERM, SIGINT or SIGHUP) is blocked and pending. May be called from a signal handler.
void stop_waiting() noexcept;

class Wait {
 public:
  // `whom` returns a text such as "process 12 (name)", `what` a text such as "holds index.lock". They are called only
  // if the wait takes long.
  Wait(std::function<std::string()> whom, std::function<std::string()> what, Millis patience = usual_patience);
  ~Wait();
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;

  // Call it from time to time during the wait. Throws Error(retry).
  void check();
  std::chrono::steady_clock::duration lasted() const { return std::chrono::steady_clock::now() - m_begin; }

 private:
  const std::function<std::string()> m_whom, m_what;
  const Millis m_patience;
  const std::chrono::steady_clock::time_point m_begin;
  bool m_said = false, m_failed = false;
};

// Returns a text such as "process 12 (name)".
std::string process_text(long pid);

}  // namespace gq
