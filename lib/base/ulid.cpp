#include "gq/base/ulid.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "gq/base/error.hpp"
#include "gq/base/mutex.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

// How many characters of a ULID are its time; the others are the random bits.
constexpr size_t time_size = 10;

// How many random bytes are added to the last ULID to get the next one of the same millisecond, so that a program that
// knows one of them cannot guess its neighbours. There is room for 2^30 of them.
constexpr size_t step_size = 6;

struct Generator {
  Mutex mutex;
  int64_t last_ms GUARDED_BY(mutex) = -1;
  std::array<uint8_t, 10> random GUARDED_BY(mutex){};
  std::array<uint8_t, 40 * step_size> steps GUARDED_BY(mutex){};  // fewer calls of getrandom(2)
  size_t used GUARDED_BY(mutex) = sizeof steps;
};

template <size_t size>
void fill(std::array<uint8_t, size>& bytes) {
  static_assert(size <= 256);  // then getrandom(2) is never interrupted
  if (getrandom(bytes.data(), size, 0) != static_cast<ssize_t>(size)) throw_errno(Exit::retry, "get random bytes");
}

}  // namespace

std::string new_ulid() {
  static Generator g;
  MutexLock guard(g.mutex);
  int64_t ms = now_ms().count();
  if (ms > g.last_ms) {
    g.last_ms = ms;
    fill(g.random);
    g.random[0] &= 0x7f;  // room for counting up within the millisecond
  } else {
    // It is the same millisecond, or the clock went back: count up from the last ULID.
    if (g.used == g.steps.size()) fill(g.steps), g.used = 0;
    unsigned carry = 1;
    for (size_t i = g.random.size(); i-- > 0; carry >>= 8) {
      if (i >= g.random.size() - step_size) carry += g.steps[g.used++];
      carry += g.random[i];
      g.random[i] = static_cast<uint8_t>(carry);
    }
  }
  unsigned __int128 value = static_cast<unsigned __int128>(static_cast<uint64_t>(g.last_ms) & 0xffffffffffffULL) << 80;
  for (size_t i = 0; i < g.random.size(); ++i) value |= static_cast<unsigned __int128>(g.random[i]) << (8 * (9 - i));
  std::string id(ulid_size, '0');
  for (size_t i = ulid_size; i-- > 0; value >>= 5) id[i] = alphabet[static_cast<unsigned>(value & 31)];
  return id;
}

std::string ulid_like(std::string_view id, const std::array<uint8_t, 10>& bits) {
  unsigned __int128 value = 0;
  for (uint8_t byte : bits) value = value << 8 | byte;
  std::string like(id);
  for (size_t i = ulid_size; i-- > time_size; value >>= 5) like[i] = alphabet[static_cast<unsigned>(value & 31)];
  return like;
}

bool is_ulid(std::string_view text) {
  static constexpr auto allowed = [] {  // a table, because this function is called for every record that is read
    std::array<bool, 256> table{};
    for (char c : std::string_view(alphabet)) table[static_cast<unsigned char>(c)] = true;
    return table;
  }();
  return text.size() == ulid_size && text[0] <= '7' &&
         std::all_of(text.begin(), text.end(), [](char c) { return allowed[static_cast<unsigned char>(c)]; });
}

Millis ulid_time(std::string_view id) {
  int64_t ms = 0;
  for (char c : id.substr(0, time_size)) ms = ms << 5 | static_cast<int64_t>(std::string_view(alphabet).find(c));
  return Millis(ms);
}

bool is_temporary_name(std::string_view name) {
  if (name.substr(0, temporary_prefix.size()) != temporary_prefix) return false;
  std::string_view rest = name.substr(temporary_prefix.size()), more = rest.substr(std::min(rest.size(), ulid_size));
  if (rest == "restoring") return true;
  // The suffixes: of a workload that arrives in parts, and of a log of Tokyo Cabinet.
  return is_ulid(rest.substr(0, ulid_size)) &&
         (more.empty() || more == ".wal" || (more[0] == '.' && parse_count(more.substr(1))));
}

std::optional<std::string> parse_ulid(std::string_view text) {
  std::string id(text);
  for (char& c : id)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  if (!is_ulid(id)) return std::nullopt;
  return id;
}

}  // namespace gq
