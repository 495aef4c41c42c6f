// Receivers: threads that take jobs from gearmand and answer each with what a service says.
//
// Each is a thread with a libgearman handle of its own for one server. One is added when all have a job and the last to
// get one found several waiting, or when all have been busy for a while and none has got another job; those end that
// are more than have had a job at once in the last second. So one fdatasync serves many, and gearmand, which wakes all
// that sleep for each job, wakes few in vain. A server that is down holds nothing up. The last of them serves nothing
// that foreign clients send: those jobs may wait for long, and must not keep gq's own from being answered.
//
// How large a job is, its server says before its workload comes. One that is too large is refused then, and the
// connection made anew; a background job is lost. Foreign jobs together take no more memory than the largest of them
// may, and neither do gq's own: others wait, but for small ones. What other servers' jobs wait for has to come fast
// enough, or its connection is closed, and its server's jobs come last for a while.
//
// gearmand gives the job of several clients that have used one unique once, with the payload of the first. No service
// hears of it: all are told that it failed.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/base/log.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/gearman/packets.hpp"

namespace gq {

struct Service {
  std::string function;  // as gearmand knows it
  bool
      foreign;  // clients that know nothing of gq send it background jobs, which gearmand deletes when they are refused
  // The answer to a job; nullopt where it has to stay with gearmand. Called by several threads.
  std::function<std::optional<std::string>(std::string_view payload)> take;
  uint64_t max_size;    // a larger job is answered without being read, and so is one with a reducer
  std::string refusal;  // what it is answered; empty: it is told that it failed, and why
};

// How busy the receivers of a server were at a moment: how many there were, how many had a job, and how many jobs they
// had got so far.
struct Load {
  size_t receivers = 0, busy = 0;
  uint64_t jobs = 0;
};
// Whether another is needed, as two looks say: all have been busy with the same jobs.
inline bool are_stuck(const Load& before, const Load& now) {
  return now.busy > 0 && now.busy >= now.receivers && now.jobs == before.jobs;
}

// A job of so many bytes, as the questions of nodes and groups of small jobs are, needs no room and waits for none:
// each receiver has one at most.
inline constexpr uint64_t small_job = 640 << 10;

// Memory for the workloads of the jobs that come, shared by all servers. Those that wait for some get it in turn,
// server by server, and those of one server in the order in which they came, so that small ones do not keep a large one
// out. Pure; `who` and `server` are any names for one that asks.
class WorkloadRoom {
 public:
  using Time = std::chrono::steady_clock::time_point;
  void grow_to(uint64_t most) { m_most = std::max(m_most, most); }
  uint64_t most() const { return m_most; }
  // True: it has so much, which is no more than there is, from now on. Else it stands in line, and asks again when
  // something has changed.
  bool take(const void* who, const void* server, uint64_t size, Time now);
  void leave(const void* who);  // the line
  void give_back(uint64_t size) { m_taken -= size; }

  // Whether jobs of other servers stand in line.
  bool keeps_waiting_others_than(const void* server) const;
  // Until then, those of this server come last.
  void put_off(const void* server, Time until) { m_servers[server].put_off = until; }

 private:
  struct Waiting {
    const void *who, *server;
  };
  struct Turn {
    Time put_off{};
    uint64_t last = 0;
  };
  uint64_t m_most = 0, m_taken = 0, m_turns = 0;
  std::vector<Waiting> m_line;
  std::map<const void*, Turn> m_servers;
};

// How fast a workload comes, seen over one look after another. Pure.
class Flow {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds look{3};
  explicit Flow(Time begun = {}) : m_since(begun) {}
  // Whether in the last look that is over less than `least` bytes a second came. `came` is how many have by now.
  bool is_slow(uint64_t came, uint64_t least, Time now);

 private:
  Time m_since;
  uint64_t m_came = 0;
  bool m_slow = false;
};

// One that others wait for has to come so fast that the largest takes no longer than this.
inline constexpr std::chrono::seconds longest_workload{300};

class Receivers {
 public:
  enum class Serve { nothing, own, all };  // own: what is not foreign

  // `wanted` says which services are served at this moment; asked about once a second.
  Receivers(std::vector<Server> servers, std::vector<Service> services, std::function<Serve()> wanted);
  ~Receivers();  // stop()

  void start();
  // Takes no more; what has been taken is answered. Returns when all threads are gone.
  void stop();

 private:
  struct Group;     // the receivers of one server
  struct Function;  // what libgearman's callback is given
  struct Receiver;
  class Busy;
  using Clock = std::chrono::steady_clock;

  void add_receiver(Group& group);
  void end_idle(Group& group);
  void add_where_stuck();
  std::optional<std::string> merged(Receiver& self, const Service& service, std::string_view unique,
                                    std::string_view payload);
  void say_once(const std::string& what);
  // False where it has been said too lately.
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
  std::mutex m_mutex;
  std::condition_variable m_stopping;
  std::atomic<bool> m_stop = false;
  std::condition_variable m_room;
  WorkloadRoom m_foreign, m_own;  // for jobs that are foreign, or not; guarded by m_mutex
  std::set<std::string> m_said;
  Seldom m_seldom;  // guarded by m_mutex
  std::list<Receiver> m_receivers;
  std::thread m_watcher;
};

}  // namespace gq
