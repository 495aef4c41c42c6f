// Starts a command: in a session of its own, and so in a process group of its own, with default signals, an empty
// signal mask, and no descriptors but standard input, output and error and one more.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/base/mutex.hpp"

namespace gq {

struct Command {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH
  // Added to this process's environment; they replace its variables of the same names.
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> unset;  // names to remove
  int input = -1;                  // becomes standard input
  int output = -1;                 // standard output; -1: this process's
  int error = -1;                  // standard error; -1: this process's
  int keep_open = -1;              // inherited as descriptor 3; -1: no descriptor is
  // The command makes files for this user only (umask 077).
  bool keeps_private = false;
};

// A thread holds this mutex while it makes something that follows this process's umask, because the umask is another
// one while a command that keeps_private is started.
Mutex& umask_mutex();

// The pid of the command, or the negative errno of the failed exec or fork.
pid_t spawn(const Command& command);

// Why a command could not be started, as far as its name tells: an errno; 0 if the file exists and may be executed.
int command_problem(const std::string& name);

// A descriptor from which exactly `data` can be read; all of it can be read at once. It is a pipe, or a file in memory
// if the kernel gives this user only small pipes. `data` is at most 64 KiB. Throws Error.
Fd readable(std::string_view data);

// The same for a part of a file, of any size. Throws Error, also if the file is too short.
Fd readable_part(int fd, uint64_t offset, uint64_t size);

}  // namespace gq
