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

}  // namespace

struct Requests::Request {
  Requests* requests;
  size_t number;
  bool done = false;
  std::string failure;
};

gearman_return_t Requests::on_complete(gearman_task_st* task) noexcept {
  auto* request = static_cast<Request*>(gearman_task_context(task));
  try {
    std::string_view result(static_cast<const char*>(gearman_task_data(task)), gearman_task_data_size(task));
    request->done = request->requests->m_answered(request->number, result);
    if (!request->done) request->failure = "the worker answered: " + printable(result);
  } catch (...) {
    return GEARMAN_ERROR;
  }
  return GEARMAN_SUCCESS;
}

gearman_return_t Requests::on_fail(gearman_task_st* task) noexcept {
  try {
    static_cast<Request*>(gearman_task_context(task))->failure = "the worker failed";
  } catch (...) {
    return GEARMAN_ERROR;
  }
  return GEARMAN_SUCCESS;
}

Requests::Requests(std::vector<Server> servers, std::string gearman_function, std::string nobody)
    : m_servers(std::move(servers)), m_function(std::move(gearman_function)), m_nobody(std::move(nobody)) {
  m_warned.resize(m_servers.size());
}

Requests::~Requests() = default;

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
      gearman_client_add_options(client->get(), GEARMAN_CLIENT_NON_BLOCKING);
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

void Requests::start(const std::vector<std::string_view>& payloads, Answered answered) {
  m_answered = std::move(answered);
  m_running.clear();
  for (size_t i = 0; i < payloads.size(); ++i) m_running.push_back({this, i, false, {}});
  m_state = GEARMAN_SUCCESS;
  for (size_t i = payloads.size(); i-- > 0 && m_state == GEARMAN_SUCCESS;)  // libgearman sends the last one first
    gearman_client_add_task(m_client.get(), nullptr, &m_running[i], m_function.c_str(), new_ulid().c_str(), payloads[i].data(),
                            payloads[i].size(), &m_state);
  if (m_state == GEARMAN_SUCCESS) m_state = gearman_client_run_tasks(m_client.get());
}

bool Requests::wait(Millis timeout) {
  if (m_state != GEARMAN_IO_WAIT) return true;
  gearman_client_set_timeout(m_client.get(), std::max(static_cast<int>(timeout.count()), 1));  // with 0 libgearman looks at nothing
  gearman_return_t rc = gearman_client_wait(m_client.get());
  if (rc == GEARMAN_TIMEOUT) return false;
  m_state = gearman_failed(rc) && rc != GEARMAN_IO_WAIT ? rc : gearman_client_run_tasks(m_client.get());
  return m_state != GEARMAN_IO_WAIT;
}

std::string Requests::finish(Clock::time_point deadline) {
  auto left = [&] { return std::chrono::ceil<Millis>(std::max(deadline - Clock::now(), Clock::duration::zero())); };
  while (!wait(left()))
    if (left() == Millis::zero()) m_state = GEARMAN_TIMEOUT;
  gearman_client_task_free_all(m_client.get());
  std::string reason = gearman_failed(m_state) && m_state != GEARMAN_TIMEOUT ? reason_text(m_state) : "";
  bool all = true;
  for (const auto& r : m_running) {
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
