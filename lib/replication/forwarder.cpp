#include "gq/replication/forwarder.hpp"

#include <algorithm>

#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/base/thread.hpp"
#include "gq/replication/wire.hpp"
#include "gq/store/exchange.hpp"

namespace gq {
namespace {

constexpr Millis first_pause{2'000}, longest_pause{60'000};

// How many of the jobs from `first` on make one group.
size_t size_of_group(const std::vector<NewJob>& jobs, size_t first) {
  size_t count = 0, bytes = 0;
  for (size_t i = first; i < jobs.size() && count < max_group_jobs; ++i, ++count) {
    bytes += jobs[i].head.size() + jobs[i].data.size();
    if (count > 0 && bytes > max_group_bytes) break;
  }
  return count;
}

}  // namespace

std::vector<Answer> send_in_order(Sender& sender, const std::vector<NewJob>& jobs) {
  std::vector<Answer> answers;
  std::string reason;
  for (size_t at = 0; at < jobs.size() && reason.empty();) {
    const size_t count = size_of_group(jobs, at);
    const auto begin = jobs.begin() + static_cast<long>(at);
    try {
      for (auto& answer : sender.send({begin, begin + static_cast<long>(count)})) {
        if (may_take_later(answer)) reason = answer.reason;
        answers.push_back(std::move(answer));
      }
    } catch (const Error& e) {
      if (e.code() != Exit::unavailable && e.code() != Exit::retry) throw;
      reason = e.what();
    }
    at += count;
  }
  answers.resize(jobs.size(), Answer{Outcome::refused, reason, 0});
  return answers;
}

std::string refused_text(const std::string& id, const std::string& why) {
  return id + ": spooled, and refused for good: " + why + "; it is kept as dead";
}

std::vector<Answer> spool(Queue& store, std::vector<NewJob> jobs) {
  for (auto& job : jobs) {
    job.add.spooled = true;
    job.encode();
  }
  return store.add(jobs);
}

Forwarder::Forwarder(Queue& store, std::vector<Server> servers, Millis timeout)
    : m_store(store), m_servers(std::move(servers)), m_timeout(timeout) {}

Forwarder::~Forwarder() {
  {
    MutexLock guard(m_mutex);
    m_stop = true;
  }
  m_stopping.notify_all();
  if (m_thread.joinable()) m_thread.join();
}

bool Forwarder::has_spooled(const std::string& function) {
  bool has = false;
  m_store.look([&](Fold& fold) { has = fold.counters(function).spooled > 0; });
  return has;
}

// Returns those of the functions that have spooled jobs.
std::vector<std::string> Forwarder::functions_with_spooled(const std::vector<std::string>& functions) {
  std::vector<std::string> found;
  bool any = false;
  m_store.look([&](Fold& fold) {
    std::vector<std::string> first;
    std::string cursor;
    fold.page('S', "", 1, cursor, first);
    any = !first.empty();
  });
  if (!any) return found;
  m_store.for_each_function([&](const std::string& function, const Counters& counters) {
    const bool is_wanted =
        functions.empty() || std::find(functions.begin(), functions.end(), function) != functions.end();
    if (is_wanted && counters.spooled > 0) found.push_back(function);
  });
  return found;
}

// After it has freed the lock it looks once more: a process that found the lock taken has spooled its job meanwhile,
// and relies on this one.
Forwarder::Pass Forwarder::run(const std::vector<std::string>& functions) {
  Pass pass;
  while (pass.trouble.empty() && !m_stop) {
    const auto found = functions_with_spooled(functions);
    if (found.empty()) break;
    const Fd lock = m_store.lock_forwarding();
    pass.is_busy = !lock;
    if (pass.is_busy) break;
    for (const auto& function : found) forward(function, pass);
  }
  return pass;
}

void Forwarder::forward(const std::string& function, Pass& pass) {
  auto& sender = m_senders[function];
  if (!sender) sender = std::make_unique<Sender>(m_servers, function, m_timeout, true, false, &m_stop);
  for (;;) {
    if (m_stop) return;
    std::vector<NewJob> jobs;
    std::vector<std::string> taken;
    std::map<std::string, std::string> refused;
    size_t bytes = 0;
    const auto found = m_store.spooled(function, most_claims);
    if (found.empty()) return;
    for (const auto& [id, job] : found) {
      if (!jobs.empty() && bytes + job.size > max_group_bytes) break;
      std::string why;
      auto workload = m_store.workload(id, job, why);
      auto data = !workload        ? std::nullopt
                  : workload->blob ? read_file(workload->blob.get(), job.size, workload->path)
                                   : std::optional(std::move(workload->data));
      if (!data) {
        refused[id] = why.empty() ? "its workload cannot be read" : why;
        continue;
      }
      bytes += data->size();
      jobs.push_back(with_data({.id = id, .at = job.enqueued_at, .given = true, .asked = job}, std::move(*data)));
    }
    const auto answers = send_in_order(*sender, jobs);
    std::string trouble;
    for (size_t i = 0; i < jobs.size(); ++i) {
      std::string why = answers[i].reason;
      limit_reason(why);
      if (has_taken(answers[i])) taken.push_back(jobs[i].add.id);
      else if (may_take_later(answers[i])) trouble = why.empty() ? "it is refused" : why;
      else refused[jobs[i].add.id] = why.empty() ? "another job has this ID or key" : why;
    }
    m_store.end_spooled(taken, refused);
    pass.forwarded += taken.size();
    pass.dead.insert(refused.begin(), refused.end());
    if (trouble.empty()) continue;
    if (pass.trouble.empty()) pass.trouble = trouble;
    return;
  }
}

void Forwarder::start() {
  m_thread = start_thread([this] { work(); });
}

void Forwarder::work() {
  std::string trouble;
  Millis pause = first_pause;
  MutexLock guard(m_mutex);
  while (!m_stopping.wait_for(guard, pause, [this] { return m_stop.load(); })) {
    guard.unlock();
    std::string now;
    try {
      const Pass pass = run();
      now = pass.trouble.empty() ? "" : "cannot forward the spooled jobs: " + pass.trouble;
      for (const auto& [id, why] : pass.dead) log(Level::warning, refused_text(id, why));
    } catch (const Error& e) {
      now = std::string("cannot forward the spooled jobs: ") + e.what();
    }
    pause = now.empty() ? first_pause : std::min(2 * pause, longest_pause);
    if (now != trouble && !now.empty()) log(Level::warning, now);
    trouble = now;
    guard.lock();
  }
}

}  // namespace gq
