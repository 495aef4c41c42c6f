// Requests: foreground Gearman jobs on one function whose results are answers, through whichever server has a worker for it.
//
// A fresh Gearman unique is used for each, since gearmand drops jobs by their unique. An object belongs to one thread.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gearman.hpp"

namespace gq {

class Requests {
 public:
  using Clock = std::chrono::steady_clock;

  // `nobody` is what Error(retry) says when no worker serves the Gearman function.
  Requests(std::vector<Server> servers, std::string gearman_function, std::string nobody);
  ~Requests();

  // Finds a server with a worker for the function; whether that lives, only its answer tells. Returns at once when one has been
  // found and has not failed since. Throws Error, once the deadline is over: unavailable where no server can be reached,
  // retry where no worker serves the function.
  void connect(Clock::time_point deadline);

  // Sends these, as far as that goes without waiting, and calls `answered` with the number and the result of each that is
  // answered; false from it means that the result is none. The payloads must stay until finish(). connect() has to be called before.
  using Answered = std::function<bool(size_t, std::string_view)>;
  void start(const std::vector<std::string_view>& payloads, Answered answered);

  // Goes on with that for so long; true when there is nothing more to wait for.
  bool wait(Millis timeout);

  // Goes on until the deadline. Returns an empty string when all were answered, else why not; then the next connect() tries
  // another server first.
  std::string finish(Clock::time_point deadline);

 private:
  struct Request;
  static gearman_return_t on_complete(gearman_task_st* task) noexcept;
  static gearman_return_t on_fail(gearman_task_st* task) noexcept;

  std::vector<Server> m_servers;
  std::string m_function, m_nobody;
  ClientHandle m_client{nullptr, gearman_client_free};
  size_t m_first = 0;  // the server to try first
  std::vector<bool> m_warned;  // by server
  // What is under way:
  Answered m_answered;
  std::deque<Request> m_running;
  gearman_return_t m_state = GEARMAN_SUCCESS;  // GEARMAN_IO_WAIT: there is more to come
};

}  // namespace gq
