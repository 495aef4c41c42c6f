// What gq-inspect says about jobs, and which jobs it lists.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "frame.hpp"
#include "gq/store/claiming.hpp"
#include "gq/store/owners.hpp"
#include "gq/store/queue.hpp"
#include "terminal.hpp"

namespace gq {

// Returns the process that holds a job. If the owner is dead, changes the job to queued, which it will be.
std::optional<Holder> find_holder(Ledger& ledger, Claim& c);

// The reasons why jobs wait although they could run, or for other jobs.
class Waits {
 public:
  explicit Waits(Queue& store);
  // Empty if the job does not wait.
  std::string of(const Claim& c) const;

 private:
  Queue& m_store;
  const Group& m_group;
  std::string m_node, m_others;
};

// Returns all that is known about a job, under the names that users know.
nlohmann::ordered_json job_json(const Claim& c, const std::optional<Holder>& holder, const Waits& waits);

// Returns the ID that a user named by its first characters. Throws Error(usage) if the text cannot be the beginning of
// an ID, or if several IDs begin so; nullopt if none does.
std::optional<std::string> find_id(Ledger& ledger, const std::string& text);
// The same for several, as read_ids(). IDs from standard input must be complete. A text with which no ID begins must be
// a complete ID.
std::vector<std::string> find_ids(Ledger& ledger, const std::vector<std::string>& names);

struct ListOptions {
  bool json = false;
  std::vector<std::string> states, functions;  // empty: all
  std::string since, until;                    // when the job was queued: a time, or a duration before now
  std::string reason, key, serial, text;       // empty: any; `text` is in the workload
  std::string format;  // the fields that are printed, separated by commas; empty: the usual ones
  uint64_t limit = UINT64_MAX;
  // Adds the options to a subcommand.
  void add_to(CLI::App& app);
};
Exit list(const ListOptions& o, const View& view, Queue& store);

}  // namespace gq
