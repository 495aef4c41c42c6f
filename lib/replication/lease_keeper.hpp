// Keeps the lease of the process that serves a node. It writes to returned.lock that the process lives, and what the
// node waits for; it holds that lock while the node runs its jobs (lease.hpp). Replica::lease() decides, and the lease
// keeper carries out the decision.
//
// It has its own thread, because the work of other threads may take long. Only this thread uses the file.
#pragma once

#include <optional>
#include <string>
#include <thread>

#include "gq/base/fd.hpp"
#include "gq/replication/monitor.hpp"

namespace gq {

class LeaseKeeper {
 public:
  explicit LeaseKeeper(Monitor& monitor) : m_monitor(monitor) {}
  ~LeaseKeeper() { join(); }

  // Runs until the monitor stops; does nothing before this process serves the node.
  void start();
  void join();

 private:
  void beat();
  void take(const Replica::Lease& lease);
  void write(const Beat& beat);

  Monitor& m_monitor;
  std::thread m_thread;
  // Only the thread uses the following:
  Fd m_file, m_lock;  // m_lock is set while the lock is held
  std::optional<Beat> m_said;
  std::string m_trouble;  // the last error that was logged
};

}  // namespace gq
