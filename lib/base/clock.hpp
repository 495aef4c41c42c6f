// Wall-clock time, in milliseconds since 1970: what is shown to people and what delays are reckoned by. It never
// orders anything. With it, where a pause has to be noticed, the time since boot.
#pragma once

#include <time.h>

#include <chrono>

namespace gq {

using Millis = std::chrono::milliseconds;

inline Millis now_ms() {
  return std::chrono::duration_cast<Millis>(std::chrono::system_clock::now().time_since_epoch());
}

// Of both clocks; `boot` goes on while the machine is suspended.
struct Times {
  Millis boot{0}, wall{0};
};

inline Times read_times() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return {Millis(t.tv_sec * 1000 + t.tv_nsec / 1'000'000), now_ms()};
}

}  // namespace gq
