// In a group that runs each job once, Ownership decides which node owns a job, and when this node takes over a job of
// another node. Pure: the shell (takeover.hpp) looks up the jobs, asks the other nodes, and carries out the effects.
// Times are Millis since boot.
//
// A job of another node is taken over in four cases: the owner is gone; it has not run the job's function for
// --takeover; it lives and does not know the job (it has lost the job, or is another store now); it is not in the
// group. Of the members that have the job and run its function, the first in the order of the group takes it: each
// member leaves to those before it the jobs that they know. If the owner has lost a job and no node that has the job
// runs its function, any node that has it takes it over, so that the job comes to nodes that can run it.
//
// Two nodes may accept the same job, and one of them may lose its record in a power cut. Then nodes may disagree on the
// owner, and each may leave the job to another. So when a node hears that the owner takes the job for another's, it
// tells all nodes the state that it has itself. It does the same when it hears that a job has ended that it still has,
// because the node that was to tell it so may have lost that. The states of a job are ordered (is_newer()), and a node
// that knows a newer one says so (StateVerdict), so that all nodes come to agree.
//
// The surprising fact: the other nodes are told of a takeover before this node's own journal is (TellThenAppend).
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

// A reason to take over jobs of a node.
struct Takeover {
  enum class Cause {
    gone,    // it has not answered for --takeover
    idle,    // it answers, and has not run some functions for that long
    lost,    // it answers, and may not know some jobs any more
    former,  // it is not in the group; or it is what this node was before it was set up again
  };
  std::string node;
  Cause cause;
  bool tells = true;  // all nodes are told of what they do not agree on
};

// The jobs of other nodes that are in this store.
struct HeldHere {
  RunHere runs;                     // what runs here: a node takes over only what it runs
  std::set<std::string> functions;  // the functions of those jobs that run here
  std::vector<std::string> nodes;   // the owners of those jobs
};

// Jobs as they are after a takeover. The caller tells the other nodes first; only after that it can get the records for
// this node's journal.
//
// A crash between the two loses nothing, and no job has run: this node's journal still names the other node as the
// owner, so this node takes the jobs over again, with the same term. If it does not come back, the others take its jobs
// over as those of any node that is gone. The opposite order could run jobs twice: once the records are in the journal,
// any process of this store starts the jobs, and after a crash no other node would know. The old owner when it returns,
// or the next node that takes over, would run them again.
class TellThenAppend {
 public:
  struct Change {
    std::string id;
    Job job;
    std::string told;      // the record for other nodes
    std::string appended;  // the record for this node's journal
    bool stale = false;    // the job is dead, because no other node knows it
  };
  explicit TellThenAppend(std::vector<Change> changes) : m_changes(std::move(changes)) {}

  const std::vector<Change>& tell() const { return m_changes; }
  // The records to append, after tell() was sent to each node that answers. A node that could not be told is owed it.
  std::vector<std::string> then_append() &&;

 private:
  std::vector<Change> m_changes;
};

// What this node tells others of a job, and the record for that.
event::State told_state(const std::string& id, const Job& job, const Self& self);
inline std::string told_record(const std::string& id, const Job& job, const Self& self) {
  return encode_record(told_state(id, job, self));
}

// Whether this node tells the others a record that `origin` wrote when it was that store. It tells its own records, and
// those of a writer that cannot tell them any more (it is gone, another store now, or not in the group).
bool is_mine_to_tell(const Membership& members, const FailureDetector& detector, const std::string& origin,
                     const std::string& store);

class Ownership {
 public:
  // How often each other node is asked whether it knows its jobs, without any sign that it has lost some.
  static constexpr Millis check_interval{600'000};

  explicit Ownership(Self self, Millis interval = check_interval)
      : m_self(std::move(self)), m_check_interval(interval) {}

  // A node may have lost jobs of its own: it is new, another store, or another process than before, or one of its jobs
  // names another store. Once it answers, it is asked about all of them. That also happens from time to time in any
  // case.
  void may_have_lost(const std::string& node) { m_nodes[node].check = true; }

  // The takeovers to attempt now. Empty while this node returns, and in a group that runs jobs everywhere. Call it
  // often; it returns each node once a second at most.
  std::vector<Takeover> due(const HeldHere& held, const Membership& members, const FailureDetector& detector,
                            Millis now);
  // An attempt that began then has ended. If nothing was taken over, the next one waits longer: other nodes have the
  // jobs to take.
  void takeover_ended(const Takeover& what, size_t taken, Millis began, Millis now);
  // During that attempt, all nodes were told of something. They need time to hear it, so nothing more is told until the
  // next check.
  void told(const Takeover& what, Millis now) { m_nodes[what.node].next_telling = now + m_check_interval; }
  // An attempt could not be completed: it is repeated.
  void failed(const Takeover& what) {
    if (what.cause == Takeover::Cause::lost) may_have_lost(what.node);
  }

  static std::vector<std::string> ids_of(const std::vector<HeldJob>& jobs);
  // Keeps the jobs that run here and that `what` concerns at this moment. Not for jobs that their owner has lost: any
  // node that has those may take them.
  static void leave_others(std::vector<HeldJob>& jobs, const Takeover& what, const RunHere& here,
                           const FailureDetector& detector, Millis now);
  // Drops jobs that the answering node knows to have ended. Returns this node's states of those jobs. The caller
  // appends them here, and so they are told to all nodes.
  std::vector<event::State> leave_ended(std::vector<HeldJob>& jobs, const AskReply& reply) const;
  // For jobs of a living node, which was asked for `ids`: drops those that belong to its present store and that it
  // knows. Returns this node's states of jobs that it takes for another node's. The caller appends them here, and so
  // they are told to all nodes.
  std::vector<event::State> leave_to_owner(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                           const AskReply& reply, const std::string& node,
                                           const Membership& members) const;
  // The nodes that may take precedence over this one: those before it in the order of the group. If the owner has lost
  // jobs that this node does not run either: all nodes, so that one that runs the function takes them, if there is one.
  std::vector<std::string> before(const Takeover& what, const Membership& members,
                                  const FailureDetector& detector) const;
  // The jobs to ask such a node for. It takes precedence for a job if it runs the function and is earlier in the order,
  // or if it alone of the two runs the function.
  std::vector<std::string> to_ask(const std::vector<HeldJob>& jobs, const std::string& node, const RunHere& here,
                                  const Membership& members, const FailureDetector& detector, Millis now) const;
  // Drops the jobs that such a node knows, except jobs that it takes for this node's: it was told so before a crash.
  static void leave_to_those_before(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                    const AskReply& reply);

  // Of jobs that were this node's before it was set up again: those that may be stale, because they are older than
  // finished jobs are remembered (`now` is wall time). If no other node knows such a job, it has been finished and
  // forgotten since.
  static std::vector<std::string> maybe_stale(const std::vector<HeldJob>& jobs, Millis remember, Millis now);
  // All nodes that must be asked about stale jobs; nullopt if one of them cannot be asked.
  static std::optional<std::vector<std::string>> all_others(const Membership& members, const FailureDetector& detector);

  // Takes the jobs over; stale jobs become dead. nullopt if that is not allowed at this moment: this node is returning,
  // or the other node is not gone any more. The caller must call FailureDetector::beat() right before, because this
  // node itself may have been away.
  //
  // From then until taken(), a returning node that asks is told that its jobs are being taken over (is_taking()). So it
  // knows of each takeover that is written before it runs anything: if it asked before this call, its jobs are left
  // alone; if it asks later, it has to ask again.
  std::optional<TellThenAppend> take(const Takeover& what, std::vector<HeldJob> jobs,
                                     const std::set<std::string>& stale, const FailureDetector& detector, Times now);
  void taken() { m_taking.clear(); }
  bool is_taking(const std::string& node) const { return !node.empty() && m_taking == node; }

 private:
  struct Node {
    bool check = true;  // see may_have_lost()
    Millis next_check{0};
    Millis next_attempt{0}, next_telling{0};  // not before
  };

  const Self m_self;
  const Millis m_check_interval;
  std::map<std::string, Node> m_nodes;
  Millis m_next_former{0};
  RunHere m_run_here;    // what ran here at the last due()
  std::string m_taking;  // the node whose jobs are being taken over
};

}  // namespace gq
