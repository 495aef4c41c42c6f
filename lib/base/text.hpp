// Parsing and printing of the small values that people type: durations, sizes, counts, function names, times. Each
// parse_ function returns nullopt if the text as a whole is not such a value, or if the value does not fit its type.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/clock.hpp"

namespace gq {

// A duration: "90" (seconds), "1.5s", "250ms", "10m", "2h", "7d". Never negative; at most 100 years.
std::optional<Millis> parse_duration(std::string_view text);

// A time as milliseconds since 1970: RFC 3339 ("2026-01-31T12:00:00Z", with a fraction, or "+01:00" for Z), or seconds
// since 1970. Not before 1970, not after 9999.
inline constexpr Millis last_time{253402300799'000};
std::optional<Millis> parse_time(std::string_view text);

// A rate, "N/s", "N/m" or "N/h". Returns how often per second; more than 0.
std::optional<double> parse_rate(std::string_view text);

// A range, "OFFSET:LENGTH" in bytes, or "OFFSET": then the range goes to the end, and `length` is UINT64_MAX.
struct ByteRange {
  uint64_t offset, length;
};
std::optional<ByteRange> parse_range(std::string_view text);

// Bytes: "512", "64K", "256M", "2G" (powers of 1024; "KiB" and the like are the same).
std::optional<uint64_t> parse_size(std::string_view text);

// A decimal number without sign, spaces or leading plus.
std::optional<uint64_t> parse_count(std::string_view text);

// Well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
bool is_utf8(std::string_view text);

// Returns why `name` cannot be a function that users queue jobs for; nullopt if it can. A valid name has 1 to
// max_function_size bytes of UTF-8, no spaces and no control characters (these separate the words and lines of
// gearmand's status), and is neither rep_* nor *.gq.
inline constexpr size_t max_function_size = 255;
std::optional<std::string> function_name_problem(std::string_view name);

// Whether `name` is the name of a node of a replication group: "rep_" and 1 to 60 letters, digits, '_' or '-'.
bool is_node_name(std::string_view name);

// RFC 3339, UTC, with milliseconds: 2026-01-31T12:00:00.000Z.
std::string format_time(Millis since_1970);

// Returns a number with leading zeros, so that it has at least this many decimal digits.
std::string padded(uint64_t number, size_t digits);

// Returns a number as 16 hexadecimal digits.
std::string hex64(uint64_t value);

std::vector<std::string> split(std::string_view text, char separator);

// The last line may lack its newline.
std::vector<std::string> lines_of(std::string_view text);

// Removes each text that equals an earlier one.
void remove_repeated(std::vector<std::string>& texts);

// Makes text from outside harmless for one line of output. Characters that act on a terminal or a reader instead of
// being seen become '?': control characters (also C1), marks of direction, separators of lines, marks without width.
// Invalid UTF-8 becomes '?', too. The result has at most `limit` bytes. All printed text passes through this function
// or json_printable, but only when it is printed: stored text stays as it came.
std::string printable(std::string_view text, size_t limit = 200);
inline constexpr size_t any_length = SIZE_MAX;

// The same for JSON in UTF-8: such characters become \uXXXX.
std::string json_printable(std::string_view json);

// Whether any byte is an ASCII control character; no name may contain one.
bool has_control(std::string_view text);

// "1 job", "2 jobs".
std::string counted(uint64_t n, const std::string& noun);

}  // namespace gq
