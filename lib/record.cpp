#include "record.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "bytes.hpp"
#include "error.hpp"
#include "text.hpp"
#include "ulid.hpp"

namespace gq {
namespace {

using nlohmann::json;

constexpr uint32_t record_magic = 0x31525147;  // "GQR1"
constexpr std::array<const char*, 13> type_names = {"add",  "claim", "start",  "done",   "fail",  "dead", "kick",
                                                    "drop", "pause", "resume", "copied", "state", "peer"};

// The keys of the meta map, and what they stand for. A member that has its default is not written.
constexpr const char* key_type = "t";
constexpr const char* key_ids = "ids";

template <typename T>
struct Field {
  std::string_view key;
  T Meta::*member;
};
constexpr Field<std::string> texts[] = {{"id", &Meta::id},     {"f", &Meta::function}, {"o", &Meta::owner},
                                        {"why", &Meta::why},   {"key", &Meta::key},    {"serial", &Meta::serial},
                                        {"node", &Meta::node}, {"store", &Meta::store}, {"peers", &Meta::peers},
                                        {"from", &Meta::from}, {"fstore", &Meta::from_store}, {"state", &Meta::state}};
constexpr Field<Millis> times[] = {{"at", &Meta::at}, {"due", &Meta::due}, {"window", &Meta::window}};
constexpr Field<uint32_t> numbers[] = {{"n", &Meta::start}, {"prio", &Meta::priority}, {"max", &Meta::max_attempts},
                                       {"copies", &Meta::copies}, {"term", &Meta::term}, {"v", &Meta::version},
                                       {"failures", &Meta::failures}, {"crashes", &Meta::crashes}};
constexpr Field<uint64_t> positions[] = {{"lsn", &Meta::position}, {"since", &Meta::since}};
constexpr Field<bool> flags[] = {{"given", &Meta::given}, {"spent", &Meta::spent}, {"once", &Meta::once}, {"enough", &Meta::enough}};

template <typename T, size_t N>
T* member(const Field<T> (&fields)[N], Meta& meta, std::string_view key) {
  for (const auto& f : fields)
    if (key == f.key) return &(meta.*f.member);
  return nullptr;
}

bool known_key(std::string_view key) {
  static Meta any;
  return key == key_type || key == key_ids || member(texts, any, key) || member(times, any, key) || member(numbers, any, key) ||
         member(positions, any, key) || member(flags, any, key);
}

// Takes a meta map from nlohmann's parser event by event: no tree is built, and nesting is bounded, because the
// parser recurses.
class MetaSax : public nlohmann::json_sax<json> {
 public:
  explicit MetaSax(Meta& meta) : m_meta(meta) {}
  bool complete() const { return m_ended && m_has_type; }

  bool null() override { return value_ignored(); }
  bool boolean(bool value) override {
    bool* flag = m_depth == 1 ? member(flags, m_meta, m_key) : nullptr;
    if (!flag) return value_ignored();
    *flag = value;
    return true;
  }
  bool number_integer(number_integer_t) override { return value_ignored(); }
  bool number_unsigned(number_unsigned_t value) override {
    if (m_depth != 1) return value_ignored();
    if (Millis* time = member(times, m_meta, m_key)) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2) return false;
      *time = Millis(static_cast<int64_t>(value));
    } else if (uint32_t* number = member(numbers, m_meta, m_key)) {
      if (value > std::numeric_limits<uint32_t>::max()) return false;
      *number = static_cast<uint32_t>(value);
    } else if (uint64_t* position = member(positions, m_meta, m_key)) {
      *position = value;
    } else {
      return value_ignored();
    }
    return true;
  }
  bool number_float(number_float_t, const string_t&) override { return value_ignored(); }
  bool string(string_t& value) override {
    if (m_depth == 2 && m_in_ids) {
      if (!is_ulid(value)) return false;
      m_meta.ids.push_back(std::move(value));
    } else if (m_depth != 1) {
      return value_ignored();
    } else if (m_key == key_type) {
      for (size_t i = 0; i < type_names.size(); ++i)
        if (value == type_names[i]) {
          m_meta.type = static_cast<RecordType>(i);
          m_has_type = true;
          return true;
        }
      return false;
    } else if (std::string* text = member(texts, m_meta, m_key)) {
      *text = std::move(value);
    } else {
      return value_ignored();
    }
    return true;
  }
  bool binary(binary_t&) override { return value_ignored(); }
  bool start_object(std::size_t) override {
    if (m_depth == 1 && known_key(m_key)) return false;
    return ++m_depth <= max_depth && !m_ended;
  }
  bool key(string_t& value) override {
    if (m_depth == 1) m_key = std::move(value);
    return true;
  }
  bool end_object() override {
    if (--m_depth == 0) m_ended = true;
    return true;
  }
  bool start_array(std::size_t) override {
    if (m_depth == 0) return false;  // a map, nothing else
    if (m_depth == 1) {
      m_in_ids = m_key == key_ids;
      if (!m_in_ids && known_key(m_key)) return false;
    }
    return ++m_depth <= max_depth;
  }
  bool end_array() override {
    if (--m_depth == 1) m_in_ids = false;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  static constexpr int max_depth = 8;

  // A value that means nothing here: fine under an unknown key, wrong under one of ours.
  bool value_ignored() const { return m_depth >= 1 && !m_in_ids && !(m_depth == 1 && known_key(m_key)); }

  Meta& m_meta;
  std::string m_key;
  int m_depth = 0;
  bool m_in_ids = false;
  bool m_has_type = false;
  bool m_ended = false;
};

// Writes a CBOR map of fewer than 24 pairs. (nlohmann's writer wants a tree first, which costs more than the rest of an append.)
class CborMap {
 public:
  explicit CborMap(std::string& out) : m_out(out) { m_out += static_cast<char>(map_type); }
  void text(std::string_view key, std::string_view value) {
    pair(key);
    item(text_type, value.size());
    m_out += value;
  }
  void number(std::string_view key, uint64_t value) {
    pair(key);
    item(unsigned_type, value);
  }
  void boolean(std::string_view key, bool value) {
    pair(key);
    m_out += static_cast<char>(value ? 0xf5 : 0xf4);
  }
  void texts(std::string_view key, const std::vector<std::string>& values) {
    pair(key);
    item(array_type, values.size());
    for (const auto& value : values) {
      item(text_type, value.size());
      m_out += value;
    }
  }

 private:
  // The major types of RFC 8949, section 3.1, shifted into place.
  static constexpr unsigned unsigned_type = 0x00, text_type = 0x60, array_type = 0x80, map_type = 0xa0;

  void pair(std::string_view key) {
    ++m_out[0];
    item(text_type, key.size());
    m_out += key;
  }
  void item(unsigned type, uint64_t value) {
    int bytes = value < 24 ? 0 : value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    unsigned extra = bytes == 0 ? static_cast<unsigned>(value) : bytes == 1 ? 24 : bytes == 2 ? 25 : bytes == 4 ? 26 : 27;
    m_out += static_cast<char>(type | extra);
    for (int i = bytes; i-- > 0;) m_out += static_cast<char>(value >> (8 * i));
  }

  std::string& m_out;
};

// Whether the members that the type needs are there and are what they should be.
bool fits(const Meta& m) {
  if (m.type == RecordType::claim) return !m.owner.empty() && !m.ids.empty();
  if (m.type == RecordType::copied) return !m.ids.empty();
  if (m.type == RecordType::peer) return is_node_name(m.node) && (m.store.empty() || is_ulid(m.store));
  if (m.type == RecordType::pause || m.type == RecordType::resume) return !function_name_problem(m.function);
  if (!is_ulid(m.id)) return false;
  switch (m.type) {
    case RecordType::add:
      return !function_name_problem(m.function) && m.priority <= low_priority && (m.key.empty() || !key_problem(m.key)) &&
             (m.serial.empty() || !key_problem(m.serial)) && (m.node.empty() || (is_node_name(m.node) && is_ulid(m.store)));
    case RecordType::state:
      return !function_name_problem(m.function) && is_node_name(m.node) && is_ulid(m.store) &&
             (m.state == "queued" || m.state == "dead" || m.state == "finished");
    case RecordType::start:
    case RecordType::fail:
    case RecordType::dead:
      return !m.owner.empty();
    default:
      return true;
  }
}

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

const char* priority_name(uint32_t priority) {
  static constexpr const char* names[] = {"high", "normal", "low"};
  return names[priority];
}

std::optional<std::string> key_problem(std::string_view text) {
  if (text.empty()) return "it is empty";
  if (text.size() > max_key_size) return "it is longer than " + std::to_string(max_key_size) + " bytes";
  if (printable(text, max_key_size) != text) return "it has control characters, or is not UTF-8";
  return std::nullopt;
}

const char* record_type_name(RecordType type) { return type_names[static_cast<size_t>(type)]; }

uint64_t sum64(std::string_view data, uint64_t seed) {
  return XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

std::string encode_record_head(const Meta& meta, uint64_t data_size, uint64_t data_sum) {
  std::string body;
  body.reserve(128);
  CborMap map(body);
  map.text(key_type, record_type_name(meta.type));
  static const Meta defaults;
  auto written = [&](const auto& field) { return meta.*field.member != defaults.*field.member; };
  for (const auto& f : texts)
    if (written(f)) map.text(f.key, meta.*f.member);
  for (const auto& f : times)
    if (written(f)) map.number(f.key, static_cast<uint64_t>((meta.*f.member).count()));
  for (const auto& f : numbers)
    if (written(f)) map.number(f.key, meta.*f.member);
  for (const auto& f : positions)
    if (written(f)) map.number(f.key, meta.*f.member);
  for (const auto& f : flags)
    if (written(f)) map.boolean(f.key, meta.*f.member);
  if (!meta.ids.empty()) map.texts(key_ids, meta.ids);
  if (body.size() > max_meta_size) throw Error(Exit::bug, "cannot write a record: its meta data is too long");

  std::string head;
  head.reserve(record_header_size + body.size() + (data_size > max_inline_data ? 0 : data_size));
  put_le<uint32_t>(head, record_magic);
  put_le<uint32_t>(head, static_cast<uint32_t>(body.size()));
  put_le<uint64_t>(head, data_size);
  put_le<uint64_t>(head, 0);
  put_le<uint64_t>(head, data_sum);
  head += body;
  std::string sum;
  put_le<uint64_t>(sum, head_sum_of(head));
  head.replace(16, 8, sum);
  return head;
}

std::string encode_record(const Meta& meta, std::string_view data) {
  std::string record = encode_record_head(meta, data.size(), sum64(data));
  record += data;
  return record;
}

std::optional<RecordSizes> peek_record(std::string_view header) {
  if (header.size() < record_header_size || get_le<uint32_t>(header, 0) != record_magic) return std::nullopt;
  uint32_t meta_size = get_le<uint32_t>(header, 4);
  uint64_t data_size = get_le<uint64_t>(header, 8);
  if (meta_size > max_meta_size || data_size > std::numeric_limits<int64_t>::max()) return std::nullopt;
  return RecordSizes{record_header_size + meta_size, data_size};
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
  MetaSax sax(head.meta);
  std::string_view body = head_bytes.substr(record_header_size);
  try {
    if (!json::sax_parse(body.begin(), body.end(), &sax, json::input_format_t::cbor) || !sax.complete() ||
        !fits(head.meta))
      return std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
  return head;
}

}  // namespace gq
