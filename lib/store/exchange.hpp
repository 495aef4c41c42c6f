// Streams of jobs: what gq-snapshot export, gq-inspect journal --records, gq-snapshot import and gq-replicate --to have
// in common.
//
//   a `stream` record, whose version is stream_version; the add records of jobs with their workloads behind them, each
//   followed by a `state` record where something has become of the job; an `end` record, whose position is the number
//   of jobs
//
// A stream is read up to the first head of a record that is not what was written. A record that says nothing sensible,
// that is too large, or whose workload is damaged, is left out. Without its end a stream is cut short, however whole
// its last record is. Several may stand one behind the other. A job whose workload is a part of another's brings that
// part with it.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>

#include "gq/store/store.hpp"

namespace gq {

inline constexpr uint32_t stream_version = 1;

struct Selection {
  std::string function;          // empty: all
  std::set<std::string> states;  // as people are shown them; empty: all
};

// Writes the jobs of a store that are not finished, in the order in which they came; returns how many. `left_out` is
// told of those whose workload cannot be read.
uint64_t write_stream(Store& store, const Selection& selection, const std::function<void(std::string_view)>& write,
                      const std::function<void(const std::string& what)>& left_out);

// The same job with the workload in the record, for one who has not what it is a part of.
NewJob with_data(event::Add add, std::string data);

class StreamReader {
 public:
  // `skipped` is told of records that are left out; those larger than `max_workload` are never in memory.
  using Skipped = std::function<void(const std::string& what)>;
  StreamReader(int fd, uint64_t max_workload, Skipped skipped)
      : m_fd(fd), m_max_workload(max_workload), m_skipped(std::move(skipped)) {}
  // The next job, or what has become of the one before; nullopt at the end. Throws Error(bad_data) where the stream is
  // damaged or cut short, Error(config) for a newer format, Error(no_input) where it cannot be read.
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
  uint64_t m_jobs = 0, m_unknown = 0;  // of this stream so far: jobs, and what may have been one
  bool m_begun = false, m_inside = false;
};

}  // namespace gq
