// The fold: computes the state of all jobs from a journal's records, in their order. index == fold(journal), always. It
// is deterministic: it reads no clock and no file, and depends only on the records and on this node's name and
// identity. So an index can be removed and rebuilt. It is idempotent: if a record was appended again after a failed
// sync, the second one does not change the state of the job again.
//
// The keys of the index follow. A <word> in a key is a value, 0 is a NUL byte. "-> ID" means that the value of the
// entry is the ID of the job. Jobs are indexed by each order in which they are claimed or listed, so that a reader
// reads only the entries that it needs.
// clang-format off
//   m                                        the position up to which the journal has been folded
//   v                                        the fold_version of the program that folded last, and the position that it
//                                            reached. An older program updates m but not v: so if the position in v
//                                            is not m, an older program has folded since
//   g                                        the key ("j" and ID) of the greatest job ID so far
//   j <ID>                                   the job with this ID (see job.hpp)
//   q <function> 0 <priority> <first LSN>    -> ID; a queued job. Jobs are claimed in this order
//   d <function> 0 <due> <first LSN>         -> ID; a delayed job, in the order in which they fall due
//   c <owner> 0 <ID>                         a job that this owner has claimed or runs
//   x <function> 0 <first LSN>               -> ID; a dead job
//   y <function> 0 <first LSN>               -> ID; a kept job
//   b <ID> 0 <ID>                            the workload of the second job is a part of the workload of the first
//   l <serial key> 0 <first LSN>             -> ID; a job with this serial key that is queued, delayed, claimed,
//                                            running or waiting
//   h <serial key>                           -> ID; of these jobs, the one that is not waiting
//   B <function> 0 <first LSN>               -> ID; a job that waits for its parents, or for their records
//   A <ID> 0 p <ID>                          the second job is a parent of the first, which has not ended; the value is
//                                            one of the next three letters:
//   A <ID> 0 <a, d or s> <ID>                the second job is after the first; it still waits until that ends in any
//                                            way (a), or is done (d); or it does not wait for it any more (s)
//   U <ID>                                   this job has ended, and jobs that are after it still have to be told so
//   k <function> 0 <key>                     -> ID of the job that has this key, and until when it has the key (0: the
//                                            job has not finished)
//   n <function> 0 <first LSN>               -> ID; a pending job that is not spooled
//   S <function> 0 <first LSN>               -> ID; a spooled job. Jobs are forwarded in this order
//   o <node> 0 <first LSN>                   -> ID; a held job that the node owns
//   u <ID>                                   this job is pending, and at least one other node is known to have it
//   a <expire> <first LSN>                   -> ID; a job that can expire, in the order in which they do
//   C <ID>                                   this job is cancelled, and a process has claimed or runs it
//   p <function>                             when this function was paused
//   L <function>                             how many of this function's jobs may run at a time
//   R <function>                             how many of this function's jobs may be started in which time
//   R <function> 0                           when such jobs were started (Started). The cleaner removes start records:
//                                            after that, an index that is rebuilt may have fewer of the starts
//   D <function>                             the function whose jobs are the dead letters about this function's jobs
//   D 0 <ID>                                 this job is dead, and its dead letter is still to be queued: as a job of
//                                            the function that is the value
//   D 1 <ID>                                 -> ID; this job is a dead letter about that job (1 is the byte 0x01)
//   r <node>                                 what the node knows of this journal (PeerState)
//   s <function>                             the counters of this function
//   z <function>                             how many of the function's delayed jobs were never started; then, if there
//                                            are any, how many of its jobs wait for their parents; then, if there are
//                                            any, how many are spooled
//   T <ID> 0 <ID>                            the second job is a child of the first, and has not finished
//   t <ID>                                   the LSN of the last add record that repeated this job (same ID or key)
//   f <ID>                                   the job was forgotten: the LSN of the forget record that named it, and the
//                                            LSN of its only add record (see Forgotten). The cleaner removes the entry
//                                            when the journal has no record of the job any more
//   w <LSN / weight_step>                    about how many bytes of this part of the journal are still needed, and how
//                                            many of its jobs have finished
//   O                                        how many bytes of outputs are kept; no entry if there are none
//   e <LSN>                                  bytes that could not be read begin here
//   P                                        while a record is folded in parts: its LSN, and the job up to which it was
//   M                                        the head of the tally (tally.hpp)
//   M 0 <minute>                             what happened in this minute since 1970
//   M 1 <function>                           the numbers of this function (1 is the byte 0x01)
//   i <LSN>                                  an add record that was ignored, because another job has its ID; only the
//                                            latest of these are kept
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
#include "gq/state/rate.hpp"
#include "gq/state/table.hpp"
#include "gq/state/tally.hpp"
#include "gq/state/transition.hpp"

namespace gq {

// The version of the fold. Raise it when the fold computes another result from a journal, or encodes a job in another
// way: then an index that a program of another version has sealed is rebuilt.
//
// An index that is in use has no seal, and processes of two versions may use it at the same time. So append new members
// of a job after the old ones, and let the decoder accept that they are missing. An older program does not update table
// entries that it does not know. After an older program has changed the index, recount_first(), find_copied() and
// leave_expiring() recompute these entries.
inline constexpr uint32_t fold_version = 20;

// The position up to which the journal has been folded, and the last record before it, which distinguishes this journal
// from others.
struct FoldPosition {
  Lsn end = 0;
  Lsn last = 0;
  uint64_t last_sum = 0;
  bool operator==(const FoldPosition&) const = default;
};

// The fold divides the journal into parts of this size, in bytes, and knows for each part how much of it is still
// needed.
inline constexpr uint64_t weight_step = 1 << 20;
// About how many bytes of the journal a finished job needs: gq remembers only its ID and its end.
inline constexpr uint64_t finished_weight = 270;
struct Weight {
  uint64_t bytes = 0;     // about how many bytes all known jobs of this part need
  uint64_t finished = 0;  // how many of these jobs are finished
};

struct Counters {
  std::array<uint64_t, state_count> jobs{};  // by State
  uint64_t bytes = 0;                        // the workloads of all jobs that are not finished
  uint64_t first = 0;                        // delayed jobs that were never started
  uint64_t blocked = 0;                      // jobs that wait for their parents
  uint64_t spooled = 0;                      // pending jobs that are for another store
  uint64_t live() const;  // the number of queued, delayed, claimed, running, waiting and pending jobs
};

struct Trouble {
  enum class Kind : uint8_t { damage, torn, missing, conflict };
  Kind kind;
  Lsn lsn;
  Lsn end;
  std::string id;  // conflict: the job whose ID was used again with another workload
};
// How many notes of reused IDs are kept: at least this many, at most a quarter more. The number is limited because any
// client can reuse an ID as often as it likes, and a fold holds all notes in memory.
inline constexpr size_t most_conflicts = 1000;
const char* trouble_name(Trouble::Kind kind);

// How many former identities of another node are remembered.
inline constexpr size_t most_former = 8;

// What another node of the group knows of this journal.
struct PeerState {
  std::string store{};                // its identity; empty: this node has never met it, or has forgotten it
  Lsn position = 0, since = 0;        // see event::Peer
  std::vector<std::string> former{};  // identities that it had before
};

// Returns how many jobs an event is about (a measure of the work); 1 if it is about none.
size_t jobs_in(const Event& event);

class Fold {
 public:
  Fold(Table& table, const Self& self);

  const FoldPosition& position() const { return m_position; }

  // Folds up to `most` items of the reader; a record of several jobs counts as that many items. Returns true if there
  // are no more. The reader must be at position().end. After a call that has ended within a record, position() is still
  // before that record: continue with this fold and this reader, or with others that begin there.
  bool run(EventReader& reader, size_t most);

  // Folds the reader's current item; does nothing for Item::end.
  void take(JournalReader::Item item, const EventReader& reader);

  // Folds one record, which is in the journal from `lsn` to `end`.
  void apply(const Event& event, const RecordHead& head, Lsn lsn, Lsn end);
  // The same in parts, because one record may change any number of jobs or notes that it does not name. A call changes
  // up to `left` of these, which must not be 0, and subtracts how many it has changed, and the jobs that the record
  // names. Returns false if there are more: then call it again with this record, before any other.
  bool apply_part(const Event& event, const RecordHead& head, Lsn lsn, Lsn end, size_t& left);

  // Writes counters and position, then commits.
  void commit();

  // Whether an entry of the table has no effect on any job, now or later. After a cleaning, such an entry need not
  // follow from the remaining records of the journal.
  static bool has_no_effect(std::string_view key, std::string_view value, Millis now);

  // Calls commit(), then returns a cursor over all entries of the table from a key on. It is valid until the next write
  // to the table.
  std::unique_ptr<Table::Cursor> entries(std::string_view from);
  // Decode an entry of the table: job_at() as a job, trouble_at() as a trouble. Return nullopt for an entry of another
  // kind. Throw TableError if the entry is malformed.
  static std::optional<std::pair<std::string, Job>> job_at(std::string_view key, std::string_view value);
  static std::optional<Trouble> trouble_at(std::string_view key, std::string_view value);

  Tally& tally() { return m_tally; }
  std::optional<Job> get(const std::string& id);
  uint64_t outputs();                          // how many bytes of outputs are kept
  std::map<std::string, Counters> counters();  // of all functions, even if there are very many
  Counters counters(const std::string& function) { return counter(function); }
  // Appends up to `most` troubles to `some`: those that follow `cursor`, which is empty at first, and which this
  // function advances. The troubles of the journal come first, then the conflicts. Returns true when there are no more.
  bool troubles(size_t most, std::string& cursor, std::vector<Trouble>& some);

  // These functions call `visit` with the jobs of one order of the index (see the list above) until it returns false.
  using Visit = std::function<bool(const std::string& id)>;
  void queued(const std::string& function, const Visit& visit);
  // Visits only jobs that are due at `until` or before; returns when the next job after these is due.
  std::optional<Millis> delayed(const std::string& function, Millis until, const Visit& visit);
  // Looks at up to `left` delayed jobs that follow `cursor`, which is empty at first, and which this function advances.
  // Returns how many of them were never started and are due at `now`. Subtracts from `left` the number of jobs that it
  // has looked at; the result is 0 if there may be more.
  uint64_t due_first(const std::string& function, Millis now, size_t& left, std::string& cursor);
  void dead(const std::string& function, const Visit& visit);
  // Returns up to `most` dead jobs of a function: those that were queued last.
  std::vector<std::string> last_dead(const std::string& function, size_t most);
  // Visits the jobs of all functions that have expired at `now`. Returns when the next job expires.
  std::optional<Millis> expired(Millis now, const Visit& visit);
  // The cancelled jobs that a process has claimed or runs.
  std::vector<std::string> cancelled();
  // Returns how much of the journal from one position to another is still needed. Reads at most `most` entries, and
  // stores in `stopped` the position that it has reached.
  Weight weight(Lsn from, Lsn end, size_t most = SIZE_MAX, Lsn* stopped = nullptr);
  // Whether another job's workload is a part of this job's workload.
  bool is_referenced(const std::string& id);
  // The children of a job that have not finished.
  std::vector<std::string> children(const std::string& id);
  // Those that are not born yet.
  std::vector<std::string> unborn(const std::string& id);
  // Whether a job may be forgotten: it has finished, every node knows its end, it does not have its key any more, all
  // its children have finished, no other job's workload is a part of its workload, and no job that has not ended is
  // after it. `is_clean` returns whether the cleaner has removed everything unneeded from the part of the journal with
  // that position.
  bool may_forget(const std::string& id, const Job& job, Millis now, const std::function<bool(Lsn)>& is_clean);
  std::optional<Lsn> touched(const std::string& id);
  // A forgotten job: the LSN of the forget record that named it, and the LSN of its add record; 0 if it had none,
  // no_lsn if it may have several.
  struct Forgotten {
    Lsn at, add;
  };
  static constexpr Lsn no_lsn = UINT64_MAX;
  std::optional<Forgotten> forgotten(const std::string& id);
  void drop_forgotten(const std::string& id) { m_table.remove("f" + id); }
  void claimed(const std::string& owner, const Visit& visit);
  // Reads a part of an order, so that a long list can be read in several visits. Appends up to `most` job IDs to `ids`:
  // those that follow `cursor`, which is empty at first, and which this function advances. Returns true when there are
  // no more. `order` is 'q', 'd', 'x', 'y', 'n' or 'S' (of one function), 'o' (of the node that `function` names), or
  // 'c', 'l' or 'h' (of all), or 'B' (of one function). If `function` is empty, reads all functions or nodes.
  bool page(char order, const std::string& function, size_t most, std::string& cursor, std::vector<std::string>& ids);
  // Calls `visit` with up to `most` jobs, by their IDs, also finished ones: those whose IDs follow `cursor`, or begin
  // with it; it is empty at first, and this function advances it. Returns true when there are no more.
  bool jobs(size_t most, std::string& cursor, const std::function<void(std::string, Job)>& visit);
  // The job that has a key of a function at `now`.
  std::optional<std::string> keyed(const std::string& function, const std::string& key, Millis now);
  // Returns what to append because parents have ended, for at most `most` pairs of a parent and a job that is after it.
  std::vector<event::Wake> wakes(size_t most, Millis now);
  // The recorded parents of a job that has not ended, and those of them for which it does not wait any more.
  struct Parents {
    std::vector<std::string> all{}, met{};
  };
  Parents parents(const std::string& id);
  // Returns up to `most` parents for which a job waits.
  std::vector<std::string> unmet(const std::string& id, size_t most);
  // How many jobs with this serial key are in the line (order 'l'), counted up to `most`.
  size_t with_serial(const std::string& serial, size_t most);
  // When a function was paused; nullopt if it is not.
  std::optional<Millis> paused(const std::string& function);
  // How many jobs of a function may run at a time; nullopt if it has no limit.
  std::optional<uint32_t> limit(const std::string& function);
  // How many jobs of a function may be started in which time; nullopt if it has no rate.
  std::optional<StartRate> rate(const std::string& function);
  // The starts of a function that has a rate.
  Started started(const std::string& function);
  // The function whose jobs are the dead letters about a function's jobs; nullopt if there are none.
  std::optional<std::string> dead_letters(const std::string& function);
  // Calls `visit` with the dead jobs whose letters are still to be queued, and with the function of each letter, until
  // it returns false.
  void unsent_letters(const std::function<bool(const std::string& id, const std::string& to)>& visit);
  PeerState peer(const std::string& node);
  std::map<std::string, PeerState> peers();  // of all known nodes, by their names
  // Whether another node may still need the workload of a job that this node has finished.
  bool is_owed(const Job& job);
  // Whether every other node of the group knows how a job has ended.
  bool end_is_known(const Job& job);
  // Every node that owns a job that is held in this store.
  std::vector<std::string> held_nodes();
  // Whether the rules of the group let this node run a job.
  bool may_run(const Job& job) const { return gq::may_run(job, m_self); }
  // Finds the oldest job that has not ended: appends the IDs of some such jobs to `ids`, and the oldest is among these.
  // Appends up to `most` IDs after `cursor`, as page() does. Returns true when there are no more.
  bool oldest(size_t most, std::string& cursor, std::vector<std::string>& ids);
  // Returns since when the job of a function that has waited longest could have been started: since it was queued or,
  // if it is delayed, since it was due. Returns nullopt if no job could be started at `now`. Reads at most four jobs.
  std::optional<Millis> waits_since(const std::string& function, Millis now);
  // Every owner that holds a job.
  std::vector<std::string> owners();
  std::vector<std::string> functions();
  // Appends up to `most` functions to `names`: those that follow `cursor`, which is empty at first, and which this
  // function advances. Returns true when there are no more.
  bool functions(size_t most, std::string& cursor, std::vector<std::string>& names);

 private:
  using Line = Transition::Line;

  // Folds an event about a job: next() decides about the job, and this function changes everything that depends on the
  // job.
  void happen(const std::string& id, const Event& event, const RecordHead& head, Lsn lsn);
  // Only this function writes the table's entries for a job: the job, its entries in the orders, and its part of
  // counters and weights. If the job enters or leaves the line of its serial key, this function also updates other jobs
  // in that line.
  void update(const std::string& id, const std::optional<Job>& before, std::optional<Job> after, Line line);
  // The parents of jobs.
  void take(const event::After& after);
  void take(const event::Wake& wake);
  void take_parents(const std::string& id, const std::vector<std::string>& parents,
                    const std::vector<std::string>& met);
  bool has_edges();
  void put_edge(const std::string& child, char kind, const std::string& parent);
  char edge(const std::string& child, const std::string& parent);
  void leave_parents(const std::string& child);
  void mark(const std::string& parent);
  void count_start(const std::string& function, Millis at);
  // A job is done: the children that its last start has made are born.
  void give_birth(const std::string& parent, const event::Done& done);
  // Events that are not about a job. apply_part() is for those with an effect that has no bound.
  bool apply_part(const event::Peer& said, Lsn lsn, size_t& left);
  bool apply_part(const Gap& gap, Lsn lsn, size_t& left);
  std::optional<Event> without_former(const event::Copied& copied);
  bool lose_copies(const std::string& node, Lsn lsn, size_t& left);
  void apply(const event::Pause& pause);
  void apply(const event::Resume& resume);
  void apply(const event::Letter& letter);
  void apply(const event::Rate& rate);
  void note_letter(const std::string& id, const std::optional<Job>& before, const std::optional<Job>& after);
  void apply(const event::Stream&) {}
  void apply(const event::End&) {}
  bool note_forgotten(const std::string& id, const std::optional<Job>& job, const event::Forget& forget, Lsn lsn);
  void remove_conflicts(const std::vector<std::string>& ids);
  using Conflicts = std::set<std::pair<std::string, std::string>>;  // IDs that were used again, and the notes' keys
  Conflicts& conflicts();
  void leave_latest_conflicts();
  bool resolve_key(const std::string& id, const Job& job, Transition& to, Lsn lsn);
  void leave_line(const std::string& id, const Job& job);
  void enter_line(const std::string& id, Job& job);
  void head_line(const std::string& id, const Job& job);
  void count(const Job& job, int by);
  void touch(const std::string& id, Lsn lsn);
  std::optional<std::string> key_holder(const std::string& function, const std::string& key);
  Weight& weight_at(Lsn lsn);
  void put_weights();
  void recount_first();
  void find_copied();
  void leave_expiring();
  Counters& counter(const std::string& function);
  Counters& changed_counter(const std::string& function);
  void trouble(Trouble::Kind kind, Lsn lsn, Lsn end, const std::string& id = {});
  void walk(const std::string& prefix, const Visit& visit);

  Table& m_table;
  Tally m_tally{m_table};
  const Self m_self;
  FoldPosition m_position;
  std::map<std::string, Counters> m_counters;  // the counters read so far
  std::set<std::string> m_counted;             // the functions whose counters may have changed
  std::map<uint64_t, Weight> m_weights;        // the weights that may have changed, by LSN / weight_step
  std::optional<uint64_t> m_outputs;           // once it is known
  std::optional<bool> m_has_edges;             // whether any job has parents, once it is known
  std::string m_last_job;  // the key of the greatest job ID: most new jobs have a greater ID, and need no lookup
  std::optional<Conflicts> m_conflicts;  // the noted conflicts, if they were read
  bool m_changed = false;
  bool m_is_within = false;  // run() has folded a part of the reader's current record
};

}  // namespace gq
