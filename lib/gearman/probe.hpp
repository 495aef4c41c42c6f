// Probes: whether a Gearman server answers. Several servers are asked at the same time, so that none delays another: a
// server may take connections and say nothing, may drop them silently, or its name may resolve slowly or not at all.
// The question begins with a line of gearmand's text protocol.
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/resolve.hpp"
#include "gq/gearman/gearman.hpp"

namespace gq {

// Asks one server, at all its addresses at once.
class Probe {
 public:
  using Clock = std::chrono::steady_clock;
  enum class State {
    pending,
    failed,  // no address answers; reason() says why
    no,      // the server answers, but not as wanted
    yes,     // take() is the connection on which the server said so
  };
  // The answer is read line by line; no line is kept.
  struct Question {
    std::string text;
    std::function<bool(std::string_view line)> is_last;
    std::function<bool(std::string_view line)> good;  // whether a line says what was asked for
  };

  Probe(const Server& server, Question question);
  Probe(Probe&&) noexcept;
  ~Probe();

  // Advances as far as possible without waiting.
  State step();
  // The descriptors to wait for, and until when at most.
  void waits_for(std::vector<pollfd>& fds) const;
  Clock::time_point until() const { return m_until; }
  const std::string& reason() const { return m_reason; }
  Fd take() { return std::move(m_taken); }

 private:
  struct Attempt;
  void begin(const Lookup::Result& found);
  bool go_on(Attempt& attempt);

  const Question m_question;
  State m_state = State::pending;
  std::string m_reason;
  std::shared_ptr<Lookup> m_lookup;  // until it is over
  std::vector<Attempt> m_attempts;   // that are not over
  bool m_answered = false;
  Clock::time_point m_until = Clock::time_point::max();
  Fd m_taken;
};

// "How many workers are there for this function?" The server may count workers that are dead.
Probe::Question asks_for_workers(const std::string& function);

// Which of several servers to take. `states` is the last state of each, in the order of preference.
struct Choice {
  enum class What { wait, take, no_worker, unreachable };
  What what = What::wait;
  size_t index = 0;  // of the server to take
};
struct Search {
  Probe::Clock::time_point begun, deadline;
  std::optional<Probe::Clock::time_point> found;  // when the first was found
  bool patient = false;                           // waits for a worker that comes later
};
Choice choose(const std::vector<Probe::State>& states, const Search& search, Probe::Clock::time_point now);

// How long to wait for a preferred server when another one has been found.
inline constexpr Millis preference{250};
// How long to wait for other servers when one answers and has no worker.
inline constexpr Millis enough{2000};

// A connection to a server that answers. Empty, with a reason, if that takes too long, or if `stop` becomes true.
Fd reach(const Server& server, Millis timeout, const std::atomic<bool>& stop, std::string& reason);

// The address of the server at the other end. A caller that uses it needs no name lookup and tries no dead address
// again. nullopt if the server is gone.
std::optional<Server> address_of(const Fd& connection);

// Waits for any of these, until `deadline` at most; waits only briefly if `stop` must be checked.
void wait_for_any(const std::vector<pollfd>& fds, Probe::Clock::time_point deadline, const std::atomic<bool>* stop);

}  // namespace gq
