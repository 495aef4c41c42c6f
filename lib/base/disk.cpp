#include "gq/base/disk.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <thread>

#include "gq/base/short_hold.hpp"

namespace gq {
namespace {

class Kernel final : public Disk {
 public:
  int openat(int directory, const char* name, int flags, mode_t mode) override {
    return ::openat(directory, name, flags, mode);
  }
  int close(int fd) override { return ::close(fd); }
  ssize_t pread(int fd, void* buffer, size_t size, off_t offset) override { return ::pread(fd, buffer, size, offset); }
  ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) override {
    return ::pwrite(fd, data, size, offset);
  }
  int ftruncate(int fd, off_t size) override { return ::ftruncate(fd, size); }
  int fallocate(int fd, int mode, off_t offset, off_t size) override { return ::fallocate(fd, mode, offset, size); }
  int fsync(int fd) override {
    check_no_short_hold("a sync");
    return ::fsync(fd);
  }
  int fdatasync(int fd) override {
    check_no_short_hold("a sync");
    return ::fdatasync(fd);
  }
  int renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) override {
    return flags ? ::renameat2(from, name, to, new_name, flags) : ::renameat(from, name, to, new_name);
  }
  int clone(int to, int from) override { return ::ioctl(to, FICLONE, from); }
  int linkat(int from, const char* name, int to, const char* new_name, int flags) override {
    return ::linkat(from, name, to, new_name, flags);
  }
  int unlinkat(int directory, const char* name, int flags) override { return ::unlinkat(directory, name, flags); }
  int mkdirat(int directory, const char* name, mode_t mode) override { return ::mkdirat(directory, name, mode); }
  int fstat(int fd, struct stat* st) override { return ::fstat(fd, st); }
  int fstatat(int directory, const char* name, struct stat* st, int flags) override {
    return ::fstatat(directory, name, st, flags);
  }
  int statx(int directory, const char* name, int flags, unsigned mask, struct statx* st) override {
    return ::statx(directory, name, flags, mask, st);
  }
  int fstatfs(int fd, struct statfs* fs) override { return ::fstatfs(fd, fs); }
  int syncfs(int fd) override {
    check_no_short_hold("a sync");
    return ::syncfs(fd);
  }
  int futimens(int fd) override { return ::futimens(fd, nullptr); }
  int utimensat(int directory, const char* name, int flags) override {
    return ::utimensat(directory, name, nullptr, flags);
  }
  int flock(int fd, int operation) override { return ::flock(fd, operation); }
  int list(int directory, std::vector<std::string>& names) override {
    // Open the directory again, because readdir(3) needs its own read position.
    const int own = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (own < 0) return -1;
    std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(own), ::closedir);
    if (!dir) {
      ::close(own);
      return -1;
    }
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(dir.get());
      if (!entry) return errno == 0 ? 0 : -1;
      names.emplace_back(entry->d_name);
    }
  }
  void wait(std::chrono::microseconds time) override { std::this_thread::sleep_for(time); }
};

Disk* other_disk = nullptr;

}  // namespace

Disk& disk() {
  static Disk& kernel = *new Kernel;  // never destroyed: it closes descriptors that are still open at exit
  return other_disk ? *other_disk : kernel;
}

void use_disk(Disk* other) { other_disk = other; }

}  // namespace gq
