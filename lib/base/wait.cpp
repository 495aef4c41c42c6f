#include "gq/base/wait.hpp"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <fstream>

#include "gq/base/error.hpp"
#include "gq/base/log.hpp"
#include "gq/base/mutex.hpp"
#include "gq/base/short_hold.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr Millis until_said{2'000}, last_patience{1'000}, first_patience{60'000};

std::atomic<int64_t> patience{first_patience.count()};
std::atomic<bool> stopping{false};
static_assert(std::atomic<bool>::is_always_lock_free);

bool is_stopping() {
  sigset_t pending;
  if (stopping) return true;
  if (::sigpending(&pending) != 0) return false;
  return sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT) || sigismember(&pending, SIGHUP);
}

// The last logged text. A caller that tries again and again must not log the same text again.
Mutex said_mutex;
std::string said GUARDED_BY(said_mutex);

}  // namespace

void set_patience(Millis p) { patience = p.count(); }

void stop_waiting() noexcept { stopping = true; }

std::string process_text(long pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  if (!std::getline(file, name)) return "process " + std::to_string(pid) + ", which has ended, or one that it started,";
  return "process " + std::to_string(pid) + " (" + printable(name) + ")";
}

Wait::Wait(std::function<std::string()> whom, std::function<std::string()> what, Millis p)
    : m_whom(std::move(whom)), m_what(std::move(what)), m_patience(p), m_begin(std::chrono::steady_clock::now()) {}

Wait::~Wait() {
  if (!m_said || m_failed) return;
  MutexLock guard(said_mutex);
  said.clear();
}

void Wait::check() {
  // Milliseconds: in a finer unit, the longest patience would overflow.
  const auto waited = std::chrono::duration_cast<Millis>(lasted());
  if (waited >= last_patience) {
    const bool stops = is_stopping();
    if (stops || waited >= (m_patience == usual_patience ? Millis(patience.load()) : m_patience)) {
      m_failed = true;
      throw Error(Exit::retry, "cannot go on: " + m_whom() + " " + m_what() +
                                   (stops ? ", and this program has been told to stop" : ""));
    }
  }
  if (m_said || waited < until_said) return;
  m_said = true;
  std::string text = "waiting: " + m_whom() + " " + m_what();
  {
    MutexLock guard(said_mutex);
    if (said == text) return;
    said = text;
  }
  LongWorkInHold waiting;  // logging is long work, but the wait has lasted for some time already
  log(Level::warning, text);
}

}  // namespace gq
