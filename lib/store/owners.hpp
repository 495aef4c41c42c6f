// An owner is a file that shows which process holds a job. Each process that runs jobs has a file owners/<ULID>.0 for
// the jobs that it has claimed, and a file owners/<ULID>.<n> for each command that it has started and whose end it has
// not recorded. An owner lives as long as a process holds a flock on its file.
//
// A command inherits a descriptor of its own file. So its jobs stay held until the command has ended, even if its
// worker was killed.
//
// The surprising fact: each process that the command leaves running inherits the descriptor, too. So a lock must never
// belong to two commands: a file is used for another command only if no other process has it open any more. The lock
// alone does not decide. If the worker is dead and the command, which the file names, has ended with its whole process
// group, the jobs are free even if the file is still locked. If the worker lives, its jobs stay held even if the file
// is not locked: a command can unlock the descriptor, and thereby unlocks it for its worker, too.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/base/directory.hpp"

namespace gq {

// The content of an owner's file: a line "pid N since N"; one line each for boot, space and host; and in <ULID>.0 a
// line "runs FUNCTION..." if the process does not run all functions, a line "then FUNCTION" if the outputs become jobs
// of that function, and a line "output DIRECTORY" if they go to files there. A reader skips unknown lines.
struct OwnerInfo {
  pid_t pid = 0;      // of the command; in <ULID>.0, of the process; 0: none yet
  int64_t since = 0;  // the time of its start or later, in milliseconds since the machine's start (CLOCK_BOOTTIME)
  std::string boot;   // the boot ID of the machine
  std::string space;  // the namespaces in which these numbers are valid
  std::string host;
  std::string then;                              // the function whose jobs the outputs become; empty: none
  std::string output{};                          // the directory with the outputs of commands; empty: none
  std::optional<std::vector<std::string>> runs;  // the functions; nullopt: all
};

// The kernel's information about a process, and about the process group with its number.
struct ProcessInfo {
  bool exists = false;
  bool ended = false;      // it is a zombie: it has ended, and was not reaped yet
  int64_t started = 0;     // as OwnerInfo::since, or somewhat earlier; 0: unknown
  bool has_group = false;  // a process of that group has not ended
};

// Whether an owner still holds its jobs. `locked`: a process holds the lock of the owner's file. `worker`: a process
// holds the lock of the file <ULID>.0 of the owner's worker. `here`: the content that this process would write.
bool is_held(bool locked, bool worker, const OwnerInfo& file, const OwnerInfo& here, const ProcessInfo& command);

// Parses the content of an owner's file. Members that the file does not name stay empty.
OwnerInfo parse_owner(const std::string& text);

// The name and the lock of a command that has been started or will be started next. An Owner without a name is empty.
struct Owner {
  std::string name;
  Fd lock;  // opened read-only, because a command inherits it and may run as another user
};

class Owners {
 public:
  // Creates and locks the file of a process that runs these functions (empty: all), and whose outputs become jobs of
  // the function `then` (empty: of none) or go to files in the directory `output`, and `commands` files for its
  // commands. Removes the files of dead owners.
  Owners(const Directory& directory, size_t commands, const std::vector<std::string>& functions = {},
         const std::string& then = {}, const std::string& output = {});
  ~Owners();  // removes its files, except those of Owners that were not given back

  // The owner name of the process.
  const std::string& name() const { return m_process.name; }

  // Returns an owner for the next command. Throws Error(storage).
  Owner take();
  // Writes into the file which command has inherited the lock; 0: none yet. Returns false if that fails.
  bool started(const Owner& owner, pid_t pid);
  // Gives the owner back. Call it when the journal has the ends of all jobs that the owner held.
  void let_go(Owner owner);

 private:
  Owner make(const std::string& more = {});

  const Directory m_directory;
  const std::string m_id;
  uint64_t m_count = 0;
  Owner m_process;
  std::vector<Owner> m_free;
};

// Removes the files of dead owners.
void sweep_owners(const Directory& directory);

// Whether this owner holds its jobs, see is_held(). If it does not, the journal has every end that its process
// recorded. So to find out which jobs a dead owner has left, read the journal after this call.
bool owner_alive(const Directory& directory, const std::string& owner);

// The processes of an owner.
struct Holder {
  pid_t pid = 0;     // of the command; 0 if none has been started or it is unknown
  pid_t worker = 0;  // of the command's worker; 0 if it is dead or unknown
  std::string host;
};
// Returns nullopt for a dead owner.
std::optional<Holder> holder_of(const Directory& directory, const std::string& owner);

// The living processes that run jobs, each with the name of its owner, and with what its file says.
std::vector<std::pair<std::string, OwnerInfo>> processes_here(const Directory& directory);

// The functions for which living processes run commands.
struct RunHere {
  bool any = false;  // whether there is such a process
  bool all = false;
  std::set<std::string> functions;  // if not all
  std::set<std::string> targets{};  // the functions whose jobs the outputs of their commands become
  bool has(const std::string& function) const { return all || functions.count(function); }
};
RunHere running_here(const std::vector<std::pair<std::string, OwnerInfo>>& processes);
inline RunHere running_here(const Directory& directory) { return running_here(processes_here(directory)); }

}  // namespace gq
