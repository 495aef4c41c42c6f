// An event is something that happens to a job; a record (record.hpp) describes one event. Each event type has only the
// members that it needs. `fields` lists the members' keys in the record, in the order in which they are written.
//
// To change a type: add a field, and a line in tests/golden/records.txt. The field's key must not have another meaning
// in another type. Existing records must stay readable permanently, so a key never gets another meaning later.
// record.hpp has the steps for any other change.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/journal/record.hpp"

namespace gq {

// Priorities are strict: no job is started while a job of a better priority may be started.
inline constexpr uint32_t high_priority = 0, normal_priority = 1, low_priority = 2;
const char* priority_name(uint32_t priority);

// Returns why text cannot be a job's key or serial key; nullopt if it can: 1 to max_key_size bytes of UTF-8 without
// control characters.
inline constexpr size_t max_key_size = 255;
std::optional<std::string> key_problem(std::string_view text);

// Returns why text cannot be the name of a job's file; nullopt if it can: a name obeys the rules for keys, has no /,
// and is not . or .., so that a command that writes to a file of that name writes to its working directory.
std::optional<std::string> name_problem(std::string_view text);

// The most attempts that a job may ask for, and the longest time for which its key may stay reserved after it has
// finished.
inline constexpr uint32_t most_attempts = 1'000'000;
inline constexpr Millis longest_window{366LL * 24 * 3600 * 1000};
// The longest time that a job may wait for its first start before it expires.
inline constexpr Millis longest_wait{366LL * 24 * 3600 * 1000};
// The most jobs that one job may be after, and how many of them one record names.
inline constexpr uint32_t most_parents = 10'000, parents_in_record = 1000;

// Shortens the reason in a record from another node to the size that is stored.
inline constexpr size_t max_reason_size = 4096;
void limit_reason(std::string& text);

// The value of `exit` if there is no exit status.
inline constexpr uint32_t no_exit = UINT32_MAX;

// What became of the output of a command whose end is recorded.
enum class Kept : uint32_t {
  not_asked,  // nobody wanted it to be kept, or what ended the job does not keep outputs
  whole,      // it is kept
  too_large,  // the worker keeps no output of that size
  no_room,    // there was no room for it, or the disk failed
};
inline constexpr uint32_t kept_values = 4;

// What any client may ask for when it queues a job.
struct Submission {
  std::string function{};
  Millis due{0};  // the job is not started before this time; after a failure: the time of the next attempt
  uint32_t priority = normal_priority;
  uint32_t max_attempts = 0;  // the limit of this job; 0: the worker's limit
  std::string key{};          // a job that is sent while another job has the same key is not queued; empty: no key
  Millis window{0};           // how long the key stays reserved after the job has finished
  std::string serial{};       // jobs with the same serial key run one at a time, in order; empty: none
  std::string name{};         // the name of the file that the workload comes from; for the command, and for users
  Millis expire{0};           // if the job has not been started by then, it is dead; 0: never
  bool result = false;        // what the command prints is kept with the end of the job
  uint32_t after = 0;         // how many other jobs, its parents, must end before it is started (event::After)
  bool after_any = false;     // these may also end dead or dropped; false: they must be done
  uint64_t parents_sum = 0;   // of all their IDs, in their order (NewJob::encode)
  bool operator==(const Submission&) const = default;
};

// Says that a job's workload is a part of another job's workload. Then no data follow the job's add record.
struct Part {
  std::string source{};                      // the ID of the other job; empty: the job has its own workload
  uint64_t offset = 0, length = 0, sum = 0;  // where the part begins, its size in bytes, and its sum64
};

// Says that a job is a child: the output of another job's command, or an item of that output, is its workload. It is
// unborn, and nothing runs it, until a done record of its parent gives birth to the children of that start.
struct Descent {
  std::string parent{};  // the ID of the other job; empty: the job is no child
  uint32_t start = 0;    // which start of the parent made it
};

namespace event {

// A job was queued. The record of a child has the type `child`, and the record of a spooled job the type `spool`, which
// older programs do not know: they would run these jobs.
struct Add {
  static constexpr std::string_view type = workload_type, child_type = "child", spool_type = "spool";
  std::string id{};
  Millis at{0};        // when the event happened, here and below
  bool given = false;  // a user chose the ID, so that another job may already have the same ID
  Submission asked{};
  Part part{};
  // With a replication group: the node that accepted the job, and the identity of its store.
  std::string node{}, store{};
  uint32_t copies = 0;   // how many nodes must have the job before the node that accepted it runs it
  bool once = false;     // only its owner runs it; false: every node does
  std::string letter{};  // the job is a dead letter: the ID of the job that is dead; clients do not set this
  Descent descent{};
  // With a replication group: the job's parents, which no after records name, so that they travel with the job; and
  // those of them for which it need not wait, because the node that accepted the job knows that they have ended.
  std::vector<std::string> parents{}, met{};
  // The job is for another store: this one only keeps it until it is forwarded (forwarder.hpp). A later add record of
  // the job that does not say so makes it a job of this store.
  bool spooled = false;

  std::string_view written_type() const { return spooled ? spool_type : descent.parent.empty() ? type : child_type; }
  // The size and the sum of the workload, also if it is a part of another job's workload.
  uint64_t workload_size(uint64_t data_size) const { return part.source.empty() ? data_size : part.length; }
  uint64_t workload_sum(uint64_t data_sum) const { return part.source.empty() ? data_sum : part.sum; }

  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("f", self.asked.function), visit("key", self.asked.key),
        visit("serial", self.asked.serial), visit("name", self.asked.name);
    visit("node", self.node), visit("store", self.store), visit("src", self.part.source), visit("letter", self.letter);
    visit("at", self.at), visit("due", self.asked.due), visit("window", self.asked.window),
        visit("exp", self.asked.expire);
    visit("prio", self.asked.priority, normal_priority), visit("max", self.asked.max_attempts),
        visit("copies", self.copies);
    visit("off", self.part.offset), visit("len", self.part.length), visit("sum", self.part.sum);
    visit("given", self.given), visit("once", self.once), visit("result", self.asked.result);
    visit("after", self.asked.after), visit("any", self.asked.after_any);
    visit("parent", self.descent.parent), visit("pstart", self.descent.start), visit("parents", self.parents);
    visit("met", self.met), visit("psum", self.asked.parents_sum), visit("spooled", self.spooled);
  }
};

// Some of the parents of a job. The job is not started before such records have named all of its parents (Add::after).
// The records of a job follow its add record in order. A record out of this order has no effect, so that records that
// were appended twice count once.
struct After {
  static constexpr std::string_view type = "after";
  std::string id{};
  Millis at{0};
  uint32_t first = 0;              // how many parents the records before it name
  std::vector<std::string> ids{};  // up to parents_in_record
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("at", self.at), visit("first", self.first), visit("ids", self.ids);
  }
};

// A job does not wait for these parents any more.
struct Wake {
  static constexpr std::string_view type = "wake";
  std::string id{};
  Millis at{0};
  std::vector<std::string> ids{};
  bool dropped = false;  // a user dropped the parents before they were done, so that the job is dead
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("at", self.at), visit("ids", self.ids), visit("dropped", self.dropped);
  }
};

// A process claimed jobs (see owners.hpp).
struct Claim {
  static constexpr std::string_view type = "claim";
  std::vector<std::string> ids{};
  Millis at{0};
  std::string owner{};
  static void fields(auto& self, auto visit) { visit("o", self.owner), visit("at", self.at), visit("ids", self.ids); }
};

// A process is about to start the job's command.
struct Start {
  static constexpr std::string_view type = "start";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;  // how often the job has been started, this time included
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("at", self.at), visit("n", self.start);
  }
};

struct Done {
  static constexpr std::string_view type = "done";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;
  // The command's exit status, or the signal that ended it; neither if it is not known how the command ended.
  uint32_t exit = no_exit, signal = 0;
  uint32_t attempts = 0;  // how many attempts the job has had
  bool keep = false;      // the workload stays in the store
  uint32_t output = 0;    // Kept; if the output is kept, it is the data of the record
  uint32_t children = 0;  // how many jobs its output became: the children of this start, which are born now
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("at", self.at), visit("n", self.start);
    visit("exit", self.exit, no_exit), visit("sig", self.signal), visit("tries", self.attempts),
        visit("keep", self.keep), visit("out", self.output), visit("children", self.children);
  }
};

// An attempt failed, or a process released the job. The job will be started again.
struct Fail {
  static constexpr std::string_view type = "fail";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;
  bool spent = true;  // whether this used up an attempt
  Millis due{0};
  std::string why{};  // the reason, for users
  uint32_t exit = no_exit, signal = 0;
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("why", self.why), visit("at", self.at), visit("due", self.due);
    visit("n", self.start), visit("exit", self.exit, no_exit), visit("sig", self.signal),
        visit("spent", self.spent, true);
  }
};

// The owner in the dead record of a job that has expired, or that was spooled and is refused for good: no process held
// the job. Older programs ignore the record.
inline constexpr const char* nobody = "-";

// The job will not be started again, unless a user kicks it.
struct Dead {
  static constexpr std::string_view type = "dead";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;
  bool spent = true;
  std::string why{};
  uint32_t exit = no_exit, signal = 0;
  uint32_t output = 0;  // as in Done
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("why", self.why), visit("at", self.at);
    visit("n", self.start), visit("exit", self.exit, no_exit), visit("sig", self.signal),
        visit("spent", self.spent, true), visit("out", self.output);
  }
};

// The next four types are what a user does with a job.
struct Kick {
  static constexpr std::string_view type = "kick";
  std::string id{};
  Millis at{0};
  static void fields(auto& self, auto visit) { visit("id", self.id), visit("at", self.at); }
};

struct Drop {
  static constexpr std::string_view type = "drop";
  std::string id{};
  Millis at{0};
  uint32_t attempts = 0;
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("at", self.at), visit("tries", self.attempts);
  }
};

struct Keep {
  static constexpr std::string_view type = "keep";
  std::string id{};
  Millis at{0};
  static void fields(auto& self, auto visit) { visit("id", self.id), visit("at", self.at); }
};

struct Release {
  static constexpr std::string_view type = "release";
  std::string id{};
  Millis at{0};
  static void fields(auto& self, auto visit) { visit("id", self.id), visit("at", self.at); }
};

// A user wants the job to end. A job that no process has claimed is dead at once; a job that a process has claimed ends
// as dead when that process records its end, however its command has ended.
struct Cancel {
  static constexpr std::string_view type = "cancel";
  std::string id{};
  Millis at{0};
  static void fields(auto& self, auto visit) { visit("id", self.id), visit("at", self.at); }
};

// The next two types are what a user does with a function.
struct Pause {
  static constexpr std::string_view type = "pause";
  std::string function{};
  Millis at{0};
  // Not 0: the function is not paused, but only so many of its jobs run at a time. (For older programs it is paused, so
  // that they do not exceed the limit.)
  uint32_t limit = 0;
  static void fields(auto& self, auto visit) {
    visit("f", self.function), visit("at", self.at), visit("limit", self.limit);
  }
};

struct Resume {
  static constexpr std::string_view type = "resume";
  std::string function{};
  Millis at{0};
  bool unlimited = false;  // the function has no limit any more; if it is paused, it stays so
  static void fields(auto& self, auto visit) {
    visit("f", self.function), visit("at", self.at), visit("unlimited", self.unlimited);
  }
};

// From now on, when a job of the function ends dead, a dead letter about it becomes a job of the function `to`.
struct Letter {
  static constexpr std::string_view type = "letter";
  std::string function{};
  Millis at{0};
  std::string to{};  // empty: no dead letters any more
  static void fields(auto& self, auto visit) { visit("f", self.function), visit("to", self.to), visit("at", self.at); }
};

// From now on, no more jobs of the function than this are started in each period, in all processes together; rate.hpp.
struct Rate {
  static constexpr std::string_view type = "rate";
  std::string function{};
  Millis at{0};
  uint32_t starts = 0;  // 0: any number
  Millis period{0};     // a second, a minute or an hour
  static void fields(auto& self, auto visit) {
    visit("f", self.function), visit("at", self.at), visit("rate", self.starts), visit("per", self.period);
  }
};

// Other nodes have copies of jobs that this node accepted.
struct Copied {
  static constexpr std::string_view type = "copied";
  std::vector<std::string> ids{};
  Millis at{0};
  std::string peers{};   // the names of these nodes, separated by commas
  std::string stores{};  // likewise the identity of each; empty: an older program wrote this
  bool enough = false;   // the jobs may run, even if they have fewer copies than they ask for
  static void fields(auto& self, auto visit) {
    visit("peers", self.peers), visit("stores", self.stores), visit("at", self.at), visit("enough", self.enough);
    visit("ids", self.ids);
  }

  // The nodes that the record names, each with its identity, which is empty if it is unknown.
  std::vector<std::pair<std::string, std::string>> copies() const;
  // Whether the record says that the node with this name and this identity has the jobs.
  bool says(const std::string& node, const std::string& store) const;
};

// The state of a job, which a node sends to the other nodes; see job.hpp.
struct State {
  static constexpr std::string_view type = "state";
  std::string id{};
  Millis at{0};
  std::string function{};
  std::string state{};               // queued, dead, kept or finished
  std::string node{}, store{};       // the node that owns the job, if any, and its identity
  std::string from{}, from_store{};  // the node that sent this record, and its identity; empty: this node
  uint32_t term = 0, version = 0;    // how often the job's owner has changed, and how often its state has changed
  Millis due{0};
  uint32_t starts = 0, failures = 0, crashes = 0;
  std::string why{};
  uint32_t exit = no_exit, signal = 0;
  uint32_t attempts = 0;
  bool keep = false;
  bool dropped = false;    // in state finished: a user dropped the job
  bool lifted = false;     // a user has kicked the job, so it does not expire any more
  bool cancelled = false;  // a user has cancelled the job, and its end is not recorded yet
  // The size and the sum of the job's workload, which distinguish it from another job with the same ID. Older programs
  // write neither.
  uint64_t size = 0, sum = 0;
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("f", self.function), visit("why", self.why), visit("node", self.node),
        visit("store", self.store);
    visit("from", self.from), visit("fstore", self.from_store), visit("state", self.state);
    visit("at", self.at), visit("due", self.due), visit("n", self.starts), visit("term", self.term),
        visit("v", self.version);
    visit("failures", self.failures), visit("crashes", self.crashes), visit("exit", self.exit, no_exit),
        visit("sig", self.signal);
    visit("tries", self.attempts), visit("keep", self.keep), visit("dropped", self.dropped),
        visit("lifted", self.lifted), visit("cancelled", self.cancelled);
    visit("len", self.size), visit("sum", self.sum);
  }
};

// What another node of the group knows of this node's journal; see replicator.hpp.
struct Peer {
  static constexpr std::string_view type = "peer";
  std::string node{}, store{};
  Millis at{0};
  uint64_t position = 0;  // the node knows all records before this position
  uint64_t since = 0;     // before this it had another identity: of those records, it needs the unfinished jobs
  static void fields(auto& self, auto visit) {
    visit("node", self.node), visit("store", self.store), visit("at", self.at), visit("lsn", self.position),
        visit("since", self.since);
  }
};

// These jobs are forgotten. The cleaner decided this when the journal ended at `position`. (A record of this type
// without jobs is a Gap.)
struct Forget {
  static constexpr std::string_view type = "forget";
  std::vector<std::string> ids{};
  Millis at{0};
  uint64_t position = 0;
  static void fields(auto& self, auto visit) {
    visit("at", self.at), visit("lsn", self.position), visit("ids", self.ids);
  }
};

// A stream of jobs (exchange.hpp) begins.
struct Stream {
  static constexpr std::string_view type = "stream";
  Millis at{0};
  uint32_t version = 0;
  static void fields(auto& self, auto visit) { visit("at", self.at), visit("v", self.version); }
};

// The values of the tally, or the mark to which they belong; see tally.hpp. The record has the type of Stream, but no
// version: programs that do not know the tally ignore it.
struct Counts {
  static constexpr std::string_view type = Stream::type;
  Millis at{0};
  uint64_t mark = 0;                     // the position of the mark; 0: this is the mark
  bool last = false;                     // no more values follow
  std::vector<std::string> functions{};  // each a function's name and its values; no name: all other functions
  std::vector<std::string> minutes{};    // each a number of a minute since 1970 and its values
  static void fields(auto& self, auto visit) {
    visit("at", self.at), visit("lsn", self.mark), visit("last", self.last), visit("fc", self.functions),
        visit("mc", self.minutes);
  }
};

// A stream of jobs ends.
struct End {
  static constexpr std::string_view type = "end";
  Millis at{0};
  uint64_t jobs = 0;  // how many the stream has
  static void fields(auto& self, auto visit) { visit("at", self.at), visit("lsn", self.jobs); }
};

}  // namespace event

using Event = std::variant<event::Add, event::Claim, event::Start, event::Done, event::Fail, event::Dead, event::Kick,
                           event::Drop, event::Keep, event::Release, event::Pause, event::Resume, event::Copied,
                           event::State, event::Peer, event::Forget, Gap, event::Stream, event::End, event::After,
                           event::Wake, event::Letter, event::Cancel, event::Rate, event::Counts>;

template <typename... Types>
bool is_any_of(const Event& event) {
  return (std::holds_alternative<Types>(event) || ...);
}

// The members that all events have: the name of the type, the time at which the event happened, and the ID of the job;
// empty if the event is not about one job.
std::string_view type_of(const Event& event);
Millis at_of(const Event& event);
const std::string& id_of(const Event& event);

// Returns the record of an event without data, as bytes.
std::string encode_record(const Event& event);

// A record whose head has been verified and decoded. Its data has not been verified.
struct Record : RecordHead {
  Event event;
};

// Reads a record's head from the start of `bytes`, which may be longer. Returns nullopt if there is no valid head, if
// the event has an unknown type, or if it lacks a member that its type needs. Never throws, on any input.
std::optional<Record> parse_record(std::string_view bytes);

// Reads the meta data of a record into an existing event. Returns false if the meta data is not a valid event.
bool parse_event(std::string_view meta, uint64_t data_size, Event& event);

}  // namespace gq
