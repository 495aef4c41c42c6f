#include "gq/journal/record.hpp"

#include <xxhash.h>

#include <algorithm>
#include <limits>

#include "gq/base/bytes.hpp"
#include "gq/base/error.hpp"

namespace gq {
namespace {

constexpr uint32_t record_magic = 0x31525147;  // "GQR1"

uint64_t head_sum_of(std::string_view head) {
  constexpr size_t usual = 512;
  char small[usual];
  std::string large;
  char* copy = small;
  if (head.size() > usual) {
    large.resize(head.size());
    copy = large.data();
  }
  std::copy(head.begin(), head.end(), copy);
  std::fill(copy + 16, copy + 24, '\0');
  return XXH3_64bits(copy, head.size());
}

}  // namespace

uint64_t sum64(std::string_view data, uint64_t seed) { return XXH3_64bits_withSeed(data.data(), data.size(), seed); }

std::string begin_record_head(uint64_t data_size, uint64_t data_sum) {
  std::string head;
  head.reserve(record_header_size + 224 + (data_size > max_inline_data ? 0 : data_size));
  put_le<uint32_t>(head, record_magic);
  put_le<uint32_t>(head, 0);
  put_le<uint64_t>(head, data_size);
  put_le<uint64_t>(head, 0);
  put_le<uint64_t>(head, data_sum);
  return head;
}

void end_record_head(std::string& head) {
  size_t size = head.size() - record_header_size;
  if (size > max_meta_size) throw Error(Exit::bug, "cannot write a record: its meta data is too long");
  auto set = [&](size_t at, auto value) {
    std::string bytes;
    put_le<decltype(value)>(bytes, value);
    head.replace(at, bytes.size(), bytes);
  };
  set(4, static_cast<uint32_t>(size));
  set(16, head_sum_of(head));
}

std::optional<std::string_view> type_of(std::string_view meta) {
  std::optional<std::string_view> type;
  CborReader in(meta);
  in.pairs([&](std::string_view key, const CborReader::Item& value) {
    if (key == type_key && value.type == cbor_text) type = value.text;
    return key != type_key && in.skip_contents(value);
  });
  return type;
}

std::optional<RecordSizes> peek_record(std::string_view header) {
  if (header.size() < record_header_size || get_le<uint32_t>(header, 0) != record_magic) return std::nullopt;
  uint32_t meta_size = get_le<uint32_t>(header, 4);
  uint64_t data_size = get_le<uint64_t>(header, 8);
  if (meta_size > max_meta_size || data_size > std::numeric_limits<int64_t>::max()) return std::nullopt;
  return RecordSizes{record_header_size + meta_size, data_size};
}

bool is_whole_head(std::string_view bytes) {
  auto sizes = peek_record(bytes);
  return sizes && bytes.size() == sizes->head_size && head_sum_of(bytes) == get_le<uint64_t>(bytes, 16);
}

std::optional<RecordHead> parse_record_head(std::string_view bytes) {
  auto sizes = peek_record(bytes);
  if (!sizes || bytes.size() < sizes->head_size) return std::nullopt;
  std::string_view head_bytes = bytes.substr(0, sizes->head_size);
  RecordHead head;
  head.head_sum = get_le<uint64_t>(bytes, 16);
  if (head_sum_of(head_bytes) != head.head_sum) return std::nullopt;
  head.head_size = sizes->head_size;
  head.data_size = sizes->data_size;
  head.data_sum = get_le<uint64_t>(bytes, 24);
  return head;
}

}  // namespace gq
