// Sending jobs to a worker's intake through gearmand, and waiting for its answer that they are on its disk.
//
// Jobs travel as foreground jobs: only the worker's reply is an acknowledgement. To send a job again is safe, because its
// ID travels with it; a fresh Gearman unique is used for each attempt, since gearmand drops jobs by their unique.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gearman.hpp"
#include "store.hpp"

namespace gq {

class Sender {
 public:
  // `timeout` is how long to wait without any answer.
  Sender(std::vector<Server> servers, std::string function, Millis timeout);

  // Sends jobs and answers for each, in order. An answer of Outcome::refused with nothing sent, or ::unknown, comes when
  // the time is up. Throws Error before anything was sent: unavailable where no server can be reached, retry where no
  // worker serves the function.
  std::vector<Answer> send(const std::vector<NewJob>& jobs);

 private:
  using Clock = std::chrono::steady_clock;
  void connect(Clock::time_point deadline);

  std::vector<Server> m_servers;
  std::string m_function;
  Millis m_timeout;
  ClientHandle m_client{nullptr, gearman_client_free};
  size_t m_first = 0;  // the server to try first
  std::vector<bool> m_warned;  // by server
};

}  // namespace gq
