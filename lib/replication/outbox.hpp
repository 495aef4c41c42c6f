// The outbox for one other node: tells it what it does not know yet of this node's journal, and asks it each second how
// it is. Progress decides what there is to tell, and Replica holds that; what is told is read here, and sent.
//
// It has a thread of its own, which alone writes what the journal says of that node (Replica::record()).
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "gq/replication/peer_line.hpp"

namespace gq {

// The records that say the same of these jobs, as many as fit into each.
std::vector<std::string> copied_records(event::Copied copied);

// The add record of a job with its workload, for a node that has neither; empty where it is damaged or gone, or where
// the disk does not give it back now, which `unread` tells.
std::string add_record(Monitor& monitor, const std::string& id, const Job& job, std::string& unread);

class Outbox {
 public:
  Outbox(Monitor& monitor, const std::string& node) : m_monitor(monitor), m_line(monitor, node) {}
  ~Outbox() { join(); }

  PeerLine& line() { return m_line; }
  const std::string& node() const { return m_line.name(); }

  // Goes on until the monitor stops. Throws Error(retry) where no thread can be started; then it can be tried again.
  void start();
  void join();

  // Tells the node at once of changes to jobs, where it can be reached. If it cannot it is owed that. Thread-safe.
  void tell(const std::vector<TellThenAppend::Change>& changes);

 private:
  struct Apart : Call {
    Debt debt;
  };
  void run();
  bool go_on();
  bool pay(Lsn end);
  void read_on(Walk& walk, Lsn end);
  bool tell_apart();
  void begin_apart();
  std::optional<Apart> next_apart();
  void not_heard(const std::string& id);
  void end_apart(Apart& apart);
  void record(bool last);
  void publish();

  Monitor& m_monitor;
  PeerLine m_line;
  std::thread m_thread;
  // The thread's own:
  std::list<Apart> m_apart;  // under way
  std::string m_published;   // what others can read of its debts
  Monitor::Clock::time_point m_next_ask{}, m_next_publish{};
  Lsn m_seen = 0;  // where the journal ended when it was last looked at
};

}  // namespace gq
