// Wall-clock time in milliseconds since 1970, for times that are shown to people and for delays. gq never uses it to
// order anything. Code that must notice a pause of the process uses the time since boot as well (Times).
#pragma once

#include <time.h>

#include <chrono>

namespace gq {

using Millis = std::chrono::milliseconds;

inline Millis now_ms() {
  return std::chrono::duration_cast<Millis>(std::chrono::system_clock::now().time_since_epoch());
}

// The time of both clocks; `boot` continues while the machine is suspended.
struct Times {
  Millis boot{0}, wall{0};
};

inline Times read_times() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return {Millis(t.tv_sec * 1000 + t.tv_nsec / 1'000'000), now_ms()};
}

}  // namespace gq
