// Progress: what another node knows of this node's journal, and what it still has to be told. Pure.
//
// The node knows everything in the journal before position(); it has been told everything before sent(). A Walk goes
// through the next part and finds what there is to tell of the jobs named there, as they are now: one Debt for each. A
// job that cannot be told with the others, because it is large, refused or not understood, is told apart, on its own.
// It holds back the position and nothing else. Records that other nodes have told this one are theirs to pass on; this
// node passes them on only when it cannot know whether they did.
//
// A Progress belongs to one identity: another identity under the same name begins with take_up().
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

// The position of a relay, which keeps nothing: nothing is owed to it.
inline constexpr Lsn nothing_owed = UINT64_MAX;

// The most bytes of small records in one transfer; a larger record is told apart.
inline constexpr size_t max_transfer = 1 << 20;

// Whether a record changes the state of one job of this node.
bool is_change(const Event& event);

// What a node has to be told of one job.
struct Debt {
  std::string id;
  Job job;
  std::string add{};       // its add record, with its workload; empty if it is not to be told, or must be read first
  bool state = false;      // whether to tell the state
  bool needs_add = false;  // the node cannot use the state without the add record
  // The result:
  // settled, the node will never have it; to be told on its own, with its add record
  bool conflict = false, again = false;
  std::string refused{}, unreadable{};  // why the node could not take it; why it could not be read here
  bool is_left() const { return !refused.empty() || !unreadable.empty(); }  // still owed
  bool is_there() const { return !conflict && !again && !is_left(); }
  // Whether the add record must be read.
  bool reads_add() const { return add.empty() && needs_add; }
  // Takes what the node has said of a record; false if that was nonsense.
  bool take(const PeerVerdict& verdict);
  // Whether to tell it once more at once, now with its add record.
  bool is_told_again() const { return again && !conflict && !is_left() && job.size <= max_transfer; }
};

// What others are told of a job by an add record from this journal. If two nodes have accepted the job, the record may
// be of the node that does not own it. A node that heard only that record would take its node for the owner.
event::Add told_add(event::Add add, const Job& job);

// What there is to tell of a job that is told apart; nullopt: nothing. `needs_add` is the result of the last try;
// `since` is as in Progress.
std::optional<Debt> debt_apart(const std::string& id, const std::optional<Job>& job, bool needs_add, Lsn since);

// One part of the journal, on its way to one node.
class Walk {
 public:
  // Whether this node passes on a record that another node has told it.
  using IsMine = std::function<bool(const std::string& node, const std::string& store)>;

  Walk(std::string self, std::string node, std::string identity, Lsn from, Lsn since, std::map<Lsn, Lsn> told)
      : m_self(std::move(self)),
        m_node(std::move(node)),
        m_identity(std::move(identity)),
        m_from(from),
        m_since(since),
        m_upto(from),
        m_told(std::move(told)) {}

  // Skips what has been told at once, and returns where to read on.
  Lsn skip();
  bool is_full() const;
  // A record at `lsn`, which ends at `end`. `bytes` is the record with its data, if the data is inline and can be read.
  void see(const Event& event, const RecordHead& head, Lsn lsn, Lsn end, std::string_view bytes, const IsMine& is_mine);
  // There was nothing to read up to `end`.
  void pass(Lsn end) { m_upto = end; }

  // After that: the jobs to look up in the store, and each job as it was found.
  std::vector<std::string> jobs() const;
  void looked_up(const std::string& id, const std::optional<Job>& job);
  void restart_lookup();  // begins the lookup again

  // Jobs to tell that another node may have told already; ask the node for them. knows(): the node has this one.
  const std::vector<std::string>& unsure() const { return m_unsure; }
  void knows(const std::string& id);

  // What to tell now, and what to tell apart.
  std::vector<Debt>& debts() { return m_debts; }
  // Of the jobs that wait for copies: those that the node has now.
  std::vector<std::string> copied() const;

  Lsn upto() const { return m_upto; }
  const std::string& identity() const { return m_identity; }  // of the node that it is for

 private:
  friend class Progress;
  struct Added {
    Lsn lsn = 0;
    bool unsure = false;  // another node may have told it
    std::string function{};
    uint64_t size = 0, sum = 0;
    std::string record{};  // the record with its data, if that is inline
    std::string store{};   // the identity of the node that accepted the job with this record
    bool is_twin(const Added& other) const {
      return function == other.function && size == other.size && sum == other.sum;
    }
  };
  struct Touched {
    bool has = false;    // the node has it, as far as this part says
    bool given = false;  // its ID was chosen by a user
    bool changed = false;
    Lsn first = 0;              // of the first record
    std::vector<Added> adds{};  // the last one of each job with this ID in this part; all but one job were refused
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

// What other nodes know of the records that came from one node (the origin), as the origin says when it is asked.
class Hearsay {
 public:
  // The origin has told `node` everything up to that position of its journal.
  void told(const std::string& node, Lsn upto) { m_told[node] = upto; }
  // The origin's journal ended at `end` when this journal ended at `here` or later. Call it after told().
  void ended(Lsn end, Lsn here);
  // That node knows all that came from the origin and stands in this journal before the returned position.
  Lsn confirmed(const std::string& node) const;
  // That node is another store now.
  void is_another(const std::string& node) { m_confirmed.erase(node); }

 private:
  std::map<std::string, Lsn> m_told, m_confirmed;
  // All that had come from the origin when its journal ended at `first` stood in this journal before `second`.
  std::deque<std::pair<Lsn, Lsn>> m_pairs;
};

class Progress {
 public:
  Lsn position() const { return m_position; }
  // Of what stands before this position, the node is owed only live jobs: it was another store then, or not in the
  // group.
  Lsn since() const { return m_since; }
  Lsn sent() const { return m_sent; }

  // Starts from what the journal says; all that was heard since is forgotten.
  void take_up(Lsn position, Lsn since);
  // The node has become a relay, or is none any more; true if that must be recorded.
  bool says_relay(bool relay, Lsn end);

  // A part of the journal that the node has told itself, or was told when it was written.
  void told_at_once(Lsn from, Lsn end) { m_told_at_once[from] = end; }
  // That part has to be told with the debts after all.
  void not_told(Lsn from);
  // From now on, what came from that node is told from here, too.
  void walk_again(const std::string& origin);

  // A walk through the next part, before `end`; nullopt if there is none, or if too many jobs are told apart.
  std::optional<Walk> walk(const std::string& self, const std::string& node, const std::string& identity, Lsn end);
  // A job that was told and that the node does not have.
  struct Left {
    std::string id;
    enum class What { conflict, refused, unreadable } what;
    std::string why;
    bool pending;
  };
  // The end of a walk to a node that has this identity now. Returns what to report to people, or nullopt if the part
  // must be walked again.
  std::optional<std::vector<Left>> walked(Walk& walk, const std::string& identity, Millis now);

  // The next job to tell apart, which is under way from now on; nullopt if none is due.
  struct Apart {
    Lsn lsn = 0;  // of the first record to tell
    bool needs_add = false, under_way = false;
    bool changed = false;  // there is more to tell than is under way
    Millis next{0}, delay{0};
    std::string refused{}, unreadable{};  // see Debt
    bool is_left() const { return !refused.empty() || !unreadable.empty(); }
  };
  std::optional<std::pair<std::string, Apart>> next_apart(Millis now);
  const std::map<std::string, Apart>& apart() const { return m_apart; }
  void nothing_to_tell(const std::string& id) { m_apart.erase(id); }
  // The job could not be sent, or was not answered: it is due again at `next`.
  void not_heard(const std::string& id, Millis next);
  // The result for a job that was told apart.
  std::optional<Left> ended(Debt& debt, Millis now);
  // Whether the node has been told, or has refused, all jobs before this position that are told apart.
  bool has_heard_apart(Lsn target) const;

  // Whether the position may advance and be recorded; advances it. `confirmed` says up to where the node is known to
  // have what came from an origin; nothing_owed if the origin is not in the group.
  bool moves_on(const std::function<Lsn(const std::string& origin)>& confirmed);
  bool is_unsaved() const { return m_unsaved; }
  void recorded(bool well) { m_unsaved = !well || m_position < m_sent; }

  // Jobs whose blobs may not be needed once all nodes know what stands before these positions.
  std::vector<std::pair<Lsn, std::string>> take_blobs() { return std::exchange(m_blobs, {}); }

 private:
  std::optional<Left> leave(const Debt& debt, Lsn lsn, Millis now);

  Lsn m_position = 0, m_since = 0, m_sent = 0;
  std::map<Lsn, Lsn> m_told_at_once;  // behind `sent`
  // Records of other nodes between position and sent: the first and the last, by the node that has to pass them on.
  std::map<std::string, std::pair<Lsn, Lsn>> m_foreign;
  std::map<std::string, Apart> m_apart;
  std::vector<std::pair<Lsn, std::string>> m_blobs;
  bool m_unsaved = false;
};

}  // namespace gq
