// Sends jobs to a worker's intake through gearmand, and waits for the answer that the jobs are on the worker's disk.
//
// Jobs travel as foreground jobs, because only the worker's reply is an acknowledgement. Sending a job again is safe,
// because its ID travels with it.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "gq/gearman/requests.hpp"
#include "gq/state/answer.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

class Sender {
 public:
  // `timeout` is how long to wait for an answer, counted from the beginning, or from the last answer, or from the last
  // progress of a large payload. If a server has a worker and no answer comes, the next server gets the same time.
  // `in_order`: each group of jobs is sent after the answer to the group before it; otherwise the receivers of a worker
  // may take the groups in another order. Unless `patient`, send() does not wait for a worker that serves the function.
  // Once `stop` is true, it does not wait.
  Sender(std::vector<Server> servers, const std::string& function, Millis timeout, bool in_order, bool patient = true,
         const std::atomic<bool>* stop = nullptr);

  // Sends jobs and returns an answer for each, in their order. When the time is up, the answer is Outcome::refused for
  // jobs that were not sent, and ::unknown for jobs that were sent. Throws Error only before anything was sent:
  // unavailable if no server can be reached, retry if no worker serves the function.
  std::vector<Answer> send(const std::vector<NewJob>& jobs);

 private:
  const size_t m_servers;
  Requests m_requests;
  const Millis m_timeout;
  const size_t m_window;
  const bool m_patient;
  const std::atomic<bool>* const m_stop;
};

}  // namespace gq
