// A record is the byte format for an event of a job. event.hpp has the meaning of each record type. A record is encoded
// once: gq-enqueue sends these bytes over the network, and the journal stores them unchanged.
//
//   offset size
//        0    4  magic "GQR1"
//        4    4  length of meta
//        8    8  length of data
//       16    8  checksum of this header (with this field as zero) and meta
//       24    8  checksum of data
//       32       meta: a CBOR map (RFC 8949) with text keys, definite lengths and no tags; unknown keys are skipped
//                data: in an `add`, `child` or `spool`, the workload, unchanged; in the record of an attempt's end, the
//                      output of the command, if it is kept; in every other type, empty
//
// Numbers are little-endian. Checksums are XXH3-64 (xxhash.com). There are two checksums, so that a reader can verify
// headers without reading workloads. The surprising fact: in a journal, data longer than max_inline_data does not
// follow its record. The data is in a blob (blobs.hpp), with the same checksum.
//
// To change the format: add a new key, if old readers may skip it; that needs nothing else. For any other change, raise
// journal_version in journal.hpp, so that older programs refuse the segment, and add a new reply word to the wire
// protocol.
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
inline constexpr std::string_view workload_type = "add";  // the type of the records that have a workload
// The longest workload that is stored in the journal itself, in bytes. Part of the journal's format.
inline constexpr uint64_t max_inline_data = 64 * 1024;

uint64_t sum64(std::string_view data, uint64_t seed = 0);

// A decoded record header. Header and meta have been verified against their checksum; the data has not been read.
struct RecordHead {
  uint64_t head_size = 0;  // header and meta, in bytes
  uint64_t data_size = 0;
  uint64_t data_sum = 0;
  uint64_t head_sum = 0;

  // How many bytes of data follow the head in a journal.
  uint64_t inline_size() const { return data_size > max_inline_data ? 0 : data_size; }
};

// The sizes that the first record_header_size bytes of a record name. The function does not verify the checksum, and
// returns nullopt if the bytes cannot be the header of a record.
struct RecordSizes {
  uint64_t head_size;
  uint64_t data_size;
};
std::optional<RecordSizes> peek_record(std::string_view header);

// Whether these bytes are exactly a record's head with a valid checksum. The meta is not decoded.
bool is_whole_head(std::string_view bytes);

// Reads a record's head from the start of `bytes`; more bytes may follow it. Returns nullopt if the head is cut short
// or its checksum is wrong. Does not decode the meta. Never throws, on any input.
std::optional<RecordHead> parse_record_head(std::string_view bytes);

// The meta of a record. `bytes` begin with its head, and must outlive the result.
inline std::string_view meta_of(const RecordHead& head, std::string_view bytes) {
  return bytes.substr(record_header_size, head.head_size - record_header_size);
}

// The name of the record type in a meta; nullopt if it has none. `meta` must outlive the result.
std::optional<std::string_view> type_of(std::string_view meta);

std::string begin_record_head(uint64_t data_size, uint64_t data_sum);
void end_record_head(std::string& head);

// The name of the type that `said` is written as: that of its C++ type, unless it chooses another one.
template <typename T>
std::string_view written_type(const T& said) {
  if constexpr (requires { said.written_type(); }) return said.written_type();
  else return T::type;
}

// Encodes the header and meta of `said`, which has a type and fields (cbor.hpp). The caller stores the data.
template <typename T>
std::string encode_record_head(const T& said, uint64_t data_size, uint64_t data_sum) {
  std::string head = begin_record_head(data_size, data_sum);
  CborMap map(head);
  map.put(type_key, written_type(said));
  write_fields(map, said);
  map.finish();
  end_record_head(head);
  return head;
}

// Encodes a record: header, meta, data.
template <typename T>
requires requires { T::type; }
std::string encode_record(const T& said, std::string_view data = {}) {
  std::string record = encode_record_head(said, data.size(), sum64(data));
  record += data;
  return record;
}

// A Gap says that bytes of a journal between `since` and `position` could not be read: the cleaner has moved them to
// damaged/, or they were never synced. This is the only record type that the journal itself writes and understands.
struct Gap {
  static constexpr std::string_view type = "forget";
  Millis at{0};
  uint64_t position = 0, since = 0;
  static void fields(auto& self, auto visit) {
    visit("at", self.at), visit("lsn", self.position), visit("since", self.since);
  }
};

}  // namespace gq
