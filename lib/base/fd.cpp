#include "gq/base/fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "gq/base/disk.hpp"
#include "gq/base/text.hpp"

namespace gq {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    m_fd = std::exchange(other.m_fd, -1);
  }
  return *this;
}

void Fd::reset() {
  if (m_fd >= 0) disk().close(m_fd);
  m_fd = -1;
}

Fd try_open(const std::string& path, int flags, mode_t mode) {
  int fd;
  do {
    fd = disk().openat(AT_FDCWD, path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return Fd(fd);
}

Fd open_file(const std::string& path, int flags, mode_t mode, Exit code) {
  Fd fd = try_open(path, flags, mode);
  if (!fd) throw_errno(code, "open " + path);
  return fd;
}

size_t read_at(int fd, void* buffer, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = disk().pread(fd, static_cast<char*>(buffer) + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno(Exit::storage, "read the store");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

void write_all(int fd, std::string_view data, const std::string& name) {
  while (!data.empty()) {
    ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno(Exit::storage, "write " + name);
    data.remove_prefix(static_cast<size_t>(n));
  }
}

void write_all_at(int fd, std::string_view data, uint64_t offset, const std::string& name) {
  while (!data.empty()) {
    ssize_t n = disk().pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno(Exit::storage, "write " + name);
    data.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno(Exit::retry, "make a pipe");
  return {Fd(ends[0]), Fd(ends[1])};
}

std::optional<std::string> read_all(int fd, uint64_t limit, const std::string& name, Millis patience) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  struct stat st;
  std::string data;
  constexpr size_t usual = 1 << 16;
  size_t chunk = usual;
  // Reads a file at once, with one byte more than its size to see its end. Reads nothing if the file is too large.
  if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
    const auto left =
        static_cast<uint64_t>(std::max<off_t>(st.st_size - std::max<off_t>(::lseek(fd, 0, SEEK_CUR), 0), 0));
    if (left > limit) return std::nullopt;
    chunk = static_cast<size_t>(left) + 1;
  }
  for (;; chunk = usual) {
    if (patience != endless_patience) {
      const Millis left = patience - std::chrono::duration_cast<Millis>(Clock::now() - begin);
      pollfd p{fd, POLLIN, 0};
      if (left < Millis(1))
        throw Error(Exit::no_input, "cannot read " + name + ": its end has not come for " +
                                        std::to_string(patience.count() / 1000) + " s");
      if (::poll(&p, 1, static_cast<int>(left.count())) <= 0) continue;
    }
    size_t old = data.size();
    data.resize(old + chunk);
    ssize_t n = ::read(fd, data.data() + old, chunk);
    int saved = errno;
    data.resize(old + static_cast<size_t>(n > 0 ? n : 0));
    if (n < 0 && saved == EINTR) continue;
    if (n < 0) {
      errno = saved;
      throw_errno(Exit::no_input, "read " + name);
    }
    if (n == 0) return data;
    if (data.size() > limit) return std::nullopt;
  }
}

std::optional<std::string> read_file(int fd, uint64_t limit, const std::string& name) {
  std::string data;
  constexpr size_t usual = 1 << 16;
  const uint64_t size = file_size(fd);
  if (size > limit) return std::nullopt;
  // One byte more than its size shows its end. Files of /proc have the size 0.
  for (size_t chunk = size > 0 ? size + 1 : usual;; chunk = usual) {
    const size_t old = data.size();
    data.resize(old + chunk);
    const ssize_t n = disk().pread(fd, data.data() + old, chunk, static_cast<off_t>(old));
    const int saved = errno;
    data.resize(old + static_cast<size_t>(n > 0 ? n : 0));
    if (n < 0 && saved == EINTR) continue;
    if (n < 0) {
      errno = saved;
      throw_errno(Exit::storage, "read " + name);
    }
    if (n == 0) return data;
    if (data.size() > limit) return std::nullopt;
  }
}

uint64_t file_size(int fd) {
  struct stat st;
  if (disk().fstat(fd, &st) != 0) throw_errno(Exit::storage, "stat a file of the store");
  return static_cast<uint64_t>(st.st_size);
}

bool same_file(int fd, const std::string& path) {
  struct stat a, b;
  return disk().fstat(fd, &a) == 0 && disk().fstatat(AT_FDCWD, path.c_str(), &b, 0) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

bool file_exists(const std::string& path) {
  struct stat st;
  return disk().fstatat(AT_FDCWD, path.c_str(), &st, 0) == 0;
}

namespace {

// Makes names that were created in the directory survive a power cut.
void sync_directory(const std::string& path) {
  Fd fd = open_file(path, O_RDONLY | O_DIRECTORY);
  if (disk().fsync(fd.get()) != 0) throw_errno(Exit::storage, "sync " + path);
}

}  // namespace

bool make_directory(const std::string& path) {
  if (disk().mkdirat(AT_FDCWD, path.c_str(), 0700) != 0) {
    if (errno == EEXIST) return false;
    throw_errno(Exit::storage, "create " + path);
  }
  size_t slash = path.find_last_of('/');
  sync_directory(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
  return true;
}

void make_directories(const std::string& path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    if (!file_exists(path.substr(0, at))) make_directory(path.substr(0, at));
  if (!file_exists(path)) make_directory(path);
}

FileLock::FileLock(int fd, Mode mode, Millis patience) : m_fd(fd) { wait_for_lock(fd, mode, patience); }

FileLock::~FileLock() { disk().flock(m_fd, LOCK_UN); }

bool try_lock(int fd, FileLock::Mode mode) {
  for (;;) {
    if (disk().flock(fd, (mode == FileLock::Mode::shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return true;
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) throw_errno(Exit::storage, "lock the store");
  }
}

namespace {

// Returns the process that holds a lock on this file, from /proc/locks.
std::string holder_of(int fd) {
  struct stat st;
  std::ifstream locks("/proc/locks");
  if (::fstat(fd, &st) == 0) {
    char file[64];
    std::snprintf(file, sizeof file, "%02x:%02x:%lu", major(st.st_dev), minor(st.st_dev),
                  static_cast<unsigned long>(st.st_ino));
    // A line is NUMBER: FLOCK ADVISORY WRITE PID DEVICE:INODE ...; if the process waits for the lock, an arrow comes
    // before FLOCK.
    for (std::string line, number, kind, advisory, mode, place; std::getline(locks, line);) {
      long pid = 0;
      if (std::istringstream(line) >> number >> kind >> advisory >> mode >> pid >> place && kind == "FLOCK" &&
          place == file && pid > 0)
        return process_text(pid);
    }
  }
  return "another process";
}

std::string name_of(int fd) {
  std::error_code none;
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), none).string();
}

}  // namespace

void wait_for_lock(int fd, FileLock::Mode mode, Millis patience) {
  if (try_lock(fd, mode)) return;
  // Try often at first: otherwise this process would find no gap between processes that take the lock one after the
  // other.
  constexpr auto often = std::chrono::microseconds(100), seldom = std::chrono::microseconds(1000);
  Wait wait([fd] { return holder_of(fd); }, [fd] { return "holds " + printable(name_of(fd)); }, patience);
  for (; !try_lock(fd, mode); wait.check()) disk().wait(wait.lasted() < std::chrono::seconds(2) ? often : seldom);
}

}  // namespace gq
