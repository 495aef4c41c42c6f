// Records: the one format for everything that happens to a job, as bytes; what they say is in event.hpp. A record is
// written once and passed on byte for byte: by gq-enqueue over the wire, and in the journal.
//
//   offset size
//        0    4  magic "GQR1"
//        4    4  length of meta
//        8    8  length of data
//       16    8  sum of this header (with this field as zero) and meta
//       24    8  sum of data
//       32       meta: a CBOR map (RFC 8949) with text keys, definite lengths and no tags; unknown keys are skipped
//                data: the workload of an `add`, untouched; empty in every other type
//
// Numbers are little-endian; sums are XXH3-64 (xxhash.com). There are two sums so that headers can be walked without
// reading workloads. The surprising fact: where a record stands in a journal, data longer than max_inline_data is not
// behind it but in a blob (see blobs.hpp), with the same sum.
//
// To change the format: 1. a new key that old readers may skip needs nothing; 2. for anything else raise
// journal_version in journal.hpp, which makes older programs refuse the segment, and 3. a new wire reply word.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gq/base/cbor.hpp"

namespace gq {

inline constexpr size_t record_header_size = 32;
inline constexpr size_t max_meta_size = 64 * 1024;
inline constexpr std::string_view type_key = "t";
// The longest workload that stands in the journal itself. Part of the journal's format.
inline constexpr uint64_t max_inline_data = 64 * 1024;

uint64_t sum64(std::string_view data, uint64_t seed = 0);

// A record's header, verified with its meta. Its data has not been looked at.
struct RecordHead {
  uint64_t head_size = 0;  // header and meta, in bytes
  uint64_t data_size = 0;
  uint64_t data_sum = 0;
  uint64_t head_sum = 0;

  // How many bytes of data stand behind the head in a journal.
  uint64_t inline_size() const { return data_size > max_inline_data ? 0 : data_size; }
};

// Sizes as the first record_header_size bytes claim them, unverified; nullopt where they are not a record's.
struct RecordSizes {
  uint64_t head_size;
  uint64_t data_size;
};
std::optional<RecordSizes> peek_record(std::string_view header);

// Whether these bytes are a record's head whose sum is right, whatever it says.
bool is_whole_head(std::string_view bytes);

// Reads a record's head from the start of `bytes`, which may go on behind it. nullopt where it is cut short or does not
// verify, whatever its meta says; never throws on any input.
std::optional<RecordHead> parse_record_head(std::string_view bytes);

// The meta of a record whose head begins these bytes.
inline std::string_view meta_of(const RecordHead& head, std::string_view bytes) {
  return bytes.substr(record_header_size, head.head_size - record_header_size);
}

// The name of the type that a meta has; nullopt where it has none.
std::optional<std::string_view> type_of(std::string_view meta);

std::string begin_record_head(uint64_t data_size, uint64_t data_sum);
void end_record_head(std::string& head);

// The header and meta of something that has a type and fields (cbor.hpp), for data that stands elsewhere.
template <typename T>
std::string encode_record_head(const T& said, uint64_t data_size, uint64_t data_sum) {
  std::string head = begin_record_head(data_size, data_sum);
  CborMap map(head);
  map.put(type_key, T::type);
  write_fields(map, said);
  map.finish();
  end_record_head(head);
  return head;
}

// The record in bytes: header, meta, data.
template <typename T>
requires requires { T::type; }
std::string encode_record(const T& said, std::string_view data = {}) {
  std::string record = encode_record_head(said, data.size(), sum64(data));
  record += data;
  return record;
}

// What could not be read of a journal from `since` to `position` has been set aside, or was never synced: the one
// record that the journal itself writes and understands.
struct Gap {
  static constexpr std::string_view type = "forget";
  Millis at{0};
  uint64_t position = 0, since = 0;
  static void fields(auto& self, auto visit) {
    visit("at", self.at), visit("lsn", self.position), visit("since", self.since);
  }
};

}  // namespace gq
