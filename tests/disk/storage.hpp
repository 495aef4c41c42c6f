// The storage of a store in a history, if it is not the disk alone.
#pragma once

#include <memory>
#include <string>

#include "gq/database/mirror.hpp"
#include "history.hpp"
#include "simulated_disk.hpp"

namespace simulate {

class Storage {
 public:
  virtual ~Storage() = default;
  // Opens the store for a process. Process 0 checks the store, so nothing fails then.
  virtual std::shared_ptr<gq::Mirror> open(const gq::Directory& directory, SimulatedProcess& process, long number) = 0;
  // Called when all processes have ended.
  enum class Event { none, saved, set_back };  // set back to the state that was saved last
  virtual Event stop(SimulatedDisk& disk) = 0;
  // Marks a job as done, as a user's own program does (gq/store/ends.hpp).
  virtual void mark_done(const std::string& id) = 0;
};

Played play_store(const Plan& plan, std::string* log, Storage* storage);

}  // namespace simulate
