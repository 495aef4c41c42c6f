// gq.json: what a store is told when it is made, and the replication group that it belongs to.
//
//   {"format": 1, "store": ULID,
//    "remember": "1d", "clean_after": "10m", "segment_size": "64M",
//    "node": "rep_1", "identity": ULID, "group": ["rep_1", "rep_2"], "copies": 2, "run": "all" | "once"}
//
// The second line is for people to write, and what they leave out is as above; the third is written by gq-replicate
// init. `store` seeds the checksums of the journal and never changes. `identity` tells a node that was set up or
// restored from the one that had its name before: the others owe it everything anew. Both are lost with the file, which
// is written whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gq/base/directory.hpp"
#include "gq/state/fold.hpp"

namespace gq {

// A replication group, as one of its nodes knows it; without one, self is empty.
struct Group {
  Self self;
  std::vector<std::string> members;  // node names, this one among them; the order is the same for all
  uint32_t copies = 0;               // on so many nodes a job must be before its client is answered
  bool once = false;                 // only the node that accepted a job runs it

  explicit operator bool() const { return !self.node.empty(); }
  // What all members agree on: transfers between those that do not are refused.
  std::string id() const { return members.front() + (once ? ":once" : ":all"); }
  bool has(const std::string& node) const;
};

// How long what is over is kept.
struct Limits {
  Millis remember{24 * 3600'000};                // finished IDs
  Millis clean_after{10 * 60'000};               // a segment, or a blob that nobody refers to
  uint64_t segment_size = default_segment_size;  // of the journal, in bytes
};

struct Settings {
  std::string store_id;
  Limits limits;
  std::map<std::string, std::string> written_limits;  // as people wrote them
  Group group;
};

// Throws Error(config) where the file is damaged or of a newer format.
Settings read_settings(const Directory& store);

// Writes the file. With `replace` false one that is there is left.
void write_settings(const Directory& store, const Settings& settings, bool replace);

// Those of the store in this directory, which is made where it is missing and `create` is true. Throws Error: config
// where it is not a store, of a newer format, or holds something else.
Settings open_settings(const Directory& store, bool create);

}  // namespace gq
