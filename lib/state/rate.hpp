// How many jobs of a function may be started in a time, in all processes that use a store. Pure: the decision depends
// on the time and on the starts that the fold has seen.
//
// No more jobs than the rate are started in any period, wherever it begins. For that the starts are counted in slots of
// time, and a start counts until a whole period after the end of its slot has passed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "gq/base/clock.hpp"

namespace gq {

inline constexpr uint32_t most_rate = 1'000'000;

struct StartRate {
  uint32_t starts = 0;  // in each period; 0: any number
  Millis period{0};     // one of rate_periods
  bool operator==(const StartRate&) const = default;
};

// A second, a minute and an hour, and the names of these units.
struct RatePeriod {
  char unit;
  Millis length;
};
inline constexpr RatePeriod rate_periods[] = {{'s', Millis(1000)}, {'m', Millis(60'000)}, {'h', Millis(3'600'000)}};
bool is_rate_period(Millis length);

// A rate as text for users, as in 10/s; starts must not be 0.
std::string rate_text(const StartRate& rate);
// Reads such a text; nullopt if it is none, or if its number is not from 1 to most_rate.
std::optional<StartRate> parse_start_rate(std::string_view text);

// The starts of a function's jobs in the last period.
class Started {
 public:
  Started() = default;
  // Decodes what encode() returned. Throws TableError for other bytes.
  explicit Started(std::string_view bytes);
  std::string encode() const;

  // Counts a start. Forgets starts that are too far from it to matter.
  void add(const StartRate& rate, Millis at);

  struct Room {
    uint32_t starts = 0;           // how many more jobs may be started now
    std::optional<Millis> next{};  // when there is more room than now; nullopt: no start counts
  };
  // If the clock was set back, starts in the future count if they are less than a period away.
  Room room(const StartRate& rate, Millis now) const;

 private:
  std::map<uint64_t, uint32_t> m_slots;  // how many starts, by the number of the slot
};

}  // namespace gq
