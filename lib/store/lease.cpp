#include "gq/store/lease.hpp"

#include "gq/base/text.hpp"

namespace gq {

bool is_gap(const Times& last, const Times& now, Millis longest) {
  return now.boot - last.boot > longest || now.wall - last.wall > longest;
}

std::string encode_beat(const Beat& beat) {
  std::string text;
  for (Millis m : {beat.at.boot, beat.at.wall, beat.longest}) text += std::to_string(m.count()) + " ";
  return text + beat.waits + "\n";
}

std::optional<Beat> parse_beat(std::string_view text) {
  Beat beat;
  size_t at = 0;
  for (Millis* m : {&beat.at.boot, &beat.at.wall, &beat.longest}) {
    size_t end = text.find(' ', at);
    if (end == text.npos) return std::nullopt;
    auto number = parse_count(text.substr(at, end - at));
    if (!number || *number > INT64_MAX / 4) return std::nullopt;
    *m = Millis(static_cast<int64_t>(*number));
    at = end + 1;
  }
  size_t end = text.find('\n', at);
  if (end == text.npos) return std::nullopt;
  beat.waits = printable(text.substr(at, end - at), 1000);
  return beat;
}

}  // namespace gq
