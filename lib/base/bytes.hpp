// Fixed-width numbers in byte strings: little-endian for formats on disk and on the wire, big-endian for keys that must
// sort by value.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace gq {

template <typename T>
void put_le(std::string& out, T value) {
  static_assert(std::is_unsigned_v<T>);
  char bytes[sizeof(T)];
#pragma GCC unroll 8
  for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  out.append(bytes, sizeof bytes);
}

// Reads a number at `offset`. The caller has checked that `in` is long enough.
template <typename T>
T get_le(std::string_view in, size_t offset) {
  static_assert(std::is_unsigned_v<T>);
  T value = 0;
#pragma GCC unroll 8
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<T>(static_cast<T>(static_cast<unsigned char>(in[offset + i])) << (8 * i));
  return value;
}

inline void put_be64(std::string& out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

inline uint64_t get_be64(std::string_view in, size_t offset) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value = value << 8 | static_cast<unsigned char>(in[offset + i]);
  return value;
}

}  // namespace gq
