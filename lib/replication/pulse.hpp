// The pulse of the process that serves a node: says in returned.lock that it goes on and what the node waits for, and
// holds that lock while the node runs its jobs (lease.hpp). Replica::lease() decides; this carries it out.
//
// It has a thread of its own, since what others do may take long, and alone touches the file.
#pragma once

#include <optional>
#include <string>
#include <thread>

#include "gq/base/fd.hpp"
#include "gq/replication/monitor.hpp"

namespace gq {

class Pulse {
 public:
  explicit Pulse(Monitor& monitor) : m_monitor(monitor) {}
  ~Pulse() { join(); }

  // Goes on until the monitor stops, from when this process serves the node.
  void start();
  void join();

 private:
  void beat();
  void take(const Replica::Lease& lease);
  void write(const Beat& beat);

  Monitor& m_monitor;
  std::thread m_thread;
  // The thread's own:
  Fd m_file, m_lock;  // the lock: while it is held
  std::optional<Beat> m_said;
  std::string m_trouble;  // what was logged last
};

}  // namespace gq
