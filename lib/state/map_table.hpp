// A table in memory, for programs without a store: simulators and tests.
#pragma once

#include <map>

#include "gq/state/table.hpp"

namespace gq {

class MapTable final : public Table {
 public:
  using Map = std::map<std::string, std::string, std::less<>>;

  std::optional<std::string> get(std::string_view key) override {
    auto it = m_map.find(key);
    return it == m_map.end() ? std::nullopt : std::optional(it->second);
  }
  void put(std::string_view key, std::string_view value) override {
    auto it = m_map.lower_bound(key);
    if (it != m_map.end() && it->first == key) it->second = value;
    else m_map.emplace_hint(it, key, value);
  }
  void remove(std::string_view key) override {
    if (auto it = m_map.find(key); it != m_map.end()) m_map.erase(it);
  }
  void commit() override {}

  std::unique_ptr<Cursor> walk(std::string_view from) override { return std::make_unique<Walk>(m_map, from); }

  const Map& all() const { return m_map; }

 private:
  class Walk final : public Cursor {
   public:
    Walk(const Map& map, std::string_view from) : m_map(map) { stand(map.lower_bound(from)); }
    void next() override { stand(std::next(m_at)); }
    void seek(std::string_view from) override { stand(m_map.lower_bound(from)); }

   private:
    void stand(Map::const_iterator at) {
      m_at = at;
      m_valid = at != m_map.end();
      if (m_valid) m_key = at->first, m_value = at->second;
    }
    const Map& m_map;
    Map::const_iterator m_at;
  };
  Map m_map;
};

}  // namespace gq
