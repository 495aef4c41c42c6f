// What the dispatcher does next: in which slot the next job starts and when, when it looks for more jobs, and when it
// lets others have those that wait. Pure: it is told the time, and how the slots are.
//
// Jobs start in the order in which they were claimed, each in the slot that has the fewest jobs of those with room.
// Which ones may be claimed is decided before: by choose() (claiming.hpp), from what claim_request() asks for.
//
// A job that a worker has died of is "guilty": where commands are streamed, it gets a command of its own, so that no
// other job is taken for the guilty one. It starts only in a slot that has no command, and those behind it wait.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include "gq/base/clock.hpp"

namespace gq {

// A slot, as far as that matters here.
struct Place {
  size_t jobs = 0;          // that it has
  size_t room = 0;          // how many more it can take; 1 where it has no command
  bool is_running = false;  // it has a command
  bool is_closing = false;  // which is streamed, and will be sent nothing more
};

struct Schedule {
  using Time = std::chrono::steady_clock::time_point;
  static constexpr Millis hold{100};  // how long claimed jobs wait for room

  std::vector<Place> places{};
  size_t waiting = 0;         // how many jobs are claimed and not started
  bool guilty_first = false;  // the first of these is guilty
  bool is_stopping = false;   // the worker is
  Time not_before{};          // nothing is started before
  Time last_start{};

  // How many jobs could start, were it time.
  size_t room() const;
  // The place where the first job that waits is to start now; nullopt where none is.
  std::optional<size_t> next(Time now) const;
  // That one has started there. How many wait is for the caller to say.
  void started(size_t place);
  // Whether more jobs are wanted, once it is time to start them.
  bool wants_jobs() const { return !is_stopping && waiting == 0 && room() > 0; }
  // The place whose command has nothing to do, and is to end so that a guilty job can start.
  std::optional<size_t> to_close() const;
  // Whether those that wait are to be given back, all but a guilty first one.
  bool gives_back(Time now) const { return can_give_back() && now >= last_start + hold; }
  // When next() or gives_back() is next to be asked, if the places stay as they are.
  std::optional<Time> due() const;

 private:
  bool can_give_back() const { return waiting > (guilty_first ? 1 : 0) && room() == 0; }
  size_t room_of(const Place& place) const { return guilty_first ? (place.is_running ? 0 : 1) : place.room; }
};

}  // namespace gq
