// Starts a command. The command runs in a new session (and so in a new process group), with default signals and an
// empty signal mask. It inherits standard input, output and error and at most one more descriptor.
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
  // Variables that are added to the environment of this process; they replace its variables of the same names.
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> unset;  // names of variables to remove
  int input = -1;                  // becomes standard input
  int output = -1;                 // standard output; -1: that of this process
  int error = -1;                  // standard error; -1: that of this process
  int keep_open = -1;              // inherited as descriptor 3; -1: none is inherited
  // The command makes files for this user only (umask 077).
  bool keeps_private = false;
};

// A thread holds this mutex while it creates a file whose mode depends on the umask of this process, because the umask
// is different while a command with keeps_private is started.
Mutex& umask_mutex();

// Returns the pid of the command, or the negative errno of the failed exec or fork.
pid_t spawn(const Command& command);

// Looks up the name of a command. Returns the errno with which its start would fail; 0 if the file exists and may be
// executed.
int command_problem(const std::string& name);

// Returns a descriptor from which exactly `data` can be read, without waiting. It is a pipe, or a file in memory if the
// kernel allows this user only small pipes. `data` is at most 64 KiB. Throws Error.
Fd readable(std::string_view data);

// The same for a part of a file, of any size. Throws Error, also if the file is too short.
Fd readable_part(int fd, uint64_t offset, uint64_t size);

}  // namespace gq
