// Wall-clock time, in milliseconds since 1970: what is shown to people and what delays are reckoned by. It never
// orders anything.
#pragma once

#include <chrono>

namespace gq {

using Millis = std::chrono::milliseconds;

inline Millis now_ms() {
  return std::chrono::duration_cast<Millis>(std::chrono::system_clock::now().time_since_epoch());
}

}  // namespace gq
