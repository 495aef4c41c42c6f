// Writes and reads the part of CBOR (RFC 8949) that records need: maps with text keys, definite lengths and no tags.
// (nlohmann's CBOR builds a tree before it writes, and reads byte by byte: this was most of the work of queueing a
// job.)
//
// A struct is written as a map and read from a map. For this it has a static function fields(self, visit), which calls
// visit(key, member) for each member in the order of the bytes. If a member's default is not T(), the function passes
// the default as a third argument. A member that has its default is not written. The reader skips unknown keys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/clock.hpp"

namespace gq {

// The major types of RFC 8949, section 3.1, shifted into place.
enum CborType : unsigned {
  cbor_unsigned = 0x00,
  cbor_bytes = 0x40,
  cbor_text = 0x60,
  cbor_array = 0x80,
  cbor_map = 0xa0,
  cbor_tag = 0xc0,
  cbor_simple = 0xe0
};
inline constexpr uint64_t cbor_false = 20, cbor_true = 21;

// Writes a map of fewer than 256 pairs.
class CborMap {
 public:
  explicit CborMap(std::string& out) : m_out(out), m_start(out.size()) { m_out += static_cast<char>(cbor_map); }
  // Call this after the last pair: it writes the number of pairs.
  void finish() {
    if (m_pairs >= 24) m_out.insert(m_start + 1, 1, static_cast<char>(m_pairs));
    m_out[m_start] = static_cast<char>(cbor_map | std::min(m_pairs, 24u));
  }
  template <typename T>
  void put(std::string_view key, const T& value) {
    ++m_pairs;
    write(key);
    write(value);
  }

 private:
  void write(std::string_view value) {
    item(cbor_text, value.size());
    m_out += value;
  }
  void write(const std::string& value) { write(std::string_view(value)); }
  void write(uint64_t value) { item(cbor_unsigned, value); }
  void write(uint32_t value) { item(cbor_unsigned, value); }
  void write(Millis value) { item(cbor_unsigned, static_cast<uint64_t>(value.count())); }
  void write(bool value) { item(cbor_simple, value ? cbor_true : cbor_false); }
  void write(const std::vector<std::string>& values) {
    item(cbor_array, values.size());
    for (const auto& value : values) write(value);
  }
  void item(unsigned type, uint64_t value) {
    int bytes = value < 24 ? 0 : value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    unsigned extra = bytes == 0   ? static_cast<unsigned>(value)
                     : bytes == 1 ? 24
                     : bytes == 2 ? 25
                     : bytes == 4 ? 26
                                  : 27;
    m_out += static_cast<char>(type | extra);
    for (int i = bytes; i-- > 0;) m_out += static_cast<char>(value >> (8 * i));
  }

  std::string& m_out;
  size_t m_start;
  unsigned m_pairs = 0;
};

// Reads what CborMap writes, and skips anything else of definite length without tags.
class CborReader {
 public:
  struct Item {
    unsigned type;
    uint64_t value;         // a number, or the number of items that follow (in a map: of pairs)
    std::string_view text;  // the content of a text or of a byte string
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

  // Skips the items of an array or a map. Returns false if they are incomplete or nested too deep.
  bool skip_contents(const Item& item, int depth = 8) {
    if (item.type != cbor_array && item.type != cbor_map) return true;
    if (depth == 0 || item.value > m_in.size()) return false;
    for (uint64_t n = item.type == cbor_map ? 2 * item.value : item.value; n > 0; --n) {
      auto inner = next();
      if (!inner || !skip_contents(*inner, depth - 1)) return false;
    }
    return true;
  }

  // Calls visit(key, value) for each pair of a map; if the value is an array or a map, visit must consume its items.
  // Returns false if visit does, or if the input is not exactly one map.
  template <typename Visit>
  bool pairs(Visit visit) {
    auto map = next();
    if (!map || map->type != cbor_map) return false;
    for (uint64_t n = map->value; n > 0; --n) {
      auto key = next();
      auto value = key && key->type == cbor_text ? next() : std::nullopt;
      if (!value || !visit(key->text, *value)) return false;
    }
    return at_end();
  }

  // Stores the value of an item in `value`. Returns false if the item has another type.
  bool read(const Item& item, std::string& value) {
    value = item.text;
    return item.type == cbor_text;
  }
  bool read(const Item& item, uint64_t& value) {
    value = item.value;
    return item.type == cbor_unsigned;
  }
  bool read(const Item& item, uint32_t& value) {
    value = static_cast<uint32_t>(item.value);
    return item.type == cbor_unsigned && item.value <= std::numeric_limits<uint32_t>::max();
  }
  bool read(const Item& item, Millis& value) {
    value = Millis(static_cast<int64_t>(item.value));
    return item.type == cbor_unsigned && item.value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2;
  }
  bool read(const Item& item, bool& value) {
    value = item.value == cbor_true;
    return item.type == cbor_simple && (item.value == cbor_true || item.value == cbor_false);
  }
  bool read(const Item& item, std::vector<std::string>& values) {
    if (item.type != cbor_array) return false;
    for (uint64_t n = item.value; n > 0; --n) {
      auto inner = next();
      if (!inner || inner->type != cbor_text) return false;
      values.emplace_back(inner->text);
    }
    return true;
  }

 private:
  std::string_view m_in;
};

template <typename T>
void write_fields(CborMap& map, const T& from) {
  T::fields(from, [&]<typename Member>(std::string_view key, const Member& member, const Member& usual = Member()) {
    if (member != usual) map.put(key, member);
  });
}

// Returns false if the bytes are not a map, or if a field has the wrong type.
template <typename T>
bool read_fields(std::string_view bytes, T& into) {
  CborReader in(bytes);
  return in.pairs([&](std::string_view key, const CborReader::Item& value) {
    bool known = false, good = false;
    T::fields(into, [&](std::string_view name, auto& member, auto...) {
      if (!known && name == key) known = true, good = in.read(value, member);
    });
    return known ? good : in.skip_contents(value);
  });
}

}  // namespace gq
