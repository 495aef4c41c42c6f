#include "gq/base/given.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <filesystem>
#include <thread>

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr int most_links = 40;  // as in the kernel
constexpr const char* standard_names[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};

// Returns another descriptor for the same open file. Refuses descriptors that this program has opened itself; these
// have FD_CLOEXEC.
Fd duplicate(int fd, int flags) {
  const int wrong = (flags & O_ACCMODE) == O_RDONLY ? O_WRONLY : O_RDONLY;
  const int own = ::fcntl(fd, F_GETFD), status = ::fcntl(fd, F_GETFL);
  if (own >= 0 && !(own & FD_CLOEXEC) && (status & O_ACCMODE) != wrong) return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  errno = EBADF;
  return Fd();
}

bool is_trusted(const struct stat& st) { return st.st_uid == ::geteuid() || st.st_uid == 0; }

// Recognises /dev/null by its number, because in a user namespace its owner is reported as 65534.
bool is_null_device(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == ::makedev(1, 3); }

unsigned kind_of(const struct stat& st) {
  if (is_null_device(st)) return device | null_device;
  return S_ISREG(st.st_mode) ? regular_file : S_ISFIFO(st.st_mode) ? fifo : S_ISCHR(st.st_mode) ? device : other_kind;
}

std::string name_of(mode_t mode) {
  return S_ISFIFO(mode)   ? "a FIFO"
         : S_ISSOCK(mode) ? "a socket"
         : S_ISDIR(mode)  ? "a directory"
         : S_ISREG(mode)  ? "a file"
                          : "a device";
}

// Returns the descriptor of this process that a path names. Does not follow a link of another user, because that user
// could then choose which file is trusted.
std::optional<int> descriptor_of(const std::string& name) {
  std::filesystem::path path = name;
  for (int links = 0; links < most_links; ++links) {
    for (std::string_view directory : {"/dev/fd/", "/proc/self/fd/"})
      if (auto number = path.native().rfind(directory, 0) == 0 ? parse_count(path.native().substr(directory.size()))
                                                               : std::nullopt)
        return *number <= INT32_MAX ? std::optional(static_cast<int>(*number)) : std::nullopt;
    for (int fd = 0; fd < 3; ++fd)  // before the links are checked: in a user namespace, these belong to 65534
      if (path == standard_names[fd]) return fd;
    struct stat st;
    if (::lstat(path.c_str(), &st) != 0 || !is_trusted(st)) return std::nullopt;
    std::error_code failed;
    auto next = std::filesystem::read_symlink(path, failed);
    if (failed) return std::nullopt;
    path = next.is_absolute() ? next : path.parent_path() / next;
  }
  return std::nullopt;
}

// Opens a file, or creates it if it is missing. Creates it under its own name, not where a link leads that appeared
// after the name was checked. If the name is a link of this user or of root to a missing file, creates that file: the
// link is read once, when its owner is checked. Returns an empty Fd and sets errno on failure.
Fd open_or_make(const std::string& path, int flags, mode_t mode, int links = 0) {
  for (int tries = 0; tries < most_links; ++tries) {
    Fd fd = try_open(path, flags & ~O_CREAT);
    if (fd || errno != ENOENT || !(flags & O_CREAT)) return fd;
    fd = try_open(path, flags | O_EXCL, mode);
    if (fd || errno != EEXIST) return fd;
    struct stat st;
    char target[PATH_MAX];
    Fd there = try_open(path, O_PATH | O_NOFOLLOW);
    if (!there || ::fstat(there.get(), &st) != 0 || !S_ISLNK(st.st_mode)) continue;  // another process has created it
    const ssize_t size =
        is_trusted(st) && links < most_links ? ::readlinkat(there.get(), "", target, sizeof target) : -1;
    if (size > 0 && static_cast<size_t>(size) < sizeof target)
      return open_or_make(std::filesystem::path(path).parent_path() / std::string(target, static_cast<size_t>(size)),
                          flags, mode, links + 1);
    errno = ELOOP;
    return {};
  }
  errno = ELOOP;
  return {};
}

Error not_trusted(const std::string& path, const std::string& why) {
  return Error(Exit::config, "cannot trust " + printable(path) + ": " + why);
}

}  // namespace

std::string owner_problem(uid_t owner) {
  auto name = [](uid_t id) { return id == 0 ? std::string("root") : "user " + std::to_string(id); };
  return "it belongs to " + name(owner) + " (you are " + name(::geteuid()) + ")";
}

void check_link(const std::string& given) {
  struct stat st;
  std::string path = given;  // with a slash at its end, lstat(2) would follow it
  while (path.size() > 1 && (path.back() == '/' || path.ends_with("/."))) path.pop_back();
  if (::lstat(path.c_str(), &st) == 0 && S_ISLNK(st.st_mode) && !is_trusted(st))
    throw not_trusted(path, "it is a link of another user's");
}

void check_reached(int fd, const std::string& path) {
  check_link(path);
  if (!same_file(fd, path))
    throw Error(Exit::retry, "cannot open " + printable(path) + ": its name leads elsewhere by now");
}

Fd open_given(const std::string& path, int flags, unsigned kinds, Exit code, mode_t mode, bool* is_inherited) {
  const auto own = descriptor_of(path);
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if (is_inherited) *is_inherited = own.has_value();
  if (!own && writes) check_link(path);
  Fd fd;
  Wait wait([] { return std::string("another process"); }, [&] { return "holds a lease on " + printable(path); });
  auto go_on = [&] {
    try {
      wait.check();
    } catch (const Error& e) {
      if (kinds != anything) throw;
      throw Error(code, e.what());  // the program reads several files, and can read the others
    }
  };
  for (;; go_on()) {
    fd = own ? duplicate(*own, flags) : open_or_make(path, flags | O_NONBLOCK | O_NOCTTY, mode);
    if (fd || errno != EWOULDBLOCK) break;
    // Another process holds a lease on the file. Only the file's owner and root can have a lease. This program waits if
    // the owner is its own user or root.
    struct stat leased;
    if (::stat(path.c_str(), &leased) == 0 && !is_trusted(leased)) {
      if (kinds != anything) throw not_trusted(path, owner_problem(leased.st_uid));
      throw Error(code, "cannot open " + printable(path) + ": its owner, another user, holds a lease on it");
    }
    std::this_thread::sleep_for(Millis(50));
  }
  const int error = errno;
  struct stat st;
  // If a FIFO has no reader, opening it for writing fails with ENXIO.
  const bool known = fd ? ::fstat(fd.get(), &st) == 0 : error == ENXIO && ::stat(path.c_str(), &st) == 0;
  if (known && !(kinds & kind_of(st)) && !(own && (kinds & inherited)))
    throw Error(code, "cannot open " + printable(path) + ": it is " + name_of(st.st_mode));
  errno = error;
  if (!fd) throw_errno(code, "open " + printable(path));
  if (!own && writes) check_reached(fd.get(), path);
  if (!own && ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK) != 0)
    throw_errno(code, "open " + printable(path));
  return fd;
}

void check_trusted(int fd, const std::string& path, mode_t forbidden, const std::string& cure) {
  struct stat st;
  struct statfs system;
  if (::fstat(fd, &st) != 0 || ::fstatfs(fd, &system) != 0) throw_errno(Exit::config, "look at " + printable(path));
  if (system.f_type == PROC_SUPER_MAGIC || system.f_type == PIPEFS_MAGIC)
    throw not_trusted(path, "it is another process's");
  if (is_null_device(st)) return;
  if (!is_trusted(st)) throw not_trusted(path, owner_problem(st.st_uid));
  if (st.st_uid != ::geteuid()) forbidden &= ~static_cast<mode_t>(S_IRGRP);
  if (st.st_mode & forbidden)
    throw not_trusted(path, std::string("others may ") + (forbidden & S_IROTH ? "read or write it" : "write to it") +
                                " (" + cure + ")");
}

}  // namespace gq
