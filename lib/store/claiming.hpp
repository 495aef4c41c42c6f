// Which jobs a process claims: decided from one state of the fold, and from what is given. It asks no clock and no
// file, so that a test can drive it over a table in memory.
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
  std::vector<Claim> jobs;         // to be started by this process, best first
  std::vector<Claim> abandoned;    // dead owners' jobs that are not to be started again; the caller records them dead
  std::optional<Millis> next_due;  // when the next delayed job falls due
  uint64_t live = 0;               // jobs of these functions that are queued, delayed or running, wherever
  std::vector<std::string> other_owners;  // living owners outside this process that hold jobs
  // Those of other functions, too.
  void add(Claims more);
};

constexpr size_t most_claims = 1000;    // at a time: their IDs fit into one record
constexpr size_t most_functions = 200;  // looked at in one visit to the index
constexpr size_t few_claims = 16;       // while the disk is full

// What a process asks for.
struct ClaimRequest {
  std::vector<std::string> functions{};  // empty: all that the store knows
  size_t most = 0;                       // so many jobs; 0 only looks
  uint32_t max_crashes = 0;              // a job whose worker died this often is abandoned; 0: none is
  std::string owner{};                   // this process, see Owners::name(); empty where it only looks
  std::set<std::string> held{};          // jobs that it has claimed before and not forgotten
  std::set<std::string> except{};        // functions to leave alone, besides those that are paused
};

// How things stand when it is answered.
struct ClaimContext {
  // Those of the functions asked for that are looked at now, and how many are after that; empty: all.
  std::vector<std::string> functions{};
  size_t later = 0;
  size_t most = SIZE_MAX;  // there is room for so many
  bool away = false;       // this node has not returned to its group yet: it starts nothing
  Millis now{0};
  size_t turn = 0;  // the functions take turns: which of them comes first

  // Whether an owner that is not of this process still holds its jobs (see owners.hpp).
  std::function<bool(const std::string& owner)> is_alive{};
  // Folds what has been appended since: an owner that has let go says in the journal what became of its jobs.
  std::function<void()> fold_on{};
};

struct Chosen {
  Claims claims;
  std::vector<Claim> strays;  // what dead owners left here of jobs that are another node's by now: to be let go of
};

// Takes what dead owners left, and then, of each function its share, jobs that are due and queued ones, by priority and
// the order in which they came. Throws TableError where the index contradicts itself.
Chosen choose(Fold& fold, const ClaimRequest& request, const ClaimContext& context);

}  // namespace gq
