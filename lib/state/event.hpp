// Events: what happens to a job, as a record (record.hpp) says it. Each type has only the members that it needs;
// `fields` lists their keys in the record, in the order in which they are written.
//
// To change a type: add a field, with a key that no other type has for something else, and a line in
// tests/golden/records.txt. Records that exist must stay readable permanently, so a key is never used for something
// else later. Steps for any other change: record.hpp.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/journal/record.hpp"

namespace gq {

// Priorities are strict: while a job of a better priority may be started, no other job is.
inline constexpr uint32_t high_priority = 0, normal_priority = 1, low_priority = 2;
const char* priority_name(uint32_t priority);

// Returns why text cannot be a job's key or serial key; nullopt if it can: 1 to max_key_size bytes of UTF-8 without
// control characters.
inline constexpr size_t max_key_size = 255;
std::optional<std::string> key_problem(std::string_view text);

// Returns why text cannot be the name of a job's file; nullopt if it can: it could be a key, has no /, and is not . or
// .., so that a command which writes to a file of that name writes to its working directory.
std::optional<std::string> name_problem(std::string_view text);

// The most attempts that a job may ask for, and the longest time for which its key may stand for it after it has
// finished.
inline constexpr uint32_t most_attempts = 1'000'000;
inline constexpr Millis longest_window{366LL * 24 * 3600 * 1000};

// Cuts a reason that another node tells to the size that is kept.
inline constexpr size_t max_reason_size = 4096;
void limit_reason(std::string& text);

// No exit status.
inline constexpr uint32_t no_exit = UINT32_MAX;

// What any client may ask for when it queues a job.
struct Submission {
  std::string function{};
  Millis due{0};  // not to be started before this time; after a failure: the time of the next attempt
  uint32_t priority = normal_priority;
  uint32_t max_attempts = 0;  // the job's own; 0: the worker's
  std::string key{};          // two submissions with the same key are one job; empty: no key
  Millis window{0};           // how long the key still stands for the job after that has finished
  std::string serial{};       // jobs with the same serial key run one at a time, in order; empty: none
  std::string name{};         // of the file that its workload comes from; for its command, and for users
  bool operator==(const Submission&) const = default;
};

// A job's workload that is a part of another job's workload. No data follow the job's add then.
struct Part {
  std::string source{};                      // the other job; empty: the job has a workload of its own
  uint64_t offset = 0, length = 0, sum = 0;  // where the part begins, its size in bytes, and its sum64
};

namespace event {

// A job has been queued.
struct Add {
  static constexpr std::string_view type = "add";
  std::string id{};
  Millis at{0};        // when it happened, here and below
  bool given = false;  // a user chose the ID, so another job may have it already
  Submission asked{};
  Part part{};
  // With a replication group: the node that accepted the job, and the identity of its store.
  std::string node{}, store{};
  uint32_t copies = 0;  // how many nodes must have the job before the node that accepted it runs it
  bool once = false;    // only its owner runs it; else every node does

  // Size and sum of the workload, wherever it is.
  uint64_t workload_size(uint64_t data_size) const { return part.source.empty() ? data_size : part.length; }
  uint64_t workload_sum(uint64_t data_sum) const { return part.source.empty() ? data_sum : part.sum; }

  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("f", self.asked.function), visit("key", self.asked.key),
        visit("serial", self.asked.serial), visit("name", self.asked.name);
    visit("node", self.node), visit("store", self.store), visit("src", self.part.source);
    visit("at", self.at), visit("due", self.asked.due), visit("window", self.asked.window);
    visit("prio", self.asked.priority, normal_priority), visit("max", self.asked.max_attempts),
        visit("copies", self.copies);
    visit("off", self.part.offset), visit("len", self.part.length), visit("sum", self.part.sum);
    visit("given", self.given), visit("once", self.once);
  }
};

// A process has claimed jobs (see owners.hpp).
struct Claim {
  static constexpr std::string_view type = "claim";
  std::vector<std::string> ids{};
  Millis at{0};
  std::string owner{};
  static void fields(auto& self, auto visit) { visit("o", self.owner), visit("at", self.at), visit("ids", self.ids); }
};

// The command is about to be started.
struct Start {
  static constexpr std::string_view type = "start";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;  // how often the job has been started
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
  // How the command ended: its exit status, or the signal that ended it; neither if its end is unknown.
  uint32_t exit = no_exit, signal = 0;
  uint32_t attempts = 0;  // how many the job has had
  bool keep = false;      // the workload stays
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("at", self.at), visit("n", self.start);
    visit("exit", self.exit, no_exit), visit("sig", self.signal), visit("tries", self.attempts),
        visit("keep", self.keep);
  }
};

// An attempt has failed, or the job has been released; it is to be started again.
struct Fail {
  static constexpr std::string_view type = "fail";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;
  bool spent = true;  // whether an attempt is used up
  Millis due{0};
  std::string why{};  // for users
  uint32_t exit = no_exit, signal = 0;
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("why", self.why), visit("at", self.at), visit("due", self.due);
    visit("n", self.start), visit("exit", self.exit, no_exit), visit("sig", self.signal),
        visit("spent", self.spent, true);
  }
};

// The job is not started again, unless a user kicks it.
struct Dead {
  static constexpr std::string_view type = "dead";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;
  bool spent = true;
  std::string why{};
  uint32_t exit = no_exit, signal = 0;
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("why", self.why), visit("at", self.at);
    visit("n", self.start), visit("exit", self.exit, no_exit), visit("sig", self.signal),
        visit("spent", self.spent, true);
  }
};

// What a user does with a job: the next four types.
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

// What a user does with a function: the next two types.
struct Pause {
  static constexpr std::string_view type = "pause";
  std::string function{};
  Millis at{0};
  static void fields(auto& self, auto visit) { visit("f", self.function), visit("at", self.at); }
};

struct Resume {
  static constexpr std::string_view type = "resume";
  std::string function{};
  Millis at{0};
  static void fields(auto& self, auto visit) { visit("f", self.function), visit("at", self.at); }
};

// Other nodes have copies of jobs that were accepted here.
struct Copied {
  static constexpr std::string_view type = "copied";
  std::vector<std::string> ids{};
  Millis at{0};
  std::string peers{};   // separated by commas
  std::string stores{};  // likewise the identity of each; older programs name none
  bool enough = false;   // the jobs may be run, even with fewer copies than they ask for
  static void fields(auto& self, auto visit) {
    visit("peers", self.peers), visit("stores", self.stores), visit("at", self.at), visit("enough", self.enough);
    visit("ids", self.ids);
  }

  // The nodes that the record names, each with its identity, which is empty if it is unknown.
  std::vector<std::pair<std::string, std::string>> copies() const;
  // Whether the record says that the node with this name and this identity has the jobs.
  bool says(const std::string& node, const std::string& store) const;
};

// What a node tells the other nodes about a job; see job.hpp.
struct State {
  static constexpr std::string_view type = "state";
  std::string id{};
  Millis at{0};
  std::string function{};
  std::string state{};               // queued, dead, kept or finished
  std::string node{}, store{};       // the node that owns it, if any, and its identity
  std::string from{}, from_store{};  // the node that sent this, and its identity; empty: this node
  uint32_t term = 0, version = 0;    // how often its owner has changed, and its state
  Millis due{0};
  uint32_t starts = 0, failures = 0, crashes = 0;
  std::string why{};
  uint32_t exit = no_exit, signal = 0;
  uint32_t attempts = 0;
  bool keep = false;
  bool dropped = false;  // finished: it was not done, but dropped
  // Of its workload, which tells it from another job with its ID; older programs tell neither.
  uint64_t size = 0, sum = 0;
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("f", self.function), visit("why", self.why), visit("node", self.node),
        visit("store", self.store);
    visit("from", self.from), visit("fstore", self.from_store), visit("state", self.state);
    visit("at", self.at), visit("due", self.due), visit("n", self.starts), visit("term", self.term),
        visit("v", self.version);
    visit("failures", self.failures), visit("crashes", self.crashes), visit("exit", self.exit, no_exit),
        visit("sig", self.signal);
    visit("tries", self.attempts), visit("keep", self.keep), visit("dropped", self.dropped);
    visit("len", self.size), visit("sum", self.sum);
  }
};

// What another node of the group knows; see replicator.hpp.
struct Peer {
  static constexpr std::string_view type = "peer";
  std::string node{}, store{};
  Millis at{0};
  uint64_t position = 0;  // it knows all records before this
  uint64_t since = 0;     // before this it was another store: of those records, it still needs unfinished jobs
  static void fields(auto& self, auto visit) {
    visit("node", self.node), visit("store", self.store), visit("at", self.at), visit("lsn", self.position),
        visit("since", self.since);
  }
};

// Jobs need not be known any more, which was decided when the journal ended at `position`. (Without jobs it is a Gap.)
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
                           event::State, event::Peer, event::Forget, Gap, event::Stream, event::End>;

template <typename... Types>
bool is_any_of(const Event& event) {
  return (std::holds_alternative<Types>(event) || ...);
}

// What all events have: the name of the type, the time at which it happened, and the job to which it happened; empty if
// it is not about one job.
std::string_view type_of(const Event& event);
Millis at_of(const Event& event);
const std::string& id_of(const Event& event);

// Returns the record of an event without data, as bytes.
std::string encode_record(const Event& event);

// A record whose head has been verified and understood. Its data has not been looked at.
struct Record : RecordHead {
  Event event;
};

// Reads a record's head from the start of `bytes`, which may be longer. Returns nullopt if there is no valid head, or
// if the event is of an unknown type or lacks what the type needs. Never throws, on any input.
std::optional<Record> parse_record(std::string_view bytes);

// Reads the meta data of a record into an existing event. Returns false if it cannot be understood.
bool parse_event(std::string_view meta, uint64_t data_size, Event& event);

}  // namespace gq
