// Probes: whether a Gearman server answers, asked of several at the same time, so that none holds up another: one that
// takes connections and says nothing, one that swallows them, a name that resolves slowly or not. What is asked begins
// with a line of gearmand's text protocol.
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
    failed,  // none of them answers; reason() says why
    no,      // it answers, and that is not what was asked for
    yes,     // take() is the connection on which it said so
  };
  // The answer is read line by line, and none is kept.
  struct Question {
    std::string text;
    std::function<bool(std::string_view line)> is_last;
    std::function<bool(std::string_view line)> good;  // whether one of them says what was asked for
  };

  Probe(const Server& server, const Question& question);
  Probe(Probe&&) noexcept;
  ~Probe();

  // Goes on as far as that goes without waiting.
  State step();
  // What it waits for, and until when at most.
  void waits_for(std::vector<pollfd>& fds) const;
  Clock::time_point until() const { return m_until; }
  const std::string& reason() const { return m_reason; }
  Fd take() { return std::move(m_taken); }

 private:
  struct Attempt;
  void begin(const Lookup::Result& found);
  bool go_on(Attempt& attempt);

  const Question* m_question;
  State m_state = State::pending;
  std::string m_reason;
  std::shared_ptr<Lookup> m_lookup;  // until it is over
  std::vector<Attempt> m_attempts;   // that are not over
  bool m_answered = false;
  Clock::time_point m_until = Clock::time_point::max();
  Fd m_taken;
};

// "How many workers are there for this function?" They need not live any more.
Probe::Question asks_for_workers(const std::string& function);

// Which of several servers to take. `states` is what each has last said, in the order in which they are preferred.
struct Choice {
  enum class What { wait, take, nobody, unreachable };
  What what = What::wait;
  size_t index = 0;  // of the one to take
};
struct Search {
  Probe::Clock::time_point begun, deadline;
  std::optional<Probe::Clock::time_point> found;  // when the first was found
  bool patient = false;                           // to wait for a worker that comes later
};
Choice choose(const std::vector<Probe::State>& states, const Search& search, Probe::Clock::time_point now);

// One that is preferred is waited for so long when another one has been found.
inline constexpr Millis preference{250};
// With a server that answers, and has no worker, the others are waited for so long.
inline constexpr Millis enough{2000};

// A connection to a server that answers; none, with a reason, where that takes too long, or `stop` becomes true.
Fd reach(const Server& server, Millis timeout, const std::atomic<bool>& stop, std::string& reason);

// The server at the other end, by its address: with that, no name is looked up and no dead address tried again. nullopt
// where it has gone.
std::optional<Server> address_of(const Fd& connection);

// Waits for what any of these wait for, until `deadline` at most, and briefly where `stop` has to be looked at.
void wait_for_any(const std::vector<pollfd>& fds, Probe::Clock::time_point deadline, const std::atomic<bool>* stop);

}  // namespace gq
