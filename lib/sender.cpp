#include "sender.hpp"

#include <algorithm>
#include <thread>

#include "log.hpp"
#include "text.hpp"
#include "ulid.hpp"
#include "wire.hpp"

namespace gq {
namespace {

constexpr Millis status_interval{1000};
constexpr Millis server_timeout{3000};
// Gearman jobs in flight: enough to keep the worker's disk busy while others travel.
constexpr size_t window = 16;

// One Gearman job: several small gq jobs, or a large one.
struct Group {
  size_t first = 0, count = 0;
  std::string payload;
  std::vector<std::string> ids;
  std::vector<Answer> answers;  // empty until the worker answered
  std::string failure;
};

gearman_return_t on_complete(gearman_task_st* task) noexcept {
  auto* group = static_cast<Group*>(gearman_task_context(task));
  try {
    std::string_view result(static_cast<const char*>(gearman_task_data(task)), gearman_task_data_size(task));
    if (auto answers = parse_answers(result, group->ids))
      group->answers = std::move(*answers);
    else if (result.substr(0, 4) == "bad ")  // it would say so again
      group->answers.assign(group->count, Answer{Outcome::bad, printable(result.substr(4, result.size() - 5)), 0});
    else
      group->failure = "the worker answered: " + printable(result);
  } catch (...) {
    return GEARMAN_ERROR;
  }
  return GEARMAN_SUCCESS;
}

gearman_return_t on_fail(gearman_task_st* task) noexcept {
  try {
    static_cast<Group*>(gearman_task_context(task))->failure = "the worker failed";
  } catch (...) {
    return GEARMAN_ERROR;
  }
  return GEARMAN_SUCCESS;
}

std::vector<Group> make_groups(const std::vector<NewJob>& jobs) {
  std::vector<Group> groups;
  for (size_t i = 0; i < jobs.size(); ++i) {
    size_t size = jobs[i].head.size() + jobs[i].data.size();
    if (groups.empty() || groups.back().count == max_group_jobs ||
        groups.back().payload.size() + size > max_group_bytes) {
      groups.emplace_back();
      groups.back().first = i;
    }
    Group& g = groups.back();
    if (g.count == 0) g.payload.reserve(std::max(size, max_group_bytes / 4));
    g.payload += jobs[i].head;
    g.payload += jobs[i].data;
    g.ids.push_back(jobs[i].record.meta.id);
    ++g.count;
  }
  return groups;
}

}  // namespace

Sender::Sender(std::vector<Server> servers, std::string function, Millis timeout)
    : m_servers(std::move(servers)), m_function(std::move(function)), m_timeout(timeout) {
  m_warned.resize(m_servers.size());
}

// Finds a server with a worker for the function. Whether the worker lives, only its answer tells.
void Sender::connect(Clock::time_point deadline) {
  for (;;) {
    auto asked = Clock::now();
    bool reached = false;
    std::string reason;
    for (size_t n = 0; n < m_servers.size(); ++n) {
      size_t i = (m_first + n) % m_servers.size();
      auto workers = capable_workers(m_servers[i], record_function(m_function), server_timeout, reason);
      if (!workers && m_servers.size() > 1 && !m_warned[i]) {
        log(Level::warning, "cannot reach " + m_servers[i].name() + ": " + reason);
        m_warned[i] = true;
      }
      reached |= workers.has_value();
      if (workers.value_or(0) == 0) continue;
      auto left = std::chrono::duration_cast<Millis>(deadline - Clock::now());
      auto client = make_client(m_servers[i], std::max(left, Millis(1)));
      if (!client) continue;
      gearman_client_set_complete_fn(client->get(), on_complete);
      gearman_client_set_fail_fn(client->get(), on_fail);
      m_client = std::move(*client);
      m_first = i;
      return;
    }
    if (!reached)
      throw Error(Exit::unavailable, "cannot reach a Gearman server" +
                                         (m_servers.size() == 1 ? " at " + m_servers[0].name() + ": " + reason
                                                                : ": tried " + std::to_string(m_servers.size())));
    if (asked >= deadline)
      throw Error(Exit::retry, "no worker serves the function " + printable(m_function) + " (is a gq-worker running?)");
    std::this_thread::sleep_until(std::min(asked + status_interval, deadline));
  }
}

std::vector<Answer> Sender::send(const std::vector<NewJob>& jobs) {
  std::vector<Group> groups = make_groups(jobs);
  auto deadline = Clock::now() + m_timeout;
  bool sent = false;
  std::string reason = "no answer in time";
  for (;;) {
    std::vector<Group*> open;
    for (auto& g : groups)
      if (g.answers.empty()) open.push_back(&g);
    if (open.empty()) break;
    if (open.size() > window) open.resize(window);
    try {
      if (!m_client) connect(deadline);
    } catch (const Error& e) {
      if (!sent) throw;
      reason = e.what();
      if (Clock::now() >= deadline) break;
      std::this_thread::sleep_for(std::min<Clock::duration>(status_interval, deadline - Clock::now()));
      continue;
    }
    auto left = std::chrono::duration_cast<Millis>(deadline - Clock::now());
    gearman_client_set_timeout(m_client.get(), static_cast<int>(std::max<int64_t>(left.count(), 1)));
    gearman_return_t rc = GEARMAN_SUCCESS;
    std::vector<std::string> uniques;
    for (auto g = open.rbegin(); g != open.rend() && rc == GEARMAN_SUCCESS; ++g) {  // libgearman sends the last one first
      uniques.push_back(new_ulid());
      gearman_client_add_task(m_client.get(), nullptr, *g, record_function(m_function).c_str(), uniques.back().c_str(),
                              (*g)->payload.data(), (*g)->payload.size(), &rc);
    }
    sent = true;
    if (rc == GEARMAN_SUCCESS) rc = gearman_client_run_tasks(m_client.get());
    gearman_client_task_free_all(m_client.get());
    bool progress = false;
    for (auto* g : open) {
      progress |= !g->answers.empty();
      if (!g->failure.empty()) reason = std::exchange(g->failure, {});
    }
    if (progress) deadline = Clock::now() + m_timeout;
    bool all = std::all_of(open.begin(), open.end(), [](auto* g) { return !g->answers.empty(); });
    if (all) continue;
    // After a timeout or an error with tasks in flight the client is out of step for good.
    m_client.reset();
    m_first = (m_first + 1) % m_servers.size();  // a worker that is registered there may live no more
    if (gearman_failed(rc) && rc != GEARMAN_TIMEOUT) reason = reason_text(rc);
    if (Clock::now() >= deadline) break;
    std::this_thread::sleep_for(std::min<Clock::duration>(Millis(100), deadline - Clock::now()));
  }
  std::vector<Answer> answers;
  for (auto& g : groups) {
    if (g.answers.empty()) g.answers.assign(g.count, Answer{Outcome::unknown, reason, 0});
    answers.insert(answers.end(), g.answers.begin(), g.answers.end());
  }
  return answers;
}

}  // namespace gq
