#include "table.hpp"

#include <fcntl.h>
#include <tchdb.h>

namespace gq {

Table::Table(const std::string& path) : m_db(tcbdbnew(), tcbdbdel) {
  // Small caches: a visit is short, and the memory of a worker must not grow with its queue. No mapping beyond the header.
  tcbdbsetcache(m_db.get(), 256, 64);
  tcbdbsetxmsiz(m_db.get(), 0);
  tcbdbtune(m_db.get(), 0, 0, 0, -1, -1, BDBTLARGE);
  if (!tcbdbopen(m_db.get(), path.c_str(), BDBOWRITER | BDBOCREAT | BDBONOLCK)) fail();
  m_open = true;
  ::fcntl(m_db->hdb->fd, F_SETFD, FD_CLOEXEC);
}

Table::~Table() {
  if (m_in_transaction) tcbdbtranabort(m_db.get());
  if (m_open) tcbdbclose(m_db.get());
}

void Table::fail() const { throw TableError(tcbdberrmsg(tcbdbecode(m_db.get()))); }

std::optional<std::string> Table::get(std::string_view key) {
  int size = 0;
  const void* value = tcbdbget3(m_db.get(), key.data(), static_cast<int>(key.size()), &size);
  if (!value) {
    if (tcbdbecode(m_db.get()) != TCENOREC && tcbdbecode(m_db.get()) != TCESUCCESS) fail();
    return std::nullopt;
  }
  return std::string(static_cast<const char*>(value), static_cast<size_t>(size));
}

void Table::put(std::string_view key, std::string_view value) {
  begin();
  const char* bytes = value.empty() ? "" : value.data();  // a null pointer ends the process
  if (!tcbdbput(m_db.get(), key.data(), static_cast<int>(key.size()), bytes, static_cast<int>(value.size())))
    fail();
}

void Table::remove(std::string_view key) {
  begin();
  if (!tcbdbout(m_db.get(), key.data(), static_cast<int>(key.size())) && tcbdbecode(m_db.get()) != TCENOREC) fail();
}

void Table::begin() {
  if (m_in_transaction) return;
  if (!tcbdbtranbegin(m_db.get())) fail();
  m_in_transaction = true;
}

void Table::commit() {
  if (!m_in_transaction) return;
  m_in_transaction = false;
  if (!tcbdbtrancommit(m_db.get())) fail();
}

void Table::close() {
  commit();
  m_open = false;
  if (!tcbdbclose(m_db.get())) fail();
}

Table::Cursor::Cursor(Table& table, std::string_view from) : m_cursor(tcbdbcurnew(table.m_db.get()), tcbdbcurdel) {
  seek(from);
}

void Table::Cursor::load() {
  int key_size = 0, value_size = 0;
  const void* key = m_valid ? tcbdbcurkey3(m_cursor.get(), &key_size) : nullptr;
  const void* value = key ? tcbdbcurval3(m_cursor.get(), &value_size) : nullptr;
  m_valid = value != nullptr;
  if (!m_valid) return;
  m_key = std::string_view(static_cast<const char*>(key), static_cast<size_t>(key_size));
  m_value = std::string_view(static_cast<const char*>(value), static_cast<size_t>(value_size));
}

void Table::Cursor::next() {
  m_valid = tcbdbcurnext(m_cursor.get());
  load();
}

void Table::Cursor::seek(std::string_view from) {
  m_valid = tcbdbcurjump(m_cursor.get(), from.data(), static_cast<int>(from.size()));
  load();
}

}  // namespace gq
