// Jobs whose workload is a part of another job's workload.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "gq/state/answer.hpp"
#include "gq/store/ledger.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

// The cost of the parts of other jobs' workloads that the jobs of one delivery refer to: a part of a workload in the
// journal is copied, a part of a blob is read for its checksum.
class PartsCost {
 public:
  static constexpr uint64_t most_copied = 32 << 20, most_read = 256 << 20;  // bytes
  // Adds a part. Returns false, and adds nothing, if all parts together would exceed a limit. The first part of a blob
  // may have any length.
  bool add(uint64_t copied, uint64_t read);

 private:
  uint64_t m_copied = 0, m_read = 0;
};

// Resolves the jobs whose workload is a part of another job's workload. Call it before such jobs are queued. If that
// other workload is in a blob, the job then names the blob and the sum of the part; else the job gets the part itself.
// Returns an answer for each job that cannot be resolved. Refuses jobs whose parts cost more than PartsCost allows.
// Throws Error(storage) if the index cannot be read.
std::vector<std::optional<Answer>> resolve(Ledger& ledger, std::vector<NewJob>& jobs);

}  // namespace gq
