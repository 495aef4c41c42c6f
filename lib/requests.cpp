#include "requests.hpp"

#include <algorithm>
#include <thread>

#include "error.hpp"
#include "log.hpp"
#include "text.hpp"
#include "ulid.hpp"

namespace gq {
namespace {

constexpr Millis status_interval{1000};
constexpr Millis server_timeout{3000};

struct Request {
  size_t number;
  const Requests::Answered* answered;
  bool done = false;
  std::string failure;
};

gearman_return_t on_complete(gearman_task_st* task) noexcept {
  auto* request = static_cast<Request*>(gearman_task_context(task));
  try {
    std::string_view result(static_cast<const char*>(gearman_task_data(task)), gearman_task_data_size(task));
    request->done = (*request->answered)(request->number, result);
    if (!request->done) request->failure = "the worker answered: " + printable(result);
  } catch (...) {
    return GEARMAN_ERROR;
  }
  return GEARMAN_SUCCESS;
}

gearman_return_t on_fail(gearman_task_st* task) noexcept {
  try {
    static_cast<Request*>(gearman_task_context(task))->failure = "the worker failed";
  } catch (...) {
    return GEARMAN_ERROR;
  }
  return GEARMAN_SUCCESS;
}

}  // namespace

Requests::Requests(std::vector<Server> servers, std::string gearman_function, std::string nobody)
    : m_servers(std::move(servers)), m_function(std::move(gearman_function)), m_nobody(std::move(nobody)) {
  m_warned.resize(m_servers.size());
}

void Requests::connect(Clock::time_point deadline) {
  while (!m_client) {
    auto asked = Clock::now();
    bool reached = false;
    std::string reason;
    for (size_t n = 0; n < m_servers.size() && !m_client; ++n) {
      size_t i = (m_first + n) % m_servers.size();
      auto workers = capable_workers(m_servers[i], m_function, server_timeout, reason);
      if (!workers && m_servers.size() > 1 && !m_warned[i]) {
        log(Level::warning, "cannot reach " + m_servers[i].name() + ": " + reason);
        m_warned[i] = true;
      }
      reached |= workers.has_value();
      if (workers.value_or(0) == 0) continue;
      auto client = make_client(m_servers[i], server_timeout);
      if (!client) continue;
      gearman_client_set_complete_fn(client->get(), on_complete);
      gearman_client_set_fail_fn(client->get(), on_fail);
      m_client = std::move(*client);
      m_first = i;
    }
    if (m_client) return;
    if (!reached)
      throw Error(Exit::unavailable, "cannot reach a Gearman server" +
                                         (m_servers.size() == 1 ? " at " + m_servers[0].name() + ": " + reason
                                                                : ": tried " + std::to_string(m_servers.size())));
    if (asked >= deadline) throw Error(Exit::retry, m_nobody);
    std::this_thread::sleep_until(std::min(asked + status_interval, deadline));
  }
}

std::string Requests::run(const std::vector<std::string_view>& payloads, const Answered& answered, Clock::time_point deadline) {
  auto left = std::chrono::duration_cast<Millis>(deadline - Clock::now());
  gearman_client_set_timeout(m_client.get(), static_cast<int>(std::max<int64_t>(left.count(), 1)));
  gearman_return_t rc = GEARMAN_SUCCESS;
  std::vector<Request> requests;
  for (size_t i = 0; i < payloads.size(); ++i) requests.push_back({i, &answered, false, {}});
  for (size_t i = payloads.size(); i-- > 0 && rc == GEARMAN_SUCCESS;)  // libgearman sends the last one first
    gearman_client_add_task(m_client.get(), nullptr, &requests[i], m_function.c_str(), new_ulid().c_str(), payloads[i].data(),
                            payloads[i].size(), &rc);
  if (rc == GEARMAN_SUCCESS) rc = gearman_client_run_tasks(m_client.get());
  gearman_client_task_free_all(m_client.get());
  std::string reason = gearman_failed(rc) && rc != GEARMAN_TIMEOUT ? reason_text(rc) : "";
  bool all = true;
  for (const auto& r : requests) {
    all = all && r.done;
    if (reason.empty() && !r.failure.empty()) reason = r.failure;
  }
  if (all) return {};
  // After a timeout or an error with tasks in flight the client is out of step for good.
  m_client.reset();
  m_first = (m_first + 1) % m_servers.size();  // a worker that is registered there may live no more
  return reason.empty() ? "no answer in time" : reason;
}

}  // namespace gq
