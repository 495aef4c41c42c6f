// Decides what the dispatcher does next: in which slot the next job starts and when, when to look for more jobs, and
// when to give back jobs that wait. Pure: the caller passes the time and the state of the slots.
//
// Jobs start in the order in which they were claimed. Each starts in the slot that has the fewest jobs, of the slots
// with room. (Which jobs are claimed is decided before, by claim_request() and by choose() in claiming.hpp.)
//
// A job is "suspect" if a worker has died while running it. With streamed commands, a suspect job gets a command of its
// own, so that no other job is blamed for the next crash. It starts only in a slot that has no command, and the jobs
// after it wait.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include "gq/base/clock.hpp"

namespace gq {

// The state of a slot that the schedule needs.
struct Place {
  size_t jobs = 0;          // how many jobs the slot has
  size_t room = 0;          // how many more jobs it can take; 1 if it has no command
  bool is_running = false;  // the slot has a command
  bool is_closing = false;  // the slot's command is streamed, and gets no further jobs
};

struct Schedule {
  using Time = std::chrono::steady_clock::time_point;
  static constexpr Millis hold{100};  // how long claimed jobs wait for room

  std::vector<Place> places{};
  size_t waiting = 0;          // how many jobs are claimed and not started
  bool suspect_first = false;  // the first of the waiting jobs is suspect
  bool is_stopping = false;    // the worker is stopping
  Time not_before{};           // nothing is started before this time
  Time last_start{};

  // Returns how many jobs could start if it were time.
  size_t room() const;
  // Returns the place in which the first waiting job starts now; nullopt if it cannot start now.
  std::optional<size_t> next(Time now) const;
  // Call it when the first waiting job has started in that place. The caller updates `waiting`.
  void started(size_t place);
  // Whether more jobs are wanted, once it is time to start them.
  bool wants_jobs() const { return !is_stopping && waiting == 0 && room() > 0; }
  // Returns a place whose command has nothing to do and must end, so that a suspect job can start; nullopt if there is
  // none.
  std::optional<size_t> to_close() const;
  // Whether the waiting jobs must be given back, except a suspect first job.
  bool gives_back(Time now) const { return can_give_back() && now >= last_start + hold; }
  // When to ask next() or gives_back() again, if the places do not change.
  std::optional<Time> due() const;

 private:
  bool can_give_back() const { return waiting > (suspect_first ? 1 : 0) && room() == 0; }
  size_t room_of(const Place& place) const { return suspect_first ? (place.is_running ? 0 : 1) : place.room; }
};

}  // namespace gq
