#include "record.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <limits>

#include "bytes.hpp"
#include "error.hpp"
#include "text.hpp"
#include "ulid.hpp"

namespace gq {
namespace {

constexpr uint32_t record_magic = 0x31525147;  // "GQR1"
constexpr std::array<const char*, 18> type_names = {"add",    "claim",  "start", "done", "fail",    "dead",   "kick",   "drop", "pause",
                                                    "resume", "copied", "state", "peer", "keep", "release", "forget", "stream", "end"};

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
                                        {"from", &Meta::from}, {"fstore", &Meta::from_store}, {"state", &Meta::state},
                                        {"src", &Meta::source}};
constexpr Field<Millis> times[] = {{"at", &Meta::at}, {"due", &Meta::due}, {"window", &Meta::window}};
constexpr Field<uint32_t> numbers[] = {{"n", &Meta::start}, {"prio", &Meta::priority}, {"max", &Meta::max_attempts},
                                       {"copies", &Meta::copies}, {"term", &Meta::term}, {"v", &Meta::version},
                                       {"failures", &Meta::failures}, {"crashes", &Meta::crashes}, {"exit", &Meta::exit},
                                       {"sig", &Meta::signal}, {"tries", &Meta::attempts}};
constexpr Field<uint64_t> positions[] = {{"lsn", &Meta::position}, {"since", &Meta::since}, {"off", &Meta::offset}, {"len", &Meta::length}, {"sum", &Meta::sum}};
constexpr Field<bool> flags[] = {{"given", &Meta::given}, {"spent", &Meta::spent}, {"once", &Meta::once}, {"enough", &Meta::enough}, {"keep", &Meta::keep},
                                  {"dropped", &Meta::dropped}};

template <typename T, size_t N>
T* member(const Field<T> (&fields)[N], Meta& meta, std::string_view key) {
  for (const auto& f : fields)
    if (key == f.key) return &(meta.*f.member);
  return nullptr;
}

// The major types of RFC 8949, section 3.1, shifted into place.
enum CborType : unsigned { cbor_unsigned = 0x00, cbor_bytes = 0x40, cbor_text = 0x60, cbor_array = 0x80, cbor_map = 0xa0, cbor_tag = 0xc0, cbor_simple = 0xe0 };
constexpr uint64_t cbor_false = 20, cbor_true = 21;

// Writes a map of fewer than 256 pairs. (nlohmann's CBOR wants a tree to write, and reads byte by byte: both were most of the
// work of queueing a job.)
class CborMap {
 public:
  explicit CborMap(std::string& out) : m_out(out), m_start(out.size()) { m_out += static_cast<char>(cbor_map); }
  // After the last pair: how many there are.
  void finish() {
    if (m_pairs >= 24) m_out.insert(m_start + 1, 1, static_cast<char>(m_pairs));
    m_out[m_start] = static_cast<char>(cbor_map | std::min(m_pairs, 24u));
  }
  void text(std::string_view key, std::string_view value) {
    pair(key);
    string(value);
  }
  void number(std::string_view key, uint64_t value) {
    pair(key);
    item(cbor_unsigned, value);
  }
  void boolean(std::string_view key, bool value) {
    pair(key);
    item(cbor_simple, value ? cbor_true : cbor_false);
  }
  void texts(std::string_view key, const std::vector<std::string>& values) {
    pair(key);
    item(cbor_array, values.size());
    for (const auto& value : values) string(value);
  }

 private:
  void pair(std::string_view key) {
    ++m_pairs;
    string(key);
  }
  void string(std::string_view value) {
    item(cbor_text, value.size());
    m_out += value;
  }
  void item(unsigned type, uint64_t value) {
    int bytes = value < 24 ? 0 : value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    unsigned extra = bytes == 0 ? static_cast<unsigned>(value) : bytes == 1 ? 24 : bytes == 2 ? 25 : bytes == 4 ? 26 : 27;
    m_out += static_cast<char>(type | extra);
    for (int i = bytes; i-- > 0;) m_out += static_cast<char>(value >> (8 * i));
  }

  std::string& m_out;
  size_t m_start;
  unsigned m_pairs = 0;
};

// Reads what CborMap writes, and steps over anything else of definite length without tags.
class CborReader {
 public:
  struct Item {
    unsigned type;
    uint64_t value;         // a number, or how many items (of a map: pairs) follow
    std::string_view text;  // of a text, or of bytes
  };

  explicit CborReader(std::string_view in) : m_in(in) {}
  bool at_end() const { return m_in.empty(); }

  std::optional<Item> next() {
    if (m_in.empty()) return std::nullopt;
    unsigned first = static_cast<unsigned char>(m_in[0]);
    m_in.remove_prefix(1);
    Item item{first & 0xe0, first & 0x1f, {}};
    if (item.value > 27 || item.type == cbor_tag) return std::nullopt;
    if (item.value >= 24) {
      size_t bytes = size_t{1} << (item.value - 24);
      if (bytes > m_in.size()) return std::nullopt;
      item.value = 0;
      for (size_t i = 0; i < bytes; ++i) item.value = item.value << 8 | static_cast<unsigned char>(m_in[i]);
      m_in.remove_prefix(bytes);
    }
    if (item.type == cbor_text || item.type == cbor_bytes) {
      if (item.value > m_in.size()) return std::nullopt;
      item.text = m_in.substr(0, item.value);
      m_in.remove_prefix(item.value);
    }
    return item;
  }

  // Steps over what follows an array or a map; false where that is not whole or nested too deep.
  bool skip_contents(const Item& item, int depth = 8) {
    if (item.type != cbor_array && item.type != cbor_map) return true;
    if (depth == 0 || item.value > m_in.size()) return false;
    for (uint64_t n = item.type == cbor_map ? 2 * item.value : item.value; n > 0; --n) {
      auto inner = next();
      if (!inner || !skip_contents(*inner, depth - 1)) return false;
    }
    return true;
  }

 private:
  std::string_view m_in;
};

bool read_meta(std::string_view body, Meta& meta) {
  CborReader in(body);
  auto map = in.next();
  if (!map || map->type != cbor_map) return false;
  bool has_type = false;
  for (uint64_t n = map->value; n > 0; --n) {
    auto key = in.next();
    auto value = key && key->type == cbor_text ? in.next() : std::nullopt;
    if (!value) return false;
    if (key->text == key_type) {
      auto name = std::find(type_names.begin(), type_names.end(), value->text);
      if (value->type != cbor_text || name == type_names.end()) return false;
      meta.type = static_cast<RecordType>(name - type_names.begin());
      has_type = true;
    } else if (key->text == key_ids) {
      if (value->type != cbor_array || value->value > body.size()) return false;
      for (uint64_t i = value->value; i > 0; --i) {
        auto id = in.next();
        if (!id || id->type != cbor_text || !is_ulid(id->text)) return false;
        meta.ids.emplace_back(id->text);
      }
    } else if (std::string* text = member(texts, meta, key->text)) {
      if (value->type != cbor_text) return false;
      *text = value->text;
    } else if (Millis* time = member(times, meta, key->text)) {
      if (value->type != cbor_unsigned || value->value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2) return false;
      *time = Millis(static_cast<int64_t>(value->value));
    } else if (uint32_t* number = member(numbers, meta, key->text)) {
      if (value->type != cbor_unsigned || value->value > std::numeric_limits<uint32_t>::max()) return false;
      *number = static_cast<uint32_t>(value->value);
    } else if (uint64_t* position = member(positions, meta, key->text)) {
      if (value->type != cbor_unsigned) return false;
      *position = value->value;
    } else if (bool* flag = member(flags, meta, key->text)) {
      if (value->type != cbor_simple || (value->value != cbor_true && value->value != cbor_false)) return false;
      *flag = value->value == cbor_true;
    } else if (!in.skip_contents(*value)) {
      return false;
    }
  }
  return has_type && in.at_end();
}

// Whether the members that the type needs are there and are what they should be.
bool fits(const Meta& m) {
  if (m.type == RecordType::claim) return !m.owner.empty() && !m.ids.empty();
  if (m.type == RecordType::copied) return !m.ids.empty();
  if (m.type == RecordType::forget || m.type == RecordType::stream || m.type == RecordType::end) return true;
  if (m.type == RecordType::peer) return is_node_name(m.node) && (m.store.empty() || is_ulid(m.store));
  if (m.type == RecordType::pause || m.type == RecordType::resume) return !function_name_problem(m.function);
  if (!is_ulid(m.id)) return false;
  switch (m.type) {
    case RecordType::add:
      return !function_name_problem(m.function) && m.priority <= low_priority && (m.key.empty() || !key_problem(m.key)) &&
             (m.serial.empty() || !key_problem(m.serial)) && (m.node.empty() || (is_node_name(m.node) && is_ulid(m.store))) &&
             (m.source.empty() || is_ulid(m.source));
    case RecordType::state:
      return !function_name_problem(m.function) && (m.node.empty() ? m.store.empty() : is_node_name(m.node) && is_ulid(m.store)) &&
             (m.state == "queued" || m.state == "dead" || m.state == "kept" || m.state == "finished");
    case RecordType::start:
    case RecordType::fail:
    case RecordType::dead:
      return !m.owner.empty();
    default:
      return true;
  }
}

// Members that do not count are as if they had not been there: so what is written of what was read, with what a node adds to it, is never
// too long, whoever made it.
void leave_out(Meta& m) {
  if (m.type == RecordType::add) {
    for (std::string* text : {&m.owner, &m.why, &m.peers, &m.from, &m.from_store, &m.state})
      if (!text->empty()) text->clear();
    m.start = m.signal = m.attempts = m.term = m.version = m.failures = m.crashes = 0;
    m.exit = no_exit;
    m.spent = true;
    m.dropped = m.keep = m.enough = false;
    m.position = m.since = 0;
    m.ids.clear();
  } else if (m.type == RecordType::state) {
    for (std::string* text : {&m.owner, &m.key, &m.serial, &m.peers, &m.source})
      if (!text->empty()) text->clear();
    m.ids.clear();
    limit_reason(m.why);
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
  if (has_control(text) || !is_utf8(text)) return "it has control characters, or is not UTF-8";
  return std::nullopt;
}

void limit_reason(std::string& text) {
  if (text.size() <= max_reason_size) return;
  size_t size = max_reason_size;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;  // not within a character
  text.resize(size);
}

const char* record_type_name(RecordType type) { return type_names[static_cast<size_t>(type)]; }

uint64_t sum64(std::string_view data, uint64_t seed) {
  return XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

std::string encode_record_head(const Meta& meta, uint64_t data_size, uint64_t data_sum) {
  std::string head;
  head.reserve(record_header_size + 224 + (data_size > max_inline_data ? 0 : data_size));
  put_le<uint32_t>(head, record_magic);
  put_le<uint32_t>(head, 0);
  put_le<uint64_t>(head, data_size);
  put_le<uint64_t>(head, 0);
  put_le<uint64_t>(head, data_sum);
  CborMap map(head);
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
  map.finish();
  size_t size = head.size() - record_header_size;
  if (size > max_meta_size) throw Error(Exit::bug, "cannot write a record: its meta data is too long");
  auto set = [&](size_t at, auto value) {
    std::string bytes;
    put_le<decltype(value)>(bytes, value);
    head.replace(at, bytes.size(), bytes);
  };
  set(4, static_cast<uint32_t>(size));
  set(16, head_sum_of(head));
  return head;
}

Meta meta_now(RecordType type, const std::string& id) {
  Meta meta;
  meta.type = type;
  meta.id = id;
  meta.at = now_ms();
  return meta;
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
  if (!read_meta(head_bytes.substr(record_header_size), head.meta) || !fits(head.meta)) return std::nullopt;
  leave_out(head.meta);
  if (!head.meta.source.empty() && head.data_size > 0) return std::nullopt;
  return head;
}

}  // namespace gq
