// Receivers: threads that take jobs from gearmand and answer each job with the result of a service.
//
// Receivers usually answer at once. (Receivers whose services keep their threads until jobs have ended have a limit of
// their own, and one more receiver than jobs.) Each receiver is a thread with its own libgearman handle, for one
// server. While all receivers of a server have a job, a receiver is added in two cases:
//  - The receiver that got the last job has got ten jobs in a row that were already waiting when it asked.
//  - All receivers have been busy with the same jobs for 200 ms.
// If the server has more receivers than had a job at the same moment in the last second, those above that number end,
// but one always stays. This has two effects. Under load, many jobs are stored at the same time and share one
// fdatasync. And few receivers are woken in vain, although gearmand wakes all sleeping workers for each job. A server
// that is down delays no other server.
//
// A job is "foreign" if its client knows nothing of gq. A server has at most 16 receivers. If there are 16, one of them
// serves no foreign jobs: a foreign job may wait for long, and must not keep gq's own jobs from being answered.
//
// A server announces the size of a job before it sends the workload. The receiver refuses a job that is too large at
// that point and connects again; a background job is then lost. The size limit of one foreign job is also the memory
// limit of all foreign workloads together. gq's own workloads have a second limit of that kind. A job that does not fit
// waits, but a small job (small_job) needs no memory from these limits. While jobs of other servers wait for memory, a
// workload must arrive fast enough. If it does not, the receiver closes the connection, and for a while the jobs of
// that server get memory last.
//
// If several waiting clients have submitted foreign jobs under one unique, gearmand merges these jobs: it sends one
// job, with the payload of the first. If the unique is made of the payload, the payloads are equal, and the receiver
// takes the job. Otherwise they may differ: the receiver does not take the job, and tells all these clients that it
// failed. If gearmand does not say how many clients wait, the receiver takes the job.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/log.hpp"
#include "gq/base/mutex.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/gearman/packets.hpp"

namespace gq {

// A job as a service gets it. The views are valid during the call.
struct Delivery {
  std::string_view payload, handle, unique;  // the handle is gearmand's, the unique the client's
  std::string server;                        // the name of the server
  std::optional<uint64_t> clients{};         // how many clients wait for the answer; nullopt: it is not known
  // Frees the memory of the payload, for other jobs. Only a service with `respond` may call it; the payload is not
  // valid after that.
  std::function<void()> free_payload{};
};

// What the clients of a job are told.
struct Response {
  enum class What {
    answer,    // the job is complete, and this is its result
    fail,      // it has failed, for this reason
    give_back  // nothing: the job stays with gearmand
  };
  What what = What::give_back;
  std::string text{};
  // If it is set, the result is not `text`, but the first `size` bytes of this file. It is not read into memory: the
  // server may take it slowly.
  Fd file{};
  uint64_t size = 0;
};

struct Service {
  std::string function;  // as gearmand knows it
  // Clients that know nothing of gq use this function. They may send background jobs, which gearmand deletes when a
  // worker refuses them.
  bool foreign;
  // Returns the answer to a job; nullopt if the job has to stay with gearmand. Called by several threads.
  std::function<std::optional<std::string>(std::string_view payload)> take;
  uint64_t max_size;    // a larger job is answered without being read
  std::string refusal;  // the answer to a job that is larger; empty: the client is told that the job failed, and why
  bool always = false;  // it is served also while nothing else is
  std::function<Response(const Delivery&)> respond{};  // if it is set, it is called in place of `take`
};

// How busy the receivers of a server are: the number of receivers, how many of them have a job, and how many jobs they
// have got so far.
struct Load {
  size_t receivers = 0, busy = 0;
  uint64_t jobs = 0;
};
// Whether another receiver is needed, because all receivers have been busy with the same jobs from `before` to `now`.
inline bool are_stuck(const Load& before, const Load& now) {
  return now.busy > 0 && now.busy >= now.receivers && now.jobs == before.jobs;
}

// A job of up to this many bytes takes no memory from a WorkloadRoom, and so never waits for memory. Requests of other
// nodes and groups of small jobs are below this size. Each receiver has at most one job, so the memory for small jobs
// is limited, too.
inline constexpr uint64_t small_job = 640 << 10;

// The memory for the workloads of arriving jobs, shared by all servers. The servers take turns, and the jobs of one
// server get memory in the order of their arrival, so that small jobs do not keep a large one out. Pure. `waiter`
// identifies the job that asks, `server` its server; neither is used as a pointer.
class WorkloadRoom {
 public:
  using Time = std::chrono::steady_clock::time_point;
  void grow_to(uint64_t most) { m_most = std::max(m_most, most); }
  uint64_t most() const { return m_most; }
  // Asks for `size` bytes, most() at most. Returns true if the job has this memory from now on. Otherwise the job waits
  // in line, and the caller asks again when something has changed.
  bool take(const void* waiter, const void* server, uint64_t size, Time now);
  void leave(const void* waiter);  // the job leaves the line
  void give_back(uint64_t size) { m_taken -= size; }

  // Whether jobs of other servers wait in line.
  bool keeps_waiting_others_than(const void* server) const;
  // Until `until`, the jobs of all other servers come before the jobs of this server.
  void put_off(const void* server, Time until) { m_servers[server].put_off = until; }

 private:
  struct Waiting {
    const void *waiter, *server;
  };
  struct Turn {
    Time put_off{};
    uint64_t last = 0;
  };
  uint64_t m_most = 0, m_taken = 0, m_turns = 0;
  std::vector<Waiting> m_line;
  std::map<const void*, Turn> m_servers;
};

// How fast a workload arrives, measured in consecutive periods. Pure.
class Flow {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds look{3};
  explicit Flow(Time begun = {}) : m_since(begun) {}
  // Whether fewer than `least` bytes a second came in the last complete period. `came` is the number of bytes that have
  // come so far.
  bool is_slow(uint64_t came, uint64_t least, Time now);

 private:
  Time m_since;
  uint64_t m_came = 0;
  bool m_slow = false;
};

// While other jobs wait for memory, a workload must arrive at least so fast that the largest workload would arrive in
// this time.
inline constexpr std::chrono::seconds longest_workload{300};

class Receivers {
 public:
  enum class Serve { nothing, own, all };  // own: only jobs that are not foreign; nothing: see Service::always

  struct Limits {
    size_t most = 16;    // receivers of one server; with more there was no gain (measured)
    bool spare = false;  // one receiver more than there are jobs, up to that limit
  };
  // `wanted` returns which services to serve now; it is called about once a second.
  Receivers(std::vector<Server> servers, std::vector<Service> services, std::function<Serve()> wanted)
      : Receivers(std::move(servers), std::move(services), std::move(wanted), Limits()) {}
  Receivers(std::vector<Server> servers, std::vector<Service> services, std::function<Serve()> wanted, Limits limits);
  ~Receivers();  // stop()

  void start();
  // Takes no more jobs, and answers those that were taken. Returns when all threads have ended. take_no_more() returns
  // at once; call stop() later.
  void take_no_more();
  void stop();

 private:
  struct Group;     // the receivers of one server
  struct Function;  // the context of libgearman's callback
  struct Receiver;
  class Busy;
  using Clock = std::chrono::steady_clock;

  void add_receiver(Group& group);
  void end_idle(Group& group);
  void add_where_stuck();
  std::optional<std::string> merged(Receiver& self, const Service& service, Delivery& delivery);
  void say_once(const std::string& what);
  // Returns false if a message of this kind was logged too recently.
  bool log_limited(Level level, const std::string& kind, const std::string& text);
  std::optional<std::string> judge(Receiver& self, const AssignedJob& job);
  bool gives_up(Receiver& self, const ServerWait& wait);
  void give_room_back(Receiver& self);
  void receive(Receiver& self);
  bool receive_job(Receiver& self);
  std::optional<std::string> connect(Receiver& self, Serve serve);
  bool goes_on(Receiver& self, gearman_return_t rc, Clock::time_point start);
  bool retry(Receiver& self, std::string reason);
  void disconnect(Receiver& self);
  bool pause(Millis duration);
  static void* on_job(gearman_job_st* job, void* context, size_t* result_size, gearman_return_t* rc) noexcept;

  const std::vector<Service> m_services;
  const bool m_serves_always;  // a service is `always` served
  const std::function<Serve()> m_wanted;
  const Limits m_limits;
  const bool m_has_own;  // a service is not foreign
  std::list<Group> m_groups;
  Mutex m_mutex;
  std::condition_variable m_stopping;
  std::atomic<bool> m_stop = false;
  std::condition_variable m_room;
  WorkloadRoom m_foreign GUARDED_BY(m_mutex), m_own GUARDED_BY(m_mutex);  // for foreign jobs, and for gq's
  std::set<std::string> m_said GUARDED_BY(m_mutex);
  LogLimit m_log_limit GUARDED_BY(m_mutex);
  std::list<Receiver> m_receivers GUARDED_BY(m_mutex);
  std::set<const Receiver*> m_ended GUARDED_BY(m_mutex);                  // whose threads are ending
  std::map<const Receiver*, gearman_id_t> m_handles GUARDED_BY(m_mutex);  // by which stop() wakes them
  // Of the receivers of a server; the counters that threads read without the mutex are in Group.
  struct Standing {
    size_t own_only = 0;                                // how many serve no foreign jobs
    std::chrono::steady_clock::time_point next_look{};  // of end_idle()
    bool unsaid = false;                                // the server's trouble has not been logged
  };
  std::map<const Group*, Standing> m_standings GUARDED_BY(m_mutex);
  std::thread m_watcher;
};

}  // namespace gq
