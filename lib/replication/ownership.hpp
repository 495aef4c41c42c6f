// Ownership: where jobs run once, whose a job is, and when this node makes one of another node its own. Pure: the
// shell (takeover.hpp) looks up the jobs, asks the other nodes, and carries out what follows. Times are Millis since
// boot.
//
// A job of another node is taken over where that one is gone, where it has not run the job's function for --takeover,
// where it lives and does not know the job (it lost it, or is another store now), and where it is none of the group.
// The first member in the order of the group that has the job and runs its function takes it: each one leaves to those
// before it what they know. Where the owner has lost a job and no node that has it runs its function, any node that has
// it takes it over, so that it comes to those who can run it.
//
// Two nodes may accept the same job, and one of them may lose its record in a power cut. Then nodes may differ in whose
// job it is, and each may leave it to another. So a node that hears that the owner takes the job for another's tells
// all what it has itself. So does one that hears that a job has ended which it still has: who was to tell it so may
// have lost that. What nodes say of a job is ordered (is_newer()), and who knows more says so (StateVerdict), so that
// they come to agree.
//
// The surprising fact: the others are told before this node's own journal is (TellThenAppend).
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

// Why jobs of a node are looked at.
struct Takeover {
  enum class Cause {
    gone,    // it has not answered for --takeover
    idle,    // it answers, and has not run some functions for that long
    lost,    // it answers, and may not know some jobs any more
    former,  // it is not in the group; or it is what this node was before it was set up anew
  };
  std::string node;
  Cause cause;
  bool tells = true;  // all are told of what the nodes do not agree on
};

// What is to be looked at: jobs of other nodes that are here.
struct HeldHere {
  RunHere runs;                     // what runs here: nobody takes over what it does not run
  std::set<std::string> functions;  // of those jobs, as far as they run here
  std::vector<std::string> nodes;   // whose they are
};

// Jobs as they are once they are taken over. The others are told first, and what this node appends can be had only
// after that.
//
// A crash between the two loses nothing, and nothing has run: this node's journal says that the jobs are still the
// other node's, so it takes them over again, with the same term; and where it does not come back, they are its jobs for
// the others, who take them over as those of any node that is gone. The other order would double them: once the records
// stand in the journal any process of this store starts the jobs, and after a crash nobody else would know. The owner
// that returns, or the next that takes over, would run them again.
class TellThenAppend {
 public:
  struct Change {
    std::string id;
    Job job;
    std::string told;      // the record for other nodes
    std::string appended;  // and for this one's journal
    bool stale = false;    // it is dead
  };
  explicit TellThenAppend(std::vector<Change> changes) : m_changes(std::move(changes)) {}

  const std::vector<Change>& tell() const { return m_changes; }
  // The records, after tell() was carried out with each node that answers. One that could not be told is owed it.
  std::vector<std::string> then_append() &&;

 private:
  std::vector<Change> m_changes;
};

// What this node tells others of a job, and the record of that.
event::State told_state(const std::string& id, const Job& job, const Self& self);
inline std::string told_record(const std::string& id, const Job& job, const Self& self) {
  return encode_record(told_state(id, job, self));
}

// Whether this node tells the others a record that `origin` wrote when it was that store. It tells its own
// records, and those whose writer cannot tell them any more (it is gone, another store by now, or not in the group).
bool is_mine_to_tell(const Membership& members, const FailureDetector& detector, const std::string& origin,
                     const std::string& store);

class Ownership {
 public:
  // Each other node is asked so often whether it knows its jobs, whatever was seen of it.
  static constexpr Millis check_interval{600'000};

  explicit Ownership(Self self, Millis interval = check_interval)
      : m_self(std::move(self)), m_check_interval(interval) {}

  // A node may not know jobs any more that are its own: it is new, another store, or another process than before, or
  // one of its jobs names another store. It is asked about all of them, once it answers; and now and then in any case.
  void may_have_lost(const std::string& node) { m_nodes[node].check = true; }

  // The nodes whose jobs are to be looked at now. None while this node returns, or runs nothing. To be asked often;
  // each node is looked at once a second at most.
  std::vector<Takeover> due(const HeldHere& held, const Membership& members, const FailureDetector& detector,
                            Millis now);
  // A look that began then has ended. Where nothing was taken over, the next one waits: others have the jobs to take.
  void looked(const Takeover& what, size_t taken, Millis began, Millis now);
  // At that look all were told of something. The others need their time to hear that, so no more is told until the next
  // check.
  void told(const Takeover& what, Millis now) { m_nodes[what.node].next_telling = now + m_check_interval; }
  // One could not be ended: it is repeated.
  void failed(const Takeover& what) {
    if (what.cause == Takeover::Cause::lost) may_have_lost(what.node);
  }

  static std::vector<std::string> ids_of(const std::vector<HeldJob>& jobs);
  // Which of these jobs are to be taken over: those that run here, and that `what` concerns in this moment. Not of
  // jobs that their owner has lost: those are for any node that has them.
  static void leave_others(std::vector<HeldJob>& jobs, const Takeover& what, const RunHere& here,
                           const FailureDetector& detector, Millis now);
  // Leaves out what another one knows to have ended. Returns what is to be appended here, and so told to all: of those.
  std::vector<event::State> leave_ended(std::vector<HeldJob>& jobs, const AskReply& reply) const;
  // Of jobs of a node that lives, which may know them: leaves out those that are that store's and that it knows, as it
  // was asked for `ids`. Returns what is to be appended here, and so told to all: of jobs that it takes for another's.
  std::vector<event::State> leave_to_owner(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                           const AskReply& reply, const std::string& node,
                                           const Membership& members) const;
  // The nodes that may come before this one: those that are before it in the group; and all, where the owner has lost
  // what this one does not run either, so that one takes it who can run it, where there is one.
  std::vector<std::string> before(const Takeover& what, const Membership& members,
                                  const FailureDetector& detector) const;
  // What such a node is to be asked for: it comes before this one where it runs the function.
  std::vector<std::string> to_ask(const std::vector<HeldJob>& jobs, const std::string& node, const RunHere& here,
                                  const Membership& members, const FailureDetector& detector, Millis now) const;
  // Leaves out what it knows; but for what it takes for this node's, since it was told so before a crash.
  static void leave_to_those_before(std::vector<HeldJob>& jobs, const std::vector<std::string>& ids,
                                    const AskReply& reply);

  // Of jobs that were this node's before it was set up anew, those that may be stale: older than finished ones are
  // remembered (`now` is wall time). One that no other node knows has been finished, and forgotten, since.
  static std::vector<std::string> maybe_stale(const std::vector<HeldJob>& jobs, Millis remember, Millis now);
  // All who have to be asked for that; nullopt where one of them cannot be.
  static std::optional<std::vector<std::string>> all_others(const Membership& members, const FailureDetector& detector);

  // Takes the jobs over; those that are stale are dead. nullopt where that may not be in this moment: this node
  // returns, or the other is not gone any more. `now` is wall time too: FailureDetector::beat() has to be called right
  // before, since this node itself may have been away.
  //
  // From then until taken(), a node that returns, and so asks, is told that its jobs are being taken over
  // (is_taking()). So it knows of each take-over that is written before it runs anything: one that had asked before is
  // left alone, and one that asks later asks again.
  std::optional<TellThenAppend> take(const Takeover& what, std::vector<HeldJob> jobs,
                                     const std::set<std::string>& stale, const FailureDetector& detector, Times now);
  void taken() { m_taking.clear(); }
  bool is_taking(const std::string& node) const { return !node.empty() && m_taking == node; }

 private:
  struct Node {
    bool check = true;  // see may_have_lost()
    Millis next_check{0};
    Millis next_look{0}, next_telling{0};  // not before
  };

  const Self m_self;
  const Millis m_check_interval;
  std::map<std::string, Node> m_nodes;
  Millis m_next_former{0};
  RunHere m_run_here;    // what ran here at the last look
  std::string m_taking;  // the node whose jobs are being taken over
};

}  // namespace gq
