// Receivers: threads that take jobs from gearmand and answer each with the result of a service.
//
// Each receiver is a thread with a libgearman handle of its own for one server. A receiver is added in two cases: all
// receivers of the server have a job, and the one that got the last job has got ten in a row that were already waiting;
// or all have been busy with the same jobs for 200 ms. Receivers end if there are more than have had a job at once in
// the last second. So many jobs are stored at the same time and share one fdatasync; and gearmand, which wakes all
// sleeping workers for each job, wakes few in vain. A server that is down delays no other.
//
// A job is "foreign" if its client knows nothing of gq. A server has at most 16 receivers, and one of these serves no
// foreign jobs: foreign jobs may wait for long, and must not keep gq's own jobs from being answered.
//
// A server says how large a job is before it sends the workload. A job that is too large is refused at that point, and
// the connection is made again; a background job is then lost. All foreign jobs together take no more memory than the
// largest of them may, and neither do all of gq's own: other jobs wait, except small ones. While jobs of other servers
// wait for memory, the workload that has it must arrive fast enough; otherwise its connection is closed, and its server
// comes last for a while.
//
// If several clients that wait have used one unique for foreign jobs, gearmand gives these out as one job, with the
// payload of the first. If the unique is not made of the payload, the payloads may differ: then the job is not taken,
// and all these clients are told that it failed. If gearmand does not say how many clients wait, the job is taken.
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
#include "gq/base/log.hpp"
#include "gq/base/mutex.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/gearman/packets.hpp"

namespace gq {

struct Service {
  std::string function;  // as gearmand knows it
  // Clients that know nothing of gq send it background jobs, which gearmand deletes when a worker refuses them.
  bool foreign;
  // The answer to a job; nullopt if the job has to stay with gearmand. Called by several threads.
  std::function<std::optional<std::string>(std::string_view payload)> take;
  uint64_t max_size;    // a larger job is answered without being read
  std::string refusal;  // the answer to a larger job; empty: it is told that it failed, and why
};

// How busy the receivers of a server are: how many there are, how many have a job, and how many jobs they have got so
// far.
struct Load {
  size_t receivers = 0, busy = 0;
  uint64_t jobs = 0;
};
// Whether another receiver is needed: from `before` to `now`, all have been busy with the same jobs.
inline bool are_stuck(const Load& before, const Load& now) {
  return now.busy > 0 && now.busy >= now.receivers && now.jobs == before.jobs;
}

// A job of up to this many bytes needs no room and waits for none: questions of nodes and groups of small jobs are so
// small, and each receiver has one job at most.
inline constexpr uint64_t small_job = 640 << 10;

// The memory for the workloads of arriving jobs, shared by all servers. Waiting jobs get memory in turns, server by
// server, and in the order of arrival within one server, so that small jobs do not keep a large one out. Pure; `waiter`
// and `server` are any names for the job that asks.
class WorkloadRoom {
 public:
  using Time = std::chrono::steady_clock::time_point;
  void grow_to(uint64_t most) { m_most = std::max(m_most, most); }
  uint64_t most() const { return m_most; }
  // True: the job has this much memory from now on; `size` must be at most most(). False: the job stands in line, and
  // must ask again when something has changed.
  bool take(const void* waiter, const void* server, uint64_t size, Time now);
  void leave(const void* waiter);  // the line
  void give_back(uint64_t size) { m_taken -= size; }

  // Whether jobs of other servers stand in line.
  bool keeps_waiting_others_than(const void* server) const;
  // Until then, the jobs of this server come last.
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
  // Whether less than `least` bytes a second came in the last complete period. `came` is how many bytes have come so
  // far.
  bool is_slow(uint64_t came, uint64_t least, Time now);

 private:
  Time m_since;
  uint64_t m_came = 0;
  bool m_slow = false;
};

// A workload that other jobs wait for must be so fast that the largest one would take no longer than this.
inline constexpr std::chrono::seconds longest_workload{300};

class Receivers {
 public:
  enum class Serve { nothing, own, all };  // own: jobs that are not foreign

  // `wanted` says which services to serve now; it is called about once a second.
  Receivers(std::vector<Server> servers, std::vector<Service> services, std::function<Serve()> wanted);
  ~Receivers();  // stop()

  void start();
  // Takes no more jobs and answers those that were taken. Returns when all threads have ended.
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
  std::optional<std::string> merged(Receiver& self, const Service& service, std::string_view unique,
                                    std::string_view payload);
  void say_once(const std::string& what);
  // False if that kind was logged too recently.
  bool say_seldom(Level level, const std::string& kind, const std::string& text);
  std::optional<std::string> judge(Receiver& self, const AssignedJob& job);
  bool gives_up(Receiver& self, const ServerWait& wait);
  void give_room_back(Receiver& self);
  void receive(Receiver& self);
  bool pause(Millis duration);
  static void* on_job(gearman_job_st* job, void* context, size_t* result_size, gearman_return_t* rc) noexcept;

  const std::vector<Service> m_services;
  const std::function<Serve()> m_wanted;
  std::list<Group> m_groups;
  Mutex m_mutex;
  std::condition_variable m_stopping;
  std::atomic<bool> m_stop = false;
  std::condition_variable m_room;
  WorkloadRoom m_foreign GUARDED_BY(m_mutex), m_own GUARDED_BY(m_mutex);  // for jobs that are foreign, or not
  std::set<std::string> m_said GUARDED_BY(m_mutex);
  Seldom m_seldom GUARDED_BY(m_mutex);
  std::list<Receiver> m_receivers GUARDED_BY(m_mutex);
  std::thread m_watcher;
};

}  // namespace gq
