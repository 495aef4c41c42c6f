#include "snapshot.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <set>

#include "log.hpp"
#include "text.hpp"
#include "ulid.hpp"

namespace gq {
namespace {

constexpr const char* manifest_name = "manifest";
constexpr const char* manifest_title = "gq-snapshot 1";
constexpr const char* restoring_name = "tmp.restoring";
constexpr size_t most_names = 2000;  // looked up in one visit to the index
constexpr size_t piece = 1 << 20;
constexpr Millis temporary_age{3600'000};  // of a directory whose maker would have its lock by now

struct Sum {
  Sum() : state(XXH3_createState(), XXH3_freeState) { XXH3_64bits_reset(state.get()); }
  void add(std::string_view bytes) { XXH3_64bits_update(state.get(), bytes.data(), bytes.size()); }
  uint64_t value() const { return XXH3_64bits_digest(state.get()); }
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state;
};

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(directory.c_str()), closedir);
  if (!dir) {
    if (errno == ENOENT) return names;
    throw_errno(Exit::no_input, "read the directory " + printable(directory));
  }
  while (const dirent* entry = readdir(dir.get()))
    if (std::string name = entry->d_name; name != "." && name != "..") names.push_back(std::move(name));
  std::sort(names.begin(), names.end());
  return names;
}

void remove_tree(const std::string& path) {
  std::error_code code;
  std::filesystem::remove_all(path, code);
  if (code) throw Error(Exit::storage, "cannot remove " + printable(path) + ": " + code.message());
}

// All of a file system's files, so that not each of thousands has to be synced.
void sync_files(const std::string& directory) {
  Fd fd = open_file(directory, O_RDONLY | O_DIRECTORY);
  if (::syncfs(fd.get()) != 0) throw_errno(Exit::storage, "sync " + printable(directory));
}

// Copies the first `size` bytes of a file, and returns their sum.
uint64_t copy_file(int from, const std::string& name, const std::string& to, uint64_t size, bool may_clone) {
  Fd out = open_file(to, O_RDWR | O_CREAT | O_EXCL);
  bool cloned = may_clone && file_size(from) == size && ::ioctl(out.get(), FICLONE, from) == 0;
  Sum sum;
  std::string buffer(piece, '\0');
  for (uint64_t done = 0; done < size;) {
    size_t n = read_at(from, buffer.data(), std::min<uint64_t>(piece, size - done), done);
    if (n == 0) throw Error(Exit::bad_data, "cannot copy " + printable(name) + ": it is too short");
    std::string_view bytes = std::string_view(buffer).substr(0, n);
    sum.add(bytes);
    if (!cloned) write_all_at(out.get(), bytes, done, to);
    done += n;
  }
  return sum.value();
}

std::string encode_manifest(const Snapshot& s) {
  std::string text = std::string(manifest_title) + "\nstore " + s.store + "\ncreated " + std::to_string(s.created_at.count()) + "\nposition " +
                     std::to_string(s.position) + "\njobs " + std::to_string(s.jobs) + (s.damaged ? " damaged\n" : "\n");
  for (const auto& [name, file] : s.files) text += "file " + std::to_string(file.size) + " " + hex64(file.sum) + " " + name + "\n";
  return text + "sum " + hex64(sum64(text)) + "\n";
}

std::optional<uint64_t> parse_hex(const std::string& text) {
  if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string::npos) return std::nullopt;
  return std::stoull(text, nullptr, 16);
}

bool parse_manifest(const std::string& text, Snapshot& s, std::string& why) {
  why = "it is damaged";
  size_t last = text.size() < 2 ? std::string::npos : text.rfind('\n', text.size() - 2);
  if (last == std::string::npos || text.substr(last + 1) != "sum " + hex64(sum64(std::string_view(text).substr(0, last + 1))) + "\n") return false;
  auto lines = split(text.substr(0, last), '\n');
  if (lines.size() < 5 || lines[0] != manifest_title) {
    why = "it is in a format that this gq does not know";
    return false;
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    auto words = split(lines[i], ' ');
    auto number = parse_count(words.size() > 1 ? words[1] : "");
    if (words[0] == "store" && words.size() == 2) s.store = words[1];
    else if (words[0] == "created" && number) s.created_at = Millis(static_cast<int64_t>(*number));
    else if (words[0] == "position" && number) s.position = *number;
    else if (words[0] == "jobs" && number) s.jobs = *number, s.damaged = words.size() > 2;
    else if (words[0] == "file" && words.size() == 4 && number && parse_hex(words[2])) s.files[words[3]] = {*number, *parse_hex(words[2])}, ++s.file_count, s.bytes += *number;
    else return false;
  }
  return is_ulid(s.store);
}

// A snapshot's directory; nullopt with the reason where it is none.
std::optional<Snapshot> read_snapshot(const std::string& path, std::string& why) {
  Snapshot s;
  s.path = path;
  s.name = path.substr(path.rfind('/') + 1);
  Fd fd = try_open(path + "/" + manifest_name, O_RDONLY);
  if (!fd) {
    why = errno_text(errno);
    return std::nullopt;
  }
  auto text = read_all(fd.get(), 1ULL << 32, path);
  if (!parse_manifest(text.value_or(""), s, why)) return std::nullopt;
  return s;
}

std::string name_for(Millis at) {
  std::time_t seconds = at.count() / 1000;
  std::tm tm;
  ::gmtime_r(&seconds, &tm);
  char text[64];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%S", &tm);
  return std::string(text) + "." + padded(at.count() % 1000, 3) + "Z";
}

bool is_snapshot_name(const std::string& name) {
  constexpr std::string_view form = "00000000T000000.000Z";
  if (name.size() != form.size()) return false;
  for (size_t i = 0; i < form.size(); ++i)
    if (form[i] == '0' ? name[i] < '0' || name[i] > '9' : name[i] != form[i]) return false;
  return true;
}

// A directory under a temporary name, and the lock that tells that somebody is at work on it.
struct TemporaryDirectory {
  explicit TemporaryDirectory(const std::string& parent) : path(parent + "/tmp." + new_ulid()) {
    make_directory(path);
    lock = open_file(path, O_RDONLY | O_DIRECTORY);
    try_lock(lock.get(), FileLock::Mode::exclusive);
  }
  ~TemporaryDirectory() {
    std::error_code code;
    if (!path.empty()) std::filesystem::remove_all(path, code);
  }
  std::string path;
  Fd lock;
};

// Puts files into a snapshot that is being made.
class Maker {
 public:
  Maker(const std::string& store, const std::string& target, const Snapshot* before, Snapshot& snapshot, const Progress& progress)
      : m_store(store), m_target(target), m_before(before), m_snapshot(snapshot), m_progress(progress) {}

  // A file that does not change any more. Its sum, where it is not known, is found out later.
  void place(const std::string& name, uint64_t size, std::optional<uint64_t> sum) {
    std::string from = m_store + "/" + name, to = m_target + "/" + name;
    if (::link(from.c_str(), to.c_str()) != 0) {
      if (errno != EXDEV && errno != EPERM && errno != EMLINK) throw_errno(Exit::storage, "link " + printable(from));
      Fd fd = open_file(from, O_RDONLY);
      if (!sum) sum = sum_part(fd.get(), 0, size);
      const SnapshotFile* old = find_before(name);
      struct stat st;
      bool same = old && sum && old->size == size && old->sum == *sum && ::stat((m_before->path + "/" + name).c_str(), &st) == 0 &&
                  static_cast<uint64_t>(st.st_size) == size;
      if (!same || ::link((m_before->path + "/" + name).c_str(), to.c_str()) != 0) {
        uint64_t copied = copy_file(fd.get(), from, to, size, true);
        if (sum && copied != *sum) {
          // Better the other jobs than none.
          log(Level::warning, from + ": its checksum is wrong; it is not in the snapshot");
          m_snapshot.damaged = true;
          ::unlink(to.c_str());
          return;
        }
        sum = copied;
      }
    }
    if (sum) done(name, size, *sum);
    else m_unknown[name] = size;
  }

  void copy(const std::string& name, uint64_t size) {
    Fd fd = open_file(m_store + "/" + name, O_RDONLY);
    done(name, size, copy_file(fd.get(), m_store + "/" + name, m_target + "/" + name, size, false));
  }

  // Finds out the sums that are not known; those of what the snapshot before has too are.
  void finish() {
    for (const auto& [name, size] : m_unknown) {
      Fd fd = open_file(m_target + "/" + name, O_RDONLY);
      const SnapshotFile* old = find_before(name);
      struct stat a, b;
      bool same = old && old->size == size && ::fstat(fd.get(), &a) == 0 && ::stat((m_before->path + "/" + name).c_str(), &b) == 0 &&
                  a.st_dev == b.st_dev && a.st_ino == b.st_ino;
      auto sum = same ? old->sum : sum_part(fd.get(), 0, size);
      if (!sum) throw Error(Exit::storage, "cannot read " + printable(name) + ": it is too short");
      done(name, size, *sum);
    }
  }

 private:
  const SnapshotFile* find_before(const std::string& name) const {
    if (!m_before) return nullptr;
    auto it = m_before->files.find(name);
    return it == m_before->files.end() ? nullptr : &it->second;
  }
  void done(const std::string& name, uint64_t size, uint64_t sum) {
    m_snapshot.files[name] = {size, sum};
    m_snapshot.bytes += size;
    ++m_snapshot.file_count;
    if (m_progress) m_progress(m_snapshot.file_count, m_snapshot.bytes);
  }

  const std::string m_store, m_target;
  const Snapshot* m_before;
  Snapshot& m_snapshot;
  const Progress& m_progress;
  std::map<std::string, uint64_t> m_unknown;
};

std::string journal_name(const Journal& journal, Lsn base) { return "journal" + segment_path(journal.directory(), base).substr(journal.directory().size()); }

std::string blob_name(const std::string& id) { return "blobs/" + id.substr(id.size() - 2) + "/" + id; }

// Says which jobs need a workload that is not there.
void tell_missing(Store& store, Snapshot& snapshot) {
  for (char order : std::string("cqdlnoxy")) {
    std::string cursor;
    for (bool last = false; !last;) {
      std::vector<std::string> missing;
      std::string next;
      store.look([&](Fold& fold) {
        missing.clear();
        std::vector<std::string> ids;
        next = cursor;
        last = fold.page(order, "", most_names, next, ids);
        for (const auto& id : ids) {
          auto job = fold.get(id);
          std::string blob = job && job->first_lsn < snapshot.position ? blob_of(id, *job) : "";
          if (!blob.empty() && !snapshot.files.count(blob_name(blob))) missing.push_back(id);
        }
      });
      cursor = next;
      snapshot.damaged = snapshot.damaged || !missing.empty();
      for (const auto& id : missing) log(Level::warning, id + ": its workload is missing, also in the snapshot");
    }
  }
}

}  // namespace

Snapshot create_snapshot(Store& store, const std::string& directory, const Progress& progress) {
  make_directories(directory);
  for (const char* name : {settings_name, manifest_name})
    if (file_exists(directory + "/" + name))
      throw Error(Exit::config, "cannot make a snapshot in " + printable(directory) + ": it is a store, or a snapshot itself");
  auto before = list_snapshots(directory, [](const auto&, const auto&) {});
  Snapshot snapshot;
  snapshot.store = read_settings(store.directory()).store_id;
  if (!before.empty() && before.back().store != snapshot.store)
    throw Error(Exit::config, "cannot make a snapshot in " + printable(directory) + ": it holds those of another store");
  TemporaryDirectory temporary(directory);
  for (const char* part : {"/journal", "/blobs"}) make_directory(temporary.path + part);
  Maker maker(store.directory(), temporary.path, before.empty() ? nullptr : &before.back(), snapshot, progress);
  Fd lock = open_file(store.clean_lock_path(), O_RDWR | O_CREAT);
  {
    FileLock linking(lock.get(), FileLock::Mode::shared);
    snapshot.created_at = now_ms();
    if (!before.empty()) snapshot.created_at = std::max(snapshot.created_at, before.back().created_at + Millis(1));
    const Lsn synced = store.journal().synced().value_or(0);
    auto [position, segments] = store.journal().snapshot();
    snapshot.position = position;
    snapshot.damaged = position < synced;
    store.journal().sync_all();
    maker.copy(settings_name, [&] {
      Fd fd = open_file(store.directory() + "/" + settings_name, O_RDONLY);
      return file_size(fd.get());
    }());
    for (size_t i = 0; i < segments.size(); ++i) {
      const auto& s = segments[i];
      std::string name = journal_name(store.journal(), s.base);
      if (i + 1 < segments.size() || s.cleaned) maker.place(name, s.size, {});
      else maker.copy(name, s.end - s.base);
    }
    // Blobs that are there now; those that the journal does not know yet are of later jobs.
    std::vector<std::string> names;
    auto place = [&] {
      std::vector<std::pair<std::string, SnapshotFile>> known;
      store.look([&](Fold& fold) {
        known.clear();
        for (const auto& id : names)
          if (auto job = fold.get(id); job && blob_of(id, *job) == id) known.push_back({id, {job->size, job->sum}});
      });
      for (const auto& [id, file] : known) maker.place(blob_name(id), file.size, file.sum);
      names.clear();
    };
    for (const auto& part : names_in(store.directory() + "/blobs")) {
      if (part.size() != 2) continue;
      auto ids = names_in(store.directory() + "/blobs/" + part);
      if (!ids.empty()) make_directory(temporary.path + "/blobs/" + part);
      for (auto& id : ids) {
        if (is_ulid(id)) names.push_back(std::move(id));
        if (names.size() == most_names) place();
      }
    }
    place();
  }
  maker.finish();
  tell_missing(store, snapshot);
  store.look([&](Fold& fold) {
    snapshot.jobs = 0;
    for (const auto& [function, c] : fold.counters()) snapshot.jobs += c.live();
    for (const auto& t : fold.troubles())
      snapshot.damaged = snapshot.damaged || ((t.kind == Trouble::Kind::damage || t.kind == Trouble::Kind::missing) && t.lsn < snapshot.position);
  });
  sync_files(temporary.path);
  publish_file(temporary.path, manifest_name, encode_manifest(snapshot), false);
  for (Millis at = snapshot.created_at;; ++at) {
    snapshot.name = name_for(at);
    snapshot.path = directory + "/" + snapshot.name;
    if (::renameat2(AT_FDCWD, temporary.path.c_str(), AT_FDCWD, snapshot.path.c_str(), RENAME_NOREPLACE) == 0) break;
    if (errno != EEXIST) throw_errno(Exit::storage, "name the snapshot");
  }
  temporary.path.clear();
  sync_directory(directory);
  return snapshot;
}

std::vector<Snapshot> list_snapshots(const std::string& path, const std::function<void(const std::string& path, const std::string& why)>& bad) {
  std::string directory = path;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  std::vector<Snapshot> all;
  std::string why;
  if (!file_exists(directory)) throw Error(Exit::no_input, "cannot read " + printable(directory) + ": it is not there");
  auto names = names_in(directory);
  bool single = std::any_of(names.begin(), names.end(), [](const std::string& n) { return n == manifest_name || n == settings_name || n == "journal"; });
  if (single) {
    if (auto s = read_snapshot(directory, why)) all.push_back(std::move(*s));
    else bad(directory + "/" + manifest_name, why);
    return all;
  }
  for (const auto& name : names) {
    struct stat st;
    std::string sub = directory + "/" + name;
    if (!is_snapshot_name(name) || ::lstat(sub.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) continue;
    auto s = read_snapshot(sub, why);
    if (!s) {
      bad(sub + "/" + manifest_name, why);
      continue;
    }
    // Not by position: a store that was restored goes on from an older one.
    auto at = std::upper_bound(all.begin(), all.end(), *s, [](const Snapshot& a, const Snapshot& b) { return std::pair(a.created_at, a.position) < std::pair(b.created_at, b.position); });
    if (at != all.end()) s->files.clear();
    else if (!all.empty()) all.back().files.clear();
    all.insert(at, std::move(*s));
  }
  return all;
}

bool verify_snapshot(const Snapshot& listed, const std::function<void(const std::string& path, const std::string& why)>& bad, const Progress& progress) {
  std::string gone;
  auto read = listed.files.empty() ? read_snapshot(listed.path, gone) : std::nullopt;
  if (!gone.empty() && !read) {
    bad(listed.path + "/" + manifest_name, gone);
    return false;
  }
  const Snapshot& snapshot = read ? *read : listed;
  bool good = true;
  uint64_t files = 0, bytes = 0;
  for (const auto& [name, file] : snapshot.files) {
    std::string path = snapshot.path + "/" + name, why;
    Fd fd = try_open(path, O_RDONLY);
    if (!fd) why = errno_text(errno);
    else if (uint64_t size = file_size(fd.get()); size != file.size) why = "it has " + std::to_string(size) + " bytes, and should have " + std::to_string(file.size);
    else {
      try {
        if (sum_part(fd.get(), 0, file.size) != file.sum) why = "its checksum is wrong";
      } catch (const Error& e) {
        why = e.what();
      }
    }
    if (!why.empty()) bad(path, why);
    good = good && why.empty();
    bytes += file.size;
    if (progress) progress(++files, bytes);
  }
  return good;
}

void restore_snapshot(const Snapshot& snapshot, const std::string& directory, const Progress& progress) {
  make_directories(directory);
  auto there = names_in(directory);
  const std::string marker = directory + "/" + restoring_name;
  bool again = file_exists(marker) && !file_exists(directory + "/" + settings_name);
  there.erase(std::remove(there.begin(), there.end(), "lost+found"), there.end());
  if (!there.empty() && !again) throw Error(Exit::config, "cannot restore to " + printable(directory) + ": it is not empty");
  Fd lock = open_file(marker, O_RDWR | O_CREAT);
  if (!try_lock(lock.get(), FileLock::Mode::exclusive)) throw Error(Exit::retry, "cannot restore to " + printable(directory) + ": another process does");
  for (const char* part : {"/journal", "/blobs"}) {
    remove_tree(directory + part);
    make_directory(directory + part);
  }
  std::set<std::string> made;
  uint64_t files = 0, bytes = 0;
  for (const auto& [name, file] : snapshot.files) {
    std::string from = snapshot.path + "/" + name, to = directory + "/" + name;
    // What a manifest names stands in the store, whoever wrote it.
    std::string parent = name.substr(0, name.rfind('/'));
    bool plain = name == settings_name || ((name.substr(0, 8) == "journal/" || name.substr(0, 6) == "blobs/") && name.find("..") == std::string::npos);
    if (!plain) throw Error(Exit::bad_data, "cannot restore " + printable(from) + ": it is no file of a store");
    if (name != settings_name && parent != "journal" && made.insert(parent).second) make_directory(directory + "/" + parent);
    Fd fd = open_file(from, O_RDONLY, 0, Exit::bad_data);
    if (file_size(fd.get()) != file.size) throw Error(Exit::bad_data, "cannot restore " + printable(from) + ": it has another size");
    if (name != settings_name) {
      if (copy_file(fd.get(), from, to, file.size, true) != file.sum) throw Error(Exit::bad_data, "cannot restore " + printable(from) + ": its checksum is wrong");
    } else if (sum_part(fd.get(), 0, file.size) != file.sum) {
      throw Error(Exit::bad_data, "cannot restore " + printable(from) + ": its checksum is wrong");
    }
    bytes += file.size;
    if (progress) progress(++files, bytes);
  }
  Settings settings = read_settings(snapshot.path);
  if (settings.group) settings.group.self.store = new_ulid();
  sync_files(directory);
  write_settings(directory, settings, false);  // now it is a store
  ::unlink(marker.c_str());
}

std::vector<std::string> prune_snapshots(const std::string& directory, const Retention& retention) {
  auto all = list_snapshots(directory, [](const auto&, const auto&) {});
  std::set<std::string> keep;
  struct Rule {
    uint64_t most;
    const char* format;
  };
  auto choose = [&](bool damaged) {
    // Each name stands for a time of its own, so that with it the last ones are kept.
    for (const Rule& rule : {Rule{retention.last, nullptr}, Rule{retention.hourly, "%Y%m%d%H"}, Rule{retention.daily, "%Y%m%d"}, Rule{retention.weekly, "%G%V"},
                             Rule{retention.monthly, "%Y%m"}, Rule{retention.yearly, "%Y"}}) {
      std::set<std::string> periods;
      for (auto s = all.rbegin(); s != all.rend() && periods.size() < rule.most; ++s) {
        if (s->damaged != damaged) {
          if (damaged) break;
          continue;
        }
        char text[64] = "";
        if (rule.format) {
          std::time_t seconds = s->created_at.count() / 1000;
          std::tm tm;
          ::gmtime_r(&seconds, &tm);
          std::strftime(text, sizeof text, rule.format, &tm);
        }
        if (periods.insert(rule.format ? text : s->name).second) keep.insert(s->name);
      }
    }
  };
  choose(false);
  choose(true);
  std::vector<std::string> removed;
  auto remove = [&](const std::string& path) {
    Fd lock = try_open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (lock && try_lock(lock.get(), FileLock::Mode::exclusive)) remove_tree(path);
  };
  for (const auto& s : all) {
    if (keep.count(s.name)) continue;
    std::string aside = directory + "/tmp." + new_ulid();
    if (::rename(s.path.c_str(), aside.c_str()) != 0) throw_errno(Exit::storage, "remove " + printable(s.path));
    removed.push_back(s.name);
    remove(aside);
  }
  for (const auto& name : names_in(directory)) {
    if (!is_temporary_name(name) || name.size() != temporary_prefix.size() + ulid_size) continue;
    Millis age = now_ms() - ulid_time(std::string_view(name).substr(temporary_prefix.size()));
    if (age < Millis(0) || age >= temporary_age) remove(directory + "/" + name);
  }
  return removed;
}

}  // namespace gq
