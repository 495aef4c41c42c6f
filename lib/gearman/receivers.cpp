#include "gq/gearman/receivers.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "gq/base/error.hpp"
#include "gq/base/log.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/thread.hpp"
#include "gq/gearman/packets.hpp"
#include "gq/gearman/probe.hpp"

namespace gq {
namespace {

constexpr Millis work_timeout{1000};
// A receiver is added after this many jobs in a row that were already waiting. With a lower number, a single client on
// a busy machine would now and then get two receivers.
constexpr int enough_waiting = 10;
constexpr Millis watch_interval{200};
constexpr Millis reach_timeout{5000}, count_timeout{3000};
constexpr Millis first_retry{100}, longest_retry{5000};
// After this time without a byte, the receiver connects again: the other end may be gone without notice, or stuck.
constexpr Millis longest_idle{60'000};
// For this time, a server that has sent a workload too slowly gets memory after all other servers.
constexpr std::chrono::seconds put_off{60};

}  // namespace

bool WorkloadRoom::take(const void* waiter, const void* server, uint64_t size, Time now) {
  auto place = std::find_if(m_line.begin(), m_line.end(), [&](const Waiting& w) { return w.waiter == waiter; });
  if (place == m_line.end()) place = m_line.insert(place, {waiter, server});
  auto rank = [&](const Waiting& w) {
    const Turn& turn = m_servers[w.server];
    return std::pair(now < turn.put_off, turn.last);
  };
  auto first = std::min_element(m_line.begin(), m_line.end(),
                                [&](const Waiting& a, const Waiting& b) { return rank(a) < rank(b); });
  if (place != first || m_taken > m_most - size) return false;
  m_line.erase(place);
  m_servers[server].last = ++m_turns;
  m_taken += size;
  return true;
}

void WorkloadRoom::leave(const void* waiter) {
  std::erase_if(m_line, [&](const Waiting& w) { return w.waiter == waiter; });
}

bool WorkloadRoom::keeps_waiting_others_than(const void* server) const {
  return std::any_of(m_line.begin(), m_line.end(), [&](const Waiting& w) { return w.server != server; });
}

bool Flow::is_slow(uint64_t came, uint64_t least, Time now) {
  if (now - m_since < look) return m_slow;
  const std::chrono::duration<double> lasted = now - m_since;
  m_slow = static_cast<double>(came - m_came) < static_cast<double>(least) * lasted.count();
  m_since = now;
  m_came = came;
  return m_slow;
}

struct Receivers::Group {
  Server server;
  std::atomic<size_t> receivers{0}, busy{0};
  std::atomic<uint64_t> jobs{0};
  std::atomic<size_t> most_busy{0};  // the most that were busy at the same time since the last end_idle()
  std::string trouble() const {
    return "server " + std::to_string(reinterpret_cast<uintptr_t>(this));
  }  // several groups may be for the same server
};

struct Receivers::Function {
  Receiver* receiver;
  const Service* service;
};

struct Receivers::Receiver {
  Receiver(Receivers* all, Group* of) : receivers(all), group(of), clients(of->server, all->m_stop) {}

  Receivers* receivers;
  Group* group;
  bool permanent = false;
  bool own_only = false;  // serves no foreign jobs
  std::thread thread;
  std::atomic<bool> surplus{false};  // ends after its next job, or when it is woken for one
  // Only the receiver's own thread uses the following:
  WorkerHandle worker{nullptr, gearman_worker_free};  // empty while it is not connected
  Serve serving = Serve::nothing;                     // what the server has been asked for on this connection
  Millis retry{0};                                    // how long it waits before it connects again
  std::vector<Function> functions;
  Clock::time_point connected_at{}, last_end{};
  int waiting = 0;         // how many jobs in a row were already waiting when it asked for one
  bool gave_back = false;  // the connection was closed on purpose, because a job could not be stored or was too large
  WorkloadRoom* room = nullptr;  // the room from which it has `taken` bytes
  uint64_t taken = 0;
  bool assigned = false;  // a job has been assigned and has not come to on_job() yet
  Flow flow;
  std::optional<Clock::time_point> stopping;  // when this thread saw that the program stops
  std::string ended_because;
  int connection = -1;  // the descriptor of the worker's connection
  WaitingClients clients;
};

// Exists while a receiver has a job.
class Receivers::Busy {
 public:
  explicit Busy(Receiver& receiver) : m_receiver(receiver) {
    Group& group = *m_receiver.group;
    size_t busy = ++group.busy;
    ++group.jobs;
    // If another thread writes its value here at the same time, either value will do.
    if (busy > group.most_busy) group.most_busy = busy;
  }
  ~Busy() {
    m_receiver.last_end = Clock::now();
    --m_receiver.group->busy;
  }

 private:
  Receiver& m_receiver;
};

Receivers::Receivers(std::vector<Server> servers, std::vector<Service> services, std::function<Serve()> wanted,
                     Limits limits)
    : m_services(std::move(services)),
      m_serves_always(std::any_of(m_services.begin(), m_services.end(), [](const Service& s) { return s.always; })),
      m_wanted(std::move(wanted)),
      m_limits(limits),
      m_has_own(std::any_of(m_services.begin(), m_services.end(), [](const Service& s) { return !s.foreign; })) {
  for (auto& server : servers) m_groups.emplace_back().server = std::move(server);
  for (const auto& service : m_services) {
    WorkloadRoom& room = service.foreign ? m_foreign : m_own;
    room.grow_to(service.max_size);
  }
}

Receivers::~Receivers() { stop(); }

void Receivers::start() {
  for (auto& group : m_groups) add_receiver(group);
  m_watcher = start_thread([this] { add_where_stuck(); });
}

void Receivers::take_no_more() {
  MutexLock guard(m_mutex);
  m_stop = true;
  for (const auto& [receiver, handle] : m_handles) gearman_kill(handle, GEARMAN_INTERRUPT);
}

void Receivers::stop() {
  std::list<Receiver> receivers;
  take_no_more();
  {
    MutexLock guard(m_mutex);
    receivers.swap(m_receivers);
  }
  m_stopping.notify_all();
  m_room.notify_all();
  if (m_watcher.joinable()) m_watcher.join();
  for (auto& r : receivers)
    if (r.thread.joinable()) r.thread.join();
}

void Receivers::add_receiver(Group& group) {
  MutexLock guard(m_mutex);
  if (m_stop || group.receivers >= m_limits.most) return;
  for (auto it = m_receivers.begin(); it != m_receivers.end();) {
    if (m_ended.erase(&*it) > 0) {
      it->thread.join();
      it = m_receivers.erase(it);
    } else {
      ++it;
    }
  }
  Receiver& r = m_receivers.emplace_back(this, &group);
  size_t& own_only = m_standings[&group].own_only;
  r.own_only = m_has_own && group.receivers - own_only == m_limits.most - 1;
  own_only += r.own_only;
  r.permanent = group.receivers++ == 0;
  try {
    r.thread = start_thread([this, &r] { receive(r); });
  } catch (const Error&) {
    own_only -= r.own_only;
    m_receivers.pop_back();
    // The existing receivers continue without it.
    if (group.receivers-- == 1) throw;
  }
}

// gearmand wakes all sleeping workers for each job, so if there have been too many receivers for a while, this function
// ends some.
void Receivers::end_idle(Group& group) {
  auto now = Clock::now();
  MutexLock guard(m_mutex);
  auto& next_look = m_standings[&group].next_look;
  if (m_stop || now < next_look) return;
  next_look = now + work_timeout;
  size_t wanted = group.most_busy.exchange(0), there = group.receivers;
  for (auto& r : m_receivers) {
    if (there <= wanted) break;
    if (r.group != &group || r.permanent || m_ended.count(&r)) continue;
    r.surplus = true;
    --there;
  }
}

// Usually add_receiver() is called when a job comes; but while each receiver has a job, no job comes.
void Receivers::add_where_stuck() {
  std::vector<Load> before(m_groups.size());
  while (!pause(watch_interval)) {
    auto load = before.begin();
    for (auto& group : m_groups) {
      const Load now{group.receivers, group.busy, group.jobs};
      try {
        if (are_stuck(std::exchange(*load++, now), now)) add_receiver(group);
      } catch (const std::exception&) {  // the next interval tries again
      }
    }
  }
}

// Waits this long, or until stop(). Returns true if stop() was called.
bool Receivers::pause(Millis duration) {
  MutexLock lock(m_mutex);
  return m_stopping.wait_for(lock, duration, [&] { return m_stop.load(); });
}

void Receivers::disconnect(Receiver& self) {
  {
    MutexLock guard(m_mutex);
    m_handles.erase(&self);
  }
  self.worker.reset();
  self.assigned = false;
  give_room_back(self);  // a server may assign a job that was not asked for
}

// The server cannot be used now, for this reason. Waits before the next attempt. Returns false if the receiver ends
// instead.
bool Receivers::retry(Receiver& self, std::string reason) {
  disconnect(self);
  if (take_too_long()) reason = "it sends more than a Gearman server does";
  if (!self.permanent) return false;
  const std::string text = "cannot reach the Gearman server " + self.group->server.name() + ": " + reason;
  bool say = begin_trouble(self.group->trouble(), text);
  {
    MutexLock guard(m_mutex);
    say = std::exchange(m_standings[self.group].unsaid, false) || say;
  }
  if (say && !log_limited(Level::warning, text, text + "; trying again until it answers")) {
    MutexLock guard(m_mutex);
    m_standings[self.group].unsaid = true;  // it will be logged later, if the trouble lasts
  }
  self.retry = std::clamp(self.retry * 2, first_retry, longest_retry);
  return !pause(self.retry);
}

// Connects to the server, and asks it for jobs of these services. Returns the reason if the server does not answer.
std::optional<std::string> Receivers::connect(Receiver& self, Serve serve) {
  // libgearman would look up the name and wait for the connection in a call that cannot be interrupted, so do both
  // here.
  std::string reason;
  Fd connection = reach(self.group->server, reach_timeout, m_stop, reason);
  auto address = address_of(connection);
  if (m_stop) return std::nullopt;
  auto made = address ? make_worker(*address, work_timeout) : std::nullopt;
  if (!made) return reason;
  self.worker = std::move(*made);
  self.serving = serve;
  self.functions.clear();
  for (const auto& service : m_services)
    if (service.always || serve == Serve::all || (serve == Serve::own && !service.foreign))
      self.functions.push_back({&self, &service});
  for (auto& f : self.functions)
    gearman_worker_add_function(self.worker.get(), f.service->function.c_str(), 0, on_job, &f);
  // One round trip shows whether the server answers.
  self.connected_at = self.last_end = Clock::now();
  take_ended();
  self.ended_because.clear();
  gearman_return_t rc = gearman_worker_echo(self.worker.get(), "gq", 2);
  self.connection = take_connected();
  if (gearman_failed(rc)) return self.ended_because.empty() ? reason_text(rc) : self.ended_because;
  if (end_trouble(self.group->trouble())) log(Level::info, "connected to " + self.group->server.name());
  MutexLock guard(m_mutex);
  if (m_stop) return std::nullopt;
  m_standings[self.group].unsaid = false;
  m_handles[&self] = gearman_worker_id(self.worker.get());
  return std::nullopt;
}

// The receiver has waited for a job since `start`, and libgearman has returned `rc`. Returns false if the receiver
// ends.
bool Receivers::goes_on(Receiver& self, gearman_return_t rc, Clock::time_point start) {
  if (std::exchange(self.gave_back, false)) {
    disconnect(self);
  } else if (take_ended()) {
    return retry(self, self.ended_because.empty() ? reason_text(GEARMAN_LOST_CONNECTION) : self.ended_because);
  } else if (self.assigned) {
    // The server assigned a job after it had answered that there is none. libgearman would read the workload later,
    // when the memory belongs to another job.
    return retry(self, "it assigns a job that was not asked for");
  } else if (rc == GEARMAN_SUCCESS || rc == GEARMAN_WORK_FAIL) {  // the job failed, as on_job() said
    self.retry = Millis(0);
    return !self.surplus;
  } else if (rc == GEARMAN_TIMEOUT && Clock::now() - start > work_timeout / 2) {
    // This receiver has nothing to do. It ends if another receiver is free to take the next job.
    if (!self.permanent && self.group->busy + 1 < self.group->receivers) return false;
    if (Clock::now() - std::max(self.last_end, self.connected_at) > longest_idle) disconnect(self);
  } else {
    return retry(self, reason_text(rc));
  }
  return true;
}

// Connects if necessary, and takes at most one job. Returns false if the receiver ends.
bool Receivers::receive_job(Receiver& self) {
  Serve serve = m_wanted();
  if (self.own_only && serve == Serve::all) serve = Serve::own;
  if (self.worker && serve != self.serving) disconnect(self);
  if (serve == Serve::nothing && !m_serves_always) return self.permanent && !pause(first_retry);
  if (!self.worker) {
    const auto trouble = connect(self, serve);
    if (m_stop) return false;
    if (trouble) return retry(self, *trouble);
  }
  const auto start = Clock::now();
  const gearman_return_t rc = gearman_worker_work(self.worker.get());
  give_room_back(self);
  return !m_stop && goes_on(self, rc, start);
}

void Receivers::receive(Receiver& self) {
  end_when_woken(self.surplus);
  judge_jobs([this, &self](const AssignedJob& job) { return judge(self, job); });
  wait_for_servers([this, &self](const ServerWait& wait) { return gives_up(self, wait); });
  while (receive_job(self)) continue;
  disconnect(self);
  MutexLock guard(m_mutex);
  --self.group->receivers;
  m_standings[self.group].own_only -= self.own_only;
  m_ended.insert(&self);
}

// Decides about an assigned job: returns nullopt if its workload may come, otherwise the bytes to send instead of
// taking it.
std::optional<std::string> Receivers::judge(Receiver& self, const AssignedJob& job) {
  give_room_back(self);
  const Service* service = nullptr;
  for (const auto& f : self.functions)
    if (f.service->function == job.function) service = f.service;
  MutexLock lock(m_mutex);
  if (!service) {
    self.ended_because = "it assigns a job of a function that this worker does not serve";
    return std::string();
  }
  if (job.size > service->max_size) {
    self.gave_back = true;
    const std::string text = service->function + ": a job of " + std::to_string(job.size) +
                             " bytes is larger than the " + std::to_string(service->max_size) +
                             " that are taken; it is refused, and lost if it is a background job";
    if (auto suffix = m_log_limit.admit(service->function, Clock::now())) log(Level::warning, text + *suffix);
    const std::string to = job.handle + '\0';
    if (!service->refusal.empty()) return request_packet(GEARMAN_COMMAND_WORK_COMPLETE, to + service->refusal);
    return request_packet(GEARMAN_COMMAND_WORK_WARNING, to + "it is larger than the worker takes (" +
                                                            std::to_string(service->max_size) + " bytes)\n") +
           request_packet(GEARMAN_COMMAND_WORK_FAIL, job.handle);
  }
  self.assigned = true;
  if (job.size <= small_job) return std::nullopt;
  WorkloadRoom& room = service->foreign ? m_foreign : m_own;
  auto take = [&] { return room.take(&self, self.group, job.size, Clock::now()); };
  bool taken = take();
  if (!taken) {
    ++self.group->busy;  // counted as busy, so that another receiver is added for jobs that need not wait
    m_room.wait(lock, [&] { return m_stop || (taken = take()); });
    --self.group->busy;
    m_room.notify_all();  // there may be memory for the next job in line, too
  }
  if (!taken) {
    room.leave(&self);
    self.gave_back = true;
    return std::string();
  }
  self.room = &room;
  self.taken = job.size;
  self.flow = Flow(Clock::now());
  return std::nullopt;
}

// Whether to give up the connection to a server because the server sends or reads too slowly.
bool Receivers::gives_up(Receiver& self, const ServerWait& wait) {
  if (m_stop && !self.stopping) self.stopping = wait.now;
  if (is_hopeless(wait, self.stopping)) {
    self.ended_because = reason_text(GEARMAN_TIMEOUT);
    return true;
  }
  if (!self.room || !wait.waits || !wait.left) return false;
  const auto least = self.room->most() / static_cast<uint64_t>(longest_workload.count());
  if (!self.flow.is_slow(self.taken - *wait.left, least, wait.now)) return false;
  {
    MutexLock guard(m_mutex);
    if (!self.room->keeps_waiting_others_than(self.group)) return false;
    self.room->put_off(self.group, wait.now + put_off);
  }
  self.gave_back = true;
  log_limited(Level::warning, self.group->trouble() + " slow",
              "the Gearman server " + self.group->server.name() + " sends a job of " + std::to_string(self.taken) +
                  " bytes so slowly that jobs of other servers wait for its room; the connection is closed");
  return true;
}

void Receivers::give_room_back(Receiver& self) {
  if (!self.room) return;
  {
    MutexLock guard(m_mutex);
    std::exchange(self.room, nullptr)->give_back(self.taken);
  }
  m_room.notify_all();
}

// Returns what to tell the clients of a job if gearmand has merged different jobs into it; nullopt if only one client
// sent it, or if the merged jobs are equal.
// Also notes in the delivery how many clients wait.
std::optional<std::string> Receivers::merged(Receiver& self, const Service& service, Delivery& delivery) {
  const std::string_view unique = delivery.unique;
  if (!service.foreign || unique.empty() || unique == "-") return std::nullopt;
  auto clients = delivery.clients = self.clients.count(std::string(unique), count_timeout);
  if (!clients)
    say_once(self.group->server.name() +
             " does not say how many clients wait for a job: clients that use one unique cannot be told apart");
  if (clients.value_or(0) < 2 || is_made_of_payload(unique, service.function, delivery.payload)) return std::nullopt;
  say_once(service.function +
           ": clients have submitted jobs with one unique, which the Gearman server has merged; they are told that "
           "this failed");
  return std::to_string(*clients) +
         " clients have submitted jobs with this unique, and the Gearman server has kept the first workload only; none "
         "is "
         "queued: submit again with a fresh unique, or none\n";
}

bool Receivers::log_limited(Level level, const std::string& kind, const std::string& text) {
  std::optional<std::string> suffix;
  {
    MutexLock guard(m_mutex);
    suffix = m_log_limit.admit(kind, Clock::now());
  }
  if (suffix) log(level, text + *suffix);
  return suffix.has_value();
}

void Receivers::say_once(const std::string& what) {
  {
    MutexLock guard(m_mutex);
    if (!m_said.insert(what).second) return;
  }
  log(Level::warning, what);
}

// libgearman calls this function, so no exception may leave it. libgearman frees the result.
void* Receivers::on_job(gearman_job_st* job, void* context, size_t* result_size, gearman_return_t* rc) noexcept {
  auto& function = *static_cast<Function*>(context);
  Receiver& self = *function.receiver;
  self.assigned = false;
  if (int fd = take_connected(); fd >= 0) self.connection = fd;
  try {
    std::optional<std::string> result, warning;
    Response response;
    bool sent = false;
    {
      Busy busy(self);
      // If the server did not wake this worker, there are two possible reasons: the job was waiting on the server, or
      // the server got it while the answer to the last job was on its way. So only several such jobs in a row show that
      // jobs wait on the server.
      self.waiting = take_woken() ? 0 : self.waiting + 1;
      if ((self.waiting >= enough_waiting || self.receivers->m_limits.spare) &&
          self.group->busy >= self.group->receivers)
        self.receivers->add_receiver(*self.group);
      else self.receivers->end_idle(*self.group);
      const Service& service = *function.service;
      size_t size = 0;
      std::unique_ptr<void, decltype(&std::free)> payload(gearman_job_take_workload(job, &size), std::free);
      Delivery delivery{.payload = {static_cast<const char*>(payload.get()), size},
                        .handle = gearman_job_handle(job),
                        .unique = gearman_job_unique(job),
                        .server = self.group->server.name(),
                        .free_payload = [&] {
                          payload.reset();
                          self.receivers->give_room_back(self);
                        }};
      warning = self.receivers->merged(self, service, delivery);
      if (!warning && service.respond) {
        response = service.respond(delivery);
        if (response.file)
          sent = send_answer(self.connection, gearman_job_handle(job), response.file.get(), response.size);
        else if (response.what == Response::What::answer) result = std::move(response.text);
        if (response.what == Response::What::fail) warning = std::move(response.text);
      } else if (!warning) {
        result = service.take(delivery.payload);
      }
    }
    if (warning) {
      gearman_job_send_warning(job, warning->data(), warning->size());
      *rc = GEARMAN_WORK_FAIL;
      return nullptr;
    }
    if (response.file) {
      self.gave_back = true;
      if (!sent) ::usleep(100'000);  // as below
      ::shutdown(self.connection, SHUT_RDWR);
      *rc = GEARMAN_ERROR;
      return nullptr;
    }
    if (result) {
      // The job is stored, so it must not be given back to the server. If there is no memory for the answer, the answer
      // is empty, and gq-enqueue sends the same job again.
      auto* copy = static_cast<char*>(std::malloc(result->size()));
      if (copy) std::memcpy(copy, result->data(), result->size());
      *result_size = copy ? result->size() : 0;
      *rc = GEARMAN_SUCCESS;
      return copy;
    }
  } catch (const std::exception& e) {
    self.receivers->log_limited(Level::error, "cannot take a job", std::string("cannot take a job: ") + e.what());
  }
  self.gave_back = true;
  // Wait a little: gearmand gives the job to a worker again at once, perhaps to this one.
  ::usleep(100'000);
  // Close the connection for sending: otherwise libgearman would answer WORK_FAIL, and gearmand would delete a
  // background job.
  ::shutdown(self.connection, SHUT_RDWR);
  *rc = GEARMAN_ERROR;
  return nullptr;
}

}  // namespace gq
