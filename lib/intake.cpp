#include "intake.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "log.hpp"
#include "packets.hpp"
#include "text.hpp"
#include "wire.hpp"

namespace gq {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Millis work_timeout{1000};
constexpr size_t max_receivers = 16;  // for one server; more gave nothing (measured)
constexpr Millis count_interval{1000};
constexpr Millis first_retry{100}, longest_retry{5000};
// So many jobs in a row that were waiting when the one before was done call for another receiver.
constexpr int waiting_streak = 4;
// A connection on which nothing came for so long is made anew: the other end may be gone without a word, or stuck.
constexpr Millis longest_idle{60'000};

}  // namespace

struct Intake::Group {
  Server server;
  std::atomic<size_t> receivers{0};
  std::atomic<bool> down{false};
};

struct Intake::Function {
  Receiver* receiver;
  std::string name;
  bool records;
};

struct Intake::Receiver {
  Intake* intake;
  Group* group;
  bool permanent = false;
  std::thread thread;
  bool ended = false;  // guarded by m_mutex
  // The handle as the stopping thread sees it, guarded by m_mutex.
  std::optional<gearman_id_t> wake;
  // Only the receiver's own thread:
  std::vector<Function> functions;
  Clock::time_point connected_at{}, last_end{};
  Clock::duration round_trip{};
  int streak = 0;
  bool gave_back = false;  // a job that could not be stored: the connection was closed on purpose
};

Intake::Intake(Store& store, Config config, Backlog& backlog)
    : m_store(store), m_config(std::move(config)), m_backlog(backlog) {
  for (const auto& server : m_config.servers) m_groups.emplace_back().server = server;
}

Intake::~Intake() { stop(); }

void Intake::start() {
  if (m_backlog.limit > 0) count_backlog();
  for (auto& group : m_groups) add_receiver(group);
}

void Intake::stop() {
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    m_stop = true;
    for (auto& r : m_receivers)
      if (r.wake) gearman_kill(*r.wake, GEARMAN_INTERRUPT);
  }
  m_stopping.notify_all();
  for (auto& r : m_receivers)
    if (r.thread.joinable()) r.thread.join();
  m_receivers.clear();
}

void Intake::add_receiver(Group& group) {
  std::lock_guard<std::mutex> guard(m_mutex);
  if (m_stop || group.receivers >= max_receivers) return;
  for (auto it = m_receivers.begin(); it != m_receivers.end();) {
    if (it->ended) {
      it->thread.join();
      it = m_receivers.erase(it);
    } else {
      ++it;
    }
  }
  m_receivers.emplace_back();
  Receiver& r = m_receivers.back();
  r.intake = this;
  r.group = &group;
  r.permanent = group.receivers++ == 0;
  try {
    r.thread = std::thread([this, &r] { receive(r); });
  } catch (const std::system_error& e) {
    m_receivers.pop_back();
    // Those that there are go on without it.
    if (group.receivers-- == 1) throw Error(Exit::retry, "cannot start a thread: " + errno_text(e.code().value()));
  }
}

// Waits, unless the intake stops meanwhile; true when it does.
bool Intake::pause(Millis duration) {
  std::unique_lock<std::mutex> lock(m_mutex);
  return m_stopping.wait_for(lock, duration, [&] { return m_stop; });
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

Intake::Serve Intake::wanted() {
  if (backlog_full()) return Serve::nothing;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (!m_refusing) return Serve::all;
    if (Clock::now() < m_retry_at) return Serve::records;
  }
  try {
    m_store.check_room(0);
    std::lock_guard<std::mutex> guard(m_mutex);
    m_refusing = false;
    m_retry_delay = Millis(0);
    return Serve::all;
  } catch (const Error& e) {
    refused(e.what());
    return Serve::records;
  }
}

void Intake::refused(const std::string& reason) {
  std::lock_guard<std::mutex> guard(m_mutex);
  if (Clock::now() < m_retry_at) return;
  if (!m_refusing) log(Level::warning, "taking no more jobs: " + reason);
  m_refusing = true;
  m_retry_delay = std::clamp(m_retry_delay * 2, first_retry, longest_retry);
  m_retry_at = Clock::now() + m_retry_delay;
}

void Intake::receive(Receiver& self) {
  WorkerHandle worker(nullptr, gearman_worker_free);
  Serve serving = Serve::nothing;
  Millis retry{0};
  auto drop = [&] {
    {
      std::lock_guard<std::mutex> guard(m_mutex);
      self.wake.reset();
    }
    worker.reset();
  };
  auto failed = [&](const std::string& reason) {
    drop();
    if (!self.permanent) return true;
    if (!self.group->down.exchange(true))
      log(Level::warning, "cannot reach the Gearman server " + self.group->server.name() + ": " + reason +
                              "; trying again until it answers");
    retry = std::clamp(retry * 2, first_retry, longest_retry);
    return pause(retry);
  };
  for (;;) {
    Serve serve = wanted();
    if (worker && serve != serving) drop();
    if (serve == Serve::nothing) {
      if (!self.permanent || pause(first_retry)) break;
      continue;
    }
    if (!worker) {
      auto made = make_worker(self.group->server, work_timeout);
      if (!made) {
        if (failed("its name cannot be used")) break;
        continue;
      }
      worker = std::move(*made);
      serving = serve;
      self.functions.clear();
      for (const auto& f : m_config.functions) {
        self.functions.push_back({&self, f, true});
        if (serve == Serve::all) self.functions.push_back({&self, f, false});
      }
      for (auto& f : self.functions)
        gearman_worker_add_function(worker.get(), (f.records ? record_function(f.name) : f.name).c_str(), 0, on_job, &f);
      // One round trip, to tell a server that answers from one that does not, and jobs that waited from jobs that came.
      self.connected_at = Clock::now();
      gearman_return_t rc = gearman_worker_echo(worker.get(), "gq", 2);
      self.round_trip = Clock::now() - self.connected_at;
      if (gearman_failed(rc)) {
        if (failed(reason_text(rc))) break;
        continue;
      }
      if (self.group->down.exchange(false)) log(Level::info, "connected to " + self.group->server.name());
      std::lock_guard<std::mutex> guard(m_mutex);
      if (m_stop) break;
      self.wake = gearman_worker_id(worker.get());
    }
    auto start = Clock::now();
    gearman_return_t rc = gearman_worker_work(worker.get());
    {
      std::lock_guard<std::mutex> guard(m_mutex);
      if (m_stop) break;
    }
    if (std::exchange(self.gave_back, false)) {
      drop();
    } else if (rc == GEARMAN_SUCCESS) {
      retry = Millis(0);
    } else if (rc == GEARMAN_TIMEOUT && Clock::now() - start > work_timeout / 2) {
      if (!self.permanent) break;  // nothing to do for this one
      if (Clock::now() - std::max(self.last_end, self.connected_at) > longest_idle) drop();
    } else if (failed(reason_text(rc))) {
      break;
    }
  }
  drop();
  std::lock_guard<std::mutex> guard(m_mutex);
  --self.group->receivers;
  self.ended = true;
}

std::string Intake::take_records(std::string_view payload, const std::string& function) {
  std::string reason;
  auto jobs = parse_group(payload, function, reason);
  if (!jobs) return "bad " + reason + "\n";
  auto too_large = [&](const NewJob& job) { return job.data.size() > m_config.max_workload; };
  std::vector<NewJob> good;
  for (const auto& job : *jobs)
    if (!too_large(job)) good.push_back(job);
  std::string result;
  auto answers = m_store.add(good);
  auto answer = answers.begin();
  for (const auto& job : *jobs) {
    const std::string& id = job.record.meta.id;
    if (too_large(job)) {
      result += encode_answer(id, {Outcome::bad, "it is larger than the worker's --max-workload", 0});
      continue;
    }
    result += encode_answer(id, *answer);
    if (answer->outcome == Outcome::queued) ++m_backlog.live;
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
  auto answer = m_store.add({job}).front();
  if (answer.outcome == Outcome::queued) {
    ++m_backlog.live;
    return encode_answer(job.record.meta.id, answer);
  }
  refused(answer.reason);
  return std::nullopt;
}

// Called by C: no exception may leave it. libgearman frees the result.
void* Intake::on_job(gearman_job_st* job, void* context, size_t* result_size, gearman_return_t* rc) noexcept {
  try {
    auto& function = *static_cast<Function*>(context);
    Receiver& self = *function.receiver;
    Intake& intake = *self.intake;
    // Jobs that were waiting come within about one round trip; a client that waits for each answer needs three.
    if (Clock::now() - self.last_end < 2 * self.round_trip) {
      if (++self.streak >= waiting_streak) {
        self.streak = 0;
        intake.add_receiver(*self.group);
      }
    } else {
      self.streak = 0;
    }
    std::string_view payload(static_cast<const char*>(gearman_job_workload(job)), gearman_job_workload_size(job));
    std::optional<std::string> result =
        function.records ? intake.take_records(payload, function.name) : intake.take_raw(payload, function.name);
    self.last_end = Clock::now();
    if (result) {
      if (auto* copy = static_cast<char*>(std::malloc(result->size()))) {
        std::memcpy(copy, result->data(), result->size());
        *result_size = result->size();
        *rc = GEARMAN_SUCCESS;
        return copy;
      }
    }
  } catch (const std::exception& e) {
    log(Level::error, std::string("cannot take a job: ") + e.what());
  }
  static_cast<Function*>(context)->receiver->gave_back = true;
  // gearmand gives the job to someone else at once, perhaps to us: not too fast.
  ::usleep(100'000);
  break_connection();
  *rc = GEARMAN_ERROR;
  return nullptr;
}

}  // namespace gq
