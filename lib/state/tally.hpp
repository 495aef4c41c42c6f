// The tally: what has happened to jobs so far, in numbers: counters and histograms of each function, and what happened
// in each minute of the last day. The fold keeps it in its table (fold.hpp), so reading it needs no walk over jobs. In
// a group, it is about what this node did.
//
// The cleaner removes records that the tally has counted. Before it does so, it appends the tally's values, in two
// steps, because other processes append at the same time:
//
//  1. a mark: a Counts record without values. From then on, the fold keeps for each entry of the tally that changes
//     also the value that the entry had at the mark.
//  2. Counts records with the values at the mark. The fold takes over each value, and adds what it has counted since
//  the
//     mark. If all records before the mark are still there, this changes nothing.
//
// So the tally follows from the journal, however often the journal is cleaned. The surprising fact: nothing depends on
// the tally, and it may lack what a program of an older version has folded.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gq/state/job.hpp"
#include "gq/state/table.hpp"

namespace gq {

// So many functions have numbers of their own; all others are counted together, under this name.
inline constexpr size_t most_tallied = 1000;
inline constexpr const char* other_functions = "";
inline constexpr size_t most_minutes = 24 * 60;

// The upper bounds of a histogram's buckets, in milliseconds. A last bucket has what is above them.
inline constexpr std::array<int64_t, 8> bucket_bounds{10, 100, 1000, 10'000, 60'000, 600'000, 3'600'000, 86'400'000};
inline constexpr size_t bucket_count = bucket_bounds.size() + 1;
size_t bucket_of(Millis value);

// How a job ends. A job that is dead can end again, if it is kicked or dropped.
enum class Ending : uint8_t { done, dead, expired, cancelled, dropped };
inline constexpr size_t endings = 5;
const char* ending_name(Ending ending);

// The values in their order in records and in the table. New ones are added at the end.
struct FunctionTally {
  static constexpr size_t queued = 0,                // jobs that were added
      failed = 1,                                    // attempts that failed
      ends = 2,                                      // by Ending
      waits = ends + endings,                        // first starts, by how long their jobs had waited (bucket_of());
      waited = waits + bucket_count,                 // and the sum of these times, in milliseconds
      runs = waited + 1, ran = runs + bucket_count,  // the same for attempts that ended: how long they ran
      size = ran + 1;
  std::array<uint64_t, size> values{};
  bool operator==(const FunctionTally&) const = default;
};

struct MinuteTally {
  static constexpr size_t queued = 0, done = 1, failed = 2;  // jobs added, jobs done, attempts failed
  static constexpr size_t longest_wait = 3;  // of the jobs that were first started in this minute, in milliseconds
  static constexpr size_t size = 4;
  std::array<uint64_t, size> values{};
  bool operator==(const MinuteTally&) const = default;
};

class Tally {
 public:
  explicit Tally(Table& table) : m_table(table) {}

  // Counts what an event did to a job. The record of the event is at `lsn`.
  void count(const std::optional<Job>& before, const std::optional<Job>& after, const Event& event, Lsn lsn);
  // Folds a mark, or values.
  void take(const event::Counts& counts, Lsn lsn);
  // Whether the cleaner must keep such a record.
  bool needs(const event::Counts& counts, Lsn lsn);

  // Returns the mark, as a record; nothing if nothing was counted since the last mark whose values are in the journal.
  std::vector<std::string> mark_record(Millis now);
  // Returns the records with the values at the last mark; nothing if they are in the journal.
  std::vector<std::string> value_records(Millis now);

  std::map<std::string, FunctionTally> functions();
  std::map<uint64_t, MinuteTally> minutes();  // by minutes since 1970; those in which something happened

  // Writes what has changed to the table.
  void commit();

 private:
  struct Head {
    Lsn mark = 0;                         // the position of the last mark; 0: its values were taken over
    Lsn taken = 0;                        // the position of the mark of the last values that were taken over whole
    Lsn counted = 0;                      // the position after the record that was counted last
    uint64_t functions = 0, minutes = 0;  // how many entries there are
  };
  template <typename T>
  struct Entry {
    Lsn taken = 0;  // the mark to which the values that were taken over last belong
    Lsn mark = 0;   // the mark to which `base` belongs; 0: none
    T now{}, base{};
    uint64_t& change(size_t value, Lsn present_mark);
  };
  Head& head();
  // `always`: the function gets numbers of its own even if there are most_tallied others.
  Entry<FunctionTally>& function(const std::string& name, bool always = false);
  Entry<MinuteTally>& minute(uint64_t number);
  template <typename T>
  void take(Entry<T>& entry, const T& said, Lsn mark);
  void leave_older(Lsn mark);
  void leave_latest_minutes();

  Table& m_table;
  std::optional<Head> m_head;
  std::map<std::string, Entry<FunctionTally>> m_functions;  // those that may have changed
  std::map<uint64_t, Entry<MinuteTally>> m_minutes;
  bool m_changed = false;
};

// Whether the values of a Counts record can be read.
bool is_valid(const event::Counts& counts);

}  // namespace gq
