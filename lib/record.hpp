// Records: the one format for everything that happens to a job. A record is written once and passed on byte for byte: by
// gq-enqueue over the wire, and in the journal.
//
//   offset size
//        0    4  magic "GQR1"
//        4    4  length of meta
//        8    8  length of data
//       16    8  sum of this header (with this field as zero) and meta
//       24    8  sum of data
//       32       meta: a CBOR map (RFC 8949) with text keys, definite lengths and no tags; unknown keys are skipped
//                data: the workload of an `add`, untouched; empty in every other type
//
// Numbers are little-endian; sums are XXH3-64 (xxhash.com). There are two sums so that headers can be walked without
// reading workloads. The surprising fact: where a record stands in a journal, data longer than max_inline_data is not
// behind it but in a blob (see blobs.hpp), with the same sum.
//
// To change the format: 1. a new key that old readers may skip needs nothing; 2. for anything else raise
// journal_version in journal.hpp, which makes older programs refuse the segment, and 3. a new wire reply word.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clock.hpp"

namespace gq {

inline constexpr size_t record_header_size = 32;
inline constexpr size_t max_meta_size = 64 * 1024;
// The longest workload that stands in the journal itself. Part of the journal's format.
inline constexpr uint64_t max_inline_data = 64 * 1024;

enum class RecordType { add, claim, start, done, fail, dead, kick, drop, pause, resume, copied, state, peer, keep, release, forget, stream, end };

const char* record_type_name(RecordType type);

// Priorities are strict: while a job of a better one may be started, no other is.
inline constexpr uint32_t high_priority = 0, normal_priority = 1, low_priority = 2;
const char* priority_name(uint32_t priority);

// Why text cannot be a job's key or serial key; nullopt when it can: 1 to max_key_size bytes of UTF-8 without control characters.
inline constexpr size_t max_key_size = 255;
std::optional<std::string> key_problem(std::string_view text);

// Attempts that a job may ask for, and how long its key may stand for it when it has finished.
inline constexpr uint32_t most_attempts = 1'000'000;
inline constexpr Millis longest_window{366LL * 24 * 3600 * 1000};

// Cuts a reason to what is kept of one that another node tells.
inline constexpr size_t max_reason_size = 4096;
void limit_reason(std::string& text);

// No exit status.
inline constexpr uint32_t no_exit = UINT32_MAX;

// What a record says. Which members count depends on the type; the others keep their defaults and are not written.
struct Meta {
  RecordType type = RecordType::add;
  std::string id;                // the job; not in claim, pause, resume, copied, peer, forget, stream and end
  std::string function;          // add, pause, resume, state
  Millis at{0};                  // when it happened
  bool given = false;            // add: the ID was chosen by the user, so it may stand for something else already
  uint32_t priority = normal_priority;  // add
  uint32_t max_attempts = 0;     // add: the job's own; 0: the worker's
  std::string key;               // add: what makes two submissions one job; empty: nothing does
  Millis window{0};              // add: how long after the job has finished its key still stands for it
  std::string serial;            // add: jobs with the same run one at a time, in order; empty: any
  std::vector<std::string> ids;  // claim, copied, forget: the jobs
  std::string owner;             // claim, start, fail, dead: who holds the job (see owners.hpp)
  uint32_t start = 0;            // start, fail, dead: how often the job has been started
  Millis due{0};                 // add, fail: not to be started before this
  bool spent = true;             // fail, dead: whether an attempt is used up
  std::string why;               // fail, dead, state: the reason, for people
  uint32_t exit = no_exit;       // done, fail, dead, state: how the command ended: its exit status,
  uint32_t signal = 0;           // or the signal that ended it; neither where there was none, or it was not heard of
  uint32_t attempts = 0;         // done, drop, state: how many the job has had when it ended
  bool dropped = false;          // state: a finished job was not done, but dropped

  // Workloads that stay, and parts of them; see Job.
  bool keep = false;             // done, state: the workload stays when the job has ended
  std::string source;            // add: the job whose workload this one's is a part of; then no data follow
  uint64_t offset = 0, length = 0, sum = 0;  // add: where that part begins, its size in bytes, and its sum64

  // Replication; see replicator.hpp.
  std::string node;              // add: the node that accepted the job; state: the one that owns it, if any; peer: which one
  std::string store;             // the identity of that node's store
  uint32_t copies = 0;           // add: how many nodes must have the job before it is run where it was accepted
  bool once = false;             // add: only its owner runs it; else every node does
  std::string peers;             // copied: the nodes that have the jobs too, separated by commas
  bool enough = false;           // copied: the jobs may be run, however few those are
  std::string from, from_store;  // state: the node that told, and its identity; empty for what happened here
  std::string state;             // state: queued, dead, kept or finished
  uint32_t term = 0;             // state: how often the job's owner has changed
  uint32_t version = 0;          // state: how often its state has changed
  uint32_t failures = 0, crashes = 0;  // state
  uint64_t position = 0;         // peer: the peer knows all that stands in the journal before; end: how many jobs the stream has
  uint64_t since = 0;            // peer: before this position it was another store, which is owed only what is unfinished
  // forget: with jobs, they were looked at when the journal ended at `position`; without, what could not be read between `since`
  // and `position` has been set aside.
};

// What happens now: its type, its time, and the job.
Meta meta_now(RecordType type, const std::string& id = {});

// The record in bytes: header, meta, data.
std::string encode_record(const Meta& meta, std::string_view data = {});

// The header and meta only, for data that stands elsewhere.
std::string encode_record_head(const Meta& meta, uint64_t data_size, uint64_t data_sum);

uint64_t sum64(std::string_view data, uint64_t seed = 0);

// A record's header and meta, verified. Its data has not been looked at.
struct RecordHead {
  Meta meta;
  uint64_t head_size = 0;  // header and meta, in bytes
  uint64_t data_size = 0;
  uint64_t data_sum = 0;
  uint64_t head_sum = 0;

  // Of the workload, wherever it is.
  uint64_t workload_size() const { return meta.source.empty() ? data_size : meta.length; }
  uint64_t workload_sum() const { return meta.source.empty() ? data_sum : meta.sum; }

  // How many bytes of data stand behind the head in a journal.
  uint64_t inline_size() const { return data_size > max_inline_data ? 0 : data_size; }
};

// Sizes as the first record_header_size bytes claim them, unverified; nullopt where they are not a record's.
struct RecordSizes {
  uint64_t head_size;
  uint64_t data_size;
};
std::optional<RecordSizes> peek_record(std::string_view header);

// Whether these bytes are a record's head whose sum is right, whatever it says.
bool is_whole_head(std::string_view bytes);

// Reads a record's head from the start of `bytes`, which may go on behind it. nullopt where it is cut short, does not
// verify, or is of no known type; never throws on any input.
std::optional<RecordHead> parse_record_head(std::string_view bytes);

}  // namespace gq
