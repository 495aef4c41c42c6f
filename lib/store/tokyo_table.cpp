#include "gq/store/tokyo_table.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <tchdb.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "gq/base/bytes.hpp"
#include "gq/base/fd.hpp"

namespace {

// The errno of the first I/O error that the library has had in this thread, or 0. The library does not always report an
// error: it may treat a page that it could not read as an empty page, and a page that it could not write on a full disk
// as written.
thread_local int io_error = 0;
// Set while the library closes a table. Then failures are hidden from it: it would note a failure in memory that it has
// already unmapped, and crash.
thread_local bool closing = false;
// The log of the transaction, and the bytes that the library could not write to the log. (The library changes the
// mapped part of the file even if it could not write the log.)
thread_local int log_fd = -1;
thread_local std::string unlogged;

void check_io(bool failed) {
  if (failed && errno != EINTR && io_error == 0) io_error = errno;
}

// Whether a call that changes a file must fail because an earlier call has failed. The library continues after a failed
// write, and its later writes could not be rolled back.
bool must_fail() {
  if (io_error == 0 || closing) return false;
  errno = io_error;
  return true;
}

}  // namespace

// The copy of Tokyo Cabinet calls these functions instead of those of the C library.
extern "C" {
ssize_t gq_libtokyocabinet_pread64(int fd, void* data, size_t size, off64_t offset) {
  ssize_t n = ::pread64(fd, data, size, offset);
  check_io(n < 0);
  return n;
}
ssize_t gq_libtokyocabinet_pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  if (must_fail()) return -1;
  ssize_t n = ::pwrite64(fd, data, size, offset);
  check_io(n < 0);
  return n;
}
ssize_t gq_libtokyocabinet_write(int fd, const void* data, size_t size) {
  ssize_t n = must_fail() ? -1 : ::write(fd, data, size);
  check_io(n < 0);
  if (n < 0 && errno != EINTR && fd == log_fd) unlogged.append(static_cast<const char*>(data), size);
  return n;
}
int gq_libtokyocabinet_ftruncate64(int fd, off64_t size) noexcept {
  if (must_fail()) return -1;
  int result = ::ftruncate64(fd, size);
  check_io(result < 0);
  return closing ? 0 : result;
}
// Does nothing. The library calls it about 20 times for each job. On a busy machine, all users of the index would wait
// for a process that gives up the CPU while it holds index.lock.
int gq_libtokyocabinet_sched_yield() noexcept { return 0; }
}

namespace gq {

TokyoTable::TokyoTable(const Directory& directory, const std::string& name, Use use, std::function<void()> before_write)
    : m_db(tcbdbnew(), tcbdbdel),
      m_directory(directory),
      m_name(name),
      m_log(name + ".wal"),
      m_use(use),
      m_before_write(std::move(before_write)) {
  // The caches hold the pages that a chunk of the fold uses (about 400 leaves). They are small enough that a worker's
  // memory does not grow with its queue. Only the header is mapped.
  tcbdbsetcache(m_db.get(), 1024, 512);
  tcbdbsetxmsiz(m_db.get(), 0);
  tcbdbtune(m_db.get(), 0, 0, 0, -1, -1, BDBTLARGE);
  open(use == Use::read ? BDBOREADER : use == Use::write ? BDBOWRITER | BDBOCREAT : BDBOWRITER | BDBOCREAT | BDBOTRUNC);
  if (use == Use::temporary) m_directory.remove(m_name);
}

// Checks the file, or creates it, before the library opens it, because the library opens by path, follows links, and
// creates files that all users can read. Only this user can write to the directory, so the file cannot be replaced in
// between.
bool TokyoTable::prepare() {
  for (const auto& name : {m_name, m_log})
    if (!m_directory.try_open(name, O_RDONLY) && errno != ENOENT)
      refuse(name + " cannot be opened, or is a link, not a regular file, or another user's");
  if (m_use == Use::read || m_directory.has(m_name)) return false;
  if (m_directory.try_open(m_name, O_RDWR | O_CREAT | O_EXCL)) return true;
  if (is_disk_full(errno)) throw TableFull(errno);
  refuse("cannot create it: " + errno_text(errno));
}

void TokyoTable::open(int mode) {
  const bool is_new = prepare();
  io_error = 0;
  const bool opened = tcbdbopen(m_db.get(), m_directory.reach(m_name).c_str(), mode | BDBONOLCK);
  if (!opened || io_error != 0) {
    if (opened) close_unchanged();
    if (is_new) m_directory.remove(m_name);
    fail();
  }
  m_open = true;
  if (!m_directory.is(m_db->hdb->fd, m_name)) refuse("it is another file than it was");
  ::fcntl(m_db->hdb->fd, F_SETFD, FD_CLOEXEC);
}

// Opens the table again, for writing. There must be no cursor.
void TokyoTable::become_writable() {
  if (m_cursors > 0) throw TableError("it is to be written while it is read");
  m_before_write();
  m_open = false;
  if (!tcbdbclose(m_db.get())) fail();
  open(BDBOWRITER);
  m_use = Use::write;
}

TokyoTable::~TokyoTable() {
  if (m_in_transaction) tcbdbtranabort(m_db.get());
  if (m_open && !remove_log()) (void)m_db.release();
  else if (m_open) close_file();
}

bool TokyoTable::close_file() {
  closing = true;
  bool good = tcbdbclose(m_db.get()) && io_error == 0;
  closing = false;
  return good;
}

// Call it outside a transaction, before a close. If it returns false, the table must not be closed; the caller leaks
// it. (Then this process cannot open the table again, because the library remembers its path. So a temporary failure
// must not have this result.)
bool TokyoTable::remove_log() {
  for (int tries = 0; tries < 3; ++tries)
    if (m_directory.remove(m_log) || errno == ENOENT) return true;
  return false;
}

void TokyoTable::fail() {
  const std::string why = io_error != 0 ? "it cannot be read or written" : tcbdberrmsg(tcbdbecode(m_db.get()));
  if (m_use == Use::temporary) refuse(why);
  if (m_full == 0 && is_disk_full(io_error) && (!m_in_transaction || undo())) {
    m_full = io_error;
    if (m_open) {
      remove_log();
      close_unchanged();
    }
    m_open = m_in_transaction = false;
    m_writes.clear();
    m_arena.release();
  }
  if (m_full != 0) throw TableFull(m_full);
  refuse(why);
}

// An index that cannot be used is rebuilt; a temporary table is only reported.
void TokyoTable::refuse(const std::string& why) const {
  if (m_use == Use::temporary) throw Error(Exit::storage, "cannot use a temporary table: " + why);
  throw TableError(why);
}

// Rolls the file back to its state before the transaction. The log begins with the old size of the file (u64). Then it
// has the old bytes of each place that was written: {place u64, length u32, bytes}. The log continues in `unlogged`. Of
// each entry, only the bytes up to the last changed one are written back. There the failed transaction has already
// allocated blocks, so the rollback needs no room on a full disk. A write that failed may have left a hole; it reads as
// zeros, as the old bytes did, and is not written. gq rolls back itself, because the library gives up if the last entry
// is incomplete, as it is on a full disk.
bool TokyoTable::undo() try {
  const int fd = m_db->hdb->fd;
  const uint64_t old_size = m_db->hdb->walend;
  std::string log(gq::file_size(log_fd), '\0');
  log.resize(read_at(log_fd, log.data(), log.size(), 0));
  const uint64_t in_file = log.size();
  log += std::exchange(unlogged, {});
  constexpr uint64_t size_bytes = 8, head_bytes = 12;
  if (log.size() < size_bytes) return false;
  // The library's numbers have the byte order that it was built for. Debian's copy has big-endian ones on all machines.
  const bool big = get_be64(log, 0) == old_size;
  if (!big && get_le<uint64_t>(log, 0) != old_size) return false;
  struct Entry {
    uint64_t place, at;
    uint32_t length;
  };
  std::vector<Entry> entries;
  uint64_t whole = size_bytes;
  for (uint64_t at = size_bytes; at < log.size();) {
    if (log.size() - at < head_bytes) return false;
    const uint64_t place = big ? get_be64(log, at) : get_le<uint64_t>(log, at);
    const auto length = big ? static_cast<uint32_t>(get_be64(log, at + 4)) : get_le<uint32_t>(log, at + 8);
    at += head_bytes;
    if (log.size() - at < length) return false;
    entries.push_back({place, at, length});
    at += length;
    // Only complete entries stay in the log: if this process crashes, another process finds the log and lets the
    // library roll back.
    if (at <= in_file) whole = at;
  }
  if (::ftruncate(log_fd, static_cast<off_t>(whole)) != 0) return false;
  std::string now;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    std::string_view bytes = std::string_view(log).substr(entry->at, entry->length);
    now.resize(bytes.size());
    now.resize(read_at(fd, now.data(), now.size(), entry->place));
    while (!bytes.empty() && bytes.size() <= now.size() && bytes.back() == now[bytes.size() - 1])
      bytes.remove_suffix(1);
    write_all_at(fd, bytes, entry->place, m_name);
  }
  return ::ftruncate(fd, static_cast<off_t>(old_size)) == 0;
} catch (const Error&) {
  return false;
}

// Closes the table as if it had only been read, so that the library writes nothing.
void TokyoTable::close_unchanged() {
  TCHDB* file = m_db->hdb;
  m_db->wmode = false;
  file->omode &= ~static_cast<uint32_t>(HDBOWRITER);
  file->tran = false;
  tcfree(std::exchange(file->fbpool, nullptr));
  close_file();
}

std::optional<std::string> TokyoTable::get(std::string_view key) {
  if (auto it = m_writes.find(key); it != m_writes.end()) return std::optional<std::string>(it->second);
  forget_error();
  int size = 0;
  const void* value = tcbdbget3(m_db.get(), key.data(), static_cast<int>(key.size()), &size);
  if (!value || io_error != 0) {
    check_missing();
    return std::nullopt;
  }
  return std::string(static_cast<const char*>(value), static_cast<size_t>(size));
}

const char* TokyoTable::version() { return tcversion; }

uint64_t TokyoTable::count() const { return tcbdbrnum(m_db.get()); }

uint64_t TokyoTable::file_size() const { return tcbdbfsiz(m_db.get()); }

std::string_view TokyoTable::keep(std::string_view bytes) {
  char* kept = static_cast<char*>(m_arena.allocate(bytes.size(), 1));
  std::copy(bytes.begin(), bytes.end(), kept);
  return {kept, bytes.size()};
}

void TokyoTable::write(std::string_view key, std::optional<std::string_view> value) {
  auto it = m_writes.lower_bound(key);
  if (it == m_writes.end() || it->first != key) it = m_writes.emplace_hint(it, keep(key), std::nullopt);
  it->second = value ? std::optional(keep(*value)) : std::nullopt;
}

void TokyoTable::put(std::string_view key, std::string_view value) { write(key, value); }

void TokyoTable::remove(std::string_view key) { write(key, std::nullopt); }

// Call it after a call of the library has failed. Throws unless the only reason is that the key does not exist: after
// any other error, the library's view of the file cannot be trusted. For some failures the library sets no error, and
// an older error stays; so call forget_error() before each call of the library.
void TokyoTable::check_missing() {
  if (io_error != 0 || tcbdbecode(m_db.get()) != TCENOREC) fail();
}

void TokyoTable::forget_error() { tcbdbsetecode(m_db.get(), TCESUCCESS, __FILE__, __LINE__, __func__); }

void TokyoTable::begin() {
  // Create the log here, as prepare() creates the table: the library would create it readable for all users.
  if (!m_directory.try_open(m_log, O_RDWR | O_CREAT)) check_io(true);
  if (io_error != 0 || !tcbdbtranbegin(m_db.get())) fail();
  log_fd = m_db->hdb->walfd;
  unlogged.clear();
}

void TokyoTable::flush() {
  if (m_writes.empty()) return;
  if (m_full != 0) fail();
  if (m_use == Use::read) become_writable();
  if (m_use != Use::temporary) {
    if (!m_in_transaction) begin();
    m_in_transaction = true;
  }
  for (const auto& [key, value] : m_writes) {
    forget_error();
    int size = static_cast<int>(key.size());
    if (value) {
      if (!tcbdbput(m_db.get(), key.data(), size, value->data(), static_cast<int>(value->size())) || io_error != 0)
        fail();
    } else if (!tcbdbout(m_db.get(), key.data(), size)) {
      check_missing();
    }
  }
  m_writes.clear();
  m_arena.release();
  if (io_error != 0) fail();
}

void TokyoTable::commit() {
  flush();
  if (!m_in_transaction) return;
  if (!tcbdbtrancommit(m_db.get()) || io_error != 0) fail();
  m_in_transaction = false;
}

void TokyoTable::close() {
  commit();
  if (m_full != 0) fail();
  m_open = false;
  if (!remove_log()) {
    (void)m_db.release();
    throw_errno(Exit::storage, "remove " + m_directory.path_of(m_log));
  }
  if (!close_file()) fail();
}

class TokyoTable::Walk final : public Cursor {
 public:
  Walk(TokyoTable& table, std::string_view from)
      : m_table(table), m_cursor(tcbdbcurnew(table.m_db.get()), tcbdbcurdel) {
    seek(from);
    ++table.m_cursors;
  }
  ~Walk() override { --m_table.m_cursors; }

  void next() override {
    m_table.forget_error();
    load(tcbdbcurnext(m_cursor.get()));
  }

  void seek(std::string_view from) override {
    m_table.forget_error();
    load(tcbdbcurjump(m_cursor.get(), from.data(), static_cast<int>(from.size())));
  }

 private:
  void load(bool is_there) {
    int key_size = 0, value_size = 0;
    const void* key = is_there ? tcbdbcurkey3(m_cursor.get(), &key_size) : nullptr;
    const void* value = key ? tcbdbcurval3(m_cursor.get(), &value_size) : nullptr;
    m_valid = value != nullptr && io_error == 0;
    if (!m_valid) {
      m_table.check_missing();
      return;
    }
    m_key = std::string_view(static_cast<const char*>(key), static_cast<size_t>(key_size));
    m_value = std::string_view(static_cast<const char*>(value), static_cast<size_t>(value_size));
  }

  TokyoTable& m_table;
  std::unique_ptr<BDBCUR, void (*)(BDBCUR*)> m_cursor;
};

std::unique_ptr<Table::Cursor> TokyoTable::walk(std::string_view from) {
  flush();
  return std::make_unique<Walk>(*this, from);
}

}  // namespace gq
