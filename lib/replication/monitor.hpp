// The monitor: the replica of this process and the one mutex that protects it, and the state that the modules with I/O
// share. (The replica is pure; these modules around it are called its shell.)
//
// step() is the only access to the replica. Under its mutex a thread does nothing else: it appends, sends, reads and
// logs nothing. After a step the same thread releases the mutex, and then carries out the effects of the step.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <string>
#include <type_traits>
#include <vector>

#include "gq/base/mutex.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/replication/replica.hpp"
#include "gq/store/ledger.hpp"

namespace gq {

struct ReplicationConfig {
  std::vector<Server> servers;
  Millis peer_timeout{5000};  // how long a peer may take to answer
  Millis takeover{30000};
  Millis alone_after{600000};  // if no peer answers: how long this node waits before it runs its jobs again
  bool owe = false;            // accept jobs with fewer copies than the group asks for
  std::string keyfile;         // empty: nothing is signed
  bool relay = false;          // this node stores no jobs
};

// How often an outbox looks for debts. With a shorter interval it would find jobs that add() is about to send anyway.
inline constexpr Millis poll_interval{100};

class Monitor {
 public:
  using Clock = std::chrono::steady_clock;

  Monitor(Ledger& ledger, ReplicationConfig config);

  Ledger& ledger() const { return m_ledger; }
  const ReplicationConfig& config() const { return m_config; }
  const Keys& keys() const { return m_keys; }
  const Self& self() const { return m_self; }
  const std::string& group_id() const { return m_group_id; }

  // Steps the replica: calls `what` with the replica under the mutex, and returns the result of `what`. Never call it
  // within a step.
  template <typename Step>
  std::invoke_result_t<Step, Replica&> step(Step what) EXCLUDES(m_mutex) {
    MutexLock lock(m_mutex);
    if constexpr (std::is_void_v<std::invoke_result_t<Step, Replica&>>) {
      what(m_replica);
      const auto effects = take_effects();
      lock.unlock();
      carry_out(effects);
    } else {
      auto result = what(m_replica);
      const auto effects = take_effects();
      lock.unlock();
      carry_out(effects);
      return result;
    }
  }
  void log_limited(Level level, const std::string& kind, const std::string& text);

  void stop() EXCLUDES(m_mutex);
  // Whether stop() was called. Every wait for another node then ends.
  const std::atomic<bool>& stopping() const { return m_stop; }
  // Waits this long, or until stop(). Returns true if stop() was called.
  bool pause(Millis duration);
  // Waits until the condition is true or stop() is called, but at most this long.
  template <typename Condition>
  void wait(Millis most, Condition is_so) EXCLUDES(m_mutex) {
    MutexLock lock(m_mutex);
    m_changed.wait_for(lock, most, [&]() REQUIRES(m_mutex) { return m_stop || is_so(m_replica); });
  }
  // Makes all waiting threads check their conditions again.
  void wake();
  // Waits until the lease may have changed, or stop() is called. Returns true if stop() was called.
  bool wait_for_lease(Millis most);

  // taken(): call it when another node has taken records. taken_at(): when that was last.
  void taken() { m_taken_at = Clock::now(); }
  Clock::time_point taken_at() const { return m_taken_at; }

 private:
  Replica::Effects take_effects() REQUIRES(m_mutex);
  void carry_out(const Replica::Effects& effects) EXCLUDES(m_mutex);

  Ledger& m_ledger;
  const ReplicationConfig m_config;
  const Keys m_keys;
  const Self m_self;
  const std::string m_group_id;
  std::atomic<bool> m_stop = false;
  std::atomic<Clock::time_point> m_taken_at{Clock::time_point()};

  Mutex m_mutex;
  std::condition_variable m_changed;
  Replica m_replica GUARDED_BY(m_mutex);
  bool m_lease_changed GUARDED_BY(m_mutex) = false;
};

// How long a session (transfer.hpp) is valid.
inline Millis period_of(const Limits& limits, const ReplicationConfig& config) {
  return session_period(limits.remember, config.peer_timeout);
}

}  // namespace gq
