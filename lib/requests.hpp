// Requests: foreground Gearman jobs on one function whose results are answers, through whichever server has a worker for it.
//
// A fresh Gearman unique is used for each, since gearmand drops jobs by their unique. An object belongs to one thread.
#pragma once

#include <chrono>
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

  // Finds a server with a worker for the function; whether that lives, only its answer tells. Returns at once when one has been
  // found and has not failed since. Throws Error, once the deadline is over: unavailable where no server can be reached,
  // retry where no worker serves the function.
  void connect(Clock::time_point deadline);

  // Sends these and calls `answered` with the number and the result of each that is answered; false from it means that the
  // result is none. Returns an empty string when all were answered, else why not; then the next connect() tries another
  // server first. connect() has to be called before.
  using Answered = std::function<bool(size_t, std::string_view)>;
  std::string run(const std::vector<std::string_view>& payloads, const Answered& answered, Clock::time_point deadline);

 private:
  std::vector<Server> m_servers;
  std::string m_function, m_nobody;
  ClientHandle m_client{nullptr, gearman_client_free};
  size_t m_first = 0;  // the server to try first
  std::vector<bool> m_warned;  // by server
};

}  // namespace gq
