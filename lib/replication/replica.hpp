// Replica: what a node of a replication group knows of the other nodes, and the decisions that follow from their
// messages. It consists of Membership, FailureDetector, Ownership and, for each other node, Progress and
// ReportedProgress. A Quorum belongs to one submission; it gets the state of the other nodes from the replica. Pure: no
// clock, thread, lock, file or socket.
//
// It has no thread of its own. A thread that has received an answer, or whose timer has expired, "steps" the replica:
// it calls a function of the replica under one mutex (monitor.hpp). After it has released the mutex, it carries out the
// effects of the step, such as log lines. So threads do not pass work to each other.
//
// The callers have these duties:
//
// 1. A caller steps the replica with each event: an answer (accept(), then answered() or not_answered()), a transfer
//    (admit()), a change of gq.json (change()), the time (beat(), at least four times in longest_gap()), the end of a
//    task (walked(), ended(), recorded(), takeover_ended()). Each step gets the time: Times::boot for durations,
//    Times::wall for times that are shown and recorded.
// 2. After each step the caller takes effects() under the same mutex, and carries them out without the mutex: log
//    lines, and the notice that the lease has changed.
// 3. Two things do not come from a single step: lease() returns what returned.lock must be, and record() returns what
//    the journal must say about one node. Each is called by only one thread, which carries the result out, so that the
//    order is kept without a lock. Both return what must be true now; however late the thread calls them, the last
//    state wins.
// 4. A caller reads the store for the replica, and passes what it has found with the event. If a step returns that it
//    needs something (Acceptance::needs_end), it had no effect, and the caller repeats it with what it needs.
// 5. Other threads may step the replica between two steps of a caller. So a step that depends on an earlier step names
//    it: a question names the Round in which it was asked; a Walk names where it began and for which identity. The
//    replica refuses a stale step, and the caller begins again.
//
// The surprising fact: standby() decides that this node may run its jobs, but the decision takes effect only when the
// caller reports with holds_lease() that it has locked returned.lock. Before that, the other processes of the node
// cannot see the decision.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gq/base/log.hpp"
#include "gq/replication/failure_detector.hpp"
#include "gq/replication/inquiry.hpp"
#include "gq/replication/membership.hpp"
#include "gq/replication/ownership.hpp"
#include "gq/replication/progress.hpp"
#include "gq/replication/quorum.hpp"
#include "gq/store/lease.hpp"

namespace gq {

// In debts_text(), the reason of a job that this node cannot read begins with this mark. A reason from another node
// never does.
inline constexpr char unreadable_mark = '\t';

class Replica {
 public:
  using Round = FailureDetector::Round;
  struct Rules {
    Millis takeover{30000}, alone_after{600000};
    Millis session_period = Millis::max();  // see Sessions; unused without keys
    bool is_signed = false;                 // transfers are signed with keys
    Millis check_interval = Ownership::check_interval;
  };

  // `known` is what the journal says about the other nodes.
  Replica(const Group& group, Rules rules, const std::map<std::string, PeerState>& known, Times now);

  const Group& group() const { return m_members.group(); }
  const Membership& members() const { return m_members; }
  const FailureDetector& detector() const { return m_detector; }

  // The effects: what the caller carries out after a step.
  struct Line {
    Level level;
    std::string text;
  };
  struct Effects {
    std::vector<Line> lines{};
    bool lease = false;     // wake the thread that keeps the lease
    bool returned = false;  // wake the threads that wait for runs_jobs()
  };
  Effects effects() { return std::exchange(m_effects, {}); }
  // Logs a line that other programs can cause, at a limited rate.
  void say_limited(Level level, const std::string& kind, const std::string& text, Times now);

  // ---- the group

  // gq.json has changed to `group`. The journal ends at `end`.
  GroupChange change(const Group& group, const std::map<std::string, PeerState>& known, Lsn end, Millis session_period,
                     Times now);
  // Returns the nodes outside the group to which, as the journal must say, nothing is owed. Append the records, and
  // then call forgotten().
  std::vector<std::string> to_forget() const;
  void forgotten(const std::string& node) { m_forget.erase(node); }

  // ---- this node

  // This process holds replicate.lock and serves the node from now on.
  void serve(const std::map<std::string, PeerState>& known, Times now);
  bool serves() const { return m_serves; }
  const std::string& session(Times now) { return m_sessions.current(now.boot); }

  // Tells the replica the time. Call it before anything that depends on how long other nodes have been silent.
  void beat(Times now);
  // The required state of returned.lock.
  struct Lease {
    enum class What {
      let_go,  // release it: nothing may be started on this node
      take,    // lock it; then call end_return() and holds_lease()
      hold,
    };
    What what = What::let_go;
    Round round = 0;
    Beat beat;  // the text to write into it
  };
  Lease lease(Times now);
  // The caller has taken the lock. Returns false if another return has begun; then the caller must release the lock.
  bool end_return(Round round, Times now);
  // From now on, other processes can see that the lock is held.
  void holds_lease(Round round);
  // Whether this node runs its jobs, and its processes can see that.
  bool runs_jobs() const { return m_detector.has_returned() && m_holds_lease == m_detector.round(); }
  bool is_returning() const { return m_serves && !m_detector.has_returned(); }
  // While this node returns, finds out what it waits for. `has_jobs`: it owns jobs, which have to wait.
  void standby(bool has_jobs, Times now);

  // ---- what other nodes have sent

  struct Acceptance {
    bool needs_end = false;                // the call had no effect: call it again with the end of the journal
    std::optional<std::string> refused{};  // the reason to ignore the answer
  };
  // A store has answered in the name of `node` to a message that was sent at `asked` (since boot).
  Acceptance accept(const std::string& node, const std::string& store, const std::string& session,
                    std::optional<Lsn> end, Millis asked, Times now);
  Round round() const { return m_detector.round(); }
  void not_answered(const std::string& node, Round round, bool server_reached, Times now) {
    m_detector.failed(node, round, server_reached, now.boot);
  }
  // A node has answered a question; call accept() before. `here` is the end of this node's journal before the question.
  // Returns a reason if the answer must be ignored.
  std::optional<std::string> answered(const std::string& node, Round round, const AskReply& reply, Lsn here, Times now);
  // There was trouble with a node; an empty `trouble` is not logged. From now on the node is not up, until it answers a
  // question.
  void failed(const std::string& node, const std::string& trouble, Times now);

  // Whether to accept a transfer.
  struct Admission {
    std::optional<Refusal> refusal{};
    bool again = false;   // the transfer names a session that is not one of this process: answer "again"
    bool taking = false;  // this node is taking over jobs of the asking node
  };
  Admission admit(const Transfer& transfer, Times now);
  // A job has come from another node. Returns a reason if its transfer must be refused.
  std::optional<std::string> refuse(const event::Add& job);

  // ---- clients

  Quorum::Others others() const;
  std::vector<std::string> up() const;  // the nodes that are expected to answer and to have room

  // ---- what to send to other nodes

  // sent_at_once(): a part of the journal has been sent to the node. came_from(): the part came from the node itself,
  // under that identity.
  void sent_at_once(const std::string& node, Lsn from, Lsn end);
  void came_from(const std::string& node, const std::string& store, Lsn from, Lsn end);
  void not_sent(Lsn from);  // the part was not sent to any node after all

  // asks(): whether to ask the node each second about its state. pays(): whether to send it what it is owed.
  bool asks(const std::string& node) const;
  bool pays(const std::string& node) const;
  std::optional<Walk> walk(const std::string& node, Lsn end);
  bool is_mine_to_send(const std::string& origin, const std::string& store) const;
  // Ends a walk. Returns true if there is more before `end`.
  bool walked(const std::string& node, Walk& walk, Lsn end, Times now);

  struct Next {
    std::string id;
    bool needs_add;
    Lsn location, since;
  };
  std::optional<Next> next_single(const std::string& node, Times now);
  void nothing_to_send(const std::string& node, const std::string& id);
  void retry_at(const std::string& node, const std::string& id, Millis next);
  void ended(const std::string& node, Debt& debt, Times now);

  // Advances the position of the node. Does so only at intervals.
  void move_on(const std::string& node, Times now);
  // Returns the record that the journal must get about the node, if one is due; append it, and then call recorded().
  // `last`: this is the last record, so it is due if anything has changed.
  std::optional<event::Peer> record(const std::string& node, bool last, Times now);
  // Returns jobs whose blobs may not be needed any more, because all nodes know these jobs according to the journal.
  std::vector<std::string> recorded(const std::string& node, bool well, Times now);
  // Returns the debts to the node that do not follow from its position, for debts_of().
  std::string debts_text(const std::string& node) const;

  // Whether something can be sent to the node at once.
  bool is_reached(const std::string& node) const;
  std::vector<AskReply::Sent> sent() const;
  // Whether all nodes that answer know everything before `target`.
  bool have_all(Lsn target) const;

  // ---- take-overs

  // Notices nodes that are gone. Returns the takeovers to attempt.
  std::vector<Takeover> due(const HeldHere& held, Times now);
  // The steps of an inquiry for one of these takeovers; see inquiry.hpp. The caller appends the returned states.
  std::optional<Inquiry::Question> next_question(Inquiry& inquiry, Millis remember, Times now) const;
  std::vector<event::State> answered(Inquiry& inquiry, const AskReply& reply, Times now);
  // Ends an inquiry and takes the jobs over. Until taken(), their owner learns this when it asks. Returns nullopt if
  // the takeover is not allowed any more.
  std::optional<SendThenAppend> take(Inquiry& inquiry, Times now);
  void taken() { m_ownership.taken(); }
  // All inquiries of a takeover that began at `began` have ended. takeover_failed(): one of them could not be
  // completed.
  void takeover_ended(const Takeover& what, size_t taken, Millis began, Times now) {
    m_ownership.takeover_ended(what, taken, began, now.boot);
  }
  void takeover_failed(const Takeover& what) { m_ownership.failed(what); }

 private:
  struct Other {
    Progress progress{};
    ReportedProgress reported{};
    bool up = true;                        // it is expected to answer and to have room
    std::string trouble{};                 // the reason why it is not up
    bool unsaid = false;                   // the trouble has not been logged yet
    RateLimit said{};                      // limits log lines, because a stranger may have chosen their words
    bool must_record = false;              // the journal must get the node's identity or position
    Millis next_move{0}, next_record{0};   // the earliest times
    std::set<std::string> named{};         // the jobs that were reported for this node; each is reported once
    Lsn being_recorded = 0, recorded = 0;  // its position: being written to the journal, and written
    // Starts again from the values in the journal, and forgets everything that was received since.
    void take_up(Lsn position, Lsn since) {
      progress.take_up(position, since);
      reported = {};
      recorded = position;
    }
  };
  const Other* find(const std::string& node) const;
  Other* find(const std::string& node);
  void join(const std::string& node, const PeerState& known, Times now);
  void say(Level level, std::string text) { m_effects.lines.push_back({level, std::move(text)}); }
  void say_left(const std::string& node, Other& other, const Progress::Left& left);
  void begin_to_return(const std::string& why);
  void take_up(const std::string& node, Other& other, const Meeting& meeting, Lsn end, Times now);
  void walk_again(const std::string& origin);

  const Rules m_rules;
  const Self m_self;
  Membership m_members;
  FailureDetector m_detector;
  Ownership m_ownership;
  Sessions m_sessions;  // of this node, for the transfers that it answers
  std::map<std::string, Other> m_others;
  std::set<std::string> m_forget, m_recording;
  // For jobs that run on all nodes: the position of the add record, and the ID.
  std::vector<std::pair<Lsn, std::string>> m_blobs;
  bool m_serves = false;
  std::string m_waits;           // what this node waits for in its return
  std::string m_waits_said;      // the value of m_waits that was last logged
  std::optional<Round> m_ready;  // the return that may end
  Round m_holds_lease = 0;
  LogLimit m_log_limit;
  Effects m_effects;
};

}  // namespace gq
