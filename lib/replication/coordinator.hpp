// The coordinator stores the jobs of clients and sends them to the other nodes at the same time. It answers a client
// when as many nodes have the jobs as the group asks for. A Quorum decides this; each submission has a quorum, which
// only the thread that answers the client uses.
//
// The surprising fact: a node sends the jobs before it has synced them. So a client waits for the slowest of the disks,
// not for one disk after the other.
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

  // Queues jobs on this node and on the peers. Returns an answer for each job. Throws Error(retry), and queues nothing,
  // if another node does not read a feature of one of these jobs (features.hpp). Thread-safe.
  std::vector<Answer> add(std::vector<NewJob> jobs);

  // Sends jobs to the peers and stores nothing on this node. Answers when `copies` peers have each job (0: all peers).
  std::vector<Answer> relay(std::vector<NewJob> jobs, uint32_t copies);

  // Call it when the process is about to end: from now on, add() waits only briefly for a peer.
  void hurry();

 private:
  using Clock = Monitor::Clock;
  std::vector<std::optional<Answer>> take_parents(std::vector<NewJob>& jobs);

  Monitor& m_monitor;
  Queue& m_queue;
  Peers& m_peers;
  std::atomic<Clock::time_point> m_limit{Clock::time_point::max()};  // the time at which every wait ends
  // Held by a thread while it has large workloads in memory, so that one thread at a time does.
  std::timed_mutex m_reading;
};

}  // namespace gq
