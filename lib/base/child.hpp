// Starting a command: in a session, and so a process group, of its own, with default signals, an empty signal mask, and
// no descriptors but standard input, output and error and one more.
#pragma once

#include <sys/types.h>

#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gq/base/fd.hpp"

namespace gq {

struct Command {
  std::vector<std::string> argv;                                 // argv[0] is looked up in PATH
  std::vector<std::pair<std::string, std::string>> environment;  // set over what this process has
  std::vector<std::string> unset;                                // names taken out
  int input = -1;                                                // becomes standard input
  int output = -1;                                               // standard output; -1: this process's
  int error = -1;                                                // standard error, likewise
  int keep_open = -1;                                            // inherited as descriptor 3; -1: nothing is
  bool keeps_private = false;                                    // it makes files for this user only (umask 077)
};

// Held by who makes something that follows this process's umask, which is another one while a command that
// keeps_private is started.
std::mutex& umask_mutex();

// The pid of the command, or the negative errno of what failed: exec's, or fork's.
pid_t spawn(const Command& command);

// Why a command could not be started, as far as its name tells: an errno; 0 where it is there and may be executed.
int command_problem(const std::string& name);

// A descriptor from which exactly `data` can be read, all of it there already: a pipe, or a file in memory where the
// kernel gives this user only small pipes. `data` is at most 64 KiB. Throws Error.
Fd readable(std::string_view data);

// The same for a part of a file, of any size. Throws Error, also where the file is too short.
Fd readable_part(int fd, uint64_t offset, uint64_t size);

}  // namespace gq
