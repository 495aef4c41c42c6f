#include "simulated_disk.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

namespace simulate {
namespace {

constexpr int first_descriptor = 1 << 20;  // greater than any real descriptor of this program
constexpr uint64_t block = 512;            // of fstatfs
constexpr char boot_id_path[] = "/proc/sys/kernel/random/boot_id";

int fail(int error) {
  errno = error;
  return -1;
}

}  // namespace

struct SimulatedDisk::Node {
  uint64_t number = 0;
  bool is_directory = false;
  dev_t device = 1;

  // A file: the bytes that processes see, and those that the disk has. `kept` may be longer than the file's size on the
  // disk, `kept_size`.
  std::string seen, kept;
  uint64_t kept_size = 0, allocated = 0;
  uint64_t made = 0, modified = 0, kept_modified = 0;  // times
  std::map<size_t, std::vector<std::string>> dirty;    // all versions of a page since its last write-back, newest last
  std::vector<uint64_t> sizes;                         // since the last sync
  bool has_unseen_error = false;                       // that no descriptor has reported
  std::set<Open*> open, shared;
  Open* exclusive = nullptr;

  // A directory: its entries in the order of their creation.
  struct Change {
    std::string removed, name;
    NodePtr node;  // what `name` refers to after the change; null if the change only removes
    // For a rename from one directory to another, the two changes share this: whether the disk has both.
    std::shared_ptr<std::optional<bool>> both = nullptr;
  };
  using Entries = std::vector<std::pair<std::string, NodePtr>>;
  Entries entries, kept_entries;
  std::vector<Change> changes;  // all changes since the last sync

  static Entries::iterator at(Entries& all, const std::string& name) {
    return std::find_if(all.begin(), all.end(), [&](const auto& e) { return e.first == name; });
  }
  NodePtr find(const std::string& name) {
    auto found = at(entries, name);
    return found == entries.end() ? nullptr : found->second;
  }
  static void apply(Entries& all, const Change& change) {
    if (auto old = at(all, change.removed); old != all.end() && (!change.node || old->second == change.node))
      all.erase(old);
    if (!change.node) return;
    if (auto old = at(all, change.name); old != all.end()) old->second = change.node;
    else all.push_back({change.name, change.node});
  }
  void change(Change c) {
    apply(entries, c);
    changes.push_back(std::move(c));
  }
};

struct SimulatedDisk::Open {
  NodePtr node;
  bool writes = false, has_error = false;
  uint64_t losses = 0;  // of the disk, when it was opened
};

SimulatedDisk::SimulatedDisk(size_t page_size, uint64_t seed)
    : m_page_size(page_size), m_random(seed), m_root(std::make_shared<Node>()), m_next(first_descriptor) {
  m_root->is_directory = true;
}

SimulatedDisk::~SimulatedDisk() = default;

std::string SimulatedDisk::page_of(const std::string& bytes, size_t page) const {
  const size_t from = std::min(page * m_page_size, bytes.size());
  std::string content = bytes.substr(from, m_page_size);
  content.resize(m_page_size);
  return content;
}

uint64_t SimulatedDisk::taken(const Node& node) const { return std::max(rounded(node.seen.size()), node.allocated); }

uint64_t SimulatedDisk::used() const {
  std::set<const Node*> all;
  std::vector<const Node*> directories{m_root.get()};
  while (!directories.empty()) {
    const Node& directory = *directories.back();
    directories.pop_back();
    for (const auto& [name, node] : directory.entries)
      if (node->is_directory) directories.push_back(node.get());
      else all.insert(node.get());
  }
  for (const auto& [fd, open] : m_open) all.insert(open->node.get());
  uint64_t size = 0;
  for (const Node* node : all) size += taken(*node);
  return size;
}

// Whether the next call fails.
bool SimulatedDisk::fails() {
  constexpr unsigned again = 3, most = 2;
  const bool next = m_failed < most && happens(m_failed > 0 ? std::min(m_faults.calls, again) : m_faults.calls);
  m_failed = next ? m_failed + 1 : 0;
  return next;
}

// Whether a write at this offset fails that would not fail elsewhere.
bool SimulatedDisk::fails_over(const Node& node, uint64_t offset) {
  if (offset >= node.seen.size() || !happens(m_faults.overwrites)) return false;
  ++m_failed;
  errno = EIO;
  return true;
}

void SimulatedDisk::touch(Node& node) { node.modified = ++m_time; }

// After that the disk has all of the file, unless a page was lost.
void SimulatedDisk::sync(Node& node, bool& whole) {
  bool all = true;
  while (!node.dirty.empty()) all = write_back(node, node.dirty.begin()->first) && all;
  node.kept_modified = node.modified;
  if (all) {
    node.kept_size = node.seen.size();
    node.sizes.clear();
  }
  whole = whole && all;
}

void SimulatedDisk::sync_directory(Node& node) {
  node.kept_entries = node.entries;
  for (const auto& change : node.changes)
    if (change.both) *change.both = true;
  node.changes.clear();
}

void SimulatedDisk::write(Node& node, std::string_view bytes, uint64_t offset) {
  if (bytes.empty()) return;
  touch(node);
  if (node.seen.size() < offset + bytes.size()) {
    node.seen.resize(offset + bytes.size());
    node.sizes.push_back(node.seen.size());
  }
  std::copy(bytes.begin(), bytes.end(), node.seen.begin() + static_cast<long>(offset));
  for (size_t page = offset / m_page_size; page <= (offset + bytes.size() - 1) / m_page_size; ++page)
    node.dirty[page].push_back(page_of(node.seen, page));
}

// How many bytes a write writes before it fails.
size_t SimulatedDisk::any_part(const Node& node, std::string_view bytes, uint64_t offset) {
  std::vector<size_t> changed;
  for (size_t i = 0; i < bytes.size(); ++i)
    if (offset + i >= node.seen.size() || node.seen[offset + i] != bytes[i]) changed.push_back(i);
  return changed.empty() || m_random.chance(4) ? m_random.below(bytes.size() + 1)
                                               : changed[m_random.below(changed.size())];
}

void SimulatedDisk::resize(Node& node, uint64_t size) {
  touch(node);
  if (size < node.seen.size()) node.allocated = 0;
  node.seen.resize(size);
  node.sizes.push_back(size);
  node.dirty.erase(node.dirty.lower_bound((size + m_page_size - 1) / m_page_size), node.dirty.end());
  if (size % m_page_size) node.dirty[size / m_page_size].push_back(page_of(node.seen, size / m_page_size));
}

void SimulatedDisk::keep_page(Node& node, size_t page, const std::string& content) {
  if (node.kept.size() < (page + 1) * m_page_size) node.kept.resize((page + 1) * m_page_size);
  std::copy(content.begin(), content.end(), node.kept.begin() + static_cast<long>(page * m_page_size));
}

// Writes a page back. Returns false if the disk has lost it. The page is clean in both cases.
bool SimulatedDisk::write_back(Node& node, size_t page) {
  const bool lost = happens(m_faults.losses);
  if (!lost) keep_page(node, page, page_of(node.seen, page));
  node.dirty.erase(page);
  if (!lost) return true;
  ++m_losses;
  for (Open* open : node.open) open->has_error = true;
  node.has_unseen_error = !m_forgets_errors;
  return false;
}

// Writes back a random page of a random file. If the page is clean, may instead read it again from the disk.
void SimulatedDisk::write_some_back() {
  std::erase_if(m_files, [](const auto& file) { return file.expired(); });
  if (m_files.empty()) return;
  Node& node = *m_files[m_random.below(m_files.size())].lock();
  if (node.seen.empty()) return;
  const size_t page = m_random.below((node.seen.size() - 1) / m_page_size + 1);
  if (node.dirty.count(page)) {
    write_back(node, page);
  } else if (happens(m_faults.rereads)) {
    const std::string content = page_of(node.kept, page);
    const size_t from = page * m_page_size, size = std::min(m_page_size, node.seen.size() - from);
    std::copy_n(content.begin(), size, node.seen.begin() + static_cast<long>(from));
  }
}

std::string SimulatedDisk::any_of(const std::vector<std::string>& versions) {
  const std::string& one = versions[m_random.below(versions.size())];
  if (!m_random.chance(4)) return one;
  std::string torn = versions[m_random.below(versions.size())];
  const size_t from = m_random.below(m_page_size / sector) * sector;
  std::copy(one.begin(), one.begin() + static_cast<long>(from), torn.begin());
  return torn;
}

void SimulatedDisk::settle(Node& file) {
  std::vector<uint64_t> sizes = file.sizes;
  sizes.push_back(file.kept_size);
  // The disk keeps nothing, everything, or a part.
  const uint64_t which = m_random.below(4);
  file.kept_size = which == 0 ? file.kept_size : which == 1 ? file.seen.size() : sizes[m_random.below(sizes.size())];
  for (auto& [page, versions] : file.dirty) {
    std::vector<std::string> all{page_of(file.kept, page)};
    if (which == 1) all = {versions.back()};
    else if (which > 1) all.insert(all.end(), versions.begin(), versions.end());
    keep_page(file, page, any_of(all));
  }
  file.kept.resize(file.kept_size);
  file.seen = file.kept;
  if (which == 0) file.modified = file.kept_modified;
  file.dirty.clear();
  file.sizes.clear();
}

void SimulatedDisk::settle_directory(Node& directory) {
  const uint64_t which = m_random.below(4);
  size_t left = which == 0 ? 0 : which == 1 ? directory.changes.size() : m_random.below(directory.changes.size() + 1);
  for (const auto& change : directory.changes) {
    bool is_kept = which < 3 ? left > 0 : m_random.chance(2);
    left -= which < 3 && left > 0;
    if (change.both) is_kept = change.both->emplace(change.both->value_or(is_kept));
    if (is_kept) Node::apply(directory.kept_entries, change);
  }
  directory.changes.clear();
  directory.entries = directory.kept_entries;
  for (auto& [name, node] : directory.entries) node->is_directory ? settle_directory(*node) : settle(*node);
}

void SimulatedDisk::lose_power() {
  ++m_boots;
  settle_directory(*m_root);
}

void SimulatedDisk::lose_all() {
  const auto is_lost = [&](const auto& entry) { return entry.second->device == m_root->device; };
  std::erase_if(m_root->entries, is_lost);
  m_root->kept_entries = m_root->entries;
  m_root->changes.clear();
}

std::string SimulatedDisk::to_text() const {
  std::string text;
  for (const auto& [name, node] : m_root->entries) {
    text += name + ": " + std::to_string(node->is_directory ? node->entries.size() : node->seen.size()) + "\n";
    for (const auto& [inside, file] : node->entries)
      text += "  " + inside + ": " + std::to_string(file->seen.size()) + ", kept " + std::to_string(file->kept_size) +
              ", dirty pages " + std::to_string(file->dirty.size()) + "\n";
  }
  return text;
}

void SimulatedDisk::release(int fd) {
  auto open = m_open.find(fd);
  Node& node = *open->second->node;
  node.open.erase(open->second.get());
  node.shared.erase(open->second.get());
  if (node.exclusive == open->second.get()) node.exclusive = nullptr;
  m_open.erase(open);
}

// ------------------------------------------------------------------------------------------------------- a process

void SimulatedProcess::die() {
  m_dead = true;
  for (int fd : m_own) m_disk.release(fd);
  m_own.clear();
}

bool SimulatedProcess::goes_on(const char* call, const std::string& what) {
  if (!m_dead && !m_kernel.runs(*this, call, what)) die();
  return !m_dead;
}

// Returns false and sets errno if the call has to fail at once.
bool SimulatedProcess::starts(const char* call, int fd, const std::string& more) {
  if (!goes_on(call, std::to_string(fd) + " " + more) || m_disk.fails()) {
    errno = EIO;
    return false;
  }
  if (m_disk.happens(m_disk.m_faults.write_backs)) m_disk.write_some_back();
  return true;
}

SimulatedDisk::Open* SimulatedProcess::find(int fd) const {
  auto found = m_disk.m_open.find(fd);
  if (found == m_disk.m_open.end()) errno = EBADF;
  return found == m_disk.m_open.end() ? nullptr : found->second.get();
}

SimulatedDisk::NodePtr SimulatedProcess::directory_of(int fd) const {
  if (fd == AT_FDCWD) return m_disk.m_root;
  Open* open = find(fd);
  return open && open->node->is_directory ? open->node : nullptr;
}

int SimulatedProcess::open_node(SimulatedDisk::NodePtr node, bool writes) {
  auto open = std::make_shared<Open>();
  open->node = std::move(node);
  open->writes = writes;
  open->has_error = open->node->has_unseen_error;
  open->losses = m_disk.m_losses;
  open->node->open.insert(open.get());
  const int fd = m_disk.m_next++;
  m_disk.m_open[fd] = std::move(open);
  m_own.insert(fd);
  return fd;
}

SimulatedDisk::NodePtr SimulatedProcess::walk(int fd, const std::string& path, std::string& leaf) const {
  auto at = !path.empty() && path[0] == '/' ? m_disk.m_root : directory_of(fd);
  leaf = ".";
  for (size_t from = 0; at && from < path.size();) {
    const size_t end = std::min(path.find('/', from), path.size());
    if (end > from) {
      if (leaf != ".") at = at->find(leaf);
      if (at && !at->is_directory) at = nullptr;
      leaf = path.substr(from, end - from);
    }
    from = end + 1;
  }
  if (!at) errno = ENOENT;
  return at;
}

SimulatedDisk::NodePtr SimulatedProcess::find_node(int fd, const std::string& path) const {
  std::string leaf;
  auto in = walk(fd, path, leaf);
  // Only the directories at the top are left for their parent.
  auto node = !in || leaf == "." ? in : leaf == ".." ? m_disk.m_root : in->find(leaf);
  if (!node) errno = ENOENT;
  return node;
}

int SimulatedProcess::openat(int directory, const char* name, int flags, mode_t) {
  if (!starts("open", directory, name)) return -1;
  if (std::string(name) == boot_id_path) {
    auto file = std::make_shared<Node>();
    file->seen = "boot-" + std::to_string(m_disk.m_boots) + "\n";
    return open_node(std::move(file), false);
  }
  std::string entry;
  auto in = walk(directory, name, entry);
  auto node = find_node(directory, name);
  if (!in) return fail(ENOENT);
  if (node && (flags & O_CREAT) && (flags & O_EXCL)) return fail(EEXIST);
  if (!node && !(flags & O_CREAT)) return fail(ENOENT);
  if (!node) {
    if (m_disk.free_space() == 0 && m_disk.m_random.chance(2)) return fail(ENOSPC);
    node = std::make_shared<Node>();
    node->number = ++m_disk.m_nodes;
    node->device = in->device;
    m_disk.touch(*node);
    node->made = node->modified;
    m_disk.m_files.push_back(node);
    in->change({"", entry, node});
  }
  if ((flags & O_DIRECTORY) && !node->is_directory) return fail(ENOTDIR);
  return open_node(std::move(node), (flags & O_ACCMODE) != O_RDONLY);
}

int SimulatedProcess::close(int fd) {
  auto found = m_own.find(fd);
  if (m_dead || found == m_own.end()) return fail(EBADF);
  m_disk.release(fd);
  m_own.erase(found);
  return 0;
}

ssize_t SimulatedProcess::pread(int fd, void* buffer, size_t size, off_t offset) {
  if (!starts("read", fd)) return -1;
  Open* open = find(fd);
  if (!open) return -1;
  const std::string& bytes = open->node->seen;
  if (static_cast<uint64_t>(offset) >= bytes.size()) return 0;
  const size_t n = std::min(size, bytes.size() - static_cast<size_t>(offset));
  std::memcpy(buffer, bytes.data() + offset, n);
  return static_cast<ssize_t>(n);
}

ssize_t SimulatedProcess::pwrite(int fd, const void* data, size_t size, off_t offset) {
  Open* open = m_dead ? nullptr : find(fd);
  std::string_view bytes(static_cast<const char*>(data), size);
  bool writes_some = false;
  if (!starts("write", fd, std::to_string(size) + " at " + std::to_string(offset)) ||
      (writes_some = open && m_disk.fails_over(*open->node, static_cast<uint64_t>(offset)))) {
    // The failed call may still have written some of the bytes.
    if (open && (writes_some || m_disk.m_random.chance(2)) && m_disk.m_open.count(fd))
      m_disk.write(*open->node, bytes.substr(0, m_disk.any_part(*open->node, bytes, static_cast<uint64_t>(offset))),
                   static_cast<uint64_t>(offset));
    return -1;
  }
  if (!(open = find(fd)) || !open->writes) return fail(EBADF);
  if (const uint64_t free = m_disk.free_space(); free != SimulatedDisk::endless) {
    const uint64_t room = m_disk.taken(*open->node) + free / m_disk.m_page_size * m_disk.m_page_size;
    const uint64_t from = static_cast<uint64_t>(offset);
    if (from >= room) return fail(ENOSPC);
    bytes = bytes.substr(0, room - from);
  }
  m_disk.write(*open->node, bytes, static_cast<uint64_t>(offset));
  return static_cast<ssize_t>(bytes.size());
}

int SimulatedProcess::ftruncate(int fd, off_t size) {
  if (!starts("truncate", fd, std::to_string(size))) return -1;
  Open* open = find(fd);
  if (!open || !open->writes) return fail(EBADF);
  m_disk.resize(*open->node, static_cast<uint64_t>(size));
  return 0;
}

int SimulatedProcess::fallocate(int fd, int, off_t, off_t size) {
  if (!starts("allocate", fd)) return -1;
  Open* open = find(fd);
  if (!open) return -1;
  const uint64_t now = m_disk.taken(*open->node), then = std::max(now, m_disk.rounded(static_cast<uint64_t>(size)));
  if (then - now > m_disk.free_space()) return fail(ENOSPC);
  open->node->allocated = then;
  return 0;
}

int SimulatedProcess::fsync(int fd) {
  if (!starts("sync", fd)) {
    // Earlier write-backs may already have brought some pages to the disk.
    return -1;
  }
  Open* open = find(fd);
  if (!open) return -1;
  Node& node = *open->node;
  if (node.is_directory) {
    m_disk.sync_directory(node);
    return 0;
  }
  bool whole = true;
  m_disk.sync(node, whole);
  if (!std::exchange(open->has_error, false)) return 0;
  node.has_unseen_error = false;
  ++m_disk.m_failed;
  return fail(EIO);
}

int SimulatedProcess::renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) {
  if (!starts("rename", from, std::string(name) + " " + new_name)) return -1;
  auto source = directory_of(from), target = directory_of(to);
  auto node = source ? source->find(name) : nullptr;
  if (!node || !target) return fail(ENOENT);
  if (source->device != target->device) return fail(EXDEV);
  if ((flags & RENAME_NOREPLACE) && target->find(new_name)) return fail(EEXIST);
  if (source == target) {
    source->change({name, new_name, node});
  } else {
    auto both = std::make_shared<std::optional<bool>>();
    source->change({name, "", nullptr, both});
    target->change({"", new_name, node, both});
  }
  return 0;
}

int SimulatedProcess::clone(int to, int) {
  if (!starts("clone", to)) return -1;
  return fail(EOPNOTSUPP);
}

int SimulatedProcess::linkat(int from, const char* name, int to, const char* new_name, int) {
  if (!starts("link", from, std::string(name) + " " + new_name)) return -1;
  auto source = directory_of(from), target = directory_of(to);
  auto node = source ? source->find(name) : nullptr;
  if (!node || !target) return fail(ENOENT);
  if (source->device != target->device) return fail(EXDEV);
  if (target->find(new_name)) return fail(EEXIST);
  target->change({"", new_name, node});
  return 0;
}

int SimulatedProcess::unlinkat(int directory, const char* name, int flags) {
  if (!starts("unlink", directory, name)) return -1;
  auto in = directory_of(directory);
  auto node = in ? in->find(name) : nullptr;
  if (!node) return fail(ENOENT);
  if (node->is_directory && !(flags & AT_REMOVEDIR)) return fail(EISDIR);
  if (node->is_directory && !node->entries.empty()) return fail(ENOTEMPTY);
  in->change({name, "", nullptr});
  return 0;
}

int SimulatedProcess::mkdirat(int directory, const char* name, mode_t) {
  if (!starts("mkdir", directory, name)) return -1;
  std::string leaf;
  auto in = walk(directory, name, leaf);
  if (!in) return fail(ENOENT);
  if (leaf == "." || in->find(leaf)) return fail(EEXIST);
  auto node = std::make_shared<Node>();
  node->number = ++m_disk.m_nodes;
  node->is_directory = true;
  node->device = in == m_disk.m_root && leaf == m_disk.m_apart ? 2 : in->device;
  m_disk.touch(*node);
  node->made = node->modified;
  in->change({"", leaf, node});
  return 0;
}

int SimulatedProcess::fstat(int fd, struct stat* st) {
  if (!starts("stat", fd)) return -1;
  Open* open = find(fd);
  if (!open) return -1;
  const Node& node = *open->node;
  *st = {};
  st->st_dev = node.device;
  st->st_ino = node.number;
  st->st_mode = node.is_directory ? S_IFDIR | S_IRWXU : S_IFREG | S_IRUSR | S_IWUSR;
  st->st_uid = ::geteuid();
  st->st_size = static_cast<off_t>(node.seen.size());
  st->st_mtim.tv_sec = static_cast<time_t>(node.modified);
  st->st_ctim.tv_sec = static_cast<time_t>(node.modified);
  st->st_blocks = static_cast<blkcnt_t>(std::max<uint64_t>(node.seen.size(), node.allocated) / 512);
  return 0;
}

int SimulatedProcess::fstatat(int directory, const char* name, struct stat* st, int) {
  if (m_dead) return fail(EIO);
  auto node = find_node(directory, name);
  if (!node) return -1;
  const int fd = open_node(node, false);
  const int rc = fstat(fd, st), saved = errno;
  close(fd);
  errno = saved;
  return rc;
}

int SimulatedProcess::statx(int directory, const char* name, int, unsigned mask, struct statx* st) {
  if (!starts("statx", directory, name)) return -1;
  auto node = *name ? find_node(directory, name) : nullptr;
  if (!node && *name) return -1;
  if (Open* open = *name ? nullptr : find(directory)) node = open->node;
  if (!node) return -1;
  *st = {};
  st->stx_mask = mask;
  st->stx_btime.tv_sec = static_cast<int64_t>(node->made);
  st->stx_mnt_id = 1;
  return 0;
}

int SimulatedProcess::futimens(int fd) {
  if (!starts("futimens", fd)) return -1;
  Open* open = find(fd);
  if (!open) return -1;
  m_disk.touch(*open->node);
  return 0;
}

int SimulatedProcess::utimensat(int directory, const char* name, int) {
  if (!starts("utimensat", directory, name)) return -1;
  auto node = find_node(directory, name);
  if (!node) return -1;
  m_disk.touch(*node);
  return 0;
}

// Reports pages that were lost since the descriptor was opened, once.
int SimulatedProcess::syncfs(int fd) {
  if (!starts("syncfs", fd)) return -1;
  Open* open = find(fd);
  if (!open) return -1;
  const dev_t device = open->node->device;
  bool whole = true;
  for (const auto& file : m_disk.m_files)
    if (auto node = file.lock(); node && node->device == device) m_disk.sync(*node, whole);
  std::vector<Node*> directories{m_disk.m_root.get()};
  while (!directories.empty()) {
    Node& directory = *directories.back();
    directories.pop_back();
    if (directory.device == device) m_disk.sync_directory(directory);
    for (const auto& [name, node] : directory.entries)
      if (node->is_directory) directories.push_back(node.get());
  }
  if (std::exchange(open->losses, m_disk.m_losses) == m_disk.m_losses) return 0;
  return fail(EIO);
}

int SimulatedProcess::fstatfs(int fd, struct statfs* fs) {
  if (!starts("statfs", fd)) return -1;
  *fs = {};
  fs->f_bsize = fs->f_frsize = block;
  const bool is_endless = m_disk.m_size == SimulatedDisk::endless;
  fs->f_blocks = is_endless ? 1 << 23 : m_disk.m_size / block;
  fs->f_bavail = std::min<uint64_t>(m_disk.free_space() / block, is_endless ? fs->f_blocks / 2 + 1 : fs->f_blocks);
  return 0;
}

int SimulatedProcess::flock(int fd, int operation) {
  const bool frees = (operation & ~LOCK_NB) == LOCK_UN;
  if (frees ? m_dead : !starts("lock", fd)) return -1;
  Open* open = find(fd);
  if (!open) return -1;
  Node& node = *open->node;
  node.shared.erase(open);
  if (node.exclusive == open) node.exclusive = nullptr;
  if (frees) return 0;
  const bool shares = (operation & ~LOCK_NB) == LOCK_SH;
  if (node.exclusive || (!shares && !node.shared.empty())) return fail(EWOULDBLOCK);
  if (shares) node.shared.insert(open);
  else node.exclusive = open;
  return 0;
}

int SimulatedProcess::list(int directory, std::vector<std::string>& names) {
  if (!starts("list", directory)) return -1;
  auto in = directory_of(directory);
  if (!in) return fail(ENOTDIR);
  for (const auto& [name, node] : in->entries) names.push_back(name);
  return 0;
}

}  // namespace simulate
