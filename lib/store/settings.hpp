// gq.json: the settings that a store gets when it is created, and the replication group that it belongs to.
//
//   {"format": 1, "store": ULID,
//    "remember": "1d", "clean_after": "10m", "segment_size": "64M",
//    "node": "rep_1", "identity": ULID, "group": ["rep_1", "rep_2"], "copies": 2, "run": "all" | "once"}
//
// Users write the second line; what they leave out has the values above. gq-replicate init writes the third line.
// `store` seeds the checksums of the journal and never changes. `identity` tells a node that was set up or restored
// from the node that had its name before: the other nodes send it everything again. Both are lost with the file, which
// is written as a whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gq/base/directory.hpp"
#include "gq/state/fold.hpp"

namespace gq {

// A replication group, as one of its nodes knows it. Without a group, self is empty.
struct Group {
  Self self;
  std::vector<std::string> members;  // node names, this one among them; the order is the same for all
  uint32_t copies = 0;               // how many nodes must have a job before its client is answered
  bool once = false;                 // only the node that accepted a job runs it

  explicit operator bool() const { return !self.node.empty(); }
  // What all members agree on: nodes that do not agree refuse each other's transfers.
  std::string id() const { return members.front() + (once ? ":once" : ":all"); }
  bool has(const std::string& node) const;
};

// How long a store keeps what it does not need any more.
struct Limits {
  Millis remember{24 * 3600'000};                // finished IDs
  Millis clean_after{10 * 60'000};               // a segment, or a blob that no job refers to
  uint64_t segment_size = default_segment_size;  // of the journal, in bytes
};

struct Settings {
  std::string store_id;
  Limits limits;
  std::map<std::string, std::string> written_limits;  // as users wrote them
  Group group;
};

// Throws Error(config) if the file is damaged or has a newer format.
Settings read_settings(const Directory& store);

// Writes the file. If `replace` is false, an existing file stays unchanged.
void write_settings(const Directory& store, const Settings& settings, bool replace);

// Returns the settings of the store in this directory, which is created if it is missing and `create` is true. Throws
// Error(config) if the directory is not a store, has a newer format, or holds something else.
Settings open_settings(const Directory& store, bool create);

}  // namespace gq
