// ULIDs: the IDs of jobs, stores and owners. A ULID has 26 characters of Crockford's base 32: 48 bits of milliseconds
// since 1970, then 80 random bits. Within one process each ULID is greater than the one before, even within a
// millisecond. (https://github.com/ulid/spec)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gq/base/clock.hpp"

namespace gq {

inline constexpr size_t ulid_size = 26;

// A new ULID. Thread-safe. Throws Error if the kernel gives no random bytes.
std::string new_ulid();

// The ULID with the time of another one and these bits in place of the random ones.
std::string ulid_like(std::string_view id, const std::array<uint8_t, 10>& bits);

// The canonical (upper case) form of a ULID that a person typed, or nullopt.
std::optional<std::string> parse_ulid(std::string_view text);

// True when `text` is a ULID in canonical form.
bool is_ulid(std::string_view text);

// Returns when a ULID was made, by the clock of the machine that made it.
Millis ulid_time(std::string_view id);

// Whether `name` is one that gq gives to temporary files, which a crash may leave: tmp.ULID, or the same with a suffix.
// All code that removes such files asks this function, because other programs use the prefix, too (mktemp(1)).
inline constexpr std::string_view temporary_prefix = "tmp.";
bool is_temporary_name(std::string_view name);

}  // namespace gq
