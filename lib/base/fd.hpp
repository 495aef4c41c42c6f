// Descriptors, reads and writes that do not stop half-way, and flock(2) locks. All functions open with O_CLOEXEC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gq/base/error.hpp"
#include "gq/base/wait.hpp"

namespace gq {

// A descriptor that is closed when it goes out of scope. -1 means none.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : m_fd(fd) {}
  Fd(Fd&& other) noexcept : m_fd(std::exchange(other.m_fd, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }
  int get() const { return m_fd; }
  explicit operator bool() const { return m_fd >= 0; }
  void reset();
  int release() { return std::exchange(m_fd, -1); }

 private:
  int m_fd = -1;
};

// Opens a file by its path and follows links. Files in a store or a snapshot are opened through their directory instead
// (directory.hpp). Throws Error with `code` on failure.
Fd open_file(const std::string& path, int flags, mode_t mode = 0600, Exit code = Exit::storage);

// Opens a file; returns an empty Fd and sets errno on failure.
Fd try_open(const std::string& path, int flags, mode_t mode = 0600);

// Reads `size` bytes at `offset`, or fewer if the file ends before. Returns how many. Throws on an error.
size_t read_at(int fd, void* buffer, size_t size, uint64_t offset);

// Writes all of `data`, or throws. write_all_at() writes at an offset.
void write_all(int fd, std::string_view data, const std::string& name);
void write_all_at(int fd, std::string_view data, uint64_t offset, const std::string& name);

// Both ends of a pipe(2). Throws Error(retry) if the kernel refuses a pipe.
struct Pipe {
  Fd reader, writer;
};
Pipe make_pipe();

// Reads `fd` to its end. Returns nullopt if that is more than `limit` bytes. Throws Error(no_input), also if the end
// does not come within `patience`.
std::optional<std::string> read_all(int fd, uint64_t limit, const std::string& name,
                                    Millis patience = endless_patience);

// All of a file, from its beginning; nullopt if it is longer than `limit` bytes. Throws Error(storage).
std::optional<std::string> read_file(int fd, uint64_t limit, const std::string& name);

uint64_t file_size(int fd);
bool file_exists(const std::string& path);
// Whether `path` leads to the open file now.
bool same_file(int fd, const std::string& path);

// As mkdir(2), with mode 0700. Returns true if this call created the directory; then its parent has been synced, too.
bool make_directory(const std::string& path);

// The same; the parents of the path may be missing, too.
void make_directories(const std::string& path);

// Holds flock(2) on a descriptor while the object exists. The kernel releases the lock when the process dies.
class FileLock {
 public:
  enum class Mode { shared, exclusive };
  // Waits for the lock as wait.hpp says: throws Error(retry) if another process holds it for too long.
  FileLock(int fd, Mode mode, Millis patience = usual_patience);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int m_fd;
};

// Takes the lock if it is free; returns false if another process has it. The lock stays until all descriptors of this
// open file are closed.
bool try_lock(int fd, FileLock::Mode mode);

// The same, but waits for the lock as the constructor of FileLock does.
void wait_for_lock(int fd, FileLock::Mode mode, Millis patience = usual_patience);

}  // namespace gq
