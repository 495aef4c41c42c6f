// Waits for the ends of jobs, and prints what their commands printed: for gq-inspect and gq-enqueue.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gq/replication/pull.hpp"
#include "gq/replication/puller.hpp"
#include "gq/store/queue.hpp"

namespace gq {

// Prints the bytes as they are. On a terminal, replaces characters that would control it.
void print_workload(std::string_view bytes);
// The same for a part of a file. Throws Error(storage) if the file is too short.
void print_part(int fd, uint64_t offset, uint64_t size);

// Prints the output of a job, whose output_lsn is not 0. Throws Error(storage) if it is damaged.
void print_output(Ledger& ledger, const std::string& id, const Job& job);

// The exit status if gq itself fails while a program waits for results.
inline constexpr Exit no_result{status_unknown};

struct WaitOptions {
  std::optional<Millis> longest{};  // how long to wait for all of them together
  bool needs_output = false;        // see result_of()
  bool json = false;                // a JSON object for each job, with all that is known, in place of the outputs
};

// Waits until each of these jobs has ended, and prints their outputs in this order. Returns the first exit status that
// is not 0 (result.hpp); status_still_waits for a job that has not ended when the time is over. Logs why a status is
// not 0.
int wait_for_results(Queue& store, const std::vector<std::string>& ids, const WaitOptions& options);

// The same for jobs in other stores, which it asks through gearmand. All jobs need their outputs.
int wait_for_results(Puller& puller, std::vector<Pull::Waiting> jobs, const WaitOptions& options);

}  // namespace gq
