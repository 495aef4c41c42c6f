// With --then, what a command prints becomes jobs of another function: the children of its job. When the command has
// ended, the worker adds the children to the store as unborn jobs, which no worker runs. Then it appends the record of
// the parent's end, and with this record the children become queued jobs. A crash between the two leaves unborn
// children. The process that claims the parent again forgets them (Queue::claim()), and the next attempt makes new
// children.
//
// A child's ID is the same after each start: the time in its parent's ID, and 80 bits of a BLAKE2b hash of that ID and
// of the child's number. Clients may choose IDs of parents, so a fast hash such as XXH3 would not do: they could find
// two parents whose children have one ID.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gq/store/queue.hpp"
#include "gq/work/capture.hpp"

namespace gq {

// The item of the output that becomes one child: all of it, a line, or an item that ends in NUL. The last line or item
// may lack the separator.
enum class Items { whole, lines, null };

struct ThenRules {
  std::string function{};  // of the children; empty: outputs do not become jobs
  Items items = Items::whole;
  uint64_t max_workload = 0;  // the largest output that becomes jobs, in bytes
};

// The most jobs that one output becomes.
inline constexpr size_t most_children = 10'000;

// Returns the items of an output; none if it is empty. The output must outlive them.
std::vector<std::string_view> items_of(std::string_view output, Items items);

// Returns the ID of the child with this number, from 0.
std::string child_id(const std::string& parent, uint32_t number);

// The result of making jobs from an output.
struct Offspring {
  uint32_t jobs = 0;      // how many jobs the output became
  std::string problem{};  // why the output could not become jobs; empty if it could
  bool passes = false;    // the problem may go away, so that a later attempt succeeds
};

// The children of one job, as they are added to the store.
struct Brood {
  std::string parent{};
  std::vector<NewJob> jobs{};
  Offspring offspring{};
};

// Makes the children of a job from what its command has printed. `output` says whether the store also keeps it as the
// output of the job; if not, the file of the output may become the blob of a child. Does not throw; Brood::offspring
// has the problem.
Brood brood_of(const Claim& parent, Capture& printed, Kept output, const ThenRules& rules);

// Adds the children of all broods to the store, with one sync, and sets `offspring` of each brood. If the children of a
// brood cannot all be added, the store has none of them afterwards, or they are forgotten when the parent is claimed
// again.
void add_children(Queue& queue, std::vector<Brood>& broods);

}  // namespace gq
