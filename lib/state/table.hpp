// An ordered table of byte strings: what the fold keeps what it knows in. It has two sides: an index's file
// (store/tokyo_table.hpp), and a map in memory (map_table.hpp).
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace gq {

// A table that cannot be used, or says what no fold has put there: only to make it anew helps.
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

  // What was written since the last commit is there as a whole from now on, or not at all.
  virtual void commit() = 0;

  // Walks keys in byte order. Meanwhile nothing is written to the table.
  class Cursor {
   public:
    Cursor() = default;
    virtual ~Cursor() = default;
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;
    bool valid() const { return m_valid; }
    // Of where it stands, until it moves.
    std::string_view key() const { return m_key; }
    std::string_view value() const { return m_value; }
    virtual void next() = 0;
    virtual void seek(std::string_view from) = 0;  // to the first key that is not less

   protected:
    bool m_valid = false;
    std::string_view m_key, m_value;
  };
  virtual std::unique_ptr<Cursor> walk(std::string_view from) = 0;
};

}  // namespace gq
