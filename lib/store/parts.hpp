// Deals with jobs whose workload is a part of another job's workload.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "gq/state/answer.hpp"
#include "gq/store/ledger.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

// The cost of the parts to which the jobs of one delivery refer. If the other workload is in the journal, its part is
// copied; if it is in a blob, its part is read to compute the checksum.
class PartsCost {
 public:
  static constexpr uint64_t most_copied = 32 << 20, most_read = 256 << 20;  // bytes
  // Adds a part. If all parts together would exceed a limit, adds nothing and returns false. The first part of a blob
  // may have any length.
  bool add(uint64_t copied, uint64_t read);

 private:
  uint64_t m_copied = 0, m_read = 0;
};

// Resolves the jobs whose workload is a part of another job's workload. Call it before such jobs are queued. If the
// other workload is in a blob, the job gets the blob's name and the sum of the part; otherwise it gets a copy of the
// part. Returns an answer for each job that cannot be resolved. Refuses jobs whose parts cost more than PartsCost
// allows. Throws Error(storage) if the index cannot be read.
std::vector<std::optional<Answer>> resolve(Ledger& ledger, std::vector<NewJob>& jobs);

}  // namespace gq
