// The coordinator stores jobs of clients, sends them to the other nodes at the same time, and answers when as many
// nodes have them as the group asks for. Quorum decides that; each quorum belongs to the thread that answers.
//
// The surprising fact: the jobs leave before they are synced here. So a client waits for the slower of the two disks,
// not for both in turn.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "gq/replication/peers.hpp"
#include "gq/store/queue.hpp"

namespace gq {

class Coordinator {
 public:
  Coordinator(Monitor& monitor, Queue& queue, Peers& peers) : m_monitor(monitor), m_queue(queue), m_peers(peers) {}

  // Queues jobs here and at peers, and answers each. Thread-safe.
  std::vector<Answer> add(std::vector<NewJob> jobs);

  // Sends jobs to the peers and keeps nothing here; answers when `copies` peers have each job (0: all).
  std::vector<Answer> relay(std::vector<NewJob> jobs, uint32_t copies);

  // From now on, add() waits only briefly for a peer, because the process is about to end.
  void hurry();

 private:
  using Clock = Monitor::Clock;

  Monitor& m_monitor;
  Queue& m_queue;
  Peers& m_peers;
  std::atomic<Clock::time_point> m_limit{Clock::time_point::max()};  // no wait is longer
  std::timed_mutex m_reading;  // held by the thread that reads large workloads: one thread at a time
};

}  // namespace gq
