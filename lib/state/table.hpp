// An ordered table of byte strings, in which the fold keeps its data. There are two implementations: the file of an
// index (store/index_table.hpp), and a map in memory (map_table.hpp).
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace gq {

// Thrown if a table cannot be used, or has entries that no fold has written: the table has to be rebuilt.
struct TableError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Table {
 public:
  Table() = default;
  virtual ~Table() = default;
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  virtual std::optional<std::string> get(std::string_view key) = 0;
  virtual void put(std::string_view key, std::string_view value) = 0;
  virtual void remove(std::string_view key) = 0;

  // Commits all writes since the last commit. The commit is atomic.
  virtual void commit() = 0;

  // Walks keys in byte order. The table must not be written to meanwhile.
  class Cursor {
   public:
    Cursor() = default;
    virtual ~Cursor() = default;
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;
    bool valid() const { return m_valid; }
    // The key and the value at the cursor; valid until it moves.
    std::string_view key() const { return m_key; }
    std::string_view value() const { return m_value; }
    virtual void next() = 0;
    virtual void seek(std::string_view from) = 0;  // moves to the first key that is not less than `from`

   protected:
    bool m_valid = false;
    std::string_view m_key, m_value;
  };
  virtual std::unique_ptr<Cursor> walk(std::string_view from) = 0;
};

}  // namespace gq
