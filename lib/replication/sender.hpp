// Sending jobs to a worker's intake through gearmand, and waiting for its answer that they are on its disk.
//
// Jobs travel as foreground jobs: only the worker's reply is an acknowledgement. To send a job again is safe, because
// its ID travels with it.
#pragma once

#include <string>
#include <vector>

#include "gq/gearman/requests.hpp"
#include "gq/store/store.hpp"

namespace gq {

class Sender {
 public:
  // `timeout` is how long to wait without any answer, from the beginning; while something large leaves, since it last
  // went on. Where a server has a worker and none answers, the next server has as long. `in_order`: no group of jobs
  // leaves before the one before it has been answered; else the receivers of a worker may take them in another order.
  Sender(std::vector<Server> servers, const std::string& function, Millis timeout, bool in_order);

  // Sends jobs and answers for each, in order. When the time is up the answer is Outcome::refused for what was not
  // sent, and ::unknown for what was. Throws Error before anything was sent: unavailable where no server can be
  // reached, retry where no worker serves the function.
  std::vector<Answer> send(const std::vector<NewJob>& jobs);

 private:
  const size_t m_servers;
  Requests m_requests;
  const Millis m_timeout;
  const size_t m_window;
};

}  // namespace gq
