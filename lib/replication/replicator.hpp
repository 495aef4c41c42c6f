// The replicator: what a node of a replication group does for the others, and what they do for it.
//
// Three things happen, all of them in transfers (transfer.hpp) between nodes:
//
// - The coordinator stores jobs and sends them to the peers at the same time. It answers when as many nodes have the
//   jobs as the group asks for; until then the jobs are pending. Any process may do this.
// - The outboxes pay the debts: for each peer, a walk through this node's journal tells the peer what it does not know
//   yet. The peer knows everything in the journal before PeerState::position. What other nodes have told this one is
//   theirs to pass on; while such a node is gone, all nodes that have its records pass them on.
// - The service answers the transfers of the others, on the Gearman function that has this node's name.
//
// One process of a store does the last two: the one that holds replicate.lock. If jobs run once, that process also
// takes over jobs of nodes that are gone (takeover.hpp), and holds returned.lock while it knows what the others did
// with this node's jobs (lease_keeper.hpp).
//
// None of these parts decides anything: Replica does, behind the one lock of the Monitor. The replicator joins the
// parts.
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
#include "gq/replication/replica_service.hpp"
#include "gq/replication/takeover.hpp"
#include "gq/store/queue.hpp"

namespace gq {

class Replicator {
 public:
  using Config = ReplicationConfig;

  // `store` belongs to a group.
  Replicator(Queue& queue, Config config);
  ~Replicator();  // stop()

  // See Coordinator; add() if this node keeps jobs, relay() if it is a relay.
  std::vector<Answer> add(std::vector<NewJob> jobs) { return m_coordinator.add(std::move(jobs)); }
  std::vector<Answer> relay(std::vector<NewJob> jobs, uint32_t copies) {
    return m_coordinator.relay(std::move(jobs), copies);
  }
  void hurry() { m_coordinator.hurry(); }

  // Serves this node and pays its debts, as soon as no other process does. Returns at once.
  void start();
  void stop();

  // Waits until three things are known: whether this process or another serves this node, what the others did with its
  // jobs, and that each peer that answers has been told all that stood in the journal at the call. False if `timeout`
  // passes before, or if `cut_short` says so.
  using CutShort = std::function<bool()>;
  bool settle(Millis timeout, const CutShort& cut_short);

  // Before stop(): waits until the peers have been told. Also false if no peer takes anything for two seconds.
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
  TakeoverWatch m_takeovers;
  LeaseKeeper m_lease_keeper;
  std::atomic<bool> m_elsewhere = false;  // another process served this node at the last try
  // Used by the keeper's thread only:
  std::pair<time_t, long> m_settings_stamp;
  std::string m_trouble;  // the last error that was logged
  Fd m_lock;              // replicate.lock, held while it serves
  bool m_serving = false;
  std::unique_ptr<Receivers> m_receivers, m_asked;
  std::thread m_keeper;
};

}  // namespace gq
