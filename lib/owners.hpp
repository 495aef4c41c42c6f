// Owners: who holds a job. Each process that runs jobs has a file owners/<ULID>.0 for what it has claimed, and one
// owners/<ULID>.<slot> for each running slot; an owner lives as long as a flock is held on its file.
//
// A command inherits a descriptor of its slot, so that the slot lives until the command has ended, also when its worker
// was killed. Processes are never told apart by pid. A file that is missing, or that nobody has locked, is a dead owner.
#pragma once

#include <string>
#include <vector>

#include "fd.hpp"

namespace gq {

class Owners {
 public:
  // Makes and locks the files of a process with `slots` slots, numbered from 1. Sweeps files of dead owners.
  Owners(const std::string& directory, size_t slots);
  ~Owners();  // removes its files, except where a command still holds one

  // The owner name of the process (slot 0) or of one slot.
  std::string name(size_t slot) const { return m_id + "." + std::to_string(slot); }
  int descriptor(size_t slot) const { return m_files[slot].get(); }

 private:
  std::string m_directory;
  std::string m_id;
  std::vector<Fd> m_files;
};

// Removes the files of dead owners.
void sweep_owners(const std::string& directory);

// Whether anybody holds the lock of this owner.
bool owner_alive(const std::string& directory, const std::string& owner);

// Whether any process that runs commands lives.
bool any_owner_alive(const std::string& directory);

// The process part of an owner's name.
std::string owner_process(const std::string& owner);

}  // namespace gq
