// The replicator: the work of a node in a replication group.
//
// It has three parts. All use transfers between nodes (transfer.hpp):
//
// - The coordinator stores jobs and sends them to the peers at the same time. It answers when as many nodes have the
//   jobs as the group asks for. Until then the jobs are pending. Any process may do this.
// - The outboxes pay the debts: for each peer, an outbox walks through this node's journal and sends the peer what it
//   does not know yet. The peer knows everything in the journal before PeerState::position. A record that another node
//   has sent to this node is passed on by that other node; while that node is gone, all nodes that have its records
//   pass them on.
// - The service answers the transfers of the other nodes, on the Gearman function that has this node's name. Beside it,
//   PullService answers clients that wait for results.
//
// Outboxes and service run in one process of a store: the process that holds replicate.lock. If each job runs on one
// node, that process also takes over jobs of nodes that are gone (takeover.hpp). It holds returned.lock while it knows
// what the other nodes did with this node's jobs (lease_keeper.hpp).
//
// None of these parts decides anything: the Replica decides, under the one mutex of the Monitor. The replicator joins
// the parts.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gq/gearman/receivers.hpp"
#include "gq/replication/coordinator.hpp"
#include "gq/replication/lease_keeper.hpp"
#include "gq/replication/monitor.hpp"
#include "gq/replication/peers.hpp"
#include "gq/replication/pull_service.hpp"
#include "gq/replication/replica_service.hpp"
#include "gq/replication/takeover.hpp"
#include "gq/store/queue.hpp"

namespace gq {

class Replicator {
 public:
  using Config = ReplicationConfig;

  // The store of `queue` must belong to a group.
  Replicator(Queue& queue, Config config);
  ~Replicator();  // stop()

  // See Coordinator. Call add() if this node stores jobs, relay() if it is a relay.
  std::vector<Answer> add(std::vector<NewJob> jobs) { return m_coordinator.add(std::move(jobs)); }
  std::vector<Answer> relay(std::vector<NewJob> jobs, uint32_t copies) {
    return m_coordinator.relay(std::move(jobs), copies);
  }
  void hurry() { m_coordinator.hurry(); }
  // Returns the stores to ask for the results of jobs that are added now (pull_wire.hpp). If each job runs on one node,
  // these are all nodes, this one first; otherwise only this node. A relay names the other nodes.
  std::vector<std::string> result_stores();

  // Serves this node and pays its debts, once no other process does. Returns at once.
  void start();
  void stop();

  // Waits for three things: it is decided whether this process or another serves this node; this node knows what the
  // other nodes did with its jobs; and each peer that answers has been sent everything that was in the journal at the
  // call. Returns false if `timeout` passes before, or if `cut_short` returns true.
  using CutShort = std::function<bool()>;
  bool settle(Millis timeout, const CutShort& cut_short);

  // Call it before stop(): waits until the peers have been sent everything. Returns false as settle() does, and also if
  // no peer takes anything for two seconds.
  bool leave(Millis timeout, const CutShort& cut_short);

 private:
  using Clock = Monitor::Clock;

  void keep();
  void keep_once();
  bool take_lock();
  void serve();
  void reload();
  void forget();
  void come_back();

  Monitor m_monitor;
  Peers m_peers;
  Coordinator m_coordinator;
  ReplicaService m_service;
  PullService m_pull;
  TakeoverWatch m_takeovers;
  LeaseKeeper m_lease_keeper;
  std::atomic<bool> m_elsewhere = false;  // at the last try, another process served this node
  // Only the keeper's thread uses the following:
  std::pair<time_t, long> m_settings_stamp;
  std::string m_trouble;  // the last error that was logged
  Fd m_lock;              // replicate.lock, held while this process serves the node
  bool m_serving = false;
  std::unique_ptr<Receivers> m_receivers, m_asked, m_pulled;
  std::thread m_keeper;
};

}  // namespace gq
