// The Disk has each call through which gq reaches the files of a store. The calls go to the kernel, or in tests to a
// simulated disk, which can lose data that was not synced (tests/disk).
//
// The surprising fact: there is one disk for the whole process, as there is one kernel. Code that uses a descriptor
// does not know to which disk the descriptor belongs.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace gq {

// The functions are as the system calls of these names: on an error they return -1 and set errno.
class Disk {
 public:
  virtual ~Disk() = default;
  virtual int openat(int directory, const char* name, int flags, mode_t mode) = 0;
  virtual int close(int fd) = 0;
  virtual ssize_t pread(int fd, void* buffer, size_t size, off_t offset) = 0;
  virtual ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) = 0;
  virtual int ftruncate(int fd, off_t size) = 0;
  virtual int fallocate(int fd, int mode, off_t offset, off_t size) = 0;
  virtual int fsync(int fd) = 0;
  virtual int fdatasync(int fd) = 0;
  virtual int renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) = 0;
  // As ioctl(2) with FICLONE: the file `to` shares all blocks of the file `from`.
  virtual int clone(int to, int from) = 0;
  virtual int linkat(int from, const char* name, int to, const char* new_name, int flags) = 0;
  virtual int unlinkat(int directory, const char* name, int flags) = 0;
  virtual int mkdirat(int directory, const char* name, mode_t mode) = 0;
  virtual int fstat(int fd, struct stat* st) = 0;
  virtual int fstatat(int directory, const char* name, struct stat* st, int flags) = 0;
  virtual int statx(int directory, const char* name, int flags, unsigned mask, struct statx* st) = 0;
  virtual int fstatfs(int fd, struct statfs* fs) = 0;
  virtual int syncfs(int fd) = 0;
  // Sets the times of a file, or of a directory's entry, to now.
  virtual int futimens(int fd) = 0;
  virtual int utimensat(int directory, const char* name, int flags) = 0;
  virtual int flock(int fd, int operation) = 0;
  // Lists the names in a directory, in no order, as readdir(3) returns them.
  virtual int list(int directory, std::vector<std::string>& names) = 0;
  // Waits. Called before another try to take a lock.
  virtual void wait(std::chrono::microseconds time) = 0;
};

Disk& disk();

// Replaces the disk of this process by `other`, which must outlive its use; nullptr: the kernel's. Call it only while
// no other thread uses the disk.
void use_disk(Disk* other);

}  // namespace gq
