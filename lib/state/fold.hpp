// The fold: computes the state of all jobs from a journal's records, taken in order. index == fold(journal), always. It
// is deterministic (it reads no clock and no file; besides the records it depends only on this node's name and
// identity) and idempotent, so that an index can be removed and rebuilt.
//
// The keys of the index, each order kept so that claiming and listing read only what they return:
// clang-format off
//   m                                        how far the journal has been folded
//   v                                        by which fold_version, and how far: it is behind m if an older program,
//                                            which does not know this key, has folded
//   g                                        the key of the greatest job ID
//   j <ID>                                   the job (see job.hpp)
//   q <function> 0 <priority> <first LSN>    -> ID; queued, in the order in which they are claimed
//   d <function> 0 <due> <first LSN>         -> ID; delayed, in the order in which they fall due
//   c <owner> 0 <ID>                         claimed and running, by owner
//   x <function> 0 <first LSN>               -> ID; dead
//   y <function> 0 <first LSN>               -> ID; kept
//   b <ID> 0 <ID>                            the second job's workload is a part of the first's
//   l <serial key> 0 <first LSN>             -> ID; those with a serial key that are queued, delayed, claimed, running
//                                            or waiting
//   h <serial key>                           -> ID; the one of these jobs that is not waiting
//   k <function> 0 <key>                     -> ID and when it stops to stand for that job (0: not yet finished)
//   n <function> 0 <first LSN>               -> ID; pending
//   o <node> 0 <first LSN>                   -> ID; held, by the node that owns it
//   u <ID>                                   pending, and other nodes have it already
//   p <function>                             -> when it was paused
//   r <node>                                 -> what that node knows of this journal
//   s <function>                             counters
//   z <function>                             how many of its delayed jobs were never started
//   t <ID>                                   the LSN of the last further add that was taken for this job, because of
//                                            its ID or its key
//   f <ID>                                   the LSN of the forget record that named it, and of its only add; while
//                                            that is there
//   w <LSN / weight_step>                    how much of that part of the journal is still needed
//   e <LSN>                                  bytes that could not be read
//   i <LSN>                                  an add that was not used, since another job has its ID; the latest ones
// clang-format on
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/state/event_reader.hpp"
#include "gq/state/job.hpp"
#include "gq/state/table.hpp"
#include "gq/state/transition.hpp"

namespace gq {

// To change what the fold makes of a journal, or how a job is encoded: raise this. An index that another version sealed
// is then rebuilt. Processes of two versions may share an index. So new members of a job are encoded behind the old
// ones, and may be missing. An older program does not update entries that it does not know. After it has changed the
// index they have to be recomputed: recount_first() and find_copied() do so.
inline constexpr uint32_t fold_version = 15;

// How far the journal has been folded, and the last record before that, which tells one journal from another.
struct FoldPosition {
  Lsn end = 0;
  Lsn last = 0;
  uint64_t last_sum = 0;
  bool operator==(const FoldPosition&) const = default;
};

// The size in bytes of the parts of the journal for which the fold knows how much of them is still needed.
inline constexpr uint64_t weight_step = 1 << 20;
// About how many bytes a finished job takes, which is only remembered.
inline constexpr uint64_t finished_weight = 270;
struct Weight {
  uint64_t bytes = 0;     // of all known jobs, about
  uint64_t finished = 0;  // how many of these jobs are only remembered
};

struct Counters {
  std::array<uint64_t, state_count> jobs{};  // by State
  uint64_t bytes = 0;                        // workloads of jobs that are not finished
  uint64_t first = 0;                        // delayed jobs that were never started
  uint64_t live() const;                     // queued, delayed, claimed, running, waiting and pending jobs
};

struct Trouble {
  enum class Kind : uint8_t { damage, torn, missing, conflict };
  Kind kind;
  Lsn lsn;
  Lsn end;
  std::string id;  // conflict: the job whose ID was used again with another workload
};
// How many notes of reused IDs are kept at least; at most a quarter more. The number is limited because any client can
// reuse an ID as often as it likes, and each `forget` record searches all notes.
inline constexpr size_t most_conflicts = 1000;
const char* trouble_name(Trouble::Kind kind);

// How many former identities of another node are remembered.
inline constexpr size_t most_former = 8;

// What another node of the group knows of this journal.
struct PeerState {
  std::string store{};                // its identity; empty: not met yet, or forgotten
  Lsn position = 0, since = 0;        // see event::Peer
  std::vector<std::string> former{};  // identities that it had before
};

// Returns how many jobs an event is about, and so how much work it is; 1 if it is about none.
size_t jobs_in(const Event& event);

class Fold {
 public:
  Fold(Table& table, const Self& self);

  const FoldPosition& position() const { return m_position; }

  // Folds up to `most` items of the reader, in which a record of several jobs counts as that many. Returns true if
  // there are no more. The reader must be at position().end.
  bool run(EventReader& reader, size_t most);

  // Folds the reader's current item; does nothing for Item::end.
  void take(JournalReader::Item item, const EventReader& reader);

  // Folds one record, which is in the journal from `lsn` to `end`.
  void apply(const Event& event, const RecordHead& head, Lsn lsn, Lsn end);

  // Writes counters and position, then commits.
  void commit();

  // Whether an entry of the table does not matter (any more), so that it need not follow from the records that are left
  // in the journal.
  static bool is_help(std::string_view key, std::string_view value, Millis now);

  // Calls commit(), then returns a cursor over all entries of the table from a key on. It is valid until the next write
  // to the table.
  std::unique_ptr<Table::Cursor> entries(std::string_view from);
  // Returns the job, or the trouble, that an entry stands for, if any. Throws TableError if the entry is not well
  // formed.
  static std::optional<std::pair<std::string, Job>> job_at(std::string_view key, std::string_view value);
  static std::optional<Trouble> trouble_at(std::string_view key, std::string_view value);

  std::optional<Job> get(const std::string& id);
  std::map<std::string, Counters> counters();  // of all functions, however many there are
  Counters counters(const std::string& function) { return counter(function); }
  std::vector<Trouble> troubles();

  // Calls `visit` with jobs in an order until it returns false; see the list above for the orders.
  using Visit = std::function<bool(const std::string& id)>;
  void queued(const std::string& function, const Visit& visit);
  // Visits only jobs that are due at `until` or before; returns when the next job after these is due.
  std::optional<Millis> delayed(const std::string& function, Millis until, const Visit& visit);
  // Counts the delayed jobs that were never started and are due at `now`, up to `most`.
  uint64_t due_first(const std::string& function, Millis now, uint64_t most);
  void dead(const std::string& function, const Visit& visit);
  // How much of the journal from one position to another is still needed. Reads at most `most` entries, and stores in
  // `stopped` the position up to which that was enough.
  Weight weight(Lsn from, Lsn end, size_t most = SIZE_MAX, Lsn* stopped = nullptr);
  // Whether another job's workload is a part of this job's workload.
  bool is_referenced(const std::string& id);
  // Whether a finished job need not be known any more: every node knows its end, its key does not stand for it, and no
  // other job's workload is a part of its own. `is_clean` tells whether the cleaner has removed all that is not needed
  // from the part of the journal with that position.
  bool may_forget(const std::string& id, const Job& job, Millis now, const std::function<bool(Lsn)>& is_clean);
  std::optional<Lsn> touched(const std::string& id);
  // Which forget record named a job, and where the job's add is: 0 if it had none, no_lsn if there may be several.
  struct Forgotten {
    Lsn at, add;
  };
  static constexpr Lsn no_lsn = UINT64_MAX;
  std::optional<Forgotten> forgotten(const std::string& id);
  void drop_forgotten(const std::string& id) { m_table.remove("f" + id); }
  void claimed(const std::string& owner, const Visit& visit);
  // Appends to `ids` the next up to `most` job IDs of an order ('q', 'd', 'c', 'x', 'y', 'l', 'h', 'n' or 'o'; of one
  // function, of one node for 'o', of all for 'c', 'l' and 'h'), behind `cursor`, which is empty at first and moves on.
  // Returns true when there are no more. So a long list can be read in several visits.
  bool page(char order, const std::string& function, size_t most, std::string& cursor, std::vector<std::string>& ids);
  // The job that a key of a function stands for at `now`.
  std::optional<std::string> keyed(const std::string& function, const std::string& key, Millis now);
  // How many jobs with this serial key are in line, counted up to `most`.
  size_t with_serial(const std::string& serial, size_t most);
  // When a function was paused; nullopt if it is not.
  std::optional<Millis> paused(const std::string& function);
  PeerState peer(const std::string& node);
  std::map<std::string, PeerState> peers();  // all that are known, by node
  // Whether a node may still need the workload of a job that is finished here.
  bool is_owed(const Job& job);
  // Whether every other node of the group knows how a job has ended.
  bool end_is_known(const Job& job);
  // Every node that owns jobs which are held here.
  std::vector<std::string> held_nodes();
  // Whether a job may be run here as far as the group is concerned.
  bool may_run(const Job& job) const { return gq::may_run(job, m_self); }
  // Appends to `ids` the next up to `most` of some jobs that have not ended, the oldest of all among them, behind
  // `cursor` as in page(). Returns true when there are no more.
  bool oldest(size_t most, std::string& cursor, std::vector<std::string>& ids);
  // Every owner that holds a job.
  std::vector<std::string> owners();
  std::vector<std::string> functions();
  // Appends to `names` the next up to `most` functions, behind `cursor`, which is empty at first and moves on. Returns
  // true when there are no more.
  bool functions(size_t most, std::string& cursor, std::vector<std::string>& names);

 private:
  using Line = Transition::Line;

  // Folds an event about a job: next() decides what becomes of the job, and the fold changes everything that depends on
  // it.
  void happen(const std::string& id, const Event& event, const RecordHead& head, Lsn lsn);
  // Only this function writes the table's entries for a job: the job, its entries in the orders, and its part of
  // counters and weights. Other jobs with its serial key change when the job leaves or enters their line.
  void update(const std::string& id, const std::optional<Job>& before, std::optional<Job> after, Line line);
  // Events that are not about a job.
  void apply(const event::Peer& said);
  std::optional<Event> without_former(const event::Copied& copied);
  void lose_copies(const std::string& node);
  void apply(const event::Pause& pause);
  void apply(const event::Resume& resume);
  void apply(const Gap& gap);
  void apply(const event::Stream&) {}
  void apply(const event::End&) {}
  bool note_forgotten(const std::string& id, const std::optional<Job>& job, const event::Forget& forget, Lsn lsn);
  void remove_conflicts(const std::vector<std::string>& ids);
  void leave_latest_conflicts();
  bool resolve_key(const std::string& id, const Job& job, Transition& to, Lsn lsn);
  void leave_line(const std::string& id, const Job& job);
  void enter_line(const std::string& id, Job& job);
  void head_line(const std::string& id, const Job& job);
  void count(const Job& job, int by);
  void remove_troubles(const std::string& from, const std::string& to,
                       const std::function<bool(const Trouble&)>& is_gone);
  void touch(const std::string& id, Lsn lsn);
  std::optional<std::string> key_holder(const std::string& function, const std::string& key);
  Weight& weight_at(Lsn lsn);
  void put_weights();
  void recount_first();
  void find_copied();
  Counters& counter(const std::string& function);
  Counters& changed_counter(const std::string& function);
  void trouble(Trouble::Kind kind, Lsn lsn, Lsn end, const std::string& id = {});
  void walk(const std::string& prefix, const Visit& visit);

  Table& m_table;
  const Self m_self;
  FoldPosition m_position;
  std::map<std::string, Counters> m_counters;  // those read so far
  std::set<std::string> m_counted;             // those of them that may have changed
  std::map<uint64_t, Weight> m_weights;        // likewise, by LSN / weight_step
  std::string m_last_job;             // the key of the greatest job ID: most new jobs are behind it, and need no lookup
  std::optional<size_t> m_conflicts;  // how many are noted, if known
  bool m_changed = false;
};

}  // namespace gq
