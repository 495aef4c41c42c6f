// In a group that runs each job once, Ownership decides which node owns a job, and when this node takes over a job of
// another node. Pure: takeover.hpp looks up the jobs, asks the other nodes, and carries out the decisions. Times are
// Millis since boot.
//
// A job of another node is taken over in four cases: the owner is gone; the owner has not run the job's function for
// --takeover; the owner lives and does not know the job (it has lost the job, or has a new identity); the owner is not
// in the group. Of the members that have the job and run its function, the first in the order of the group takes it
// over: each member takes only the jobs that no member before it knows. If the owner has lost a job and no node that
// has the job runs its function, any node that has the job takes it over, so that the job reaches nodes that can run
// it.
//
// Two nodes may accept the same job, and one of the two may lose its record of the job in a power cut. Then nodes may
// disagree on the owner: each node may take another node for the owner, so that no node runs the job. Therefore a node
// sends its state of a job to all nodes in two cases. First, it has asked the owner about the job, and the owner has
// answered that it does not own the job. Second, a node has answered that the job has ended: the node that should
// have sent this end may have lost the record. The states of a job are ordered (is_newer()), and a node that has a
// newer state answers with it (StateVerdict). So all nodes come to agree.
//
// The surprising fact: this node sends a takeover to the other nodes before it appends it to its own journal
// (SendThenAppend).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/replication/failure_detector.hpp"
#include "gq/replication/membership.hpp"
#include "gq/state/job.hpp"
#include "gq/store/owners.hpp"

namespace gq {

struct HeldJob {
  std::string id;
  Job job;
};

// A takeover of jobs of one node, and its cause.
struct Takeover {
  enum class Cause {
    gone,    // the node has not answered for --takeover
    idle,    // the node answers, and has not run some functions for that long
    lost,    // the node answers, and may not know some of its jobs any more
    former,  // the node is not in the group; or it is this node before it was set up again
  };
  std::string node;
  Cause cause;
  bool tells = true;  // sends all nodes the states on which they disagree
};

// The jobs of other nodes that are in this store.
struct HeldHere {
  RunHere runs;                     // the functions that run on this node: a node takes over only jobs of these
  std::set<std::string> functions;  // those functions of the jobs that run on this node
  std::vector<std::string> nodes;   // the owners of the jobs
};

// The jobs after a takeover. The caller sends them to the other nodes first; only after that can it get the records for
// this node's journal.
//
// If this node crashes between the two, nothing is lost, and no job has run: this node's journal still names the old
// owner, so this node takes the jobs over again, with the same term. If this node does not come back, the other nodes
// take over its jobs as those of any node that is gone. The opposite order could run jobs twice: once the records are
// in the journal, any process of this store starts the jobs, and after a crash no other node would know of the
// takeover. The old owner when it returns, or the next node that takes over, would run the jobs again.
class SendThenAppend {
 public:
  struct Change {
    std::string id;
    Job job;
    std::string sent;      // the record for other nodes
    std::string appended;  // the record for this node's journal
    bool stale = false;    // the job is dead, because no other node knows it
  };
  explicit SendThenAppend(std::vector<Change> changes) : m_changes(std::move(changes)) {}

  const std::vector<Change>& to_send() const { return m_changes; }
  // Returns the records to append. Call it after the changes were sent to each node that answers. To a node that could
  // not be reached, the changes remain owed.
  std::vector<std::string> then_append() &&;

 private:
  std::vector<Change> m_changes;
};

// Returns a state that another node has sent, as this node sends it on.
event::State passed_on(event::State state, const Self& self);
// Returns the state of a job that this node sends to the others; and below, the record with this state.
event::State state_to_send(const std::string& id, const Job& job, const Self& self);
inline std::string record_to_send(const std::string& id, const Job& job, const Self& self) {
  return encode_record(state_to_send(id, job, self));
}

// Whether this node sends the others a record that the node `origin` wrote when it had the identity `store`. This node
// sends its own records, and those of an origin that cannot send them any more because it is gone, has a new identity,
// or is not in the group.
bool is_mine_to_send(const Membership& members, const FailureDetector& detector, const std::string& origin,
                     const std::string& store);

class Ownership {
 public:
  // How often each other node is asked whether it knows its jobs, even if nothing suggests that it has lost some.
  static constexpr Millis check_interval{600'000};

  explicit Ownership(Self self, Millis interval = check_interval)
      : m_self(std::move(self)), m_check_interval(interval) {}

  // Call it when a node may have lost jobs that it owns: it is new, has a new identity, or has a new process; or one of
  // its jobs names another identity. Once it answers, it is asked about all its jobs. That also happens every
  // check_interval.
  void may_have_lost(const std::string& node) { m_nodes[node].check = true; }

  // Returns the takeovers to attempt now. Empty while this node returns, and in a group in which every node runs each
  // job. Call it often: it returns each node at most once a second.
  std::vector<Takeover> due(const HeldHere& held, const Membership& members, const FailureDetector& detector,
                            Millis now);
  // An attempt that began at `began` has ended, and `taken` jobs were taken over. If there were none, the next attempt
  // waits longer, because it is for other nodes to take the jobs.
  void takeover_ended(const Takeover& what, size_t taken, Millis began, Millis now);
  // In that attempt, states were sent to all nodes. The nodes need time to receive them, so nothing more is sent until
  // the next check.
  void states_sent(const Takeover& what, Millis now) { m_nodes[what.node].next_sending = now + m_check_interval; }
  // An attempt could not be completed. It will be repeated.
  void failed(const Takeover& what) {
    if (what.cause == Takeover::Cause::lost) may_have_lost(what.node);
  }

  static std::vector<std::string> ids_of(const std::vector<HeldJob>& jobs);
  // Removes from `jobs` the jobs whose functions do not run on this node. For Cause::gone and Cause::idle, also removes
  // the jobs whose functions run on the other node again. Do not call it for Cause::lost: any node that has a lost job
  // may take it over.
  static void leave_others(std::vector<HeldJob>& jobs, const Takeover& what, const RunHere& here,
                           const FailureDetector& detector, Millis now);
  // Removes from `jobs` those that have ended according to the answer. Returns the state that this node has of each of
  // them. The caller appends these states, so that all nodes receive them.
  std::vector<event::State> leave_ended(std::vector<HeldJob>& jobs, const AskReply& reply) const;
  // `node` is alive and was asked about `ids`. Removes from `jobs` each job that `node` knows and that belongs to its
  // present identity. Returns, for each job of which `node` says that it is not the owner, the state that this node
  // has. The caller appends these states, so that all nodes receive them.
  std::vector<event::State> leave_to_owner(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                           const AskReply& reply, const std::string& node,
                                           const Membership& members) const;
  // Returns the nodes that may take precedence over this node: those before it in the order of the group. For
  // Cause::lost, returns all nodes: if this node does not run a job's function, any node that runs it takes precedence.
  std::vector<std::string> before(const Takeover& what, const Membership& members,
                                  const FailureDetector& detector) const;
  // Returns the jobs about which to ask such a node. The node takes precedence for a job if it runs the function and is
  // before this node in the order, or if it runs the function and this node does not.
  std::vector<std::string> to_ask(const std::vector<HeldJob>& jobs, const std::string& node, const RunHere& here,
                                  const Membership& members, const FailureDetector& detector, Millis now) const;
  // Removes from `jobs` those that such a node knows, except those that this node owns according to the answer: this
  // node has sent their takeover before a crash.
  static void leave_to_those_before(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                    const AskReply& reply);

  // `jobs` belonged to this node before it was set up again. Returns those that last changed more than `remember` ago
  // (`now` is wall time). Such a job may be stale: finished jobs are remembered for `remember` only. If no other node
  // knows the job, it has finished and been forgotten.
  static std::vector<std::string> maybe_stale(const std::vector<HeldJob>& jobs, Millis remember, Millis now);
  // Returns all nodes that must be asked about stale jobs; nullopt if one of them cannot be asked.
  static std::optional<std::vector<std::string>> all_others(const Membership& members, const FailureDetector& detector);

  // Takes the jobs over; stale jobs become dead. Returns nullopt if that is not allowed at this moment: this node is
  // returning, or the other node is not gone any more. The caller must call FailureDetector::beat() right before,
  // because this node itself may have been away.
  //
  // From this call until taken(), the owner gets the answer that its jobs are being taken over (is_taking()) when it
  // asks this node. So a returning owner runs no job that is being taken over: if it asked before this call, this call
  // returns nullopt; if it asks later, it has to ask again.
  std::optional<SendThenAppend> take(const Takeover& what, std::vector<HeldJob> jobs,
                                     const std::set<std::string>& stale, const FailureDetector& detector, Times now);
  void taken() { m_taking.clear(); }
  bool is_taking(const std::string& node) const { return !node.empty() && m_taking == node; }

 private:
  struct Node {
    bool check = true;  // see may_have_lost()
    Millis next_check{0};
    Millis next_attempt{0}, next_sending{0};  // the earliest times
  };

  const Self m_self;
  const Millis m_check_interval;
  std::map<std::string, Node> m_nodes;
  Millis m_next_former{0};
  RunHere m_run_here;    // what ran on this node at the last due()
  std::string m_taking;  // the node whose jobs are being taken over
};

}  // namespace gq
