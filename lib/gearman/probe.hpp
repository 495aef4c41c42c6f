// A Probe finds out whether a Gearman server answers. Several servers are probed at the same time, so that no server
// delays another: a server may accept connections and not answer, may drop them silently, or its name may resolve
// slowly or not at all. The question begins with a line of gearmand's text protocol.
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

// Asks one server, at all its addresses at the same time.
class Probe {
 public:
  using Clock = std::chrono::steady_clock;
  enum class State {
    pending,
    failed,  // no address answers; reason() says why
    no,      // the server answers, but gives another answer than the wanted one
    yes,     // the server gives the wanted answer; take() is the connection
  };
  // A question, and how to check its answer. The answer is read line by line, and not stored.
  struct Question {
    std::string text;
    std::function<bool(std::string_view line)> is_last;
    std::function<bool(std::string_view line)> good;  // whether this line is the wanted answer
  };

  Probe(const Server& server, Question question);
  Probe(Probe&&) noexcept;
  ~Probe();

  // Continues as far as possible without waiting.
  State step();
  // Appends the descriptors to wait for. until() returns until when to wait at most.
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
  std::shared_ptr<Lookup> m_lookup;  // empty when it has ended
  std::vector<Attempt> m_attempts;   // only those that have not ended
  bool m_answered = false;
  Clock::time_point m_until = Clock::time_point::max();
  Fd m_taken;
};

// The question how many workers the server has for this function. The server may count workers that are dead.
Probe::Question asks_for_workers(const std::string& function);

// Decides which of several servers to take. `states` is the latest state of each server, in the order of preference.
struct Choice {
  enum class What { wait, take, no_worker, unreachable };
  What what = What::wait;
  size_t index = 0;  // of the chosen server
};
struct Search {
  Probe::Clock::time_point begun, deadline;
  std::optional<Probe::Clock::time_point> found;  // when the first server with a worker was found
  bool patient = false;                           // wait for a worker that may come later
};
Choice choose(const std::vector<Probe::State>& states, const Search& search, Probe::Clock::time_point now);

// How long to wait for a preferred server after another server was found.
inline constexpr Millis preference{250};
// How long to wait for the other servers if one server answers that it has no worker.
inline constexpr Millis enough{2000};

// Connects to a server, and checks that it answers. Returns an empty Fd and sets `reason` if that fails or takes too
// long, or if `stop` becomes true.
Fd reach(const Server& server, Millis timeout, const std::atomic<bool>& stop, std::string& reason);

// Returns the address of the server at the other end of a connection; nullopt if the server is gone. A caller that
// connects to this address again needs no name lookup, and tries no dead address.
std::optional<Server> address_of(const Fd& connection);

// Waits for any of these descriptors, until `deadline` at most. With `stop`, waits only briefly, so that the caller can
// check it.
void wait_for_any(const std::vector<pollfd>& fds, Probe::Clock::time_point deadline, const std::atomic<bool>* stop);

}  // namespace gq
