#include "gq/base/text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <set>

namespace gq {

std::optional<uint64_t> parse_count(std::string_view text) {
  uint64_t value = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Millis> parse_duration(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && ((text[digits] >= '0' && text[digits] <= '9') || text[digits] == '.')) ++digits;
  double value = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + digits, value, std::chars_format::fixed);
  if (digits == 0 || ec != std::errc() || end != text.data() + digits) return std::nullopt;
  std::string_view unit = text.substr(digits);
  double factor = unit.empty() || unit == "s" ? 1e3
                  : unit == "ms"              ? 1
                  : unit == "m"               ? 60e3
                  : unit == "h"               ? 3600e3
                  : unit == "d"               ? 86400e3
                                              : 0;
  constexpr double most = 100.0 * 365 * 86400e3;
  if (factor == 0 || value * factor > most) return std::nullopt;
  return Millis(std::llround(value * factor));
}

std::optional<Millis> parse_time(std::string_view text) {
  constexpr int64_t last_second = last_time.count() / 1000;
  double seconds = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (!text.empty() && ec == std::errc() && end == text.data() + text.size()) {
    if (!(seconds >= 0 && seconds <= static_cast<double>(last_second))) return std::nullopt;
    return Millis(std::llround(seconds * 1000));
  }
  auto number = [&](size_t at, size_t size, int most) -> std::optional<int> {
    if (text.size() < at + size) return std::nullopt;
    auto value = parse_count(text.substr(at, size));
    if (!value || *value > static_cast<uint64_t>(most)) return std::nullopt;
    return static_cast<int>(*value);
  };
  auto is = [&](size_t at, std::string_view any) {
    return at < text.size() && any.find(text[at]) != std::string_view::npos;
  };
  auto year = number(0, 4, 9999), month = number(5, 2, 12), day = number(8, 2, 31), hour = number(11, 2, 23),
       minute = number(14, 2, 59), second = number(17, 2, 60);
  if (!year || !month || !day || !hour || !minute || !second || *year < 1970 || !is(4, "-") || !is(7, "-") ||
      !is(10, "Tt ") || !is(13, ":") || !is(16, ":"))
    return std::nullopt;
  std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                   std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  size_t at = 19;
  double fraction = 0;
  if (is(at, ".")) {
    size_t digits = 1;
    while (is(at + digits, "0123456789")) ++digits;
    auto [stop, error] =
        std::from_chars(text.data() + at, text.data() + at + digits, fraction, std::chars_format::fixed);
    if (digits == 1 || error != std::errc()) return std::nullopt;
    at += digits;
  }
  int offset = 0;  // minutes east of UTC
  if (is(at, "+-")) {
    auto hours = number(at + 1, 2, 23), minutes = number(at + 4, 2, 59);
    if (!hours || !minutes || !is(at + 3, ":")) return std::nullopt;
    offset = (text[at] == '-' ? -1 : 1) * (*hours * 60 + *minutes);
    at += 6;
  } else if (is(at, "Zz")) {
    ++at;
  } else {
    return std::nullopt;
  }
  if (at != text.size()) return std::nullopt;
  auto since = std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(*hour) +
               std::chrono::minutes(*minute - offset) + std::chrono::seconds(*second);
  auto ms = std::chrono::duration_cast<Millis>(since) + Millis(std::llround(fraction * 1000));
  if (ms < Millis(0) || ms > std::chrono::seconds(last_second)) return std::nullopt;
  return ms;
}

std::optional<double> parse_rate(std::string_view text) {
  double value = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  double seconds = unit == "/s" ? 1 : unit == "/m" ? 60 : unit == "/h" ? 3600 : 0;
  if (text.empty() || ec != std::errc() || seconds == 0 || !(value > 0) || value > 1e9) return std::nullopt;
  return value / seconds;
}

std::optional<ByteRange> parse_range(std::string_view text) {
  size_t colon = text.find(':');
  auto offset = parse_size(text.substr(0, colon));
  std::string_view rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  auto length = rest.empty() ? std::optional<uint64_t>(UINT64_MAX) : parse_size(rest);
  if (!offset || !length) return std::nullopt;
  return ByteRange{*offset, *length};
}

std::optional<uint64_t> parse_size(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  auto value = parse_count(text.substr(0, digits));
  if (!value) return std::nullopt;
  std::string_view unit = text.substr(digits);
  int shift = 0;
  if (!unit.empty()) {
    switch (unit[0]) {
      case 'k':
      case 'K':
        shift = 10;
        break;
      case 'm':
      case 'M':
        shift = 20;
        break;
      case 'g':
      case 'G':
        shift = 30;
        break;
      case 't':
      case 'T':
        shift = 40;
        break;
      default:
        return std::nullopt;
    }
    std::string_view rest = unit.substr(1);
    if (!rest.empty() && rest != "iB" && rest != "B") return std::nullopt;
  }
  if (shift > 0 && *value >> (63 - shift) != 0) return std::nullopt;
  return *value << shift;
}

namespace {

// Returns the length of the well-formed UTF-8 sequence at the beginning of `text`; 0 if there is none.
size_t utf8_sequence(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char c = byte(0);
  if (c < 0x80) return 1;
  size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
  if (c < 0xc2 || c > 0xf4 || text.size() < n) return 0;
  for (size_t i = 1; i < n; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if ((c == 0xe0 && byte(1) < 0xa0) || (c == 0xed && byte(1) > 0x9f) || (c == 0xf0 && byte(1) < 0x90) ||
      (c == 0xf4 && byte(1) > 0x8f))
    return 0;
  return n;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    size_t n = utf8_sequence(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

std::optional<std::string> function_name_problem(std::string_view name) {
  if (name.empty()) return "it is empty";
  if (name.size() > max_function_size) return "it is longer than " + std::to_string(max_function_size) + " bytes";
  if (!is_utf8(name)) return "it is not UTF-8";
  if (has_control(name) || name.find(' ') != name.npos) return "it has a space or control character";
  if (name.substr(0, 4) == "rep_") return "names with rep_ belong to replication";
  if (name.size() >= 3 && name.substr(name.size() - 3) == ".gq") return "names with .gq belong to gq";
  return std::nullopt;
}

bool is_node_name(std::string_view name) {
  return name.size() > 4 && name.size() <= 64 && name.substr(0, 4) == "rep_" &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-'; });
}

std::string format_time(Millis since_1970) {
  time_t seconds = static_cast<time_t>(since_1970.count() / 1000);
  struct tm tm;
  gmtime_r(&seconds, &tm);
  char date[40], text[48];
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf(text, sizeof text, "%s.%03dZ", date, static_cast<int>(since_1970.count() % 1000));
  return text;
}

std::string padded(uint64_t number, size_t digits) {
  std::string text = std::to_string(number);
  return std::string(digits - std::min(digits, text.size()), '0') + text;
}

std::string hex64(uint64_t value) {
  char text[17];
  snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

void remove_repeated(std::vector<std::string>& texts) {
  std::set<std::string> seen;
  std::erase_if(texts, [&](const std::string& text) { return !seen.insert(text).second; });
}

std::vector<std::string> lines_of(std::string_view text) {
  auto lines = split(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; });
}

namespace {

// Whether a character acts instead of being seen. U+200C and U+200D, which join letters, are allowed, because scripts
// need them.
bool is_hidden(uint32_t c) {
  auto within = [c](uint32_t first, uint32_t last) { return c >= first && c <= last; };
  return c < ' ' || within(0x7f, 0x9f) || c == 0xad || c == 0x61c || c == 0x180e || c == 0x200b ||
         within(0x200e, 0x200f) || within(0x2028, 0x202e) || within(0x2060, 0x206f) || c == 0xfeff ||
         within(0xfff9, 0xfffb) || within(0xe0000, 0xe0fff);
}

// Returns the first character of `text`, and sets n to its length in bytes. If `text` begins with invalid UTF-8,
// returns the first byte, and sets n to 0.
uint32_t first_character(std::string_view text, size_t& n) {
  n = utf8_sequence(text);
  uint32_t c = static_cast<unsigned char>(text[0]);
  if (n > 1) c &= 0x7fu >> n;
  for (size_t i = 1; i < n; ++i) c = c << 6 | (static_cast<unsigned char>(text[i]) & 0x3f);
  return c;
}

}  // namespace

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (size_t n; !text.empty(); text.remove_prefix(std::max<size_t>(n, 1))) {
    const uint32_t c = first_character(text, n);
    const bool shown = n > 0 && !is_hidden(c);
    const size_t size = shown ? n : 1;
    if (out.size() + size > limit) break;
    if (shown) out += text.substr(0, n);
    else out += '?';
  }
  return out;
}

std::string json_printable(std::string_view json) {
  std::string out;
  for (size_t n; !json.empty(); json.remove_prefix(std::max<size_t>(n, 1))) {
    uint32_t c = first_character(json, n);
    if (c < ' ' || (n > 0 && !is_hidden(c))) {  // control characters are only between values: JSON escapes others
      out += json.substr(0, n);
      continue;
    }
    if (n == 0) c = 0xfffd;
    char escaped[16];
    if (c < 0x10000) snprintf(escaped, sizeof escaped, "\\u%04x", c);
    else snprintf(escaped, sizeof escaped, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
    out += escaped;
  }
  return out;
}

std::string counted(uint64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

}  // namespace gq
