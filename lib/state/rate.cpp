#include "gq/state/rate.hpp"

#include <algorithm>

#include "gq/base/bytes.hpp"
#include "gq/base/text.hpp"
#include "gq/state/table.hpp"

namespace gq {
namespace {

constexpr int slots_in_period = 50;
constexpr size_t slot_size = 12;  // encoded

Millis slot_length(const StartRate& rate) { return rate.period / slots_in_period; }

// When the starts of a slot do not count any more.
Millis end_of(const StartRate& rate, uint64_t slot) {
  return static_cast<int64_t>(slot + 1) * slot_length(rate) + rate.period;
}

bool counts(const StartRate& rate, uint64_t slot, Millis now) {
  return end_of(rate, slot) > now && static_cast<int64_t>(slot) * slot_length(rate) < now + rate.period;
}

}  // namespace

bool is_rate_period(Millis length) {
  return std::any_of(std::begin(rate_periods), std::end(rate_periods),
                     [&](const RatePeriod& p) { return p.length == length; });
}

std::string rate_text(const StartRate& rate) {
  std::string text = std::to_string(rate.starts) + "/";
  for (const auto& p : rate_periods)
    if (p.length == rate.period) text += p.unit;
  return text;
}

std::optional<StartRate> parse_start_rate(std::string_view text) {
  if (text.size() < 3 || text[text.size() - 2] != '/') return std::nullopt;
  const auto n = parse_count(text.substr(0, text.size() - 2));
  if (!n || *n == 0 || *n > most_rate) return std::nullopt;
  for (const auto& p : rate_periods)
    if (p.unit == text.back()) return StartRate{static_cast<uint32_t>(*n), p.length};
  return std::nullopt;
}

Started::Started(std::string_view bytes) {
  if (bytes.size() % slot_size != 0) throw TableError("bad starts");
  for (size_t at = 0; at < bytes.size(); at += slot_size)
    m_slots[get_le<uint64_t>(bytes, at)] = get_le<uint32_t>(bytes, at + 8);
}

std::string Started::encode() const {
  std::string bytes;
  for (const auto& [slot, n] : m_slots) put_le<uint64_t>(bytes, slot), put_le<uint32_t>(bytes, n);
  return bytes;
}

void Started::add(const StartRate& rate, Millis at) {
  std::erase_if(m_slots, [&](const auto& slot) { return !counts(rate, slot.first, at); });
  ++m_slots[static_cast<uint64_t>(std::max(at, Millis(0)) / slot_length(rate))];
}

Started::Room Started::room(const StartRate& rate, Millis now) const {
  uint64_t counted = 0;
  Room room;
  for (const auto& [slot, n] : m_slots) {
    if (!counts(rate, slot, now)) continue;
    counted += n;
    if (!room.next) room.next = end_of(rate, slot);
  }
  room.starts = static_cast<uint32_t>(rate.starts - std::min<uint64_t>(rate.starts, counted));
  return room;
}

}  // namespace gq
