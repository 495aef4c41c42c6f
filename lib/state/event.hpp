// Events: what happens to a job, and what a record (record.hpp) says. Each type carries what it has to say and no more;
// `fields` are its keys in the record, in the order in which they are written.
//
// To change one: a new field with a key that no other type has for something else; a line in tests/golden/records.txt.
// What is written already has to be read for ever, so a key is never used again. Steps for anything else: record.hpp.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/journal/record.hpp"

namespace gq {

// Priorities are strict: while a job of a better one may be started, no other is.
inline constexpr uint32_t high_priority = 0, normal_priority = 1, low_priority = 2;
const char* priority_name(uint32_t priority);

// Why text cannot be a job's key or serial key; nullopt when it can: 1 to max_key_size bytes of UTF-8 without control
// characters.
inline constexpr size_t max_key_size = 255;
std::optional<std::string> key_problem(std::string_view text);

// Why text cannot be the name of a job's file; nullopt when it can: what can be a key, without /, and not . or .., so
// that a command which writes to a file of that name writes where it is.
std::optional<std::string> name_problem(std::string_view text);

// Attempts that a job may ask for, and how long its key may stand for it when it has finished.
inline constexpr uint32_t most_attempts = 1'000'000;
inline constexpr Millis longest_window{366LL * 24 * 3600 * 1000};

// Cuts a reason to what is kept of one that another node tells.
inline constexpr size_t max_reason_size = 4096;
void limit_reason(std::string& text);

// No exit status.
inline constexpr uint32_t no_exit = UINT32_MAX;

// What may be asked for when a job is queued, by anybody.
struct Submission {
  std::string function{};
  Millis due{0};  // not to be started before this; of a job that failed, again
  uint32_t priority = normal_priority;
  uint32_t max_attempts = 0;  // the job's own; 0: the worker's
  std::string key{};          // what makes two submissions one job; empty: nothing does
  Millis window{0};           // how long after the job has finished its key still stands for it
  std::string serial{};       // jobs with the same run one at a time, in order; empty: any
  std::string name{};         // of the file that its workload was; for its command, and for people
  bool operator==(const Submission&) const = default;
};

// A job's workload that is a part of another's; then no data follow its add.
struct Part {
  std::string source{};                      // that job; empty: the workload is its own
  uint64_t offset = 0, length = 0, sum = 0;  // where the part begins, its size in bytes, and its sum64
};

namespace event {

// A job has been queued.
struct Add {
  static constexpr std::string_view type = "add";
  std::string id{};
  Millis at{0};        // when it happened, here and below
  bool given = false;  // the ID was chosen by the user, so it may stand for something else already
  Submission asked{};
  Part part{};
  std::string node{},
      store{};          // with a replication group: the node that accepted the job, and the identity of its store
  uint32_t copies = 0;  // how many nodes must have the job before it is run where it was accepted
  bool once = false;    // only its owner runs it; else every node does

  // Of the workload, wherever it is.
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

// A process has taken jobs (see owners.hpp).
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
  uint32_t exit = no_exit, signal = 0;  // how the command ended: its exit status, or the signal that ended it; neither
                                        // where it was not heard of
  uint32_t attempts = 0;                // how many the job has had
  bool keep = false;                    // the workload stays
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("at", self.at), visit("n", self.start);
    visit("exit", self.exit, no_exit), visit("sig", self.signal), visit("tries", self.attempts),
        visit("keep", self.keep);
  }
};

// An attempt has failed, or the job has been given back; it is to be started again.
struct Fail {
  static constexpr std::string_view type = "fail";
  std::string id{};
  Millis at{0};
  std::string owner{};
  uint32_t start = 0;
  bool spent = true;  // whether an attempt is used up
  Millis due{0};
  std::string why{};  // for people
  uint32_t exit = no_exit, signal = 0;
  static void fields(auto& self, auto visit) {
    visit("id", self.id), visit("o", self.owner), visit("why", self.why), visit("at", self.at), visit("due", self.due);
    visit("n", self.start), visit("exit", self.exit, no_exit), visit("sig", self.signal),
        visit("spent", self.spent, true);
  }
};

// It is not to be started again by itself.
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

// What a person says of a job.
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

// What a person says of a function.
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

// Other nodes have jobs that were accepted here.
struct Copied {
  static constexpr std::string_view type = "copied";
  std::vector<std::string> ids{};
  Millis at{0};
  std::string peers{};   // separated by commas
  std::string stores{};  // likewise the identity of each; programs of before name none
  bool enough = false;   // the jobs may be run, however few those are
  static void fields(auto& self, auto visit) {
    visit("peers", self.peers), visit("stores", self.stores), visit("at", self.at), visit("enough", self.enough);
    visit("ids", self.ids);
  }

  // The nodes that it names, each with its identity, or none where that is not known.
  std::vector<std::pair<std::string, std::string>> copies() const;
  // Whether it says that a node has the jobs which is that store.
  bool says(const std::string& node, const std::string& store) const;
};

// What a node says of a job to the others; see job.hpp.
struct State {
  static constexpr std::string_view type = "state";
  std::string id{};
  Millis at{0};
  std::string function{};
  std::string state{};               // queued, dead, kept or finished
  std::string node{}, store{};       // the node that owns it, if any, and its identity
  std::string from{}, from_store{};  // the node that told, and its identity; empty for what happened here
  uint32_t term = 0, version = 0;    // how often its owner has changed, and its state
  Millis due{0};
  uint32_t starts = 0, failures = 0, crashes = 0;
  std::string why{};
  uint32_t exit = no_exit, signal = 0;
  uint32_t attempts = 0;
  bool keep = false;
  bool dropped = false;  // finished: it was not done, but dropped
  uint64_t size = 0,
           sum = 0;  // of its workload, which tells it from another job with its ID; programs of before tell neither
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
  uint64_t position = 0;  // it knows all that stands in the journal before
  uint64_t since = 0;     // before this position it was another store, which is owed only what is unfinished
  static void fields(auto& self, auto visit) {
    visit("node", self.node), visit("store", self.store), visit("at", self.at), visit("lsn", self.position),
        visit("since", self.since);
  }
};

// Jobs need not be known any more; they were looked at when the journal ended at `position`. (Without jobs it is a
// Gap.)
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

// It ends.
struct End {
  static constexpr std::string_view type = "end";
  Millis at{0};
  uint64_t jobs = 0;  // that it has
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

// What all have: the name of the type, and when it happened. And the job that it happened to, where it is one: else
// empty.
std::string_view type_of(const Event& event);
Millis at_of(const Event& event);
const std::string& id_of(const Event& event);

// The record in bytes, of an event without data.
std::string encode_record(const Event& event);

// A record that has been verified and understood. Its data has not been looked at.
struct Record : RecordHead {
  Event event;
};

// Reads a record's head from the start of `bytes`, which may go on behind it. nullopt where that is no head, or what it
// says is of no known type or lacks what the type needs; never throws on any input.
std::optional<Record> parse_record(std::string_view bytes);

// The same of the meta of a record, into an event that is there already; false where it cannot be understood.
bool parse_event(std::string_view meta, uint64_t data_size, Event& event);

}  // namespace gq
