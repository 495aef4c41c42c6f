// Random numbers from a seed, the same on every machine (splitmix64, with the constants of its authors).
#pragma once

#include <cstdint>

namespace simulate {

class Random {
 public:
  explicit Random(uint64_t seed) : m_state(seed) {}
  uint64_t next() {
    uint64_t z = m_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Returns a number below `bound`, which is not 0.
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool chance(uint64_t one_in) { return below(one_in) == 0; }

 private:
  uint64_t m_state;
};

}  // namespace simulate
