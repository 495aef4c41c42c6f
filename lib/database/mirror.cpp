#include "gq/database/mirror.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "gq/base/disk.hpp"
#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/blobs.hpp"
#include "gq/store/index.hpp"
#include "gq/store/names.hpp"
#include "gq/store/settings.hpp"

namespace gq {
namespace {

constexpr const char *settings_key = "settings", *holder_key = "holder", *begin_key = "position";
constexpr size_t lsn_digits = 20, piece_digits = 8;
constexpr uint64_t piece_size = KeyValue::max_value;
// The most pairs, or bytes, in one request.
constexpr size_t most_pairs = 1000, most_bytes = 4 << 20;
constexpr size_t scanned_records = 200, scanned_pieces = 8;
constexpr size_t most_ends = 10000;  // read in one call of ends()
// A request from before the rebuild of the copy may still be carried out; it writes only positions within this
// distance.
constexpr Lsn safe_distance = 1ULL << 32;
// The limit of the positions of records in the database. It leaves room for positions above it.
constexpr Lsn most_lsn = max_lsn / 2;

std::string record_key(Lsn lsn) { return "r" + padded(lsn, lsn_digits); }
// A blob's key has the ID of its job, and a letter that tells workloads from outputs.
std::string piece_key(const std::string& id, uint64_t piece) {
  const std::string job = job_of_output(id);
  return (job.empty() ? "b" + id : "o" + job) + padded(piece, piece_digits);
}

// The blob, and the number of the piece, of such a key; nullopt if it is none.
std::optional<std::pair<std::string, uint64_t>> parse_piece_key(const std::string& key) {
  const auto number =
      key.size() == 1 + ulid_size + piece_digits ? parse_count(key.substr(1 + ulid_size)) : std::nullopt;
  const std::string job = key.substr(1, ulid_size);
  if (!number || !is_ulid(job)) return std::nullopt;
  return std::pair(key[0] == 'o' ? output_blob(job) : job, *number);
}

std::string first_line_of(const std::string& path) {
  Fd fd = try_open(path, O_RDONLY);
  const std::string text = fd ? read_file(fd.get(), 4096, path).value_or("") : "";
  return text.substr(0, text.find('\n'));
}

std::string holder(const Directory& directory) {
  char host[256] = "";
  std::string machine = first_line_of("/etc/machine-id");
  if ((machine.empty() || machine == "uninitialized") && ::gethostname(host, sizeof host - 1) == 0) machine = host;
  return machine + ":" + std::filesystem::canonical(directory.path()).string();
}

Error refusal(const std::string& why) { return Error(Exit::config, "cannot open the store in the database: " + why); }

}  // namespace

// The content of directory/mirror. It is a text, so that users can read it: BOOT LSN SUM, and the checksum of these. A
// write that fails part-way leaves a mixture of two stamps. Its checksum is wrong, and read_stamp() refuses it.
struct Mirror::Stamp {
  std::string boot;
  Lsn stable = 0;
  std::string settings;

  std::string text() const {
    const std::string line = boot + " " + padded(stable, lsn_digits) + " " + settings + " ";
    return line + hex64(sum64(line)) + "\n";
  }
};

bool Mirror::has_store(KeyValue& database) { return database.get(settings_key).has_value(); }

Mirror::Mirror(Directory directory, std::unique_ptr<KeyValue> database, bool create)
    : m_directory(std::move(directory)),
      m_database(std::move(database)),
      m_users(m_directory.open(mirror_users_name, O_RDWR | O_CREAT)),
      m_stamp(m_directory.open(mirror_name, O_RDWR | O_CREAT)) {
  FileLock opening(m_stamp.get(), FileLock::Mode::exclusive, endless_patience);  // a rebuild takes long
  const std::string boot = first_line_of("/proc/sys/kernel/random/boot_id");
  auto stamp = read_stamp();
  if (!stamp || boot.empty() || stamp->boot != boot || m_database->get(holder_key) != holder(m_directory) ||
      is_behind(stamp->stable)) {
    if (!try_lock(m_users.get(), FileLock::Mode::exclusive))
      throw Error(Exit::retry,
                  "cannot rebuild " + printable(m_directory.path()) + " from the database: programs are using it");
    Lsn end = recreate(create);
    stamp = Stamp{boot, end, hex64(sum64(settings_text()))};
    write_stamp(*stamp);
  }
  wait_for_lock(m_users.get(), FileLock::Mode::shared);  // under the lock of m_stamp, no other process opens the store
  const std::string settings = settings_text(), sum = hex64(sum64(settings));
  if (stamp->settings != sum) {  // a user has changed gq.json
    std::string id = read_settings(m_directory).store_id;
    if (m_database->get(settings_key).value_or("").find(id) == std::string::npos)
      throw Error(Exit::config, "cannot open the store " + printable(m_directory.path()) +
                                    ": its gq.json is not that of the database");
    m_database->put({{settings_key, settings}});
    stamp->settings = sum;
    write_stamp(*stamp);
  }
}

std::string Mirror::settings_text() const {
  Fd fd = m_directory.find(settings_name, O_RDONLY);
  if (!fd)
    throw Error(Exit::config, "cannot open the store " + printable(m_directory.path()) + ": it holds no gq.json");
  return read_file(fd.get(), 1 << 20, m_directory.path_of(settings_name)).value_or("");
}

std::optional<Mirror::Stamp> Mirror::read_stamp() const {
  char bytes[200];
  std::string text(bytes, read_at(m_stamp.get(), bytes, sizeof bytes, 0));
  text.resize(text.find('\n') == std::string::npos ? 0 : text.find('\n') + 1);
  const auto words = split(text, ' ');
  if (words.size() != 4) return std::nullopt;
  auto stable = parse_count(words[1]);
  if (!stable) return std::nullopt;
  Stamp stamp{words[0], *stable, words[2]};
  if (text != stamp.text()) return std::nullopt;
  return stamp;
}

void Mirror::write_stamp(const Stamp& stamp) {
  write_all_at(m_stamp.get(), stamp.text(), 0, m_directory.path_of(mirror_name));
}

void Mirror::distrust() {
  if (disk().ftruncate(m_stamp.get(), 0) != 0) throw_errno(Exit::storage, "distrust " + printable(m_directory.path()));
  throw Error(Exit::retry,
              "cannot go on: " + printable(m_directory.path()) +
                  " is damaged; it is rebuilt from the database after all programs that use it have ended");
}

// Calls `visit` with each key that begins with this letter, and its value, in order.
template <typename Visit>
void Mirror::for_each(char kind, size_t at_a_time, Visit visit) {
  std::string from(1, kind);
  for (bool more = true; more;) {
    auto pairs = m_database->scan(from, at_a_time);
    more = pairs.size() == at_a_time;
    for (const auto& [key, value] : pairs) {
      if (key[0] != kind) return;
      visit(key, value);
      from = key + "0";  // the least key that is greater
    }
  }
}

// Whether the copy is out of date: the database has records after the position `stable` up to which the copy has put
// them there, and the copy does not have the first of these.
bool Mirror::is_behind(Lsn stable) {
  auto next = m_database->scan(record_key(stable), 1);
  if (next.empty() || next[0].key[0] != 'r' || next[0].key >= record_key(most_lsn)) return false;
  const Settings settings = read_settings(m_directory);
  Journal journal(m_directory, settings.store_id, *this);
  const Lsn lsn = parse_count(next[0].key.substr(1)).value_or(0);
  EventReader reader(journal, lsn);
  return !reader.read_record_at(lsn, true) ||
         next[0].value != std::string(reader.head_bytes()) + std::string(reader.data());
}

// Throws if the copy must not be rebuilt. `settings` and `now` are the settings and the holder in the database.
void Mirror::check_may_recreate(bool create, const std::optional<std::string>& settings,
                                const std::optional<std::string>& now) {
  if (now && *now != holder(m_directory))
    throw refusal("it is held by " + printable(*now) +
                  "; when nothing runs there any more, remove the key `holder` from the database");
  if (settings) return;
  if (!create) throw refusal("there is none");
  if (m_directory.has("journal"))
    throw refusal("there is none, but " + printable(m_directory.path()) +
                  " is a copy of one: put the database back, or remove the copy");
  for (const char* kind : {"b", "r"})
    if (auto first = m_database->scan(kind, 1); !first.empty() && first[0].key[0] == kind[0])
      throw refusal("its key `settings` is missing");
}

// Writes the records of the database into segments of this size. Returns the position at which new records begin.
Lsn Mirror::restore_journal(const Settings& settings) {
  const uint64_t segment_size = settings.limits.segment_size;
  Journal journal(m_directory, settings.store_id, *this, segment_size);
  std::unique_ptr<CleanedSegment> segment;
  Lsn begin = 0, last = 0;
  auto finish = [&](Lsn end) {
    if (!segment) segment = std::make_unique<CleanedSegment>(journal, begin, begin);
    segment->finish(end, 0);
    segment->publish();
    segment.reset();
    begin = end;
  };
  size_t damaged = 0;
  for_each('r', scanned_records, [&](const std::string& key, std::string_view value) {
    const Lsn lsn = key.size() == 1 + lsn_digits ? parse_count(key.substr(1)).value_or(0) : 0;
    auto head = parse_record(value);
    if (lsn == 0 || lsn >= most_lsn || !head ||
        (value.size() != head->head_size && value.size() != head->head_size + head->inline_size())) {
      ++damaged;
      return;
    }
    if (segment && segment->size() + value.size() > segment_size) finish(last + 1);
    if (!segment) segment = std::make_unique<CleanedSegment>(journal, begin, begin);
    segment->add(lsn, value.substr(0, head->head_size), value.substr(head->head_size));
    last = lsn;
  });
  // New positions begin above all positions that an older request may still write.
  const Lsn given = parse_count(m_database->get(begin_key).value_or("")).value_or(0);
  if (given >= max_lsn - safe_distance) throw refusal("its key `position` is not a position");
  finish(std::max(last, given) + safe_distance);
  m_database->put({{begin_key, std::to_string(begin)}});
  if (damaged)
    log(Level::warning, counted(damaged, "record") + " in the database cannot be read, and counted as missing");
  return begin;
}

void Mirror::restore_blobs() {
  const Directory blobs = m_directory.make_below(blobs_name);
  Fd blob;
  std::string id;
  for (const char kind : {'b', 'o'})
    for_each(kind, scanned_pieces, [&](const std::string& key, std::string_view value) {
      const auto piece = parse_piece_key(key);
      if (!piece) return;
      if (piece->first != id) {
        id = piece->first;
        blob = blobs.make_below(blob_part(id)).open(id, O_RDWR | O_CREAT | O_TRUNC);
      }
      write_all_at(blob.get(), value, piece->second * piece_size, "a blob");
    });
}

// Rebuilds the copy from the database. If the database has no store and `create` is true, creates an empty store in
// both. The caller must ensure that no other process uses the directory. Returns the position at which new records
// begin.
Lsn Mirror::recreate(bool create) {
  if (disk().ftruncate(m_stamp.get(), 0) != 0)
    throw_errno(Exit::storage, "write " + printable(m_directory.path_of(mirror_name)));
  const auto settings = m_database->get(settings_key), now = m_database->get(holder_key);
  check_may_recreate(create, settings, now);
  for (const char* part : {journal_name, blobs_name, lock_name, mirror_cleaning_name}) m_directory.remove_tree(part);
  remove_index(m_directory);
  // If a process died while it created the store, its request with the settings may still arrive. So keep its settings.
  const bool begun = !settings && now && m_directory.has(settings_name);
  if (settings) {
    m_directory.publish(settings_name, *settings, true);
  } else if (!begun) {
    Settings fresh;
    fresh.store_id = new_ulid();
    write_settings(m_directory, fresh, true);
  }
  if (const std::string notice = m_database->notice(); !notice.empty()) log(Level::warning, notice);
  const Settings read = read_settings(m_directory);
  m_checked = now.has_value();
  if (!now) m_database->put({{holder_key, holder(m_directory)}});
  if (!settings) {
    m_database->put({{settings_key, settings_text()}});
    return 0;
  }
  const Lsn begin = restore_journal(read);
  restore_blobs();
  return begin;
}

void Mirror::ask(const std::function<void()>& request) {
  bool owed = std::exchange(m_failed, true);
  request();
  m_failed = owed;  // records that could not be put before are still missing
}

std::optional<Lsn> Mirror::synced() const {
  const auto stamp = read_stamp();
  return stamp ? std::optional(stamp->stable) : std::nullopt;
}

bool Mirror::sync(Journal& journal, Lsn, Lsn end) {
  put(journal, end);
  return true;
}

void Mirror::sync_files(Journal& journal) {
  for (Lsn base : list_segments(journal.directory())) {
    Fd fd = journal.directory().find(segment_name(base), O_RDWR);
    if (fd && disk().fsync(fd.get()) != 0) throw_errno(Exit::storage, "sync the journal");
  }
}

// Not up to journal.end(), which is a hint: a process that died or failed may have left a record behind it, and the
// caller may have read that record.
void Mirror::sync_all(Journal& journal) { put(journal, UINT64_MAX); }

// Waits until the database has all records before `end`. One of the waiting threads puts the records of all of them.
void Mirror::put(Journal& journal, Lsn end) {
  MutexLock lock(m_sync_mutex);
  const uint64_t failures = m_failures;
  m_sync_done.wait(lock,
                   [&]() REQUIRES(m_sync_mutex) { return m_stable >= end || !m_syncing || m_failures > failures; });
  if (m_stable >= end) return;
  if (m_failures > failures) throw Error(Exit::retry, m_last_failure);  // another try would most likely fail, too
  m_syncing = true;
  lock.unlock();
  Lsn stable = 0;
  bool failed = false;
  std::string why;
  try {
    stable = put_records(journal, end);
  } catch (const std::exception& e) {
    failed = true;
    why = e.what();
  }
  lock.lock();
  m_syncing = false;
  if (failed) {
    ++m_failures;
    m_last_failure = why;
  } else {
    m_stable = stable;
  }
  m_sync_done.notify_all();
  if (failed) throw Error(Exit::retry, why);  // the records are in the copy; the database may get them later
}

// Puts the records that the database lacks into the database, at least up to `end`. Returns the position up to which
// the database has all records.
Lsn Mirror::put_records(Journal& journal, Lsn end) {
  MutexLock guard(m_mutex);
  FileLock lock(m_stamp.get(), FileLock::Mode::exclusive);
  const bool owed = std::exchange(m_failed, true);
  auto stamp = read_stamp();
  if (!stamp || !m_directory.is(m_stamp.get(), mirror_name)) distrust();
  if (stamp->stable >= end && !owed) {
    m_failed = false;
    return stamp->stable;
  }
  if (!std::exchange(m_checked, true) && m_database->get(holder_key) != holder(m_directory)) distrust();
  if (!m_reader || m_reader->position() > stamp->stable)
    m_reader = std::make_unique<EventReader>(journal, stamp->stable);
  m_reader->skip_to(stamp->stable);
  std::vector<Pair> pairs;
  size_t bytes = 0;
  bool more = true;
  while (more) {
    auto item = m_reader->next(true);
    if (item == JournalReader::Item::record) {
      Pair& pair = pairs.emplace_back(Pair{record_key(m_reader->lsn()), std::string(m_reader->head_bytes())});
      pair.value += m_reader->data();
      bytes += pair.value.size();
    }
    more = item != JournalReader::Item::end;
    bool full = pairs.size() >= most_pairs || bytes >= most_bytes;
    if (more && !full) continue;
    if (!pairs.empty()) m_database->put(pairs);
    else if (owed) m_database->get(holder_key);  // checks that the database answers
    stamp->stable = m_reader->position();
    if (!read_stamp()) distrust();  // another process has found damage in the meantime
    write_stamp(*stamp);
    more = more && stamp->stable < end;
    pairs.clear();
    bytes = 0;
  }
  if (end != UINT64_MAX && stamp->stable < end)
    throw Error(Exit::retry, "cannot read in " + printable(m_directory.path()) + " what was written there");
  m_failed = false;
  return stamp->stable;
}

void Mirror::check(Journal& journal) {
  {
    MutexLock guard(m_mutex);
    if (!m_failed) return;
  }
  put(journal, UINT64_MAX);
}

void Mirror::put_blob(const std::string& id, std::string_view data) {
  MutexLock guard(m_mutex);
  ask([&]() REQUIRES(m_mutex) {
    std::vector<Pair> pairs;
    for (uint64_t piece = 0; piece * piece_size < data.size(); ++piece) {
      pairs.push_back({piece_key(id, piece), std::string(data.substr(piece * piece_size, piece_size))});
      if (pairs.size() * piece_size < most_bytes && (piece + 1) * piece_size < data.size()) continue;
      m_database->put(pairs);
      pairs.clear();
    }
  });
}

void Mirror::remove_blob(const std::string& id, uint64_t size) {
  std::vector<std::string> keys;
  for (uint64_t piece = 0; piece * piece_size < size; ++piece) keys.push_back(piece_key(id, piece));
  remove_keys(keys);
}

bool Mirror::restore_blob(const std::string& id, uint64_t size) {
  MutexLock guard(m_mutex);
  const std::string temporary = "tmp." + new_ulid();
  Fd fd = m_directory.open(temporary, O_RDWR | O_CREAT | O_EXCL);
  bool whole = true;
  ask([&]() REQUIRES(m_mutex) {
    for (uint64_t piece = 0; whole && piece * piece_size < size; ++piece) {
      auto value = m_database->get(piece_key(id, piece));
      whole = value && value->size() == std::min(piece_size, size - piece * piece_size);
      if (whole) write_all_at(fd.get(), *value, piece * piece_size, "a blob");
    }
  });
  if (whole && m_directory.rename(temporary, m_directory.below(blobs_name).make_below(blob_part(id)), id)) return true;
  m_directory.remove(temporary);
  return false;
}

std::optional<std::string> Mirror::record(Lsn lsn) {
  MutexLock guard(m_mutex);
  std::optional<std::string> value;
  ask([&]() REQUIRES(m_mutex) { value = m_database->get(record_key(lsn)); });
  return value;
}

void Mirror::begin_cleaning(Lsn base, Lsn end) {
  m_directory.publish(mirror_cleaning_name, std::to_string(base) + " " + std::to_string(end) + " \n", true);
}

void Mirror::end_cleaning() { m_directory.remove(mirror_cleaning_name); }

std::optional<std::pair<Lsn, Lsn>> Mirror::half_cleaned() {
  const Fd fd = m_directory.find(mirror_cleaning_name, O_RDONLY);
  if (!fd) return std::nullopt;
  const auto words = split(read_file(fd.get(), 100, m_directory.path_of(mirror_cleaning_name)).value_or(""), ' ');
  const auto base = words.size() == 3 ? parse_count(words[0]) : std::nullopt;
  const auto end = base ? parse_count(words[1]) : std::nullopt;
  return end ? std::optional(std::pair(*base, *end)) : std::nullopt;
}

void Mirror::change(Journal& journal, const std::vector<std::pair<Lsn, RecordBytes>>& records) {
  sync_all(journal);
  MutexLock guard(m_mutex);
  ask([&]() REQUIRES(m_mutex) {
    std::vector<Pair> pairs;
    size_t bytes = 0;
    for (const auto& [lsn, record] : records) {
      pairs.push_back({record_key(lsn), std::string(record.head) + std::string(record.data)});
      bytes += record.size();
      if (pairs.size() < most_pairs && bytes < most_bytes) continue;
      m_database->put(pairs);
      pairs.clear();
      bytes = 0;
    }
    if (!pairs.empty()) m_database->put(pairs);
  });
}

void Mirror::remove(const std::vector<Lsn>& adds, const std::vector<Lsn>& others) {
  for (const auto* records : {&adds, &others}) {
    std::vector<std::string> keys;
    for (Lsn lsn : *records) keys.push_back(record_key(lsn));
    remove_keys(keys);
  }
}

void Mirror::remove_keys(const std::vector<std::string>& keys) {
  MutexLock guard(m_mutex);
  ask([&]() REQUIRES(m_mutex) {
    for (auto at = keys.begin(); at != keys.end();) {
      auto next = at + std::min<long>(keys.end() - at, most_pairs);
      m_database->remove({at, next});
      at = next;
    }
  });
}

std::optional<std::pair<Lsn, Lsn>> Mirror::verify(Journal& journal,
                                                  const std::function<void(Lsn lsn, const std::string& what)>& wrong) {
  const Fd cleaning = m_directory.open(clean_lock_name, O_RDWR | O_CREAT);
  FileLock not_now(cleaning.get(), FileLock::Mode::shared);
  MutexLock guard(m_mutex);
  auto stamp = read_stamp();
  if (!stamp) distrust();
  const auto half = half_cleaned();
  auto complain = [&](Lsn lsn, const char* what) {
    if (!half || lsn < half->first || lsn >= half->second) wrong(lsn, what);
  };
  const Directory blobs = m_directory.below(blobs_name);
  EventReader reader(journal, 0);
  auto next = [&] {
    auto item = reader.next(true);
    while (item != JournalReader::Item::record && item != JournalReader::Item::end) item = reader.next(true);
    return item == JournalReader::Item::record && reader.lsn() < stamp->stable;
  };
  bool there = next();
  auto missing = [&] {
    complain(reader.lsn(), "the database does not have this record");
    there = next();
  };
  ask([&]() REQUIRES(m_mutex) {
    for_each('r', scanned_records, [&](const std::string& key, std::string_view value) {
      const Lsn lsn = parse_count(key.substr(1)).value_or(0);
      while (there && reader.lsn() < lsn) missing();
      if (there && reader.lsn() == lsn) {
        if (value != std::string(reader.head_bytes()) + std::string(reader.data()))
          complain(lsn, "the database has another record");
        there = next();
      } else if (!parse_record(value)) {
        wrong(lsn, "the database has something that is not a record");
      }
    });
    while (there) missing();
    for (const char kind : {'b', 'o'})
      for_each(kind, scanned_pieces, [&](const std::string& key, std::string_view value) {
        const auto number = parse_piece_key(key);
        if (!number) return;
        const auto& id = number->first;
        const uint64_t offset = number->second * piece_size;
        auto part = blobs.find_below(blob_part(id));
        Fd blob = part ? part->try_open(id, O_RDONLY) : Fd();
        std::string piece(piece_size, '\0');
        if (blob) piece.resize(read_at(blob.get(), piece.data(), piece.size(), offset));
        if (blob && piece != value)
          wrong(0, "the database has another piece of the " +
                       (kind == 'b' ? "workload of " + id : "output of " + job_of_output(id)) + ", from " +
                       std::to_string(offset) + " on");
      });
  });
  return half;
}

std::vector<std::string> Mirror::ends() {
  MutexLock guard(m_mutex);
  std::vector<std::string> ids;
  ask([&]() REQUIRES(m_mutex) {
    std::string from = "e";
    for (bool more = true; more && ids.size() < most_ends;) {
      auto pairs = m_database->scan(from, scanned_records);
      more = pairs.size() == scanned_records;
      for (const auto& pair : pairs) {
        if (pair.key[0] != 'e') return;
        ids.push_back(pair.key.substr(1));
        from = pair.key + "0";
      }
    }
  });
  return ids;
}

bool Mirror::has_ended(const std::string& id) {
  MutexLock guard(m_mutex);
  bool ended = false;
  ask([&]() REQUIRES(m_mutex) { ended = m_database->get("e" + id).has_value(); });
  return ended;
}

void Mirror::forget_ends(const std::vector<std::string>& ids) {
  std::vector<std::string> keys;
  for (const auto& id : ids) keys.push_back("e" + id);
  remove_keys(keys);
}

}  // namespace gq
