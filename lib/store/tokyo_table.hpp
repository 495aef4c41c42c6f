// A table in one file. It is the part of Tokyo Cabinet's B+ tree that the index needs.
//
// The surprising facts: the library's own fcntl lock vanishes when the process closes any descriptor of the file, and
// the library opens files without O_CLOEXEC. The library also caches the file's header, so after another process has
// changed the file, the file has to be opened again. So a TokyoTable is opened for one visit, under a lock of gq, and
// closed again. The library is slow at jumps between distant keys, so a TokyoTable gathers writes, and makes them in
// the order of their keys when a walk begins and at commit. If the library cannot unlink its log, its close crashes, so
// gq unlinks the log first.
#pragma once

#include <tcbdb.h>

#include <functional>
#include <map>
#include <memory_resource>

#include "gq/store/index_table.hpp"

namespace gq {

class TokyoTable final : public IndexTable {
 public:
  TokyoTable(const Directory& directory, const std::string& name, Use use = Use::write,
             std::function<void()> before_write = {});
  ~TokyoTable() override;  // closes the table; a transaction that was not committed is rolled back

  std::optional<std::string> get(std::string_view key) override;
  void put(std::string_view key, std::string_view value) override;
  void remove(std::string_view key) override;
  void commit() override;
  std::unique_ptr<Cursor> walk(std::string_view from) override;

  // Returns the version of the Tokyo Cabinet that is linked.
  static const char* version();

  uint64_t count() const override;
  uint64_t file_size() const override;
  void close() override;

 private:
  class Walk;
  [[noreturn]] void fail();
  [[noreturn]] void refuse(const std::string& why) const;
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
  int m_full = 0;  // if the disk was full: the errno; then the table is closed
  bool m_open = false;
  bool m_in_transaction = false;
  // The writes that are still to be made; nullopt for a removal. The arena holds the bytes until they are written.
  std::pmr::monotonic_buffer_resource m_arena;
  std::pmr::map<std::string_view, std::optional<std::string_view>> m_writes{&m_arena};
  std::string_view keep(std::string_view bytes);
  void write(std::string_view key, std::optional<std::string_view> value);
};

}  // namespace gq
