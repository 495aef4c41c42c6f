// The coordinator of what clients send: stores jobs, hands them to the other nodes at the same time, and answers when
// as many nodes have them as the group asks for. Quorum decides that; a quorum belongs to the thread that answers.
//
// The surprising fact: the jobs leave before they are synced here. So the slower of the two disks counts, not both.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "gq/replication/peers.hpp"

namespace gq {

class Coordinator {
 public:
  Coordinator(Monitor& monitor, Peers& peers) : m_monitor(monitor), m_peers(peers) {}

  // Queues jobs here and at peers, and answers for each. Thread-safe.
  std::vector<Answer> add(std::vector<NewJob> jobs);

  // Hands jobs to the peers and keeps nothing here; answers when `copies` of them have each (0: all).
  std::vector<Answer> relay(std::vector<NewJob> jobs, uint32_t copies);

  // From now on add() does not wait long for a peer: the process ends soon.
  void hurry();

 private:
  using Clock = Monitor::Clock;

  Monitor& m_monitor;
  Peers& m_peers;
  std::atomic<Clock::time_point> m_limit{Clock::time_point::max()};  // nothing is waited for longer
  std::timed_mutex m_reading;  // of the threads that answer, the one that reads large workloads
};

}  // namespace gq
