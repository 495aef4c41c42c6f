// gq-preload.so is preloaded into a program. It changes the clocks, files and host names that the program sees.
//   GQ_TEST_TIME=+SECONDS or -SECONDS: the wall clock and the times of files differ by that much, as if the clock were
//   wrong. GQ_TEST_TIME==SECONDS: the wall clock stands still at that many seconds since 1970.
//   GQ_TEST_BROKEN=FILE: while FILE exists, fdatasync fails.
//   GQ_TEST_FILE_SYSTEM=NUMBER: every file system has that type.
//
// A lookup of the host slow.invalid gets no answer within a minute.
#include <dlfcn.h>
#include <netdb.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

struct Shift {
  bool stands = false;
  time_t seconds = 0;
};

const Shift& shift() {
  static const Shift read = [] {
    const char* text = getenv("GQ_TEST_TIME");
    return !text ? Shift{} : *text == '=' ? Shift{true, atol(text + 1)} : Shift{false, atol(text)};
  }();
  return read;
}

int shifted(int result, struct stat* st) {
  if (result == 0 && !shift().stands)
    for (timespec* t : {&st->st_atim, &st->st_mtim, &st->st_ctim}) t->tv_sec += shift().seconds;
  return result;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* t) noexcept {
  static const auto next = real<int(clockid_t, timespec*)>("clock_gettime");
  const int result = next(clock, t);
  if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
  if (shift().stands) *t = {shift().seconds, 0};
  else t->tv_sec += shift().seconds;
  return result;
}

time_t time(time_t* into) noexcept {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (into) *into = t.tv_sec;
  return t.tv_sec;
}

int gettimeofday(timeval* __restrict into, void* __restrict) noexcept {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  *into = {t.tv_sec, t.tv_nsec / 1000};
  return 0;
}

int stat(const char* __restrict path, struct stat* __restrict st) noexcept {
  static const auto next = real<int(const char*, struct stat*)>("stat");
  return shifted(next(path, st), st);
}

int lstat(const char* __restrict path, struct stat* __restrict st) noexcept {
  static const auto next = real<int(const char*, struct stat*)>("lstat");
  return shifted(next(path, st), st);
}

int fstat(int fd, struct stat* st) noexcept {
  static const auto next = real<int(int, struct stat*)>("fstat");
  return shifted(next(fd, st), st);
}

int fstatat(int fd, const char* __restrict path, struct stat* __restrict st, int flags) noexcept {
  static const auto next = real<int(int, const char*, struct stat*, int)>("fstatat");
  return shifted(next(fd, path, st, flags), st);
}

int fstatfs(int fd, struct statfs* st) noexcept {
  static const auto next = real<int(int, struct statfs*)>("fstatfs");
  const int result = next(fd, st);
  if (const char* kind = getenv("GQ_TEST_FILE_SYSTEM")) st->f_type = strtol(kind, nullptr, 0);
  return result;
}

int fdatasync(int fd) {
  static const auto next = real<int(int)>("fdatasync");
  const char* broken = getenv("GQ_TEST_BROKEN");
  if (broken && access(broken, F_OK) == 0) return errno = EIO, -1;
  return next(fd);
}

int getaddrinfo(const char* host, const char* port, const addrinfo* hints, addrinfo** found) {
  static const auto next = real<int(const char*, const char*, const addrinfo*, addrinfo**)>("getaddrinfo");
  if (host && !(hints && hints->ai_flags & AI_NUMERICHOST) && strcmp(host, "slow.invalid") == 0) sleep(60);
  return next(host, port, hints, found);
}
}
