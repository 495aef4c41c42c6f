// The replicator: what a node of a replication group does for the others, and what they do for it.
//
// Three things happen, all of them in transfers (transfer.hpp) between nodes:
//
// - The coordinator stores jobs and hands them to the peers at the same time; its answer waits until as many nodes have
//   them as the group asks for. Until then they are pending. Any process may do this.
// - The outboxes pay the debts: for each peer a walk through this node's journal that tells it what it does not know
//   yet. Everything in the journal before PeerState::position is known there. What other nodes have told this one is
//   theirs to pass on; while such a node is gone, its records are passed on by all who have them.
// - The service answers the transfers of the others, on the Gearman function that has this node's name.
//
// The last two are done by one process of a store, the one that holds replicate.lock. It is also the one that takes
// over jobs of a node that is gone, where jobs run once (takeover.hpp), and that holds returned.lock while it knows
// what the others did with its own (pulse.hpp).
//
// None of these decides anything: Replica does, behind the one lock of the Monitor. This is what joins them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gq/gearman/receivers.hpp"
#include "gq/replication/coordinator.hpp"
#include "gq/replication/monitor.hpp"
#include "gq/replication/peers.hpp"
#include "gq/replication/pulse.hpp"
#include "gq/replication/replica_service.hpp"
#include "gq/replication/takeover.hpp"
#include "gq/store/store.hpp"

namespace gq {

class Replicator {
 public:
  using Config = ReplicationConfig;

  // `store` belongs to a group.
  Replicator(Store& store, Config config);
  ~Replicator();  // stop()

  // See Coordinator; add() where this node keeps jobs, relay() where it is a relay.
  std::vector<Answer> add(std::vector<NewJob> jobs) { return m_coordinator.add(std::move(jobs)); }
  std::vector<Answer> relay(std::vector<NewJob> jobs, uint32_t copies) {
    return m_coordinator.relay(std::move(jobs), copies);
  }
  void hurry() { m_coordinator.hurry(); }

  // Serves this node and pays its debts, as soon as no other process does. Returns at once.
  void start();
  void stop();

  // Waits until it is known whether this process or another serves this node, what the others did with its jobs, and
  // that each peer that answers has been told all that stood in the journal at the call; false when `timeout` is over
  // before, or `cut_short` says so.
  using CutShort = std::function<bool()>;
  bool settle(Millis timeout, const CutShort& cut_short);

  // Before stop(): the same, as far as the peers are told something; false too when for two seconds none took anything.
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
  Pulse m_pulse;
  std::atomic<bool> m_elsewhere = false;  // another process served this node when that was tried
  // The keeper's own:
  std::pair<time_t, long> m_settings_stamp;
  std::string m_trouble;  // what was logged last
  Fd m_lock;              // replicate.lock, which is held while it serves
  bool m_serving = false;
  std::unique_ptr<Receivers> m_receivers, m_asked;
  std::thread m_keeper;
};

}  // namespace gq
