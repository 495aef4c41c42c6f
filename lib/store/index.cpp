#include "gq/store/index.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <utility>

#include "gq/base/disk.hpp"
#include "gq/base/log.hpp"
#include "gq/base/short_hold.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/index_table.hpp"
#include "gq/store/names.hpp"

namespace gq {
namespace {

constexpr uint64_t least_to_shrink = 64 << 20, usual_entry = 200, most_bloat = 4;

// How often in a row all users of a trusted index may die before it is rebuilt. They die again and again if a page of
// the index makes the library crash. The count is stored in index.users, and is only a hint.
constexpr int most_crashes = 2;

int crashes_of(int users) {
  char digit = '0';
  return disk().pread(users, &digit, 1, 0) == 1 && digit > '0' && digit <= '9' ? digit - '0' : 0;
}

void set_crashes(int users, int count) {
  const char digit = static_cast<char>('0' + count);
  [[maybe_unused]] ssize_t n = disk().pwrite(users, &digit, 1, 0);
}

// The mark, a line, follows the count.
constexpr off_t mark_offset = 2;

// Ignores a failed write: the old mark does not match the changed file.
void write_mark(int users, const std::string& text) {
  const std::string line = text + "\n";
  [[maybe_unused]] ssize_t n = disk().pwrite(users, line.data(), line.size(), mark_offset);
}

// Thrown out of a body: the journal has more records than one transaction takes.
struct Unfinished {};

std::string read_mark(int users) {
  char text[256];
  const std::string_view all(text, read_at(users, text, sizeof text, mark_offset));
  const size_t end = all.find('\n');
  return end == std::string_view::npos ? std::string() : std::string(all.substr(0, end));
}

}  // namespace

Index::Index(const Directory& store, Journal& journal, Self self)
    : m_directory(store),
      m_journal(journal),
      m_self(std::move(self)),
      m_lock(store.open(index_lock_name, O_RDWR | O_CREAT)),
      m_mount(store.mount_identity()) {}

Index::~Index() {
  try {
    leave();
  } catch (const std::exception&) {
    // Then there is no seal, and the next user rebuilds the index.
  }
}

// Returns the text of the seal: the fold's position, and the identity of the sealed file. So an index is not trusted if
// its file was truncated, overwritten or replaced since. The maker of a malicious archive of a store can foresee the
// inode of the unpacked index, and can choose its size and its modification time, but not the time of its last status
// change: that is the time of unpacking. So the modification time must equal the time of the last status change;
// otherwise there is no seal.
std::optional<std::string> Index::seal_text(const FoldPosition& p) const {
  struct stat st;
  if (!m_directory.look_at(index_name, st) || st.st_mtim.tv_sec != st.st_ctim.tv_sec ||
      st.st_mtim.tv_nsec != st.st_ctim.tv_nsec)
    return std::nullopt;
  return std::to_string(p.end) + " " + std::to_string(p.last) + " " + hex64(p.last_sum) + " " +
         std::to_string(st.st_ino) + " " + std::to_string(st.st_size) + " " + std::to_string(st.st_mtim.tv_sec) + "." +
         std::to_string(st.st_mtim.tv_nsec) + " " + std::to_string(fold_version) + "\n";
}

bool Index::is_sealed(Fd fd) const {
  auto seal = read_file(fd.get(), 4096, index_seal_name);
  auto parts = seal ? split(*seal, ' ') : std::vector<std::string>();
  auto number = [&](size_t i) { return parse_count(parts[i]).value_or(0); };
  if (parts.size() != 7) return false;
  FoldPosition p{number(0), number(1), 0};
  // Read the sum from the journal: a power cut may have removed the record, and another record may be in its place.
  if (p.last != 0) {
    EventReader reader(m_journal, p.last);
    if (!reader.read_record_at(p.last, false)) return false;
    p.last_sum = reader.head().head_sum;
  }
  return seal == seal_text(p);
}

// Returns the text of the mark between two visits; empty if the file cannot be identified. (While a visit changes the
// index, the mark is empty, too: the library's log cannot always repair the index after an interrupted visit.) The text
// contains the file's creation time, which unpacking an archive cannot set.
std::string Index::mark() const {
  struct stat st;
  const std::string made = m_directory.made_at(index_name);
  if (m_mount.empty() || made.empty() || !m_directory.look_at(index_name, st)) return "";
  return m_mount + " " + std::to_string(fold_version) + " " + std::to_string(st.st_ino) + " " + made + " " +
         std::to_string(st.st_size) + " " + std::to_string(st.st_mtim.tv_sec) + "." +
         std::to_string(st.st_mtim.tv_nsec);
}

// Checks that an index without a seal belongs to this journal: a user may have replaced the journal.
void Index::check_journal(const Fold& fold) {
  if (std::exchange(m_proven, true)) return;
  const FoldPosition& p = fold.position();
  if (p.last == 0) return;
  EventReader reader(m_journal, p.last);
  if (!reader.read_record_at(p.last, false) || reader.head().head_sum != p.last_sum)
    throw TableError("it is of another journal");
}

// Call it with m_mutex and index.lock held. Finds out whether this process is the only user; if it is, checks the
// index; then becomes a user. Other processes cannot join between these steps.
void Index::join() {
  if (m_users) return;
  Fd users = m_directory.open(index_users_name, O_RDWR | O_CREAT);
  m_proven = true;
  if (try_lock(users.get(), FileLock::Mode::exclusive)) {
    bool trusted = false;
    if (Fd seal = m_directory.try_open(index_seal_name, O_RDONLY)) {
      trusted = is_sealed(std::move(seal));
    } else if (const std::string left = read_mark(users.get()); !left.empty()) {
      trusted = left == mark();
      m_proven = false;
    }
    const int crashes = crashes_of(users.get());
    trusted = trusted && crashes < most_crashes;
    if (!trusted) discard();
    set_crashes(users.get(), trusted ? crashes + 1 : 0);
  }
  wait_for_lock(users.get(), FileLock::Mode::shared);
  m_users = std::move(users);
  m_seal_removed = false;
}

void remove_index(const Directory& store) {
  // With a stale log, the next table cannot be opened.
  for (const char* name : {index_seal_name, index_name, index_log_name})
    if (!store.remove(name) && errno != ENOENT) throw_errno(Exit::storage, "remove " + store.path_of(name));
}

void Index::discard() {
  m_reader.reset();
  remove_index(m_directory);
}

size_t Index::records_with_room(uint64_t bytes, size_t most) const {
  struct stat st;
  const bool is_there = m_directory.look_at(index_name, st);
  return records_to_fold(m_journal.available(), bytes, is_there ? static_cast<uint64_t>(st.st_size) : 0, most);
}

size_t Index::jobs_with_room(size_t most) const { return records_with_room(most * usual_record, most); }

// Returns how many records may be folded in one transaction. If there is no room, frees the space that is reserved for
// cleaning.
size_t Index::records_with_room(const Fold& fold) const {
  const Lsn end = m_journal.end(), folded = fold.position().end;
  if (end <= folded) return fold_chunk;
  size_t most = records_with_room(end - folded, fold_chunk);
  if (most == 0 && m_journal.directory().remove(spare_clean_name)) most = records_with_room(end - folded, fold_chunk);
  if (most > 0) return most;
  errno = ENOSPC;
  throw_errno(Exit::storage, "update the index");
}

void Index::fold_on(Fold& fold, Lsn end) {
  if (!fold.run(*m_reader, records_with_room(fold))) throw Unfinished{};
  if (fold.position().end >= end) return;
  throw Error(Exit::storage, "cannot use the journal: records appended before " + std::to_string(end) +
                                 " are not read, since a segment says that the journal goes on behind that");
}

// The first user that changes the index removes the seal.
void Index::remove_seal() {
  if (m_seal_removed) return;
  if (m_directory.remove(index_seal_name)) m_sync_owed = true;
  else if (errno != ENOENT) throw_errno(Exit::storage, "remove " + m_directory.path_of(index_seal_name));
  LongWorkInHold seal;  // the removal must be durable before the index changes; once a process
  if (m_sync_owed) m_directory.sync();
  m_sync_owed = false;
  m_seal_removed = true;
}

// Opens the table. A sealed index loses its seal before the first write.
std::unique_ptr<IndexTable> Index::open_to_visit() {
  const bool sealed = !m_seal_removed && m_directory.has(index_seal_name);
  if (!sealed) remove_seal();
  auto table = open_table(m_directory, index_name, sealed ? IndexTable::Use::read : IndexTable::Use::write,
                          [this]() REQUIRES(m_mutex) {
                            write_mark(m_users.get(), "");
                            remove_seal();
                          });
  if (!sealed) write_mark(m_users.get(), "");
  return table;
}

void Index::finish(Fold& fold, IndexTable& table) {
  fold.commit();
  table.close();
  if (m_seal_removed) write_mark(m_users.get(), mark());
}

// Folds a chunk under index.lock. If that was the last one, calls the body, and sets `body_done`. Returns the error if
// the index was unusable, and has been discarded.
std::string Index::visit_once(const std::function<void(Fold&)>& body, bool& body_done) {
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
  ShortHold hold;
  join();
  size_t chunk = m_chunk;
  std::exception_ptr failure;  // of the body, which may have appended records: it must not run again
  try {
    const auto table = open_to_visit();
    Fold fold(*table, m_self);
    check_journal(fold);
    if (!m_reader || m_reader->position() != fold.position().end)
      m_reader = std::make_unique<EventReader>(m_journal, fold.position().end);
    try {
      chunk = std::min(chunk, records_with_room(fold));
      if (fold.run(*m_reader, chunk)) {
        body(fold);
        body_done = true;
      }
    } catch (const TableFull&) {
      finish(fold, *table);
      throw;
    } catch (const Error&) {
      failure = std::current_exception();
      finish(fold, *table);  // the folded records are valid even if the body failed
      throw;
    } catch (const Unfinished&) {  // the next round folds more, after other processes have had the lock
    }
    finish(fold, *table);
    m_chunk = std::min(2 * m_chunk, fold_chunk);
  } catch (const TableFull&) {
    if (m_seal_removed) write_mark(m_users.get(), mark());
    m_reader.reset();
    m_chunk = std::max<size_t>(chunk / 8, 1);
    if (failure) std::rethrow_exception(failure);
    if (!body_done && chunk == 1 && !m_journal.directory().remove(spare_clean_name)) throw;
  } catch (const TableError& e) {
    discard();
    if (failure) std::rethrow_exception(failure);
    return e.what();
  } catch (const Error&) {
    m_reader.reset();
    throw;
  }
  return {};
}

void Index::visit(const std::function<void(Fold&)>& body) {
  MutexLock guard(m_mutex);
  int failures = 0;
  for (bool body_done = false;;) {
    const std::string error = visit_once(body, body_done);
    if (body_done) break;  // the changes of the body are in the journal, even if the index failed
    if (!error.empty()) {
      if (++failures == 3) throw Error(Exit::storage, "cannot use the index: " + error);
      if (!std::exchange(m_said_unusable, true))
        log(Level::warning, "the index is unusable (" + error + "); rebuilding it");
    }
    guard.unlock();
    disk().wait(std::chrono::microseconds(200));  // flock is unfair: let other processes get the lock
    guard.lock();
  }
  m_said_unusable = false;
}

void Index::leave() {
  MutexLock guard(m_mutex);
  give_up_place();
}

void Index::leave_for_good() {
  m_mutex.lock();  // this process never unlocks it
  give_up_place();
}

void Index::give_up_place() {
  if (!m_users) return;
  FileLock lock(m_lock.get(), FileLock::Mode::exclusive, short_patience);
  Fd users = std::move(m_users);
  m_reader.reset();
  if (!try_lock(users.get(), FileLock::Mode::exclusive)) return;
  set_crashes(users.get(), 0);
  if (m_directory.has(index_seal_name) || !m_directory.has(index_name)) return;
  FoldPosition position;
  write_mark(users.get(), "");
  try {
    const auto table = open_table(m_directory, index_name, IndexTable::Use::write);
    position = Fold(*table, m_self).position();
    table->close();
  } catch (const TableError&) {
    return discard();
  }
  Fd file = m_directory.open(index_name, O_RDWR);
  disk().futimens(file.get());
  write_mark(users.get(), mark());  // this mark stays if the disk has no room for the seal
  // The seal must be valid after a power cut. So the index and the journal must be durable first.
  m_journal.durability().sync_files(m_journal);
  if (disk().fsync(file.get()) != 0) {
    const int saved = errno;
    // A second sync would succeed, although a page may be lost.
    write_mark(users.get(), "");
    discard();
    errno = saved;
    throw_errno(Exit::storage, "sync " + m_directory.path_of(index_name));
  }
  if (auto text = seal_text(position)) m_directory.publish(index_seal_name, *text, true);
  write_mark(users.get(), "");
}

void Index::shrink() {
  {
    MutexLock guard(m_mutex);
    FileLock lock(m_lock.get(), FileLock::Mode::exclusive);
    ShortHold hold;
    struct stat st;
    if (!m_users || !m_directory.look_at(index_name, st) || static_cast<uint64_t>(st.st_size) < least_to_shrink) return;
    try {
      const auto table = open_table(m_directory, index_name,
                                    m_directory.has(index_seal_name) ? IndexTable::Use::read : IndexTable::Use::write);
      bool bloated = table->file_size() > most_bloat * usual_entry * table->count();
      table->close();
      if (!bloated) return;
    } catch (const TableError&) {  // the next visit finds the error again
      return;
    }
    discard();
  }
  visit([](Fold&) {});
}

}  // namespace gq
