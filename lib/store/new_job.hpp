// A job that is to be queued.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gq/journal/record.hpp"
#include "gq/state/event.hpp"
#include "gq/store/blobs.hpp"

namespace gq {

// The job's add record, parsed and as bytes (`head`), and its workload (not copied).
struct NewJob {
  event::Add add;
  std::string head;
  std::string_view data;
  uint64_t data_sum = 0;
  std::shared_ptr<const std::string> own;  // owns the bytes of `data`, if the job or its delivery owns them
  std::vector<std::string> parents{};      // the IDs of its parents (add.asked.after says how many)
  std::string state;                       // a record to append after the add record, or empty
  std::shared_ptr<Arrived> arrived;        // the file that holds `data` and may become its blob

  // Call it after a change of `add`, the data or the parents.
  void encode();
  // Makes these bytes, beginning at `from`, the job's own workload. After that, its workload is not a part of another
  // job's workload. The caller may append to the string later, but only within its capacity, because `data` refers to
  // its bytes.
  void take_data(std::shared_ptr<const std::string> bytes, size_t from = 0);
  // Adds the parents that this record names. Returns false if the record is not the next one of this job.
  bool take_parents(const event::After& after);
  // Returns the records that name its parents.
  std::vector<std::string> parent_records() const;
  bool has_parents() const { return !parents.empty() || !add.parents.empty(); }
  // Whether its workload is stored as a blob, not in its record.
  bool has_blob() const { return data.size() > max_inline_data; }
  // Whether its workload is a part of another job's workload.
  bool is_part() const { return !add.part.source.empty(); }
};

// The value of Submission::parents_sum.
uint64_t sum_of_parents(const std::vector<std::string>& ids);

inline constexpr uint64_t to_the_end = UINT64_MAX;

// Makes a job with its add record. If `id` is empty, the job gets a new ID. `data` must outlive the job. With `part`,
// the workload is a part of another job's workload in place of `data`; the length of the part may be to_the_end.
NewJob make_job(Submission asked, std::string_view data, const std::string& id = {}, Part part = {});

}  // namespace gq
