// Owners: who holds a job. Each process that runs jobs has a file owners/<ULID>.0 for what it has claimed, and one
// owners/<ULID>.<n> for each command that it has started and not recorded the end of. An owner lives as long as a flock
// is held on its file.
//
// A command inherits a descriptor of its own file, so that its jobs stay held until it has ended, also when its worker
// was killed. The surprising fact: whatever the command leaves behind inherits that too. So the lock belongs to one
// command and never to the next: a file is used again only where nobody else has it open any more. And the lock alone
// holds nothing once the worker is dead and the command, which the file names, has ended with all of its process group.
// Nor does its absence free anything while the worker lives: a command can unlock the descriptor, for its worker, too.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gq/base/directory.hpp"

namespace gq {

// What an owner's file says: a line "pid N since N", a line each for boot, space and host, and in <ULID>.0 "runs
// FUNCTION..." where the process does not run all. Lines that are not known are skipped.
struct OwnerInfo {
  pid_t pid = 0;  // of the command, or in <ULID>.0 of the process; 0: none yet
  int64_t since =
      0;  // it was started at that time or before, in milliseconds since the machine's start (CLOCK_BOOTTIME)
  std::string boot;   // which start of the machine
  std::string space;  // the namespaces in which these numbers count
  std::string host;
  std::optional<std::vector<std::string>> runs;  // functions; nullopt: all
};

// What the kernel says of a process and of the process group with its number.
struct ProcessInfo {
  bool exists = false;
  bool ended = false;      // it only waits to be reaped
  int64_t started = 0;     // as `since`, or somewhat before; 0: not known
  bool has_group = false;  // somebody in that group has not ended
};

// Whether an owner still holds its jobs. `locked`: somebody has the lock of its file, `worker`: somebody has that of
// its process; `here` is what this process would write into a file.
bool is_held(bool locked, bool worker, const OwnerInfo& file, const OwnerInfo& here, const ProcessInfo& command);

// What stands in a file; empty members where it does not say.
OwnerInfo parse_owner(const std::string& text);

// The name and the lock of what has been started, or is about to be. Without a name it is none.
struct Owner {
  std::string name;
  Fd lock;  // by a description that cannot write: a command inherits it, and may run as another user
};

class Owners {
 public:
  // Makes and locks the file of a process that runs these functions (none: all), and as many for commands. Sweeps files
  // of dead owners.
  Owners(const Directory& directory, size_t commands, const std::vector<std::string>& functions = {});
  ~Owners();  // removes its files, but for those that take() has given and let_go() has not got back

  // The owner name of the process.
  const std::string& name() const { return m_process.name; }

  // An owner for what is started next. Throws Error(storage).
  Owner take();
  // Says which command has inherited the lock, 0 for none yet; false where that cannot be written.
  bool started(const Owner& owner, pid_t pid);
  // Once the end of everything that it held stands in the journal.
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

// Whether this owner holds its jobs, see is_held(). An end that its process recorded before stands in the journal by
// now: to find out what a dead owner has left, look at the journal after this.
bool owner_alive(const Directory& directory, const std::string& owner);

// Who that is; nullopt for a dead owner.
struct Holder {
  pid_t pid = 0;     // of the command; 0 where none has been started, or that is not known
  pid_t worker = 0;  // of its worker, likewise; 0 where that is dead, too
  std::string host;
};
std::optional<Holder> holder_of(const Directory& directory, const std::string& owner);

// The functions that living processes run commands for.
struct RunHere {
  bool any = false;  // whether there is one
  bool all = false;
  std::set<std::string> functions;  // where not all
  bool has(const std::string& function) const { return all || functions.count(function); }
};
RunHere running_here(const Directory& directory);

}  // namespace gq
