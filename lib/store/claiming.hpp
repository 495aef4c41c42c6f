// Decides which jobs a process claims. The decision depends only on the fold and on the arguments: it reads no clock
// and no file, so a test can use a table in memory.
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
  std::vector<Claim> jobs;           // the jobs that this process will start, in this order
  std::vector<Claim> abandoned;      // the jobs whose workers died too often; the caller records them as dead
  std::vector<std::string> expired;  // the jobs that were not started in time; Queue::claim() records them as dead
  struct Letter {
    Claim dead;      // the job that the letter is about
    std::string to;  // the function of the letter
  };
  std::vector<Letter> letters;     // the dead letters to queue; from Queue::claim(): those that it has queued
  std::optional<Millis> next_due;  // when the next delayed job falls due, or the next job expires
  // How many jobs of these functions this node has not finished (Counters::live), without those that wait for parents
  // and those that are spooled.
  uint64_t live = 0;
  bool again = false;  // there are further jobs whose parents have ended: they are woken by the next claims
  std::vector<std::string> other_owners;  // owners of other processes that live and hold jobs
  // Adds the result for other functions.
  void add(Claims more);
};

constexpr size_t most_claims = 1000;    // the most jobs in one claim: their IDs fit into one record
constexpr size_t most_functions = 200;  // the most functions in one visit to the index
constexpr size_t most_letters = 100;    // the most dead letters that are queued in one visit to the index
constexpr size_t few_claims = 16;       // the most jobs in one claim while the disk is full

// The request of a process.
struct ClaimRequest {
  std::vector<std::string> functions{};  // empty: all functions of the store
  size_t most = 0;                       // how many jobs to claim; 0: none, the process only looks
  uint32_t max_crashes = 0;              // a job whose worker has died this often is abandoned; 0: no limit
  std::string owner{};                   // the owner of this process, see Owners::name(); empty if it only looks
  std::set<std::string> held{};          // jobs that this process has claimed, as far as it knows
  std::set<std::string> except{};        // functions whose jobs are not claimed, besides those that are paused
  // The function whose jobs the outputs of these jobs become, and the most unfinished jobs that it may have: while it
  // has more, nothing is claimed. An empty name, or 0: no limit.
  std::string target{};
  uint64_t target_backlog = 0;
};

// The circumstances of a request.
struct ClaimContext {
  // The functions that this visit looks at (empty: all), and how many requested functions are left for later visits.
  std::vector<std::string> functions{};
  size_t later = 0;
  size_t room = SIZE_MAX;  // for how many jobs the disk has room
  size_t most = SIZE_MAX;  // how many jobs may be chosen
  bool away = false;       // this node has not returned to its group yet, so it starts nothing
  Millis now{0};
  size_t turn = 0;         // the index of the function that is first this time; functions take turns
  Millis letters_from{0};  // no dead letters are queued before this time: the disk had no room for them

  // Returns whether an owner of another process still holds its jobs (see owners.hpp).
  std::function<bool(const std::string& owner)> is_alive{};
  // Folds the records that were appended since the fold. If an owner does not hold its jobs any more, the records of
  // how they ended are among these.
  std::function<void()> fold_on{};
};

struct Chosen {
  Claims claims;
  // Jobs of dead owners that another node owns now, that a user has cancelled, or that expired before they were
  // started; the caller releases them.
  std::vector<Claim> strays;
};

// Chooses jobs of each function, up to the function's share: jobs of dead owners, delayed jobs that are due, and queued
// jobs; by priority, and then in the order of their arrival. Before that, chooses some jobs of any function that have
// expired; it starts none that has; and dead letters that are to be queued. Throws TableError if the index is
// inconsistent.
Chosen choose(Fold& fold, const ClaimRequest& request, const ClaimContext& context);

}  // namespace gq
