// Decides which jobs a process claims, from one state of the fold and its arguments. It reads no clock and no file, so
// a test can drive it with a table in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/state/fold.hpp"
#include "gq/state/job.hpp"

namespace gq {

struct Claim {
  std::string id;
  Job job;
};

struct Claims {
  std::vector<Claim> jobs;                // to be started by this process, best first
  std::vector<Claim> abandoned;           // jobs whose workers died too often; the caller records them as dead
  std::optional<Millis> next_due;         // when the next delayed job falls due
  uint64_t live = 0;                      // jobs of these functions that this node has yet to finish (Counters::live)
  std::vector<std::string> other_owners;  // living owners outside this process that hold jobs
  // Adds the claims of other functions.
  void add(Claims more);
};

constexpr size_t most_claims = 1000;    // in one claim: their IDs fit into one record
constexpr size_t most_functions = 200;  // looked at in one visit to the index
constexpr size_t few_claims = 16;       // while the disk is full

// The request of a process.
struct ClaimRequest {
  std::vector<std::string> functions{};  // empty: all that the store knows
  size_t most = 0;                       // how many jobs to claim; 0: none, only look
  uint32_t max_crashes = 0;              // a job whose worker died this often is abandoned; 0: none is
  std::string owner{};                   // this process, see Owners::name(); empty if it only looks
  std::set<std::string> held{};          // jobs that the process knows that it has claimed
  std::set<std::string> except{};        // functions to leave alone, besides those that are paused
};

// The circumstances in which a request is answered.
struct ClaimContext {
  // The requested functions that this visit looks at (empty: all), and how many are left for later visits.
  std::vector<std::string> functions{};
  size_t later = 0;
  size_t most = SIZE_MAX;  // how many jobs there is room for
  bool away = false;       // this node has not returned to its group yet: it starts nothing
  Millis now{0};
  size_t turn = 0;  // which function comes first: they take turns

  // Whether an owner of another process still holds its jobs (see owners.hpp).
  std::function<bool(const std::string& owner)> is_alive{};
  // Folds the records that have been appended since. An owner that has released jobs has appended what became of them.
  std::function<void()> fold_on{};
};

struct Chosen {
  Claims claims;
  std::vector<Claim> strays;  // jobs of dead owners that are another node's by now; the caller releases them
};

// Chooses jobs of each function, up to its share: jobs that dead owners left, due jobs and queued jobs, by priority and
// then in the order in which they arrived. Throws TableError if the index contradicts itself.
Chosen choose(Fold& fold, const ClaimRequest& request, const ClaimContext& context);

}  // namespace gq
