// Streams of jobs: the format that gq-snapshot export, gq-inspect journal --records, gq-snapshot import and
// gq-replicate --to share.
//
//   a `stream` record, whose version is stream_version; then for each job its add record, followed by its workload, and
//   a `state` record if the job's state has changed; then an `end` record, whose position is the number of jobs
//
// A stream is read up to the first damaged record head. A record that cannot be understood, is too large, or has a
// damaged workload is skipped. A stream without an `end` record is cut short, even if its last record is whole. Several
// streams may follow each other. A job whose workload is a part of another job's workload brings that part with it.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>

#include "gq/store/ledger.hpp"
#include "gq/store/new_job.hpp"

namespace gq {

inline constexpr uint32_t stream_version = 1;

struct Selection {
  std::string function;          // empty: all
  std::set<std::string> states;  // as users see them; empty: all
};

// Writes the unfinished jobs of a store, in the order in which they arrived, and returns how many. Calls `left_out` for
// each job whose workload cannot be read, and for each unreadable part of the journal.
uint64_t write_stream(Ledger& store, const Selection& selection, const std::function<void(std::string_view)>& write,
                      const std::function<void(const std::string& what)>& left_out);

// Returns the same job with its workload in the record, for a receiver without the job whose workload it is a part of.
NewJob with_data(event::Add add, std::string data);

class StreamReader {
 public:
  // `skipped` is called for each record that is skipped. Records with more than `max_workload` bytes of workload are
  // never held in memory.
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
