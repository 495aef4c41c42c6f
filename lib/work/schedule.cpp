#include "gq/work/schedule.hpp"

#include <algorithm>

namespace gq {

size_t Schedule::room() const {
  size_t n = 0;
  for (const auto& place : places) n += room_of(place);
  return n;
}

std::optional<size_t> Schedule::next(Time now) const {
  std::optional<size_t> best;
  if (is_stopping || waiting == 0 || now < not_before) return best;
  for (size_t n = 0; n < places.size(); ++n)
    if (room_of(places[n]) > 0 && (!best || places[n].jobs < places[*best].jobs)) best = n;
  return best;
}

void Schedule::started(size_t place) {
  Place& p = places[place];
  --p.room;
  ++p.jobs;
  p.is_running = true;
}

std::optional<size_t> Schedule::to_close() const {
  if (!suspect_first || std::any_of(places.begin(), places.end(),
                                    [](const Place& place) { return !place.is_running || place.is_closing; }))
    return std::nullopt;
  auto idle = std::find_if(places.begin(), places.end(), [](const Place& place) { return place.jobs == 0; });
  return idle == places.end() ? std::nullopt : std::optional(static_cast<size_t>(idle - places.begin()));
}

std::optional<Schedule::Time> Schedule::due() const {
  if (can_give_back()) return last_start + hold;
  if (is_stopping || waiting == 0 || room() == 0) return std::nullopt;
  return not_before;
}

}  // namespace gq
