// ULIDs: the job, store and owner IDs of gq. 26 characters of Crockford's base 32: 48 bits of milliseconds since
// 1970, then 80 random bits; within one process each is greater than the one before, also within a millisecond.
// (https://github.com/ulid/spec)
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace gq {

inline constexpr size_t ulid_size = 26;

// A new ULID. Thread-safe. Throws Error when the kernel gives no random bytes.
std::string new_ulid();

// The canonical (upper case) form of a ULID that a person typed, or nullopt.
std::optional<std::string> parse_ulid(std::string_view text);

// True when `text` is a ULID in canonical form.
bool is_ulid(std::string_view text);

}  // namespace gq
