// Progress: what one other node (below: the node) knows of this node's journal, and what this node still has to send to
// it. Pure.
//
// The node knows everything in the journal before position(). This node has sent it everything before sent(). A Walk
// goes through the next part of the journal. For each job that this part names, it finds what there is to send, as the
// job is now: a Debt. A job that cannot be sent together with others (because it is large, or the node has refused it
// or could not use its state) is sent separately. Until the node has such a job, position() stays before the job;
// everything else continues.
//
// A record that a third node sent to this node is passed on by the third node, and position() stays before the record
// until the third node has said that it did. This node passes the record on itself if the third node is gone, has left
// the group or has a new identity, and always if the record makes this node the owner of the job.
//
// A Progress belongs to one identity of the node: call take_up() when the node has a new identity.
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

// The position of a relay: a relay stores nothing, so nothing is owed to it.
inline constexpr Lsn nothing_owed = UINT64_MAX;

// The most bytes of small records in one transfer; a larger record is sent separately.
inline constexpr size_t max_transfer = 1 << 20;

// Whether an event, which this node has recorded itself, changes the state of one job.
bool is_change(const Event& event);

// What has to be sent to the node about one job.
struct Debt {
  std::string id;
  Job job;             // its location is that of the newest add record that the walk has seen, if it has seen one
  std::string add{};   // the job's add record with its workload; empty if it is not to be sent, or must be read first
  bool state = false;  // whether to send the state
  bool needs_add = false;  // the node cannot use the state without the add record
  // The result:
  // `conflict`: settled, because the node will never have this job. `again`: to be sent separately, with its add record
  bool conflict = false, again = false;
  std::string refused{}, unreadable{};  // why the node refused it; why this node could not read it
  bool is_left() const { return !refused.empty() || !unreadable.empty(); }  // the job is still owed
  bool is_there() const { return !conflict && !again && !is_left(); }
  // Whether the add record must be read.
  bool reads_add() const { return add.empty() && needs_add; }
  // Takes the node's verdict on a record. Returns false if the verdict makes no sense.
  bool take(const PeerVerdict& verdict);
  // Whether to send the job again at once, this time with its add record.
  bool is_sent_again() const { return again && !conflict && !is_left() && job.size <= max_transfer; }
};

// Returns an add record from this journal in the form in which it is sent. If two nodes have accepted the job, the add
// record may name the node that does not own the job. A node that received only that record would take the wrong node
// for the owner; so the result names the owner.
event::Add add_to_send(event::Add add, const Job& job);

// Returns what there is to send about a job that is sent separately; nullopt if nothing. `needs_add` is the result of
// the last try, `location` that of the job in the last debt; `since` is as in Progress.
std::optional<Debt> single_debt(const std::string& id, const std::optional<Job>& job, bool needs_add, Lsn location,
                                Lsn since);

// Goes through one part of the journal for one node.
class Walk {
 public:
  // Whether this node passes on a record that another node (`node`, with the identity `store`) has sent to it.
  using IsMine = std::function<bool(const std::string& node, const std::string& store)>;

  Walk(std::string self, std::string node, std::string identity, Lsn from, Lsn since, std::map<Lsn, Lsn> sent_at_once)
      : m_self(std::move(self)),
        m_node(std::move(node)),
        m_identity(std::move(identity)),
        m_from(from),
        m_since(since),
        m_upto(from),
        m_sent_at_once(std::move(sent_at_once)) {}

  // Skips parts that have already been sent when they were written. Returns the position at which to continue reading.
  Lsn skip();
  bool is_full() const;
  // Takes a record, which begins at `lsn` and ends at `end`. `bytes` is the record with its data, if the data is inline
  // and can be read.
  void see(const Event& event, const RecordHead& head, Lsn lsn, Lsn end, std::string_view bytes, const IsMine& is_mine);
  // Call it if there was nothing to read up to `end`.
  void pass(Lsn end) { m_upto = end; }

  // Call these after the part was read. jobs() returns the jobs to look up in the store; pass each job, as it was
  // found, to looked_up().
  std::vector<std::string> jobs() const;
  void looked_up(const std::string& id, const std::optional<Job>& job);
  void restart_lookup();  // begins the lookup of all jobs again

  // The jobs to send that a third node may have sent already: ask the node whether it knows them, and call knows() for
  // each that it has.
  const std::vector<std::string>& unsure() const { return m_unsure; }
  void knows(const std::string& id);

  // The debts that this part has, to be sent now or separately.
  std::vector<Debt>& debts() { return m_debts; }
  // Call it after the debts were sent. Returns the pending jobs that the node has now.
  std::vector<std::string> copied() const;

  Lsn upto() const { return m_upto; }
  const std::string& identity() const { return m_identity; }  // of the node for which this walk is

 private:
  friend class Progress;
  struct Added {
    Lsn lsn = 0;
    bool unsure = false;  // a third node may have sent it
    std::string function{};
    uint64_t size = 0, sum = 0;
    std::string record{};  // the record with its data, if the data is inline
    std::string store{};   // the identity of the node that accepted the job with this add record
    bool is_twin(const Added& other) const {
      return function == other.function && size == other.size && sum == other.sum;
    }
  };
  struct Touched {
    bool has = false;    // the node has the job, according to this part
    bool again = false;  // it may have been accepted before: a user has chosen its ID, or it has a key
    bool changed = false;
    Lsn first = 0;  // the position of the first record of the job in this part
    // The last add record of each job with this ID in this part; all but one of these jobs were refused.
    std::vector<Added> adds{};
  };
  Touched& touch(const std::string& id, Lsn lsn);

  std::string m_self, m_node, m_identity;
  Lsn m_from, m_since, m_upto;
  std::map<Lsn, Lsn> m_sent_at_once;
  std::unordered_map<std::string, Touched> m_touched;
  std::vector<std::string> m_order;
  size_t m_bytes = 0;
  bool m_relevant = false;
  std::map<std::string, std::pair<Lsn, Lsn>> m_foreign;
  std::vector<std::pair<Lsn, std::string>> m_blobs;
  std::vector<Debt> m_debts;
  std::vector<std::string> m_unsure, m_pending;
};

// What other nodes know of the records that came from one node (the origin). The origin says this in its answers to
// questions.
class ReportedProgress {
 public:
  // The origin has sent `node` everything up to that position of the origin's journal.
  void sent_to(const std::string& node, Lsn upto) { m_sent_to[node] = upto; }
  // The origin's journal ended at `end` when this journal ended at `here` or later. Call it after sent_to().
  void ended(Lsn end, Lsn here);
  // Returns a position in this journal: `node` knows every record from the origin before it.
  Lsn confirmed(const std::string& node) const;
  // The node has a new identity.
  void is_another(const std::string& node) { m_confirmed.erase(node); }

 private:
  std::map<std::string, Lsn> m_sent_to, m_confirmed;
  // Pairs of positions: every record from the origin that is before `second` in this journal is before `first` in the
  // origin's journal.
  std::deque<std::pair<Lsn, Lsn>> m_pairs;
};

class Progress {
 public:
  Lsn position() const { return m_position; }
  // Before this position, the node had another identity or was not in the group. Of the records before it, the node is
  // owed only those of unfinished jobs.
  Lsn since() const { return m_since; }
  Lsn sent() const { return m_sent; }

  // Starts again from the values in the journal, and forgets everything that was received since.
  void take_up(Lsn position, Lsn since);
  // The node says whether it is a relay. Returns true if that has changed and must be recorded.
  bool set_relay(bool relay, Lsn end);

  // A part of the journal that came from the node itself, or that was sent to the node when it was written.
  void sent_at_once(Lsn from, Lsn end) { m_sent_at_once[from] = end; }
  // That part was not sent after all. It has to be sent with the debts.
  void not_sent(Lsn from);
  // From now on, this node also passes on the records that came from `origin`.
  void walk_again(const std::string& origin);

  // Begins a walk through the next part, which ends at `end` at the latest. Returns nullopt if there is no next part,
  // or if too many jobs are waiting to be sent separately.
  std::optional<Walk> walk(const std::string& self, const std::string& node, const std::string& identity, Lsn end);
  // A job that was sent and that the node still does not have.
  struct Left {
    std::string id;
    enum class What { conflict, refused, unreadable } what;
    std::string why;
    bool pending;
  };
  // Ends a walk. `identity` is the present identity of the node. Returns the jobs to report to users; nullopt if the
  // part must be walked through again.
  std::optional<std::vector<Left>> walked(Walk& walk, const std::string& identity, Millis now);

  // Returns the next job to send separately, and marks it as under way; nullopt if none is due.
  struct Single {
    Lsn lsn = 0;       // the position of the first record to send
    Lsn location = 0;  // see Debt
    bool needs_add = false, under_way = false;
    bool changed = false;  // the job has changed again since it was sent
    Millis next{0}, delay{0};
    std::string refused{}, unreadable{};  // see Debt
    bool is_left() const { return !refused.empty() || !unreadable.empty(); }
  };
  std::optional<std::pair<std::string, Single>> next_single(Millis now);
  const std::map<std::string, Single>& singles() const { return m_singles; }
  void nothing_to_send(const std::string& id) { m_singles.erase(id); }
  // The job could not be sent, or the node did not answer: send it again at `next`.
  void retry_at(const std::string& id, Millis next);
  // Takes the result for a job that was sent separately.
  std::optional<Left> ended(Debt& debt, Millis now);
  // Whether the node has received or refused all jobs before this position that are sent separately.
  bool has_answered_singles(Lsn target) const;

  // Advances the position as far as possible. Returns whether there is a new position to record. `confirmed` returns
  // the position before which the node is known to have all records from an origin (see ReportedProgress); nothing_owed
  // if the origin is not in the group.
  bool moves_on(const std::function<Lsn(const std::string& origin)>& confirmed);
  bool is_unsaved() const { return m_unsaved; }
  void recorded(bool well) { m_unsaved = !well || m_position < m_sent; }

  // Positions and jobs: when all nodes know everything before the position, the blob of the job may not be needed any
  // more.
  std::vector<std::pair<Lsn, std::string>> take_blobs() { return std::exchange(m_blobs, {}); }

 private:
  std::optional<Left> leave(const Debt& debt, Lsn lsn, Millis now);

  Lsn m_position = 0, m_since = 0, m_sent = 0;
  std::map<Lsn, Lsn> m_sent_at_once;  // parts after `sent`
  // Records of other nodes between position and sent: the first and the last one, by the node that has to pass them on.
  std::map<std::string, std::pair<Lsn, Lsn>> m_foreign;
  std::map<std::string, Single> m_singles;
  std::vector<std::pair<Lsn, std::string>> m_blobs;
  bool m_unsaved = false;
};

}  // namespace gq
