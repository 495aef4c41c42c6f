// The report: one page of HTML about a store, without anything from elsewhere and without scripts. Text that comes from
// jobs is escaped, and stays text.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gq/state/tally.hpp"
#include "gq/view/overview.hpp"

namespace gq {

struct RunningJob {
  Claim claim;
  Holder holder;
};

struct Report {
  Overview overview{};
  std::map<uint64_t, MinuteTally> minutes{};
  std::string name{};                 // of the store, for the title
  bool reasons = false;               // the page shows why jobs are dead: standard error may hold secrets
  std::vector<RunningJob> running{};  // those that have run longest, some
  std::vector<Claim> dead{};          // some of the newest, the newest first
};

// Reads a store, in short visits; its work does not grow with the number of jobs.
Report report_of(Queue& store, bool reasons);

// The page. Pure.
std::string report_html(const Report& report);

// For how long the oldest job that could be started had waited, in milliseconds, in each of the last most_minutes
// minutes, the present one last. `minutes` has the longest waits of the jobs that were started since, and `oldest` is
// that of the jobs that wait now. Pure.
std::vector<uint64_t> ages_of_oldest(const std::map<uint64_t, MinuteTally>& minutes, Millis oldest, Millis now);

}  // namespace gq
