// The table of the index, as the index uses it. There are two implementations: Tokyo Cabinet's (tokyo_table.hpp), and
// that of a simulated disk (tests/disk).
//
// On a full disk a table throws TableFull; then the file is as it was after the last commit. Any other failure throws
// TableError; after that the file has to be removed. A commit survives the death of the process, but not a power cut.
#pragma once

#include <functional>
#include <memory>

#include "gq/base/directory.hpp"
#include "gq/base/error.hpp"
#include "gq/state/table.hpp"

namespace gq {

class TableFull : public Error {
 public:
  explicit TableFull(int error_number);
};

class IndexTable : public Table {
 public:
  enum class Use {
    write,  // the file is created if it is missing
    read,   // the file exists and is complete; it is opened again for the first write, so that it stays unchanged until
            // then
    temporary,  // a new file, unlinked at once so that a crash does not leave it; without transactions
  };
  // The number of keys, and the size of the file in bytes; both as of the last commit.
  virtual uint64_t count() const = 0;
  virtual uint64_t file_size() const = 0;

  // Commits and closes. Unlike the destructor, reports errors. Throws Error(storage) if a log cannot be removed.
  virtual void close() = 0;
};

// Opens a table in a file. With Use::read, `before_write` is called once, before the first write.
using OpenTable = std::function<std::unique_ptr<IndexTable>(const Directory& directory, const std::string& name,
                                                            IndexTable::Use use, std::function<void()> before_write)>;
std::unique_ptr<IndexTable> open_table(const Directory& directory, const std::string& name, IndexTable::Use use,
                                       std::function<void()> before_write = {});

// Replaces the tables, as use_disk() replaces the disk below them; empty: Tokyo Cabinet's.
void use_tables(OpenTable other);

}  // namespace gq
