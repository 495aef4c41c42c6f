#include "intake.hpp"

#include <algorithm>

#include "log.hpp"
#include "text.hpp"
#include "wire.hpp"

namespace gq {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Millis count_interval{1000};
constexpr Millis first_retry{100}, longest_retry{5000};

}  // namespace

Intake::Intake(Store& store, Config config, Add add, Backlog& backlog)
    : m_store(store),
      m_config(std::move(config)),
      m_add(std::move(add)),
      m_backlog(backlog),
      m_receivers(m_config.servers, services(), [this] { return wanted(); }) {}

std::vector<Service> Intake::services() {
  std::vector<Service> services;
  for (const auto& f : m_config.functions) {
    services.push_back({record_function(f), false, [this, f](std::string_view payload) { return take_records(payload, f); }});
    if (m_config.raw) services.push_back({f, true, [this, f](std::string_view payload) { return take_raw(payload, f); }});
  }
  return services;
}

void Intake::start() {
  if (m_backlog.limit > 0) count_backlog();
  m_receivers.start();
}

// What others have finished since is seen in the store; looked at once a second at most.
bool Intake::backlog_full() {
  if (!m_backlog.full()) return false;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (Clock::now() < m_count_at) return true;
    m_count_at = Clock::now() + count_interval;
  }
  count_backlog();
  return m_backlog.full();
}

void Intake::count_backlog() {
  try {
    int64_t live = 0;
    m_store.look([&](Fold& fold) {
      live = 0;
      auto counters = fold.counters();
      for (const auto& f : m_config.functions)
        if (auto it = counters.find(f); it != counters.end()) live += static_cast<int64_t>(it->second.live());
    });
    m_backlog.live = live;
  } catch (const Error&) {  // then it stays what it was
  }
}

Receivers::Serve Intake::wanted() {
  if (backlog_full()) return Receivers::Serve::nothing;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (!m_refusing) return Receivers::Serve::all;
    if (Clock::now() < m_retry_at) return Receivers::Serve::own;
  }
  try {
    m_store.check_room(0);
    std::lock_guard<std::mutex> guard(m_mutex);
    m_refusing = false;
    m_retry_delay = Millis(0);
    return Receivers::Serve::all;
  } catch (const Error& e) {
    refused(e.what());
    return Receivers::Serve::own;
  }
}

void Intake::accepted() {
  ++m_backlog.live;
  std::lock_guard<std::mutex> guard(m_mutex);
  m_told.clear();
}

void Intake::refused(const std::string& reason) {
  std::lock_guard<std::mutex> guard(m_mutex);
  if (Clock::now() < m_retry_at) return;
  if (m_told != reason) log(Level::warning, "taking no more jobs: " + reason);
  m_told = reason;
  m_refusing = true;
  m_retry_delay = std::clamp(m_retry_delay * 2, first_retry, longest_retry);
  m_retry_at = Clock::now() + m_retry_delay;
}

std::string Intake::take_records(std::string_view payload, const std::string& function) {
  std::string reason;
  auto jobs = parse_group(payload, function, reason);
  if (!jobs) return "bad " + reason + "\n";
  std::vector<std::string> ids;
  for (const auto& job : *jobs) ids.push_back(job.record.meta.id);
  auto answered = m_store.resolve(*jobs);
  std::vector<NewJob> good;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!answered[i] && (*jobs)[i].data.size() > m_config.max_workload) answered[i] = {Outcome::bad, "it is larger than the worker's --max-workload", 0};
    if (!answered[i]) good.push_back(std::move((*jobs)[i]));
  }
  std::string result;
  std::vector<Answer> answers;
  if (!good.empty()) answers = m_add(std::move(good));
  auto answer = answers.begin();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (answered[i]) {
      result += encode_answer(ids[i], *answered[i]);
      continue;
    }
    result += encode_answer(ids[i], *answer);
    if (answer->outcome == Outcome::queued) accepted();
    if (answer->outcome == Outcome::refused) refused(answer->reason);
    ++answer;
  }
  return result;
}

// nullopt: not stored; the job has to stay with gearmand.
std::optional<std::string> Intake::take_raw(std::string_view payload, const std::string& function) {
  if (payload.size() > m_config.max_workload)
    log(Level::warning, "a raw job of " + std::to_string(payload.size()) + " bytes for " + function +
                            " is over --max-workload; it is kept all the same");
  NewJob job = make_job(function, payload);
  auto answer = m_add({job}).front();
  if (answer.outcome == Outcome::queued) {
    accepted();
    return encode_answer(job.record.meta.id, answer);
  }
  refused(answer.reason);
  return std::nullopt;
}

}  // namespace gq
