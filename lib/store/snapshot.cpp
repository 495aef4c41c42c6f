#include "gq/store/snapshot.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <set>
#include <utility>

#include "gq/base/disk.hpp"
#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/store/listing.hpp"

namespace gq {
namespace {

constexpr const char* manifest_title = "gq-snapshot 1";
constexpr size_t most_names = 2000;  // how many names are looked up in one visit to the index
constexpr size_t piece = 1 << 20;
constexpr size_t longest_line = 4096;  // the size limit of a line in a manifest
constexpr int most_tries = 10;
// The size limit of a manifest: enough for some millions of files.
constexpr uint64_t max_manifest = 512 << 20;

struct Sum {
  Sum() : state(XXH3_createState(), XXH3_freeState) { XXH3_64bits_reset(state.get()); }
  void add(std::string_view bytes) { XXH3_64bits_update(state.get(), bytes.data(), bytes.size()); }
  uint64_t value() const { return XXH3_64bits_digest(state.get()); }
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state;
};

std::vector<std::string> sorted_names(const Directory& directory) {
  auto names = directory.names();
  std::sort(names.begin(), names.end());
  return names;
}

// Returns the last step of a file's path in a store.
std::string leaf_of(const std::string& name) { return name.substr(name.rfind('/') + 1); }

// A directory tree like that of a store. It opens the directories of files, and keeps the last one open.
class Tree {
 public:
  explicit Tree(Directory root, Exit code = Exit::storage) : m_root(std::move(root)), m_code(code), m_last(m_root) {}
  const Directory& root() const { return m_root; }
  const Directory& of(const std::string& name) {
    const std::string path = name.substr(0, std::max<size_t>(name.rfind('/') + 1, 1) - 1);
    if (path != m_path) {
      m_last = path.empty() ? m_root : m_root.below(path, m_code);
      m_path = path;
    }
    return m_last;
  }

 private:
  const Directory m_root;
  const Exit m_code;
  std::string m_path;
  Directory m_last;
};

// Returns the text of an error without what could not be done.
std::string reason_of(const Error& e) {
  const std::string text = e.what();
  const size_t at = text.rfind(": ");
  return at == std::string::npos ? text : text.substr(at + 2);
}

// Syncs the whole file system, which is faster than to sync thousands of files one by one.
void sync_files(const Directory& directory) {
  if (disk().syncfs(directory.fd()) != 0) throw_errno(Exit::storage, "sync " + printable(directory.path()));
}

// Copies the first `size` bytes of a file. Returns their sum.
uint64_t copy_file(int from, const std::string& name, const Directory& to, uint64_t size, bool may_clone) {
  Fd out = to.open(leaf_of(name), O_RDWR | O_CREAT | O_EXCL);
  bool cloned = may_clone && file_size(from) == size && disk().clone(out.get(), from) == 0;
  Sum sum;
  std::string buffer(piece, '\0');
  for (uint64_t done = 0; done < size;) {
    size_t n = read_at(from, buffer.data(), std::min<uint64_t>(piece, size - done), done);
    if (n == 0) throw Error(Exit::bad_data, "cannot copy " + printable(name) + ": it is too short");
    std::string_view bytes = std::string_view(buffer).substr(0, n);
    sum.add(bytes);
    if (!cloned) write_all_at(out.get(), bytes, done, to.path_of(leaf_of(name)));
    done += n;
  }
  return sum.value();
}

std::string encode_manifest(const Snapshot& s) {
  std::string text = std::string(manifest_title) + "\nstore " + s.store + "\ncreated " +
                     std::to_string(s.created_at.count()) + "\nposition " + std::to_string(s.position) + "\njobs " +
                     std::to_string(s.jobs) + (s.damaged ? " damaged\n" : "\n");
  for (const auto& [name, file] : s.files)
    text += "file " + std::to_string(file.size) + " " + hex64(file.sum) + " " + name + "\n";
  return text + "sum " + hex64(sum64(text)) + "\n";
}

std::optional<uint64_t> parse_hex(const std::string& text) {
  if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string::npos) return std::nullopt;
  return std::stoull(text, nullptr, 16);
}

// Whether a snapshot may have a file with this name. Other names in a manifest are never opened.
bool is_snapshot_file(const std::string& name) {
  constexpr std::string_view journal = "journal/", blobs = "blobs/";
  if (name == settings_name) return true;
  if (name.substr(0, journal.size()) == journal) return parse_segment_name(name.substr(journal.size())).has_value();
  const std::string id = leaf_of(name);
  return is_blob_name(id) && name == std::string(blobs) + blob_part(id) + "/" + id;
}

bool parse_manifest(const std::string& text, Snapshot& s, std::string& why) {
  why = "it is damaged";
  size_t last = text.size() < 2 ? std::string::npos : text.rfind('\n', text.size() - 2);
  if (last == std::string::npos ||
      text.substr(last + 1) != "sum " + hex64(sum64(std::string_view(text).substr(0, last + 1))) + "\n")
    return false;
  std::string_view rest = std::string_view(text).substr(0, last + 1);
  auto next = [&] {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    return line;
  };
  if (next() != manifest_title) {
    why = "it is in a format that this gq does not know";
    return false;
  }
  while (!rest.empty()) {
    const std::string_view line = next();
    if (line.size() > longest_line) return false;
    auto words = split(line, ' ');
    auto number = parse_count(words.size() > 1 ? words[1] : "");
    if (words[0] == "store" && words.size() == 2) s.store = words[1];
    else if (words[0] == "created" && number && *number <= static_cast<uint64_t>(last_time.count()))
      s.created_at = Millis(static_cast<int64_t>(*number));
    else if (words[0] == "position" && number && *number < max_lsn) s.position = *number;
    else if (words[0] == "jobs" && number) s.jobs = *number, s.damaged = words.size() > 2;
    else if (words[0] == "file" && words.size() == 4 && number && parse_hex(words[2]))
      s.files[words[3]] = {*number, *parse_hex(words[2])}, ++s.file_count, s.bytes += *number;
    else return false;
    if (words[0] == "file" && !is_snapshot_file(words[3])) {
      why = "it names a file that no store has, " + printable(words[3]);
      return false;
    }
  }
  return is_ulid(s.store);
}

// Reads the snapshot with this name in a directory; if the name is empty, the directory itself is the snapshot. Returns
// nullopt and sets `why` if it is not a snapshot.
std::optional<Snapshot> read_snapshot(const Directory& directory, const std::string& name, std::string& why) {
  Snapshot s;
  s.path = name.empty() ? directory.path() : directory.path_of(name);
  s.name = leaf_of(s.path);
  if (!name.empty()) s.collection = directory;
  std::optional<std::string> text;
  try {
    Fd fd = s.directory().open(manifest_name, O_RDONLY, Exit::bad_data);
    text = read_file(fd.get(), max_manifest, s.path);
  } catch (const Error& e) {
    why = reason_of(e);
    return std::nullopt;
  }
  if (!text) why = "it is longer than 512 MiB";
  if (!text || !parse_manifest(*text, s, why)) return std::nullopt;
  return s;
}

// If a snapshot of a list has no files, reads it again with its files; else returns nullopt. Sets `why` if it is not a
// snapshot any more.
std::optional<Snapshot> read_files(const Snapshot& listed, std::string& why) {
  if (!listed.files.empty()) return std::nullopt;
  auto read = listed.collection ? read_snapshot(*listed.collection, listed.name, why)
                                : read_snapshot(listed.directory(), "", why);
  if (read) why.clear();
  return read;
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

// Whether a directory has only files that a snapshot, finished or not, may have.
bool is_of_snapshot(const Directory& directory, const std::string& path = "") {
  for (const auto& name : directory.names()) {
    const std::string whole = path + name;
    struct stat st;
    if (!directory.look_at(name, st) || (is_temporary_name(name) && S_ISREG(st.st_mode))) continue;
    if (S_ISDIR(st.st_mode)) {
      if (whole != journal_name && whole != blobs_name && !(path == std::string(blobs_name) + "/" && name.size() == 2))
        return false;
      if (!is_of_snapshot(directory.below_of_any(name, Exit::storage), whole + "/")) return false;
    } else if (whole != manifest_name && !is_snapshot_file(whole)) {
      return false;
    }
  }
  return true;
}

// A directory with a temporary name, and the lock that shows that a process is working on it. Another process may take
// the directory for abandoned and remove it before this process has the lock; then it is created again.
struct TemporaryDirectory {
  explicit TemporaryDirectory(const Directory& in) : parent(in), inside(make(in, name)) {}
  ~TemporaryDirectory() {
    try {
      if (!name.empty()) parent.remove_tree(name);
    } catch (const Error&) {  // prune_snapshots() will remove it
    }
  }
  const Directory parent;
  std::string name;
  const Directory inside;

 private:
  static Directory make(const Directory& in, std::string& name) {
    for (int tries = 0; tries <= most_tries; ++tries) {
      name = "tmp." + new_ulid();
      try {
        Directory made = in.make_below(name);
        if (try_lock(made.fd(), FileLock::Mode::exclusive) && in.is(made.fd(), name)) return made;
      } catch (const Error& e) {
        if (e.error_number() != ENOENT) throw;
      }
    }
    throw Error(Exit::storage,
                "cannot lock " + printable(in.path_of(name)) + ": another process locks or removes it each time");
  }
};

// Puts files into a snapshot that is being made.
class Maker {
 public:
  Maker(const Directory& store, const Directory& target, const Snapshot* before, Snapshot& snapshot,
        const ShowProgress& progress)
      : m_store(store), m_target(target), m_before(before), m_snapshot(snapshot), m_progress(progress) {
    if (m_before) m_old.emplace(m_before->directory());
  }

  // Puts in a file that never changes again. If its sum is not known, finish() computes it.
  void place(const std::string& name, uint64_t size, std::optional<uint64_t> sum) {
    const Directory &from = m_store.of(name), &to = m_target.of(name);
    const std::string leaf = leaf_of(name);
    if (!from.link(leaf, to, leaf)) {
      if (errno != EXDEV && errno != EPERM && errno != EMLINK)
        throw_errno(Exit::storage, "link " + printable(from.path_of(leaf)));
      Fd fd = from.open(leaf, O_RDONLY);
      if (!sum) sum = sum_part(fd.get(), 0, size);
      const SnapshotFile* old = find_before(name);
      struct stat st;
      const bool same = old && sum && old->size == size && old->sum == *sum && look_at_old(name, st) &&
                        static_cast<uint64_t>(st.st_size) == size;
      if (!same || !m_old->of(name).link(leaf, to, leaf)) {
        uint64_t copied = copy_file(fd.get(), name, to, size, true);
        if (sum && copied != *sum) {
          // Continue: a snapshot without this job is better than no snapshot.
          log(Level::warning, from.path_of(leaf) + ": its checksum is wrong; it is not in the snapshot");
          m_snapshot.damaged = true;
          to.remove(leaf);
          return;
        }
        sum = copied;
      }
    }
    if (sum) done(name, size, *sum);
    else m_unknown[name] = size;
  }

  void copy(const std::string& name, uint64_t size) {
    Fd fd = m_store.of(name).open(leaf_of(name), O_RDONLY);
    done(name, size, copy_file(fd.get(), name, m_target.of(name), size, false));
  }

  // Computes the sums that are not known yet. If the previous snapshot has the same file, takes its sum.
  void finish() {
    for (const auto& [name, size] : m_unknown) {
      Fd fd = m_target.of(name).open(leaf_of(name), O_RDONLY);
      const SnapshotFile* old = find_before(name);
      struct stat a, b;
      bool same = old && old->size == size && disk().fstat(fd.get(), &a) == 0 && look_at_old(name, b) &&
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
  bool look_at_old(const std::string& name, struct stat& st) {
    try {
      return m_old->of(name).look_at(leaf_of(name), st);
    } catch (const Error&) {  // the previous snapshot has lost the directory
      return false;
    }
  }
  void done(const std::string& name, uint64_t size, uint64_t sum) {
    m_snapshot.files[name] = {size, sum};
    m_snapshot.bytes += size;
    ++m_snapshot.file_count;
    if (m_progress) m_progress(m_snapshot.file_count, m_snapshot.bytes);
  }

  Tree m_store, m_target;
  const Snapshot* m_before;
  std::optional<Tree> m_old;  // the directory of the previous snapshot
  Snapshot& m_snapshot;
  const ShowProgress& m_progress;
  std::map<std::string, uint64_t> m_unknown;
};

std::string blob_name(const std::string& id) { return "blobs/" + blob_part(id) + "/" + id; }

// Warns about each job whose workload is missing.
void tell_missing(Ledger& ledger, Snapshot& snapshot) {
  list_jobs(ledger, {}, [&](const Claim& c) {
    const std::string blob = c.job.first_lsn < snapshot.position ? blob_of(c.id, c.job) : "";
    if (!blob.empty() && !snapshot.files.count(blob_name(blob))) {
      snapshot.damaged = true;
      log(Level::warning, c.id + ": its workload is missing, also in the snapshot");
    }
    return true;
  });
}

// Returns the snapshots that a collection holds already. Throws Error(config) if it cannot hold one of this store.
std::vector<Snapshot> snapshots_before(const Directory& collection, const std::string& store) {
  const std::string what = "cannot make a snapshot in " + printable(collection.path()) + ": ";
  for (const char* name : {settings_name, manifest_name})
    if (collection.has(name)) throw Error(Exit::config, what + "it is a store, or a snapshot itself");
  auto before = list_snapshots(collection, [](const auto&, const auto&) {});
  if (!before.empty() && before.back().store != store)
    throw Error(Exit::config, what + "it holds those of another store");
  return before;
}

// Takes the settings, and the journal up to its end, which becomes the snapshot's position.
void take_journal(Ledger& ledger, Snapshot& snapshot, Maker& maker) {
  const Lsn synced = ledger.synced().value_or(0);
  auto [position, segments] = ledger.end_and_segments();
  snapshot.position = position;
  snapshot.damaged = position < synced;
  ledger.sync_all();
  maker.copy(settings_name, file_size(ledger.directory().open(settings_name, O_RDONLY).get()));
  for (size_t i = 0; i < segments.size(); ++i) {
    const auto& s = segments[i];
    const std::string name = "journal/" + segment_name(s.base);
    if (i + 1 < segments.size() || s.cleaned) maker.place(name, s.size, {});
    else maker.copy(name, s.end - s.base);
  }
}

// Takes those of these blobs that the index knows, with their sums. A blob whose job the index does not know yet
// belongs to a later job.
void take_known_blobs(Ledger& ledger, const std::vector<std::string>& names, Maker& maker) {
  std::vector<std::pair<std::string, SnapshotFile>> known;
  ledger.look([&](Fold& fold) {
    known.clear();
    for (const auto& id : names) {
      const std::string of = job_of_output(id);
      const auto job = fold.get(of.empty() ? id : of);
      if (!job) continue;
      if (of.empty() && blob_of(id, *job) == id) known.push_back({id, {job->size, job->sum}});
      if (!of.empty() && has_output_blob(*job)) known.push_back({id, {job->output_size, job->output_sum}});
    }
  });
  for (const auto& [id, file] : known) maker.place(blob_name(id), file.size, file.sum);
}

// Takes the blobs that exist now.
void take_blobs(Ledger& ledger, const Directory& to, Maker& maker) {
  std::vector<std::string> names;
  const Directory stored = ledger.directory().below(blobs_name);
  for (const auto& part : sorted_names(stored)) {
    const auto found = part.size() == 2 ? stored.try_below(part) : std::nullopt;
    if (!found) continue;  // it is not a file of gq
    auto ids = sorted_names(*found);
    if (!ids.empty()) to.make_below(part);
    for (auto& id : ids) {
      if (is_blob_name(id)) names.push_back(std::move(id));
      if (names.size() == most_names) take_known_blobs(ledger, std::exchange(names, {}), maker);
    }
  }
  take_known_blobs(ledger, names, maker);
}

// Writes the manifest and gives the snapshot its name. From then on it is a snapshot.
void publish(Snapshot& snapshot, TemporaryDirectory& temporary, const std::string& path) {
  const std::string manifest = encode_manifest(snapshot);
  if (manifest.size() > max_manifest)
    throw Error(Exit::storage, "cannot make a snapshot of " + counted(snapshot.file_count, "file") +
                                   ": its manifest would be longer than 512 MiB");
  temporary.inside.publish(manifest_name, manifest, false);
  const Directory& collection = temporary.parent;
  for (Millis at = snapshot.created_at;; ++at) {
    snapshot.name = name_for(at);
    snapshot.path = path + "/" + snapshot.name;
    if (collection.rename_new(temporary.name, collection, snapshot.name)) break;
    if (errno != EEXIST) throw_errno(Exit::storage, "name the snapshot");
  }
  temporary.name.clear();
  collection.sync();
}

}  // namespace

Snapshot create_snapshot(Ledger& ledger, const std::string& directory, const ShowProgress& progress) {
  make_directories(directory);
  const Directory collection(directory);
  Snapshot snapshot;
  snapshot.store = read_settings(ledger.directory()).store_id;
  const auto before = snapshots_before(collection, snapshot.store);
  const Snapshot* last = before.empty() ? nullptr : &before.back();
  TemporaryDirectory temporary(collection);
  temporary.inside.make_below(journal_name);
  const Directory blobs = temporary.inside.make_below(blobs_name);
  // Do not link files of another user, who could still change them.
  const bool links = last && last->directory().belongs_to(::geteuid());
  Maker maker(ledger.directory(), temporary.inside, links ? last : nullptr, snapshot, progress);
  Fd lock = ledger.open_clean_lock();
  {
    FileLock linking(lock.get(), FileLock::Mode::shared);
    snapshot.created_at = now_ms();
    if (last) snapshot.created_at = std::clamp(last->created_at + Millis(1), snapshot.created_at, last_time);
    take_journal(ledger, snapshot, maker);
    take_blobs(ledger, blobs, maker);
  }
  maker.finish();
  tell_missing(ledger, snapshot);
  ledger.for_each_function([&](const std::string&, const Counters& c) { snapshot.jobs += c.live(); });
  ledger.for_each_trouble([&](const Trouble& t) {
    snapshot.damaged = snapshot.damaged || ((t.kind == Trouble::Kind::damage || t.kind == Trouble::Kind::missing) &&
                                            t.lsn < snapshot.position);
  });
  sync_files(temporary.inside);
  publish(snapshot, temporary, directory);
  return snapshot;
}

std::vector<Snapshot> list_snapshots(const std::string& path,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad) {
  std::string directory = path;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  if (!file_exists(directory)) throw Error(Exit::no_input, "cannot read " + printable(directory) + ": it is not there");
  return list_snapshots(Directory(directory, Exit::no_input), bad);
}

std::vector<Snapshot> list_snapshots(const Directory& directory,
                                     const std::function<void(const std::string& path, const std::string& why)>& bad) {
  std::vector<Snapshot> all;
  std::string why;
  const auto names = sorted_names(directory);
  bool single = std::any_of(names.begin(), names.end(), [](const std::string& n) {
    return n == manifest_name || n == settings_name || n == journal_name;
  });
  if (single) {
    if (auto s = read_snapshot(directory, "", why)) all.push_back(std::move(*s));
    else bad(directory.path_of(manifest_name), why);
    return all;
  }
  for (const auto& name : names) {
    struct stat st;
    if (!is_snapshot_name(name) || !directory.look_at(name, st) || !S_ISDIR(st.st_mode)) continue;
    auto s = read_snapshot(directory, name, why);
    if (!s) {
      bad(directory.path_of(name) + "/" + manifest_name, why);
      continue;
    }
    // Do not sort by position: a restored store continues from an older position.
    auto at = std::upper_bound(all.begin(), all.end(), *s, [](const Snapshot& a, const Snapshot& b) {
      return std::pair(a.created_at, a.position) < std::pair(b.created_at, b.position);
    });
    if (at != all.end()) s->files.clear();
    else if (!all.empty()) all.back().files.clear();
    all.insert(at, std::move(*s));
  }
  return all;
}

bool verify_snapshot(const Snapshot& listed,
                     const std::function<void(const std::string& path, const std::string& why)>& bad,
                     const ShowProgress& progress) {
  std::string gone;
  const auto read = read_files(listed, gone);
  if (!gone.empty()) {
    bad(listed.path + "/" + manifest_name, gone);
    return false;
  }
  const Snapshot& snapshot = read ? *read : listed;
  bool good = true;
  Tree tree(snapshot.directory(), Exit::bad_data);
  uint64_t files = 0, bytes = 0;
  for (const auto& [name, file] : snapshot.files) {
    std::string why;
    try {
      Fd fd = tree.of(name).open(leaf_of(name), O_RDONLY, Exit::bad_data);
      if (uint64_t size = file_size(fd.get()); size != file.size)
        why = "it has " + std::to_string(size) + " bytes, and should have " + std::to_string(file.size);
      else if (sum_part(fd.get(), 0, file.size) != file.sum) why = "its checksum is wrong";
    } catch (const Error& e) {
      why = reason_of(e);
    }
    if (!why.empty()) bad(snapshot.path + "/" + name, why);
    good = good && why.empty();
    bytes += file.size;
    if (progress) progress(++files, bytes);
  }
  return good;
}

namespace {

// Copies a snapshot to a store. The store is complete when its gq.json is written.
Group copy_snapshot(const Snapshot& snapshot, const Directory& target, const ShowProgress& progress) {
  const Directory journal = target.make_below(journal_name), blobs = target.make_below(blobs_name);
  Tree source(snapshot.directory(), Exit::bad_data);
  uint64_t files = 0, bytes = 0;
  for (const auto& [name, file] : snapshot.files) {
    const std::string from = snapshot.path + "/" + name, leaf = leaf_of(name);
    Fd fd = source.of(name).open(leaf, O_RDONLY, Exit::bad_data);
    if (file_size(fd.get()) != file.size)
      throw Error(Exit::bad_data, "cannot restore " + printable(from) + ": it has another size");
    if (name != settings_name) {
      const Directory to = is_blob_name(leaf) ? blobs.make_below(blob_part(leaf)) : journal;
      if (copy_file(fd.get(), name, to, file.size, true) != file.sum)
        throw Error(Exit::bad_data, "cannot restore " + printable(from) + ": its checksum is wrong");
    } else if (sum_part(fd.get(), 0, file.size) != file.sum) {
      throw Error(Exit::bad_data, "cannot restore " + printable(from) + ": its checksum is wrong");
    }
    bytes += file.size;
    if (progress) progress(++files, bytes);
  }
  Settings settings = read_settings(source.root());
  if (settings.group) settings.group.self.store = new_ulid();
  sync_files(target);
  write_settings(target, settings, false);  // from now on it is a store
  return settings.group;
}

}  // namespace

Group restore_snapshot(const Snapshot& listed, const std::string& directory, const ShowProgress& progress) {
  std::string gone;
  const auto read = read_files(listed, gone);
  if (!gone.empty()) throw Error(Exit::bad_data, "cannot restore " + printable(listed.path) + ": " + gone);
  const Snapshot& snapshot = read ? *read : listed;
  const Directory target = Directory::of_store(directory, true);
  const bool again = target.has(restoring_name) && !target.has(settings_name);
  auto is_free = [&] {
    if (again) return !target.has(settings_name);
    const auto there = target.names();
    return std::all_of(there.begin(), there.end(),
                       [](const std::string& name) { return name == "lost+found" || name == restoring_name; });
  };
  auto refusal = [&] { return Error(Exit::config, "cannot restore to " + printable(directory) + ": it is not empty"); };
  if (!is_free()) throw refusal();
  Fd lock = target.open(restoring_name, O_RDWR | O_CREAT);
  if (!try_lock(lock.get(), FileLock::Mode::exclusive) || !target.is(lock.get(), restoring_name))
    throw Error(Exit::retry, "cannot restore to " + printable(directory) + ": another process is restoring to it");
  if (!is_free()) {  // another process has restored to it since the first check
    target.remove(restoring_name);
    throw refusal();
  }
  auto clear = [&] {
    for (const char* part : {journal_name, blobs_name}) target.remove_tree(part);
  };
  clear();
  try {
    Group group = copy_snapshot(snapshot, target, progress);
    target.remove(restoring_name);
    return group;
  } catch (const Error&) {
    try {
      if (!target.has(settings_name)) {
        clear();  // a wrong file may have filled the disk
        target.remove(restoring_name);
      }
    } catch (const Error&) {  // the next restore will clear it
    }
    throw;
  }
}

std::vector<std::string> prune_snapshots(
    const std::string& directory, const Retention& retention,
    const std::function<void(const std::string& path, const std::string& why)>& bad) {
  if (!file_exists(directory)) throw Error(Exit::no_input, "cannot read " + printable(directory) + ": it is not there");
  const Directory collection(directory, Exit::no_input);
  auto all = list_snapshots(collection, [](const auto&, const auto&) {});
  std::set<std::string> keep;
  struct Rule {
    uint64_t most;
    const char* format;
  };
  auto choose = [&](bool damaged) {
    // For the rule without a format, the period is the name itself, so the rule keeps the last snapshots.
    for (const Rule& rule :
         {Rule{retention.last, nullptr}, Rule{retention.hourly, "%Y%m%d%H"}, Rule{retention.daily, "%Y%m%d"},
          Rule{retention.weekly, "%G%V"}, Rule{retention.monthly, "%Y%m"}, Rule{retention.yearly, "%Y"}}) {
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
  auto remove = [&](const std::string& name, bool known) {
    std::optional<Directory> lock;
    try {
      lock = collection.below_of_any(name, Exit::storage);
    } catch (const Error&) {  // it is a link, or another user's private directory
      return;
    }
    try {
      if (!try_lock(lock->fd(), FileLock::Mode::exclusive)) return;
      if (known || is_of_snapshot(*lock)) collection.remove_tree(name);
      else bad(collection.path_of(name), "it holds files that no snapshot has");
    } catch (const Error& e) {
      bad(collection.path_of(name), reason_of(e));
    }
  };
  std::vector<std::string> renamed;
  for (const auto& s : all) {
    if (keep.count(s.name)) continue;
    const std::string aside = "tmp." + new_ulid();
    if (!collection.rename(s.name, aside)) {
      if (errno != ENOENT) bad(s.path, errno_text(errno));  // if it is gone, another prune has removed it
      continue;
    }
    removed.push_back(s.name);
    renamed.push_back(aside);
  }
  // Otherwise a power cut could bring back the name of a snapshot of which some files are gone.
  if (!renamed.empty()) collection.sync();
  for (const auto& name : renamed) remove(name, true);
  for (const auto& name : sorted_names(collection))
    if (is_temporary_name(name) && name.size() == temporary_prefix.size() + ulid_size) remove(name, false);
  return removed;
}

}  // namespace gq
