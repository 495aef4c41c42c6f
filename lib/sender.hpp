// Sending jobs to a worker's intake through gearmand, and waiting for its answer that they are on its disk.
//
// Jobs travel as foreground jobs: only the worker's reply is an acknowledgement. To send a job again is safe, because its
// ID travels with it.
#pragma once

#include <string>
#include <vector>

#include "requests.hpp"
#include "store.hpp"

namespace gq {

class Sender {
 public:
  // `timeout` is how long to wait without any answer.
  Sender(std::vector<Server> servers, const std::string& function, Millis timeout);

  // Sends jobs and answers for each, in order. An answer of Outcome::refused with nothing sent, or ::unknown, comes when
  // the time is up. Throws Error before anything was sent: unavailable where no server can be reached, retry where no
  // worker serves the function.
  std::vector<Answer> send(const std::vector<NewJob>& jobs);

 private:
  Requests m_requests;
  Millis m_timeout;
};

}  // namespace gq
