// Streams of jobs. gq-snapshot export and gq-inspect journal --records write them, gq-snapshot import and gq-replicate
// --to read them. A stream is:
//
//   a `stream` record, whose version is stream_version; then for each job its add record, followed by its workload, and
//   a `state` record if the job's state has changed; then an `end` record, whose position is the number of jobs
//
// A stream is read up to the first damaged record head. A reader skips a record that it cannot decode, that is too
// large, or whose workload is damaged. A stream without an `end` record was cut short, even if its last record is
// complete. Several streams may follow each other. A job that waits for other jobs is in a second stream, whose version
// is parents_version, so that a reader that does not know these records refuses them; its add record is followed by
// `after` records, which name the jobs for which it still waits. If the workload of a job is a part of another job's
// workload, the stream contains a copy of that part.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>

#include "gq/store/ledger.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

inline constexpr uint32_t stream_version = 1, parents_version = 2;

struct Selection {
  std::string function;          // empty: all functions
  std::set<std::string> states;  // as users see the states; empty: all
};

// Writes the unfinished jobs of a store, in the order of their arrival, and returns how many. Calls `left_out` for each
// job whose workload cannot be read, and for each unreadable part of the journal.
uint64_t write_stream(Ledger& ledger, const Selection& selection, const std::function<void(std::string_view)>& write,
                      const std::function<void(const std::string& what)>& left_out);

// Returns the job of an add record with the given workload, for a receiver that lacks the job of whose workload this
// workload is a part.
NewJob with_data(event::Add add, std::string data);

class StreamReader {
 public:
  // Calls `skipped` for each skipped record. Never holds a record with more than `max_workload` bytes of workload in
  // memory.
  using Skipped = std::function<void(const std::string& what)>;
  StreamReader(int fd, uint64_t max_workload, Skipped skipped)
      : m_fd(fd), m_max_workload(max_workload), m_skipped(std::move(skipped)) {}
  // Returns the next job, or the state of the job before it; nullopt at the end. Throws Error(bad_data) if the stream
  // is damaged or cut short, Error(config) if its format is newer, Error(no_input) if it cannot be read.
  using Item = std::variant<NewJob, event::State>;
  std::optional<Item> next();

 private:
  struct Whole {
    std::string head;
    Record record;
    std::string data;
  };
  bool begin();
  std::optional<Whole> next_record();
  bool read(std::string& bytes, uint64_t size);
  void pass_over(uint64_t size);

  const int m_fd;
  const uint64_t m_max_workload;
  const Skipped m_skipped;
  uint64_t m_position = 0;
  uint64_t m_jobs = 0, m_unknown = 0;  // of this stream so far: jobs, and skipped records that may be jobs
  bool m_begun = false, m_inside = false;
};

}  // namespace gq
