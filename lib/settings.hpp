// gq.json: what a store is told when it is made, and the replication group that it belongs to.
//
//   {"format": 1, "store": ULID,
//    "node": "rep_1", "identity": ULID, "group": ["rep_1", "rep_2"], "copies": 2, "run": "all" | "once"}
//
// `store` seeds the checksums of the journal and never changes. `identity` tells a node that was set up or restored from
// the one that had its name before: the others owe it everything anew. Both are lost with the file, which is written whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fold.hpp"

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

struct Settings {
  std::string store_id;
  Group group;
};

// Throws Error(config) where the file is damaged or of a newer format.
Settings read_settings(const std::string& store_directory);

// Writes the file. With `replace` false one that is there is left.
void write_settings(const std::string& store_directory, const Settings& settings, bool replace);

inline constexpr const char* settings_name = "gq.json";

}  // namespace gq
