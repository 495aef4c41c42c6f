// The fold: what a journal's records, taken in order, make of the jobs. index == fold(journal), always. It is
// deterministic (it asks no clock and no file but the name of this node) and idempotent, so that an index can be thrown
// away and made again.
//
// The keys of the index, each order kept so that claiming and listing read only what they return:
// clang-format off
//   m                                        how far the journal has been folded
//   v                                        by which fold_version, and how far: it lags behind where a program has
//                                            folded that knew no such key
//   g                                        the key of the greatest job ID
//   j <ID>                                   the job (see job.hpp)
//   q <function> 0 <priority> <first LSN>    -> ID; queued, in the order in which they are claimed
//   d <function> 0 <due> <first LSN>         -> ID; delayed, in the order in which they fall due
//   c <owner> 0 <ID>                         claimed and running, by owner
//   x <function> 0 <first LSN>               -> ID; dead
//   y <function> 0 <first LSN>               -> ID; kept
//   b <ID> 0 <ID>                            the second's workload is a part of the first's
//   l <serial key> 0 <first LSN>             -> ID; those with a serial key that are queued, delayed, claimed, running
//                                            or waiting
//   h <serial key>                           -> ID; the one of them that is not waiting
//   k <function> 0 <key>                     -> ID and when it stops to stand for that job (0: not yet finished)
//   n <function> 0 <first LSN>               -> ID; pending
//   o <node> 0 <first LSN>                   -> ID; held, by the node whose it is
//   u <ID>                                   pending, and other nodes have it already
//   p <function>                             -> when it was paused
//   r <node>                                 -> what that node knows of this journal
//   s <function>                             counters
//   z <function>                             how many of its delayed jobs were never started
//   t <ID>                                   the LSN of the last further add that was taken for this job, for its ID or
//                                            its key
//   f <ID>                                   the LSN of the forget record that named it, and of its only add; while
//                                            that is there
//   w <LSN / weight_step>                    what of that part of the journal is still needed
//   e <LSN>                                  what could not be read
//   i <LSN>                                  what was not used, since its ID is another job's; the latest of those
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
// is then made anew. Processes of two versions may share an index, so new members of a job stand behind the old ones,
// and may lack; and what a program of before does not keep in the index has to be made again where that has changed it:
// recount_first() does so.
inline constexpr uint32_t fold_version = 15;

// How far the journal has been folded, and the last record before that: it tells one journal from another.
struct FoldPosition {
  Lsn end = 0;
  Lsn last = 0;
  uint64_t last_sum = 0;
  bool operator==(const FoldPosition&) const = default;
};

// Parts of the journal for which it is known how much of them is still needed.
inline constexpr uint64_t weight_step = 1 << 20;
// What a job takes that is only remembered, about.
inline constexpr uint64_t finished_weight = 270;
struct Weight {
  uint64_t bytes = 0;     // about; of jobs that are known
  uint64_t finished = 0;  // those of them that are only remembered
};

struct Counters {
  std::array<uint64_t, state_count> jobs{};  // by State
  uint64_t bytes = 0;                        // workloads of jobs that are not finished
  uint64_t first = 0;                        // delayed ones that were never started
  uint64_t live() const;                     // jobs that are neither dead nor finished
};

struct Trouble {
  enum class Kind : uint8_t { damage, torn, missing, conflict };
  Kind kind;
  Lsn lsn;
  Lsn end;
  std::string id;  // conflict: the job whose ID was used again with another workload
};
// So many notes of IDs that were used again are kept at least, and a quarter more at most: anybody can use one as often
// as they like, and what is noted is gone through for each job that is forgotten.
inline constexpr size_t most_conflicts = 1000;
const char* trouble_name(Trouble::Kind kind);

// Of what another node was before, so many are remembered.
inline constexpr size_t most_former = 8;

// What another node of the group knows of this journal.
struct PeerState {
  std::string store{};                // its identity; empty: not met yet, or forgotten
  Lsn position = 0, since = 0;        // see event::Peer
  std::vector<std::string> former{};  // identities that it had before
};

// How many jobs an event is about, and so how much work it is; 1 for one that is about none.
size_t jobs_in(const Event& event);

class Fold {
 public:
  Fold(Table& table, const Self& self);

  const FoldPosition& position() const { return m_position; }

  // Folds up to `most` items that the reader has, where a record of several jobs counts as so many; true when there is
  // nothing more. The reader stands at position().end.
  bool run(EventReader& reader, size_t most);

  // Folds what a reader has come to, but for Item::end.
  void take(JournalReader::Item item, const EventReader& reader);

  // Folds what one record says, which stands in the journal from `lsn` to `end`.
  void apply(const Event& event, const RecordHead& head, Lsn lsn, Lsn end);

  // Writes counters and position, then commits.
  void commit();

  // Whether what an entry of the table says is of no consequence (any more), and need not follow from what is left of
  // the journal.
  static bool is_help(std::string_view key, std::string_view value, Millis now);

  // All that the table has from a key on, by key, after a commit(). It is valid until the table is next written to.
  std::unique_ptr<Table::Cursor> entries(std::string_view from);
  // The job, or the trouble, that an entry stands for, if any. Throws TableError where it says none.
  static std::optional<std::pair<std::string, Job>> job_at(std::string_view key, std::string_view value);
  static std::optional<Trouble> trouble_at(std::string_view key, std::string_view value);

  std::optional<Job> get(const std::string& id);
  std::map<std::string, Counters> counters();  // of all functions, however many there are
  Counters counters(const std::string& function) { return counter(function); }
  std::vector<Trouble> troubles();

  // Calls `visit` with jobs in an order until it returns false; see the list above for the orders.
  using Visit = std::function<bool(const std::string& id)>;
  void queued(const std::string& function, const Visit& visit);
  // Only those due at `until` or before; returns when the next one after that is due.
  std::optional<Millis> delayed(const std::string& function, Millis until, const Visit& visit);
  // How many jobs that were never started are due at `now`, of those that had to wait for that; counts up to so many.
  uint64_t due_first(const std::string& function, Millis now, uint64_t most);
  void dead(const std::string& function, const Visit& visit);
  // What of the journal from one position to another is still needed.
  Weight weight(Lsn from, Lsn end);
  // Whether a job's workload is in use by another.
  bool is_referenced(const std::string& id);
  // Whether nobody needs a finished job to be known for the sake of its key, or of a job that is part of it. `is_clean`
  // tells whether the part of the journal with that position holds nothing any more that is not needed.
  bool may_forget(const std::string& id, const Job& job, Millis now, const std::function<bool(Lsn)>& is_clean);
  std::optional<Lsn> touched(const std::string& id);
  // Which forget record named a job, and where its add stands: 0 where it had none, no_lsn where there may be several.
  struct Forgotten {
    Lsn at, add;
  };
  static constexpr Lsn no_lsn = UINT64_MAX;
  std::optional<Forgotten> forgotten(const std::string& id);
  void drop_forgotten(const std::string& id) { m_table.remove("f" + id); }
  void claimed(const std::string& owner, const Visit& visit);
  // The next up to `most` job IDs of an order ('q', 'd', 'c', 'x', 'y', 'l', 'h', 'n' or 'o'; of one function, of one
  // node for 'o', of all for 'c', 'l' and 'h'), behind `cursor`, which is empty at first and moves on; true when there
  // are no more. So a long list can be read in several visits.
  bool page(char order, const std::string& function, size_t most, std::string& cursor, std::vector<std::string>& ids);
  // The job that a key of a function stands for at this moment.
  std::optional<std::string> keyed(const std::string& function, const std::string& key, Millis now);
  // How many jobs with this serial key have not ended, up to so many.
  size_t with_serial(const std::string& serial, size_t most);
  // When a function was paused; nullopt where it is not.
  std::optional<Millis> paused(const std::string& function);
  PeerState peer(const std::string& node);
  std::map<std::string, PeerState> peers();  // all that are known, by node
  // Whether a node may still need the workload of a job that is finished here.
  bool is_owed(const Job& job);
  // Whether every other node of the group knows how a job has ended.
  bool end_is_known(const Job& job);
  // Every node whose jobs are held here.
  std::vector<std::string> held_nodes();
  // Whether a job may be run here as far as the group is concerned.
  bool may_run(const Job& job) const { return gq::may_run(job, m_self); }
  // Of jobs that have not ended, the next up to `most` of those among which the oldest of all is, behind `cursor` as in
  // page(); true when there are no more.
  bool oldest(size_t most, std::string& cursor, std::vector<std::string>& ids);
  // Every owner that holds a job.
  std::vector<std::string> owners();
  std::vector<std::string> functions();
  // The next up to `most` of them, behind `cursor`, which is empty at first and moves on; true when there are no more.
  bool functions(size_t most, std::string& cursor, std::vector<std::string>& names);

 private:
  using Line = Transition::Line;

  // What is said of a job: next() says what becomes of it, and the fold sees to what that needs.
  void happen(const std::string& id, const Event& event, const RecordHead& head, Lsn lsn);
  // Here alone is written what the table has because of a job: itself, its entries in the orders, its part of counters
  // and weights. Others with its serial key change as it leaves these or comes to them.
  void update(const std::string& id, const std::optional<Job>& before, std::optional<Job> after, Line line);
  // What is said of no job.
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
  std::string m_last_job;  // the key of the greatest job ID: most new jobs are behind it, and need not be looked for
  std::optional<size_t> m_conflicts;  // that are noted
  bool m_changed = false;
};

}  // namespace gq
