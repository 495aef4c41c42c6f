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
constexpr size_t sector = 64;              // the bytes that are written atomically; on real disks 512 or more

int fail(int error) {
  errno = error;
  return -1;
}

}  // namespace

struct SimulatedDisk::Node {
  uint64_t number = 0;
  bool is_directory = false;

  // A file: the bytes that processes see, and those that the disk has. `kept` may be longer than the file's size on the
  // disk, `kept_size`.
  std::string seen, kept;
  uint64_t kept_size = 0, allocated = 0;
  std::map<size_t, std::vector<std::string>> dirty;  // all versions of a page since its last write-back, newest last
  std::vector<uint64_t> sizes;                       // all sizes since the last sync
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

void SimulatedDisk::write(Node& node, std::string_view bytes, uint64_t offset) {
  if (bytes.empty()) return;
  if (node.seen.size() < offset + bytes.size()) {
    node.seen.resize(offset + bytes.size());
    node.sizes.push_back(node.seen.size());
  }
  std::copy(bytes.begin(), bytes.end(), node.seen.begin() + static_cast<long>(offset));
  for (size_t page = offset / m_page_size; page <= (offset + bytes.size() - 1) / m_page_size; ++page)
    node.dirty[page].push_back(page_of(node.seen, page));
}

void SimulatedDisk::resize(Node& node, uint64_t size) {
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

void SimulatedDisk::lose_power() { settle_directory(*m_root); }

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

// Returns false and sets errno if the call has to fail at once.
bool SimulatedProcess::starts(const char* call, int fd, const std::string& more) {
  if (!m_dead && !m_kernel.runs(*this, call, std::to_string(fd) + " " + more)) die();
  if (m_dead || m_disk.happens(m_disk.m_faults.calls)) {
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
  open->node->open.insert(open.get());
  const int fd = m_disk.m_next++;
  m_disk.m_open[fd] = std::move(open);
  m_own.insert(fd);
  return fd;
}

int SimulatedProcess::openat(int directory, const char* name, int flags, mode_t) {
  if (!starts("open", directory, name)) return -1;
  auto in = directory_of(directory);
  if (!in) return fail(ENOTDIR);
  const std::string entry = name;
  auto node = entry == "." || entry == "/" ? in : in->find(entry);
  if (node && (flags & O_CREAT) && (flags & O_EXCL)) return fail(EEXIST);
  if (!node && !(flags & O_CREAT)) return fail(ENOENT);
  if (!node) {
    if (m_disk.m_full && m_disk.m_random.chance(2)) return fail(ENOSPC);
    node = std::make_shared<Node>();
    node->number = ++m_disk.m_nodes;
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
  if (!starts("write", fd, std::to_string(size) + " at " + std::to_string(offset))) {
    // The failed call may still have written some of the bytes.
    if (open && m_disk.m_random.chance(2) && m_disk.m_open.count(fd))
      m_disk.write(*open->node, bytes.substr(0, m_disk.m_random.below(size + 1)), static_cast<uint64_t>(offset));
    return -1;
  }
  if (!(open = find(fd)) || !open->writes) return fail(EBADF);
  if (m_disk.m_full) {
    const uint64_t pages = (open->node->seen.size() + m_disk.m_page_size - 1) / m_disk.m_page_size;
    const uint64_t room = std::max<uint64_t>(pages * m_disk.m_page_size, open->node->allocated);
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
  if (m_disk.m_full) return fail(ENOSPC);
  open->node->allocated = std::max(open->node->allocated, static_cast<uint64_t>(size));
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
    node.kept_entries = node.entries;
    for (const auto& change : node.changes)
      if (change.both) *change.both = true;
    node.changes.clear();
    return 0;
  }
  bool whole = true;
  while (!node.dirty.empty()) whole = m_disk.write_back(node, node.dirty.begin()->first) && whole;
  if (whole) {
    node.kept_size = node.seen.size();
    node.sizes.clear();
  }
  if (!std::exchange(open->has_error, false)) return 0;
  return fail(EIO);
}

int SimulatedProcess::renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) {
  if (!starts("rename", from, std::string(name) + " " + new_name)) return -1;
  auto source = directory_of(from), target = directory_of(to);
  auto node = source ? source->find(name) : nullptr;
  if (!node || !target) return fail(ENOENT);
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

int SimulatedProcess::linkat(int from, const char* name, int to, const char* new_name, int) {
  if (!starts("link", from, std::string(name) + " " + new_name)) return -1;
  auto source = directory_of(from), target = directory_of(to);
  auto node = source ? source->find(name) : nullptr;
  if (!node || !target) return fail(ENOENT);
  if (target->find(new_name)) return fail(EEXIST);
  target->change({"", new_name, node});
  return 0;
}

int SimulatedProcess::unlinkat(int directory, const char* name, int) {
  if (!starts("unlink", directory, name)) return -1;
  auto in = directory_of(directory);
  if (!in || !in->find(name)) return fail(ENOENT);
  in->change({name, "", nullptr});
  return 0;
}

int SimulatedProcess::mkdirat(int directory, const char* name, mode_t) {
  if (!starts("mkdir", directory, name)) return -1;
  auto in = directory_of(directory);
  if (!in) return fail(ENOENT);
  if (in->find(name)) return fail(EEXIST);
  auto node = std::make_shared<Node>();
  node->number = ++m_disk.m_nodes;
  node->is_directory = true;
  in->change({"", name, node});
  return 0;
}

int SimulatedProcess::fstat(int fd, struct stat* st) {
  if (!starts("stat", fd)) return -1;
  Open* open = find(fd);
  if (!open) return -1;
  const Node& node = *open->node;
  *st = {};
  st->st_ino = node.number;
  st->st_mode = node.is_directory ? S_IFDIR | S_IRWXU : S_IFREG | S_IRUSR | S_IWUSR;
  st->st_uid = ::geteuid();
  st->st_size = static_cast<off_t>(node.seen.size());
  st->st_blocks = static_cast<blkcnt_t>(std::max<uint64_t>(node.seen.size(), node.allocated) / 512);
  return 0;
}

int SimulatedProcess::fstatat(int directory, const char* name, struct stat* st, int) {
  if (m_dead) return fail(EIO);
  auto in = directory_of(directory);
  auto node = in ? in->find(name) : nullptr;
  if (!node) return fail(ENOENT);
  const int fd = open_node(node, false);
  const int rc = fstat(fd, st), saved = errno;
  close(fd);
  errno = saved;
  return rc;
}

int SimulatedProcess::fstatfs(int fd, struct statfs* fs) {
  if (!starts("statfs", fd)) return -1;
  *fs = {};
  fs->f_bsize = fs->f_frsize = 4096;
  fs->f_blocks = 1 << 20;
  fs->f_bavail = m_disk.m_full ? 0 : fs->f_blocks / 2 + 1;
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
