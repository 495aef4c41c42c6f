// Replica: what a node of a replication group knows of the others, and what follows from what it hears. It composes
// Membership, FailureDetector, Ownership and, for each other node, Progress and Hearsay. A Quorum belongs to the
// submission that it answers; the replica tells it of the other nodes. Pure: no clock, thread, lock, file or socket.
//
// It is a monitor, not a thread. A thread that has an answer in hand, or whose time has come, steps the replica under
// one lock (monitor.hpp), and carries out the effects after it has released the lock. So no job is handed from one
// thread to another on its way.
//
// A caller has these duties:
//
// 1. It steps the replica with each event: an answer (heard(), then answered() or not_answered()), a transfer
//    (admit()), a change of gq.json (change()), the time (beat(), at least four times in longest_gap()), the end of a
//    task (walked(), ended(), recorded(), takeover_ended()). Each step gets the time: Times::boot for durations,
//    Times::wall for what is shown and recorded.
// 2. After each step it takes effects() under the same lock, and carries them out without the lock: log lines, and the
//    notice that the lease has changed.
// 3. Two duties do not come from a single step: lease() says what returned.lock must be, and record() says what the
//    journal must say of one node. Each has one thread that carries it out, which keeps the order without a lock. Both
//    say what must be so now; however late the thread asks, the last state counts.
// 4. It reads the store for the replica, and passes what it has found with the event. If a step says that it needs
//    something (Belief::needs_end), the step had no effect, and the caller repeats it with that.
// 5. Other threads may step the replica between two steps of a caller. So a step that rests on an earlier one names it:
//    a question names the Round in which it was asked, a Walk where it began and for which identity. The replica
//    refuses what is stale, and the caller begins again.
//
// The surprising fact: standby() decides that this node may run its jobs, but that is true only after holds_lease():
// before that, no other process of the node sees it.
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

// Begins the reason of a job that cannot be read, in debts_text(). No reason that another node gives begins so.
inline constexpr char unreadable_mark = '\t';

class Replica {
 public:
  using Round = FailureDetector::Round;
  struct Rules {
    Millis takeover{30000}, alone_after{600000};
    Millis session_period = Millis::max();  // see Sessions; unused without keys
    bool is_signed = false;                 // transfers are signed, with keys
    Millis check_interval = Ownership::check_interval;
  };

  // `known` is what the journal says of the other nodes.
  Replica(const Group& group, Rules rules, const std::map<std::string, PeerState>& known, Times now);

  const Group& group() const { return m_members.group(); }
  const Membership& members() const { return m_members; }
  const FailureDetector& detector() const { return m_detector; }

  // What to carry out after a step.
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
  // Logs a line that other programs can cause as often as they like, at a limited rate.
  void say_seldom(Level level, const std::string& kind, const std::string& text, Times now);

  // ---- the group

  // gq.json says this now; the journal ends at `end`.
  GroupChange change(const Group& group, const std::map<std::string, PeerState>& known, Lsn end, Millis session_period,
                     Times now);
  // The nodes outside the group for which the journal must say that nothing is owed to them; then call forgotten().
  std::vector<std::string> to_forget() const;
  void forgotten(const std::string& node) { m_forget.erase(node); }

  // ---- this node

  // This process holds replicate.lock, and serves the node from now on.
  void serve(const std::map<std::string, PeerState>& known, Times now);
  bool serves() const { return m_serves; }
  const std::string& session(Times now) { return m_sessions.current(now.boot); }

  // Tells the replica the time. Call it before anything that rests on the silence of others.
  void beat(Times now);
  // What returned.lock must be.
  struct Lease {
    enum class What {
      let_go,  // not held: nothing is started on this node
      take,    // lock it: then call end_return() and holds_lease()
      hold,
    };
    What what = What::let_go;
    Round round = 0;
    Beat beat;  // what to write into it
  };
  Lease lease(Times now);
  // The lock is held. False if the node returns again by now; the caller must then release the lock.
  bool end_return(Round round, Times now);
  // Other processes can see that the lock is held.
  void holds_lease(Round round);
  // This node runs its jobs, and its processes know it.
  bool runs_jobs() const { return m_detector.has_returned() && m_holds_lease == m_detector.round(); }
  bool is_returning() const { return m_serves && !m_detector.has_returned(); }
  // While this node returns: finds out what it waits for. `has_jobs`: it has jobs of its own, which have to wait.
  void standby(bool has_jobs, Times now);

  // ---- what other nodes say

  struct Belief {
    bool needs_end = false;                // call it again with the end of the journal; nothing has happened
    std::optional<std::string> refused{};  // why its answer does not count
  };
  // A store has answered as `node` to what that was asked at `asked` (since boot).
  Belief heard(const std::string& node, const std::string& store, const std::string& session, std::optional<Lsn> end,
               Millis asked, Times now);
  Round round() const { return m_detector.round(); }
  void not_answered(const std::string& node, Round round, bool server_reached, Times now) {
    m_detector.failed(node, round, server_reached, now.boot);
  }
  // An answer to a question; call heard() before. `here` is where this journal ended before the question. Returns why
  // the answer does not count, if it does not.
  std::optional<std::string> answered(const std::string& node, Round round, const AskReply& reply, Lsn here, Times now);
  // A node does not do what it should; an empty `trouble` is not logged. The node is not up until it answers a
  // question.
  void failed(const std::string& node, const std::string& trouble, Times now);

  // Whether to accept a transfer.
  struct Admission {
    std::optional<Refusal> refusal{};
    bool again = false;   // it names another session than one of this process
    bool taking = false;  // jobs of the asking node are being taken over
  };
  Admission admit(const Transfer& transfer, Times now);
  // A job has come from another node. Returns why its transfer is refused, if so.
  std::optional<std::string> refuse(const event::Add& job);

  // ---- clients

  Quorum::Others others() const;
  std::vector<std::string> up() const;  // nodes that are believed to answer, and to have room

  // ---- what other nodes are to be told

  // The node has been told a part of the journal; or, came_from(), has told it itself as that store.
  void told_at_once(const std::string& node, Lsn from, Lsn end);
  void came_from(const std::string& node, const std::string& store, Lsn from, Lsn end);
  void not_told(Lsn from);  // no node was told it, after all

  // asks(): whether to ask the node each second how it is. pays(): whether to tell it what it is owed.
  bool asks(const std::string& node) const;
  bool pays(const std::string& node) const;
  std::optional<Walk> walk(const std::string& node, Lsn end);
  bool is_mine_to_tell(const std::string& origin, const std::string& store) const;
  // The end of a walk. True if there is more before `end`.
  bool walked(const std::string& node, Walk& walk, Lsn end, Times now);

  struct Next {
    std::string id;
    bool needs_add;
    Lsn since;
  };
  std::optional<Next> next_apart(const std::string& node, Times now);
  void nothing_to_tell(const std::string& node, const std::string& id);
  void not_heard(const std::string& node, const std::string& id, Millis next);
  void ended(const std::string& node, Debt& debt, Times now);

  // Advances the position of the node, at intervals.
  void move_on(const std::string& node, Times now);
  // What the journal must say of the node, if that is due; then call recorded(). `last`: no later record will follow,
  // so anything that has changed is due.
  std::optional<event::Peer> record(const std::string& node, bool last, Times now);
  // Returns jobs whose blobs may not be needed any more, because the journal says that all nodes know them.
  std::vector<std::string> recorded(const std::string& node, bool well, Times now);
  // What the node still has to be told beyond what its position says, for debts_of().
  std::string debts_text(const std::string& node) const;

  // Whether the node can be told something at once.
  bool is_reached(const std::string& node) const;
  std::vector<AskReply::Sent> sent() const;
  // Whether all nodes that answer know everything before `target`.
  bool are_told(Lsn target) const;

  // ---- take-overs

  // Notices nodes that are gone, and returns the takeovers to attempt.
  std::vector<Takeover> due(const HeldHere& held, Times now);
  // An inquiry for one of these, question by question; see inquiry.hpp. The caller appends the returned states.
  std::optional<Inquiry::Question> next_question(Inquiry& inquiry, Millis remember, Times now) const;
  std::vector<event::State> answered(Inquiry& inquiry, const AskReply& reply, Times now);
  // The end of an inquiry: takes the jobs over. Until taken(), their owner is told so when it asks. nullopt if that is
  // not allowed any more.
  std::optional<TellThenAppend> take(Inquiry& inquiry, Times now);
  void taken() { m_ownership.taken(); }
  // All inquiries of a takeover, which began then, have ended; or one could not be completed.
  void takeover_ended(const Takeover& what, size_t taken, Millis began, Times now) {
    m_ownership.takeover_ended(what, taken, began, now.boot);
  }
  void takeover_failed(const Takeover& what) { m_ownership.failed(what); }

 private:
  struct Other {
    Progress progress{};
    Hearsay hearsay{};
    bool up = true;                        // believed to answer, and to have room
    std::string trouble{};                 // why it is not up
    bool unsaid = false;                   // the trouble has not been logged
    RateLimit said{};                      // limits log lines, because the words may be a stranger's
    bool must_record = false;              // the journal must get who it is, or what it knows
    Millis next_move{0}, next_record{0};   // not before
    std::set<std::string> named{};         // jobs that were reported, each once
    Lsn being_recorded = 0, recorded = 0;  // its position, as it is being written and as it is in the journal
    // Starts from what the journal says; what was heard since is forgotten.
    void take_up(Lsn position, Lsn since) {
      progress.take_up(position, since);
      hearsay = {};
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
  Sessions m_sessions;  // of this node, as the one that answers transfers
  std::map<std::string, Other> m_others;
  std::set<std::string> m_forget, m_recording;
  // Of jobs that run on all nodes: the position of the add record, and the ID.
  std::vector<std::pair<Lsn, std::string>> m_blobs;
  bool m_serves = false;
  std::string m_waits;           // what this node waits for in its return
  std::string m_waits_said;      // the same, as it was logged
  std::optional<Round> m_ready;  // the return that may end
  Round m_holds_lease = 0;
  Seldom m_seldom;
  Effects m_effects;
};

}  // namespace gq
