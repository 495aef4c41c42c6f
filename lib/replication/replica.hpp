// Replica: what a node of a replication group knows of the others, and what follows from what it hears. It composes
// Membership, FailureDetector, Ownership and, for each other node, Progress and Hearsay; a Quorum belongs to the
// submission that it answers, and is told of the others from here. Pure: no clock, thread, lock, file or socket.
//
// It is a monitor, not a thread. Whoever has an event, a thread that has an answer in its hand or whose time has come,
// steps it under one lock (monitor.hpp), and carries out what comes of that once the lock is free. So nothing is handed
// from one thread to another on a job's way.
//
// A user has these duties:
//
// 1. It steps the replica with what happens: an answer (heard(), then answered() or not_answered()), a transfer
//    (admit()), a change of gq.json (change()), the time (beat(), at least four times in longest_gap()), the end of
//    what it had to do (walked(), ended(), recorded(), looked()). Each step is given the time: Times::boot for what
//    lasts, Times::wall for what is shown and recorded.
// 2. After each step it takes effects() under the same lock, and carries them out without it: lines for people, and the
//    word that the lease has changed.
// 3. Two standing orders come from no step alone, and each has one thread that carries it out, so that they stay in
//    order without a lock: the lease(), which says what returned.lock must be, and record(), what the journal is to say
//    of one node. Both say what must be so by now; however late they are looked at, the last word counts.
// 4. It reads the store for the replica, and puts what it has found into the event; where a step says that it needs
//    something (Belief::needs_end), nothing has happened, and it is repeated with that.
// 5. Between what a step returned and the next one others may have stepped. So what rests on an earlier step names it:
//    a question the Round in which it was asked, a Walk where it began and for which identity. What is stale by then is
//    refused and begun again.
//
// The surprising fact: that this node may run its jobs is decided here (standby()), but is true only when holds_lease()
// has been called: until then no other process of the node sees it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gq/base/log.hpp"
#include "gq/replication/failure_detector.hpp"
#include "gq/replication/look.hpp"
#include "gq/replication/membership.hpp"
#include "gq/replication/ownership.hpp"
#include "gq/replication/progress.hpp"
#include "gq/replication/quorum.hpp"
#include "gq/store/lease.hpp"

namespace gq {

// Before the reason of a job that cannot be read, in debts_text(); no reason that another node gives begins so.
inline constexpr char unreadable_mark = '\t';

class Replica {
 public:
  using Round = FailureDetector::Round;
  struct Rules {
    Millis takeover{30000}, alone_after{600000};
    Millis session_period = Millis::max();  // see Sessions; without keys nobody looks at it
    bool is_signed = false;                 // transfers are, with keys
    Millis check_interval = Ownership::check_interval;
  };

  // `known` is what the journal says of the other nodes.
  Replica(const Group& group, Rules rules, const std::map<std::string, PeerState>& known, Times now);

  const Group& group() const { return m_members.group(); }
  const Membership& members() const { return m_members; }
  const FailureDetector& detector() const { return m_detector; }

  // What is to be carried out after a step.
  struct Line {
    Level level;
    std::string text;
  };
  struct Effects {
    std::vector<Line> lines{};
    bool lease = false;     // who keeps the lease is to be woken
    bool returned = false;  // and those who wait for runs_jobs()
  };
  Effects effects() { return std::exchange(m_effects, {}); }
  // A line that others can cause as often as they like.
  void say_seldom(Level level, const std::string& kind, const std::string& text, Times now);

  // ---- the group

  // What gq.json says now; the journal ends at `end`.
  GroupChange change(const Group& group, const std::map<std::string, PeerState>& known, Lsn end, Millis session_period,
                     Times now);
  // The journal is to say that nothing is owed to these, which are not in the group; then forgotten().
  std::vector<std::string> to_forget() const;
  void forgotten(const std::string& node) { m_forget.erase(node); }

  // ---- this node

  // This process holds replicate.lock, and serves the node from now on.
  void serve(const std::map<std::string, PeerState>& known, Times now);
  bool serves() const { return m_serves; }
  const std::string& session(Times now) { return m_sessions.current(now.boot); }

  // Time goes on. To be called before what rests on the silence of others.
  void beat(Times now);
  // What returned.lock is to be.
  struct Lease {
    enum class What {
      let_go,  // nothing is started on this node
      take,    // it may be held: then end_return() and holds_lease()
      hold,
    };
    What what = What::let_go;
    Round round = 0;
    Beat beat;  // what it says
  };
  Lease lease(Times now);
  // The lock is held. False when the node returns again by now, and it must be let go.
  bool end_return(Round round, Times now);
  // Others can see that.
  void holds_lease(Round round);
  // This node runs its jobs, and its processes know.
  bool runs_jobs() const { return m_detector.has_returned() && m_holds_lease == m_detector.round(); }
  bool is_returning() const { return m_serves && !m_detector.has_returned(); }
  // While it returns: whether it has jobs of its own, which have to wait.
  void standby(bool has_jobs, Times now);

  // ---- what other nodes say

  struct Belief {
    bool needs_end = false;                // of the journal; nothing has happened
    std::optional<std::string> refused{};  // why what it said does not count
  };
  // One has answered as a node, what it was asked at `asked` (since boot).
  Belief heard(const std::string& node, const std::string& store, const std::string& session, std::optional<Lsn> end,
               Millis asked, Times now);
  Round round() const { return m_detector.round(); }
  void not_answered(const std::string& node, Round round, bool server_reached, Times now) {
    m_detector.failed(node, round, server_reached, now.boot);
  }
  // To a question, besides heard(). `here` is where the journal ended before it. Why it does not count, if it does not.
  std::optional<std::string> answered(const std::string& node, Round round, const AskReply& reply, Lsn here, Times now);
  // A node does not do what it should; empty where nobody is to be told. It is not up until it answers a question.
  void failed(const std::string& node, const std::string& trouble, Times now);

  // Whether a transfer is to be heard.
  struct Admission {
    std::optional<Refusal> refusal{};
    bool again = false;   // it is for another session than this one
    bool taking = false;  // jobs of the one that asks are being taken over
  };
  Admission admit(const Transfer& transfer, Times now);
  // A job has come from another node. Why what it came with is not taken, if so.
  std::optional<std::string> refuse(const event::Add& job);

  // ---- clients

  Quorum::Others others() const;
  std::vector<std::string> up() const;  // nodes that are believed to answer, and to have room

  // ---- what other nodes are to be told

  // A part of the journal that the node has been told, or has told itself as that store.
  void told_at_once(const std::string& node, Lsn from, Lsn end);
  void came_from(const std::string& node, const std::string& store, Lsn from, Lsn end);
  void not_told(Lsn from);  // by no node, after all

  // Whether the node is to be asked how it is each second; and whether it is to be told what it is owed.
  bool asks(const std::string& node) const;
  bool pays(const std::string& node) const;
  std::optional<Walk> walk(const std::string& node, Lsn end);
  bool is_mine_to_tell(const std::string& origin, const std::string& store) const;
  // The end of that. True where there is more before `end`.
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

  // What the node knows for certain moves on, now and then.
  void move_on(const std::string& node, Times now);
  // What the journal is to say of the node, where that is due; then recorded(). `last`: nothing else will be, so that
  // it is due where anything has changed.
  std::optional<event::Peer> record(const std::string& node, bool last, Times now);
  // Returns jobs whose blobs may not be needed any more, since the journal says that all nodes know them.
  std::vector<std::string> recorded(const std::string& node, bool well, Times now);
  // What it is still to be told, where the position does not say that, for debts_of().
  std::string debts_text(const std::string& node) const;

  // Whether the node can be told something at once.
  bool is_reached(const std::string& node) const;
  std::vector<AskReply::Sent> sent() const;
  // Whether those who answer know all before `target`.
  bool are_told(Lsn target) const;

  // ---- take-overs

  // Finds out who is gone, and whose jobs are to be looked at.
  std::vector<Takeover> due(const HeldHere& held, Times now);
  // A look at jobs of one of these, question by question; see look.hpp. What is returned is to be appended.
  std::optional<Look::Question> next_question(Look& look, Millis remember, Times now) const;
  std::vector<event::State> answered(Look& look, const AskReply& reply, Times now);
  // The end of it: the jobs are this node's, until taken() in front of others. nullopt where that may not be any more.
  std::optional<TellThenAppend> take(Look& look, Times now);
  void taken() { m_ownership.taken(); }
  // The end of all looks that were due for one reason, which began then; or one could not be ended.
  void looked(const Takeover& what, size_t taken, Millis began, Times now) {
    m_ownership.looked(what, taken, began, now.boot);
  }
  void not_looked(const Takeover& what) { m_ownership.failed(what); }

 private:
  struct Other {
    Progress progress{};
    Hearsay hearsay{};
    bool up = true;                        // believed to answer, and to have room
    std::string trouble{};                 // why it is not up
    bool unsaid = false;                   // and that has not been said
    Sparing said{};                        // its words may be a stranger's
    bool must_record = false;              // in the journal: who it is, or what it knows
    Millis next_move{0}, next_record{0};   // not before
    std::set<std::string> named{};         // jobs that were said to be left, each once
    Lsn being_recorded = 0, recorded = 0;  // its position, in the journal
    // What it knows, as the journal says; what was heard of that since is forgotten.
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
  Sessions m_sessions;  // under which it serves
  std::map<std::string, Other> m_others;
  std::set<std::string> m_forget, m_recording;
  std::vector<std::pair<Lsn, std::string>> m_blobs;  // of jobs that run everywhere, and the first position that says so
  bool m_serves = false;
  std::string m_waits;           // what this node waits for in its return
  std::string m_waits_said;      // likewise, as it was said
  std::optional<Round> m_ready;  // the return that may end
  Round m_holds_lease = 0;
  Seldom m_seldom;
  Effects m_effects;
};

}  // namespace gq
