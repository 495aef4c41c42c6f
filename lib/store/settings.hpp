// gq.json: the settings that a store gets when it is created, and the replication group that it belongs to.
//
//   {"format": 1, "store": ULID,
//    "remember": "1d", "clean_after": "10m", "segment_size": "64M",
//    "node": "rep_1", "identity": ULID, "group": ["rep_1", "rep_2"], "copies": 2, "run": "all" | "once"}
//
// Users write the second line; the values above are the defaults. gq-replicate init writes the third line. `store`
// seeds the checksums of the journal and never changes. `identity` distinguishes a node that was set up again or
// restored from the node that had its name before: the other nodes send it everything again. If the file is lost, both
// are lost, so the file is always replaced as a whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gq/base/directory.hpp"
#include "gq/state/fold.hpp"

namespace gq {

// A replication group, from the view of one of its nodes. Without a group, `self` is empty.
struct Group {
  Self self;
  std::vector<std::string> members;  // the names of all nodes, including this one; in the same order on all nodes
  uint32_t copies = 0;               // how many nodes must have a job before its client is answered
  bool once = false;                 // only the owner of a job runs it, at first the node that accepted it

  explicit operator bool() const { return !self.node.empty(); }
  // A text on which all members must agree: nodes with different texts refuse each other's transfers.
  std::string id() const { return members.front() + (once ? ":once" : ":all"); }
  bool has(const std::string& node) const;
};

// How long, and how much of it, a store keeps data that it does not need any more.
struct Limits {
  Millis remember{24 * 3600'000};   // how long the IDs of finished jobs are remembered
  Millis clean_after{10 * 60'000};  // the least age of a segment, or of a blob that no job needs, before it is cleaned
  uint64_t segment_size = default_segment_size;  // of the journal, in bytes
  uint64_t outputs = 1 << 30;                    // of all jobs together, in bytes
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
