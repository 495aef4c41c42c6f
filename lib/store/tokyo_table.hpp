// A table in one file: Tokyo Cabinet's B+ tree, as much of it as the index needs.
//
// The surprising facts: the library's own fcntl lock vanishes when the process closes any descriptor of the file, and
// the library opens files without O_CLOEXEC. It caches the file's header, so a file that another process changed has to
// be opened again. So a TokyoTable is opened for one visit under a lock of ours, and closed again. The library is slow
// at jumps between distant keys, so writes are gathered, and made in the order of their keys when a walk begins and at
// commit. A full disk throws TableFull; the file is then as it was after the last commit. Any other failure throws
// TableError; after that only the removal of the file helps. If the library cannot unlink its log, its close crashes,
// so the log is unlinked here first.
#pragma once

#include <tcbdb.h>

#include <functional>
#include <map>
#include <memory_resource>

#include "gq/base/directory.hpp"
#include "gq/base/error.hpp"
#include "gq/state/table.hpp"

namespace gq {

class TableFull : public Error {
 public:
  explicit TableFull(int error_number);
};

class TokyoTable final : public Table {
 public:
  enum class Use {
    write,  // the file is created if it is missing
    read,  // the file is there and whole; it is opened again for the first write, so that it stays unchanged until then
    temporary,  // a new file, unlinked at once so that no crash leaves it; without transactions
  };
  // With Use::read, `before_write` is called once, before the first write.
  TokyoTable(const Directory& directory, const std::string& name, Use use = Use::write,
             std::function<void()> before_write = {});
  ~TokyoTable() override;  // closes; a transaction that was not committed is undone

  std::optional<std::string> get(std::string_view key) override;
  void put(std::string_view key, std::string_view value) override;
  void remove(std::string_view key) override;
  // Commits in one transaction. It survives the death of the process, but not a power cut.
  void commit() override;
  std::unique_ptr<Cursor> walk(std::string_view from) override;

  // The version of the Tokyo Cabinet that is linked.
  static const char* version();

  // How many keys there are, and the size of the file in bytes; as of the last commit.
  uint64_t count() const;
  uint64_t file_size() const;

  // Commits and closes, and reports errors that the destructor would hide. Throws Error(storage) if the log cannot be
  // removed.
  void close();

 private:
  class Walk;
  [[noreturn]] void fail();
  bool undo();
  void close_unchanged();
  void check_missing();
  void forget_error();
  bool prepare();
  void open(int mode);
  void become_writable();
  void begin();
  void flush();
  bool remove_log();
  bool close_file();
  std::unique_ptr<TCBDB, void (*)(TCBDB*)> m_db;
  const Directory m_directory;
  const std::string m_name, m_log;
  Use m_use;
  std::function<void()> m_before_write;
  size_t m_cursors = 0;
  int m_full = 0;  // the errno, once the disk was full; the table is closed then
  bool m_open = false;
  bool m_in_transaction = false;
  // What is to be written, nullopt for a removal. The arena holds the bytes until they are written.
  std::pmr::monotonic_buffer_resource m_arena;
  std::pmr::map<std::string_view, std::optional<std::string_view>> m_writes{&m_arena};
  std::string_view keep(std::string_view bytes);
  void write(std::string_view key, std::optional<std::string_view> value);
};

}  // namespace gq
