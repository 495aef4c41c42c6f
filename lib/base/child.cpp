#include "gq/base/child.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "gq/base/text.hpp"

extern char** environ;

namespace gq {
namespace {

constexpr int inherited = 3;

std::vector<std::string> environment_of(const Command& command) {
  std::vector<std::string> all;
  for (char** e = environ; *e; ++e) {
    std::string_view entry = *e;
    std::string_view name = entry.substr(0, entry.find('='));
    bool replaced = std::any_of(command.environment.begin(), command.environment.end(),
                                [&](const auto& v) { return v.first == name; }) ||
                    std::find(command.unset.begin(), command.unset.end(), name) != command.unset.end();
    if (!replaced) all.emplace_back(entry);
  }
  for (const auto& [name, value] : command.environment) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> all;
  for (auto& s : strings) all.push_back(s.data());
  all.push_back(nullptr);
  return all;
}

}  // namespace

Mutex& umask_mutex() {
  static Mutex mutex;
  return mutex;
}

pid_t spawn(const Command& command) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  std::unique_ptr<posix_spawn_file_actions_t, int (*)(posix_spawn_file_actions_t*)> free_actions(
      &actions, posix_spawn_file_actions_destroy);
  std::unique_ptr<posix_spawnattr_t, int (*)(posix_spawnattr_t*)> free_attributes(&attributes, posix_spawnattr_destroy);
  posix_spawn_file_actions_adddup2(&actions, command.input, STDIN_FILENO);
  if (command.output >= 0) posix_spawn_file_actions_adddup2(&actions, command.output, STDOUT_FILENO);
  if (command.error >= 0) posix_spawn_file_actions_adddup2(&actions, command.error, STDERR_FILENO);
  if (command.keep_open >= 0) posix_spawn_file_actions_adddup2(&actions, command.keep_open, inherited);
  // The command does not inherit descriptors that this program inherited from its shell.
  posix_spawn_file_actions_addclosefrom_np(&actions, command.keep_open >= 0 ? inherited + 1 : inherited);
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);
  // A new session, not only a new process group: otherwise a command that has changed its user could type into gq's
  // terminal (TIOCSTI).
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);

  std::vector<std::string> argv = command.argv, environment = environment_of(command);
  std::vector<char*> argv_pointers = pointers(argv), environment_pointers = pointers(environment);
  pid_t pid = 0;
  MutexLock guard(umask_mutex());
  const mode_t before = command.keeps_private ? ::umask(S_IRWXG | S_IRWXO) : 0;
  int rc =
      ::posix_spawnp(&pid, argv_pointers[0], &actions, &attributes, argv_pointers.data(), environment_pointers.data());
  if (command.keeps_private) ::umask(before);
  return rc == 0 ? pid : -rc;
}

int command_problem(const std::string& name) {
  auto problem = [](const std::string& path) {
    struct stat st;
    if (::stat(path.c_str(), &st) != 0) return errno;
    return S_ISREG(st.st_mode) && ::access(path.c_str(), X_OK) == 0 ? 0 : EACCES;
  };
  if (name.find('/') != std::string::npos) return problem(name);
  const char* path = std::getenv("PATH");
  int worst = ENOENT;
  for (const auto& directory : split(path ? path : "/bin:/usr/bin", ':')) {
    int p = problem((directory.empty() ? "." : directory) + "/" + name);
    if (p == 0) return 0;
    if (p == EACCES) worst = p;
  }
  return worst;
}

Fd readable(std::string_view data) {
  auto [reader, writer] = make_pipe();
  ::fcntl(writer.get(), F_SETFL, O_NONBLOCK);
  if (data.empty() || ::write(writer.get(), data.data(), data.size()) == static_cast<ssize_t>(data.size()))
    return std::move(reader);
  Fd memory(::memfd_create("workload", MFD_CLOEXEC));
  if (!memory) throw_errno(Exit::retry, "make a file in memory");
  write_all_at(memory.get(), data, 0, "a file in memory");
  return memory;
}

Fd readable_part(int fd, uint64_t offset, uint64_t size) {
  constexpr uint64_t small = 64 * 1024;
  if (size <= small) {
    std::string data(size, '\0');
    if (read_at(fd, data.data(), size, offset) != size)
      throw Error(Exit::storage, "cannot read a part of a workload: the file is too short");
    return readable(data);
  }
  Fd memory(::memfd_create("workload", MFD_CLOEXEC));
  if (!memory) throw_errno(Exit::retry, "make a file in memory");
  off_t from = static_cast<off_t>(offset);
  for (uint64_t left = size; left > 0;) {
    ssize_t n = ::sendfile(memory.get(), fd, &from, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno(Exit::retry, "copy a part of a workload");
    if (n == 0) throw Error(Exit::storage, "cannot read a part of a workload: the file is too short");
    left -= static_cast<uint64_t>(n);
  }
  ::lseek(memory.get(), 0, SEEK_SET);
  return memory;
}

}  // namespace gq
