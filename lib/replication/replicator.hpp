// The replicator: what a node of a replication group does for the others, and what they do for it.
//
// Three things happen here, all of them in transfers (transfer.hpp) between nodes:
//
// - add() stores jobs and hands them to the peers at the same time; its answer waits until as many nodes have them as
// the group
//   asks for. Until then they are pending. Any process may do this.
// - The debts: for each peer a walk through this node's journal that tells it what it does not know yet. Everything in
// the
//   journal before PeerState::position is known there. What other nodes have told this one is theirs to pass on; while
//   such a node is gone, its records are passed on by all who have them.
// - The service: answering the transfers of the others, on the Gearman function that has this node's name.
//
// The last two are done by one process of a store, the one that holds replicate.lock. It is also the one that takes
// over jobs of a node that is gone, where jobs run once, and it holds returned.lock while it knows what the others did
// with its own (failure_detector.hpp).
//
// Which nodes are gone, and when this one may run its jobs, failure_detector.hpp decides.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gq/base/log.hpp"
#include "gq/gearman/receivers.hpp"
#include "gq/replication/failure_detector.hpp"
#include "gq/replication/membership.hpp"
#include "gq/replication/ownership.hpp"
#include "gq/replication/progress.hpp"
#include "gq/replication/quorum.hpp"
#include "gq/replication/transfer.hpp"
#include "gq/store/lease.hpp"
#include "gq/store/store.hpp"

namespace gq {

class Replicator {
 public:
  struct Config {
    std::vector<Server> servers;
    Millis peer_timeout{5000};  // how long a peer may take to answer
    Millis takeover{30000};
    Millis alone_after{600000};  // while no peer answers: how long to wait before own jobs are run again
    bool owe = false;            // accept jobs with fewer copies than the group asks for
    std::string keyfile;         // empty: nothing is signed
    bool relay = false;          // keep nothing here; then relay() is called, not add()
  };

  // `store` belongs to a group.
  Replicator(Store& store, Config config);
  ~Replicator();  // stop()

  // Queues jobs here and at peers, and answers for each. Thread-safe.
  std::vector<Answer> add(std::vector<NewJob> jobs);

  // Hands jobs to the peers and keeps nothing here; answers when `copies` of them have each (0: all).
  std::vector<Answer> relay(std::vector<NewJob> jobs, uint32_t copies);

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

  // From now on add() does not wait long for a peer: the process ends soon.
  void hurry();

 private:
  using Clock = std::chrono::steady_clock;
  struct Batch;
  struct Call;
  struct Peer;

  void add_peer(const std::string& name);
  Peer* find(const std::string& node);
  bool pause(Millis duration);
  void complain(Peer& peer, const std::string& trouble);

  std::unique_ptr<Link> take_line(Peer& peer);
  std::unique_ptr<Link> start_ask(Peer& peer, std::string_view body);
  Call start_call(Peer& peer, std::shared_ptr<Batch> batch);
  std::vector<Answer> answer(std::vector<NewJob> jobs, Quorum::Rule rule);
  Quorum::Effect next_effect(Quorum& quorum, const std::list<Call>& calls);
  std::shared_ptr<Batch> append_jobs(const std::shared_ptr<Quorum>& quorum, bool then_send, std::vector<NewJob>& jobs,
                                     std::list<Call>& calls);
  std::vector<std::optional<Quorum::Known>> known_by(const std::vector<NewJob>& jobs, std::vector<Answer>& answers);
  bool take_place(NewJob& job, const std::string& id, const Job& known);
  std::optional<NewJob> whole(const NewJob& job);
  std::shared_ptr<Batch> hand_out(const std::shared_ptr<Quorum>& quorum, const Quorum::Send& send,
                                  std::vector<NewJob>& jobs, std::list<Call>& calls);
  bool record_copies(const Quorum::Record& what);
  void let_go(std::list<Call>& calls, bool counted, const std::shared_ptr<Batch>& first);
  std::list<Call>::iterator next_answered(std::list<Call>& calls, Clock::time_point deadline);
  std::vector<Sending::Said> hear(Call& call);
  void hear_or_complain(Call& call);
  bool are_told(Lsn target) const;
  void hear_late(Peer& peer);

  void take_up(Peer& peer, const Meeting& meeting);
  void walk_again(const std::string& origin);
  void note(Peer& peer, const Reply& reply);
  void record_peer(Peer& peer);
  AskReply ask(Peer& peer, const std::vector<std::string>& ids);
  void look_after(Peer& peer);

  bool pay(Peer& peer, Lsn end);
  std::string add_record(const std::string& id, const Job& job, std::string& unread);
  void deliver(Peer& peer, std::vector<Debt>& debts, const std::string& identity);
  void take_verdict(Peer& peer, Debt& debt, const std::string& line);
  void read_on(Walk& walk, Lsn end);
  void say_left(Peer& peer, const Progress::Left& left);
  bool tell_apart(Peer& peer);
  void begin_apart(Peer& peer);
  void end_apart(Peer& peer, Call& call);
  void save_position(Peer& peer);
  void publish_debts(Peer& peer);

  bool take_lock();
  void prepare(Peer& peer, const PeerState& known);
  void keep();
  void reload();
  void begin_to_return(const std::string& why);
  void beat();
  void say_wait(const Standby& wait, bool has_jobs);
  void come_back();
  void watch_others();
  HeldHere held_here();
  std::set<std::string> unknown_everywhere(const std::vector<HeldJob>& jobs);
  AskReply ask_node(const std::string& node, const std::vector<std::string>& ids);
  std::vector<HeldJob> held_by(const std::string& node, std::string& cursor, bool& last);
  void leave_to_others(const Takeover& what, const RunHere& here, std::vector<HeldJob>& jobs);
  void tell(Peer& peer, const std::vector<TellThenAppend::Change>& changes);
  size_t take_over(const Takeover& what, const RunHere& here);
  void log_stale(const std::vector<TellThenAppend::Change>& changes);

  struct Admission {
    std::optional<Refusal> refusal;
    bool again = false;   // it is for another session than this one
    bool taking = false;  // jobs of the one that asks are being taken over
  };
  Admission admit(const Transfer& t);
  std::optional<std::string> serve(std::string_view payload);
  struct Taken;
  std::string serve_take(const Transfer& transfer, std::string& reason);
  std::string serve_part(const Transfer& transfer, std::string& reason);
  std::string take(const Transfer& transfer, Taken taken, std::string& reason);
  std::string serve_ask(const Transfer& transfer, std::string& reason, bool taking);

  Store& m_store;
  const Config m_config;
  const Keys m_keys;
  const Self m_self;
  const std::string m_group_id;

  std::mutex m_mutex;  // for all that follows
  std::condition_variable m_changed;
  Sessions m_sessions;  // under which it serves
  Membership m_members;
  Ownership m_ownership;
  std::list<Peer> m_peers;
  std::atomic<bool> m_stop = false;
  std::atomic<bool> m_serving = false;    // this process holds replicate.lock
  std::atomic<bool> m_elsewhere = false;  // another one did when it was tried
  FailureDetector m_detector;
  Beat m_beat;
  Millis m_beat_written{0};  // by the clock since boot
  std::string m_waits_logged;
  std::optional<Clock::time_point> m_hurried;
  Clock::time_point m_taken_at;  // when a peer last took something
  std::deque<std::pair<Lsn, std::string>>
      m_blobs;            // of jobs that run everywhere, to be looked at when all peers know them
  std::string m_trouble;  // what was logged last
  Seldom m_seldom;        // what is logged of strangers
  Fd m_beat_file, m_returned_lock;

  // The keeper's own.
  std::pair<time_t, long> m_settings_stamp;
  Fd m_lock;
  std::unique_ptr<Receivers> m_receivers, m_asked;
  std::thread m_keeper, m_pulse;
};

// Says in the journal that nothing is owed to a node any more, since it is not in the group.
std::string forgotten_record(const std::string& node);

// When another node last answered this one; 0: never.
Millis answered_at(const Store& store, const std::string& node);

// What a node is still to be told of, as the journal says and who serves this node; that may know a second's worth
// more.
struct PeerDebt {
  uint64_t jobs = 0;
  std::map<std::string, std::string> refused;     // those of them that it could not take, and why
  std::map<std::string, std::string> unreadable;  // likewise that this node's disk does not give back
  Millis since{0};                                // when the first of them changed
  Millis answered_at{0};                          // when the node last answered; 0: never
};
std::map<std::string, PeerDebt> debts_of(Store& store);

}  // namespace gq
