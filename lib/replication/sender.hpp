// Sends jobs to a worker's intake through gearmand, and waits for the answer that they are on its disk.
//
// Jobs travel as foreground jobs, because only the worker's reply is an acknowledgement. Sending a job again is safe,
// because its ID travels with it.
#pragma once

#include <string>
#include <vector>

#include "gq/gearman/requests.hpp"
#include "gq/state/answer.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

class Sender {
 public:
  // `timeout` is how long to wait without any answer, from the beginning; while a large payload is being sent, since
  // its last progress. If a server has a worker and no answer comes, the next server gets the same time. `in_order`: no
  // group of jobs leaves before the one before it has been answered; else the receivers of a worker may take them in
  // another order.
  Sender(std::vector<Server> servers, const std::string& function, Millis timeout, bool in_order);

  // Sends jobs and answers for each, in order. When the time is up, the answer is Outcome::refused for jobs that were
  // not sent, and ::unknown for jobs that were. Throws Error before anything was sent: unavailable if no server can be
  // reached, retry if no worker serves the function.
  std::vector<Answer> send(const std::vector<NewJob>& jobs);

 private:
  const size_t m_servers;
  Requests m_requests;
  const Millis m_timeout;
  const size_t m_window;
};

}  // namespace gq
