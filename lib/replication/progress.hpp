// Progress: what another node knows of this node's journal, and what it is still to be told. Pure.
//
// Everything in the journal before position() is known there; everything before sent() has been told. A Walk goes
// through the next part and finds what there is to tell of the jobs that it names, as they are now: a Debt each. What
// cannot be told with the others, since it is large, refused or not understood, is told apart, each job on its own; it
// holds the position back and nothing else. What other nodes have told this one is theirs to pass on, and is only
// passed on from here when it is not known whether they have.
//
// A Progress is of one identity: another one under the same name begins with take_up().
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gq/replication/verdict.hpp"
#include "gq/state/event_reader.hpp"
#include "gq/state/job.hpp"

namespace gq {

// The position of a node that keeps nothing: nothing is owed to it.
inline constexpr Lsn nothing_owed = UINT64_MAX;

// Bytes of small records in one transfer; what is larger is told apart.
inline constexpr size_t max_transfer = 1 << 20;

// Whether a record changes the state of one job of this node.
bool is_change(const Event& event);

// Something a node is to be told of a job.
struct Debt {
  std::string id;
  Job job;
  std::string add{};       // its add record, with its workload; empty where there is nothing to say, or it must be read
  bool state = false;      // whether it is to be told the state
  bool needs_add = false;  // without its add it is of no use there
  // What became of it:
  bool conflict = false, again = false;  // settled, and never there; to be told on its own, with its add
  std::string refused{}, unreadable{};   // why the node could not take it; why it could not be read here
  bool is_left() const { return !refused.empty() || !unreadable.empty(); }  // still owed
  bool is_there() const { return !conflict && !again && !is_left(); }
  // Whether the add record has to be read.
  bool reads_add() const { return add.empty() && needs_add; }
  // What the node has said of a record; false where that was nonsense.
  bool take(const PeerVerdict& verdict);
  // Whether it is told once more at once, now with its add.
  bool is_told_again() const { return again && !conflict && !is_left() && job.size <= max_transfer; }
};

// What others are told of a job by an add record of it that stands here. Where two nodes have accepted the job, that
// may be the one that does not own it; who heard it alone would take that node for the owner.
event::Add told_add(event::Add add, const Job& job);

// What there is to tell of a job that is told apart; nullopt: nothing. `needs_add` as the last try left it, `since` as
// in Progress.
std::optional<Debt> debt_apart(const std::string& id, const std::optional<Job>& job, bool needs_add, Lsn since);

// One part of the journal, on its way to one node.
class Walk {
 public:
  // Whether a record that another node has told is to be passed on from here.
  using IsMine = std::function<bool(const std::string& node, const std::string& store)>;

  Walk(std::string self, std::string node, std::string identity, Lsn from, Lsn since, std::map<Lsn, Lsn> told)
      : m_self(std::move(self)),
        m_node(std::move(node)),
        m_identity(std::move(identity)),
        m_from(from),
        m_since(since),
        m_upto(from),
        m_told(std::move(told)) {}

  // Where to read on, past what has been told at once.
  Lsn skip();
  bool is_full() const;
  // What stands there, up to `end`. `bytes` are the record with its data, where those are inline and there.
  void see(const Event& event, const RecordHead& head, Lsn lsn, Lsn end, std::string_view bytes, const IsMine& is_mine);
  // Nothing that could be read.
  void pass(Lsn end) { m_upto = end; }

  // Then: the jobs to look up, and what they are.
  std::vector<std::string> jobs() const;
  void look(const std::string& id, const std::optional<Job>& job);
  void look_again();  // from the first

  // Of what is to be told, that which another node may have told: to be asked for. And what the node knows of that.
  const std::vector<std::string>& unsure() const { return m_unsure; }
  void knows(const std::string& id);

  // What is told now; and what is told apart.
  std::vector<Debt>& debts() { return m_debts; }
  // Of the jobs that wait for their copies: those that the node has now.
  std::vector<std::string> copied() const;

  Lsn upto() const { return m_upto; }
  const std::string& identity() const { return m_identity; }  // of the node that it is for

 private:
  friend class Progress;
  struct Added {
    Lsn lsn = 0;
    bool unsure = false;  // another may have told it
    std::string function{};
    uint64_t size = 0, sum = 0;
    std::string record{};  // it, with its data, where that is inline
    std::string store{};   // the identity of the node that accepted the job with it
    bool is_twin(const Added& other) const {
      return function == other.function && size == other.size && sum == other.sum;
    }
  };
  struct Touched {
    bool has = false;    // the node has it, as far as this part says
    bool given = false;  // its ID was chosen by a user
    bool changed = false;
    Lsn first = 0;              // of the first record
    std::vector<Added> adds{};  // of each job with this ID, the last one in this part; all but one job were refused
  };
  Touched& touch(const std::string& id, Lsn lsn);

  std::string m_self, m_node, m_identity;
  Lsn m_from, m_since, m_upto;
  std::map<Lsn, Lsn> m_told;
  std::unordered_map<std::string, Touched> m_touched;
  std::vector<std::string> m_order;
  size_t m_bytes = 0;
  bool m_relevant = false;
  std::map<std::string, std::pair<Lsn, Lsn>> m_foreign;
  std::vector<std::pair<Lsn, std::string>> m_blobs;
  std::vector<Debt> m_debts;
  std::vector<std::string> m_unsure, m_pending;
};

// What other nodes know of what came from one node, as that one says of itself when it is asked.
class Hearsay {
 public:
  // It has told `node` what happened there up to that position of its journal.
  void told(const std::string& node, Lsn upto) { m_told[node] = upto; }
  // Its journal ended at `end` when this one ended at `here`, or behind that. After told().
  void ended(Lsn end, Lsn here);
  // That node knows all that came from this one and stands here before the position.
  Lsn confirmed(const std::string& node) const;
  // It is another store by now.
  void is_another(const std::string& node) { m_confirmed.erase(node); }

 private:
  std::map<std::string, Lsn> m_told, m_confirmed;
  // All that stood here, and came from there, when its journal ended at `first`, stood here before `second`.
  std::deque<std::pair<Lsn, Lsn>> m_pairs;
};

class Progress {
 public:
  Lsn position() const { return m_position; }
  Lsn since() const { return m_since; }  // before this position it was another store, which is owed only what is live
  Lsn sent() const { return m_sent; }

  // What the journal says; all that was heard since is forgotten.
  void take_up(Lsn position, Lsn since);
  // It has become a relay, or is none any more; true where that is to be recorded.
  bool says_relay(bool relay, Lsn end);

  // A part of the journal that it has told itself, or was told when it was written.
  void told_at_once(Lsn from, Lsn end) { m_told_at_once[from] = end; }
  // That part has to be told with the debts after all.
  void not_told(Lsn from);
  // What came from a node is from now on to be told from here, too.
  void walk_again(const std::string& origin);

  // The next part, before `end`; nullopt where there is none, or too much is told apart.
  std::optional<Walk> walk(const std::string& self, const std::string& node, const std::string& identity, Lsn end);
  // What happens to a job that was told.
  struct Left {
    std::string id;
    enum class What { conflict, refused, unreadable } what;
    std::string why;
    bool pending;
  };
  // The end of a walk to a node that has this identity now: what is to be said to people, or nullopt where it has to
  // be walked again.
  std::optional<std::vector<Left>> walked(Walk& walk, const std::string& identity, Millis now);

  // The job that is told apart next, which is under way from now on; nullopt where none is due.
  struct Apart {
    Lsn lsn = 0;  // of the first record that is to be told
    bool needs_add = false, under_way = false;
    bool changed = false;  // there is more to tell than is under way
    Millis next{0}, delay{0};
    std::string refused{}, unreadable{};  // see Debt
    bool is_left() const { return !refused.empty() || !unreadable.empty(); }
  };
  std::optional<std::pair<std::string, Apart>> next_apart(Millis now);
  const std::map<std::string, Apart>& apart() const { return m_apart; }
  void nothing_to_tell(const std::string& id) { m_apart.erase(id); }
  // It could not be sent, or was not answered: again after a while, or at once.
  void not_heard(const std::string& id, Millis next);
  // What became of it.
  std::optional<Left> ended(Debt& debt, Millis now);
  // Whether the node has been told all before this that is told apart, or has refused it.
  bool has_heard_apart(Lsn target) const;

  // Whether the position may move on, and be recorded: `confirmed` says up to where it is known that the node has what
  // came from another one, nothing_owed where that is none of the group.
  bool moves_on(const std::function<Lsn(const std::string& origin)>& confirmed);
  bool is_unsaved() const { return m_unsaved; }
  void recorded(bool well) { m_unsaved = !well || m_position < m_sent; }

  // Jobs whose blobs may not be needed when all nodes know what stands before these positions.
  std::vector<std::pair<Lsn, std::string>> take_blobs() { return std::exchange(m_blobs, {}); }

 private:
  std::optional<Left> leave(const Debt& debt, Lsn lsn, Millis now);

  Lsn m_position = 0, m_since = 0, m_sent = 0;
  std::map<Lsn, Lsn> m_told_at_once;  // behind `sent`
  // Of other nodes' records between position and sent: the first and the last, by the node that is to pass them on.
  std::map<std::string, std::pair<Lsn, Lsn>> m_foreign;
  std::map<std::string, Apart> m_apart;
  std::vector<std::pair<Lsn, std::string>> m_blobs;
  bool m_unsaved = false;
};

}  // namespace gq
