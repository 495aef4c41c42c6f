#include "gq/base/directory.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "gq/base/disk.hpp"
#include "gq/base/given.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"

namespace gq {
namespace {

constexpr const char *is_link = "it is a link, and none is followed here",
                     *is_of_another = "it belongs to another user";

bool is_entry(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

Fd open_at(int directory, const std::string& name, int flags) {
  int fd;
  do {
    fd = disk().openat(directory, name.c_str(), flags | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  return Fd(fd);
}

std::string birth_of(const struct statx& st) {
  if (!(st.stx_mask & STATX_BTIME)) return "";
  return std::to_string(st.stx_btime.tv_sec) + "." + padded(st.stx_btime.tv_nsec, 9);
}

// Removes the permissions of other users from a file or directory of this user. On a read-only disk they stay.
void make_private(int fd, const struct stat& st, mode_t mode) {
  if (st.st_uid == ::geteuid() && (st.st_mode & (S_IRWXG | S_IRWXO))) (void)!::fchmod(fd, mode);
}

// File systems that other machines may share, so that flock(2) or fsync(2) may not do what gq needs. The numbers are
// those of statfs(2). FUSE is treated as a network file system: it may be sshfs or glusterfs, and the owners that it
// reports may be false.
bool is_network_file_system(long type) {
  constexpr uint32_t smb2 = 0xfe534d42, ceph = 0x00c36400, lustre = 0x0bd00bd0, gpfs = 0x47504653, cifs = 0xff534d42,
                     gfs2 = 0x01161970, fuse = 0x65735546, orangefs = 0x20030528, beegfs = 0x19830326,
                     panfs = 0xaad7aaea, stornext = 0xbeefdead, vboxsf = 0x786f4256, vmhgfs = 0xbacbacbc,
                     parallels = 0x7c7c6673;
  auto is_one_of = [&](auto... numbers) {
    return ((static_cast<uint32_t>(type) == static_cast<uint32_t>(numbers)) || ...);
  };
  return is_one_of(NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, AFS_SUPER_MAGIC, AFS_FS_MAGIC, CODA_SUPER_MAGIC, V9FS_MAGIC,
                   OCFS2_SUPER_MAGIC, smb2, ceph, lustre, gpfs, cifs, gfs2, fuse, orangefs, beegfs, panfs, stornext,
                   vboxsf, vmhgfs, parallels);
}

bool quietly(int error_number, bool result = false) {
  errno = error_number;
  return result;
}

}  // namespace

Directory::Directory(const std::string& path, Exit code) : m_path(path) {
  Fd fd = gq::try_open(path, O_RDONLY | O_DIRECTORY);
  if (!fd) throw_errno(code, "read the directory " + printable(path));
  *this = Directory(path, std::move(fd));
}

Directory::Directory(std::string path, Fd fd, bool keeps_private)
    : m_path(std::move(path)), m_keeps_private(keeps_private) {
  struct stat st;
  if (disk().fstat(fd.get(), &st) != 0) throw_errno(Exit::storage, "look at " + printable(m_path));
  m_owner = st.st_uid;
  if (keeps_private) make_private(fd.get(), st, S_IRWXU);
  m_fd = std::make_shared<const Fd>(std::move(fd));
}

Directory Directory::of_store(const std::string& path, bool create, bool link) {
  const std::string what = "open the store " + printable(path);
  auto refuse = [&](const std::string& why) { return Error(Exit::config, "cannot " + what + ": " + why); };
  auto fail = [&] { throw_errno(errno == EIO ? Exit::storage : Exit::config, what); };
  // O_PATH: nothing is read before the owner is known.
  const int flags = link ? O_PATH : O_PATH | O_NOFOLLOW;
  Fd place = gq::try_open(path, flags);
  if (!place && errno == ENOENT) {
    if (!create) throw refuse("there is none");
    make_directories(path);
    place = gq::try_open(path, flags);
  }
  struct stat st;
  if (!place || disk().fstat(place.get(), &st) != 0) fail();
  if (!S_ISDIR(st.st_mode)) throw refuse(S_ISLNK(st.st_mode) ? is_link : "it is not a directory");
  if (st.st_mode & (S_IWGRP | S_IWOTH)) throw refuse("others can write to it (chmod 700 it)");
  // Root is refused, too: the owner could not use the files that root would make.
  if (st.st_uid != ::geteuid()) throw refuse(owner_problem(st.st_uid));
  struct statfs fs;
  if (disk().fstatfs(place.get(), &fs) != 0) fail();
  if (is_network_file_system(fs.f_type))
    throw refuse("it is on a network file system, which cannot lock and sync as gq needs");
  Fd fd = open_at(place.get(), ".", O_RDONLY | O_DIRECTORY);
  if (!fd) fail();
  return Directory(path, std::move(fd));
}

Directory Directory::kept_private() const {
  Directory same = *this;
  same.m_keeps_private = true;
  return same;
}

std::string Directory::identity() const {
  struct stat st;
  struct statx more;
  if (disk().fstat(fd(), &st) != 0 || disk().statx(fd(), "", AT_EMPTY_PATH, STATX_BTIME, &more) != 0)
    throw_errno(Exit::storage, "look at " + printable(m_path));
  const std::string made = birth_of(more);
  return made.empty() ? "" : std::to_string(st.st_dev) + " " + std::to_string(st.st_ino) + " " + made;
}

std::string Directory::made_at(const std::string& name) const {
  struct statx more;
  const bool there = is_entry(name) && disk().statx(fd(), name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BTIME, &more) == 0;
  return there ? birth_of(more) : "";
}

std::string Directory::mount_identity() const {
  constexpr unsigned unique_mount = 0x4000;  // STATX_MNT_ID_UNIQUE: no other mount gets the same number
  struct statx more;
  char boot[64];
  Fd fd = gq::try_open("/proc/sys/kernel/random/boot_id", O_RDONLY);
  const size_t size = fd ? read_at(fd.get(), boot, sizeof boot, 0) : 0;
  if (size == 0 || disk().statx(m_fd->get(), "", AT_EMPTY_PATH, unique_mount, &more) != 0 ||
      !(more.stx_mask & unique_mount))
    return "";
  const std::string_view text(boot, size);
  return std::string(text.substr(0, text.find('\n'))) + " " + std::to_string(more.stx_mnt_id);
}

bool Directory::trusts(const struct stat& st) const { return S_ISREG(st.st_mode) && is_own(st.st_uid); }

bool Directory::is_own(uid_t user) const { return user == m_owner || user == 0 || user == ::geteuid(); }

bool Directory::lets_in_others() const {
  struct stat st;
  return disk().fstat(fd(), &st) != 0 || (st.st_mode & (S_IXGRP | S_IXOTH));
}

Fd Directory::open_checked(const std::string& name, int flags, const char*& why) const {
  why = nullptr;
  if (!is_entry(name)) {
    errno = EINVAL;
    return {};
  }
  // A file that must not be opened is neither waited for nor truncated.
  Fd fd = open_at(m_fd->get(), name, (flags & ~O_TRUNC) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  struct stat st;
  if (!fd) {
    if (errno == ELOOP) why = is_link;
    else if (errno == ENXIO) why = "it is not a regular file";
    return {};
  }
  if (disk().fstat(fd.get(), &st) != 0) return {};
  if (!trusts(st)) {
    why = S_ISREG(st.st_mode) ? is_of_another : "it is not a regular file";
    errno = EPERM;
    return {};
  }
  if (m_keeps_private) make_private(fd.get(), st, S_IRUSR | S_IWUSR);
  if ((flags & O_TRUNC) && disk().ftruncate(fd.get(), 0) != 0) return {};
  ::fcntl(fd.get(), F_SETFL, flags & O_APPEND);  // blocking again: a command may read it
  return fd;
}

Fd Directory::try_open(const std::string& name, int flags) const {
  const char* why;
  return open_checked(name, flags, why);
}

// If `why` is null, errno has the reason.
void Directory::refuse(const std::string& name, const char* why, Exit code) const {
  const std::string what = "open " + printable(path_of(name));
  if (why) throw Error(code == Exit::storage ? Exit::config : code, "cannot " + what + ": " + why);
  throw_errno(code, what);
}

Fd Directory::find(const std::string& name, int flags) const {
  const char* why;
  Fd fd = open_checked(name, flags, why);
  if (!fd && (why || errno != ENOENT)) refuse(name, why, Exit::storage);
  return fd;
}

Fd Directory::open(const std::string& name, int flags, Exit code) const {
  const char* why;
  Fd fd = open_checked(name, flags, why);
  if (!fd) refuse(name, why, code);
  return fd;
}

std::optional<Directory> Directory::step(const std::string& name, bool of_any, const char*& why) const {
  why = nullptr;
  struct stat st;
  if (!is_entry(name)) {
    errno = EINVAL;
    return std::nullopt;
  }
  Fd fd = open_at(m_fd->get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) {
    const int saved = errno;
    if (saved == ENOTDIR && look_at(name, st)) why = S_ISLNK(st.st_mode) ? is_link : "it is not a directory";
    errno = saved;
    return std::nullopt;
  }
  Directory next(path_of(name), std::move(fd), m_keeps_private);
  if (!of_any && !is_own(next.m_owner)) {
    why = is_of_another;
    return std::nullopt;
  }
  if (!of_any) next.m_owner = m_owner;
  return next;
}

Directory Directory::below(const std::string& path, Exit code) const {
  Directory at = *this;
  for (const auto& name : split(path, '/')) {
    const char* why;
    auto next = at.step(name, false, why);
    if (!next) at.refuse(name, why, code);
    at = std::move(*next);
  }
  return at;
}

Directory Directory::below_of_any(const std::string& name, Exit code) const {
  const char* why;
  auto next = step(name, true, why);
  if (!next) refuse(name, why, code);
  return std::move(*next);
}

std::optional<Directory> Directory::find_below(const std::string& name) const {
  struct stat st;
  if (!look_at(name, st) && errno == ENOENT) return std::nullopt;
  return below(name);
}

std::optional<Directory> Directory::try_below(const std::string& name) const {
  const char* why;
  return step(name, false, why);
}

Directory Directory::make_below(const std::string& name) const {
  if (disk().mkdirat(fd(), name.c_str(), 0700) == 0) sync();
  else if (errno != EEXIST) throw_errno(Exit::storage, "create " + printable(path_of(name)));
  return below(name);
}

bool Directory::look_at(const std::string& name, struct stat& st) const {
  return is_entry(name) ? disk().fstatat(fd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 : quietly(EINVAL);
}

bool Directory::has(const std::string& name) const {
  struct stat st;
  return look_at(name, st);
}

bool Directory::is(int file, const std::string& name) const {
  struct stat a, b;
  return disk().fstat(file, &a) == 0 && look_at(name, b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool Directory::remove(const std::string& name) const {
  return is_entry(name) ? disk().unlinkat(fd(), name.c_str(), 0) == 0 : quietly(EINVAL);
}

bool Directory::rename(const std::string& from, const Directory& target, const std::string& to) const {
  return is_entry(from) && is_entry(to) ? disk().renameat2(fd(), from.c_str(), target.fd(), to.c_str(), 0) == 0
                                        : quietly(EINVAL);
}

bool Directory::rename_new(const std::string& from, const Directory& target, const std::string& to) const {
  return is_entry(from) && is_entry(to)
             ? disk().renameat2(fd(), from.c_str(), target.fd(), to.c_str(), RENAME_NOREPLACE) == 0
             : quietly(EINVAL);
}

bool Directory::link(const std::string& from, const Directory& target, const std::string& to) const {
  if (!is_entry(from) || !is_entry(to)) return quietly(EINVAL);
  if (disk().linkat(fd(), from.c_str(), target.fd(), to.c_str(), 0) != 0) return false;
  // link(2) does not tell which file it linked, so check that now.
  struct stat st;
  if (target.look_at(to, st) && trusts(st)) return true;
  target.remove(to);
  return quietly(EPERM);
}

void Directory::remove_tree(const std::string& name, int levels) const {
  struct stat st;
  if (!look_at(name, st) && errno == ENOENT) return;
  if (remove(name) || errno == ENOENT) return;
  if (errno != EISDIR) throw_errno(Exit::storage, "remove " + printable(path_of(name)));
  if (levels == 0)
    throw Error(Exit::storage,
                "cannot remove " + printable(path_of(name)) + ": it stands deeper than any directory that gq makes");
  {
    const Directory inside = below_of_any(name, Exit::storage);
    for (const auto& entry : inside.names()) inside.remove_tree(entry, levels - 1);
  }
  if (disk().unlinkat(fd(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    throw_errno(Exit::storage, "remove " + printable(path_of(name)));
}

void Directory::touch(const std::string& name) const {
  if (is_entry(name)) disk().utimensat(fd(), name.c_str(), AT_SYMLINK_NOFOLLOW);
}

std::vector<std::string> Directory::names() const {
  std::vector<std::string> all;
  if (disk().list(fd(), all) != 0) throw_errno(Exit::storage, "read the directory " + printable(m_path));
  all.erase(std::remove_if(all.begin(), all.end(), [](const auto& name) { return !is_entry(name); }), all.end());
  return all;
}

void Directory::sync() const {
  if (disk().fsync(fd()) != 0) throw_errno(Exit::storage, "sync " + printable(m_path));
}

void Directory::sync_parent() const {
  Fd parent = open_at(fd(), "..", O_RDONLY | O_DIRECTORY);
  if (!parent || disk().fsync(parent.get()) != 0) throw_errno(Exit::storage, "sync " + printable(m_path) + "/..");
}

bool Directory::publish(const std::string& name, std::string_view content, bool replace) const {
  const std::string temporary = "tmp." + new_ulid();
  Fd file = open(temporary, O_WRONLY | O_CREAT | O_EXCL);
  bool done = false;
  try {
    write_all_at(file.get(), content, 0, path_of(temporary));
    if (disk().fsync(file.get()) != 0) throw_errno(Exit::storage, "sync " + printable(path_of(temporary)));
    done = replace ? rename(temporary, name) : disk().linkat(fd(), temporary.c_str(), fd(), name.c_str(), 0) == 0;
    if (!done && (replace || errno != EEXIST)) throw_errno(Exit::storage, "create " + printable(path_of(name)));
    if (!replace) remove(temporary);
    sync();
  } catch (...) {
    remove(temporary);
    throw;
  }
  return done;
}

std::string Directory::reach(const std::string& name) const {
  static const bool has_proc = ::access("/proc/self/fd", X_OK) == 0;
  return (has_proc ? "/proc/self/fd/" + std::to_string(fd()) : m_path) + "/" + name;
}

}  // namespace gq
