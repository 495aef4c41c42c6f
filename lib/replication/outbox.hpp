// The outbox of one other node tells that node what it does not know yet of this node's journal, and asks it each
// second how it is. Progress decides what there is to tell, and Replica holds it; the outbox reads the records and
// sends them.
//
// Each outbox has a thread of its own, the only thread that records in the journal what that node knows
// (Replica::record()).
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "gq/replication/peer_line.hpp"

namespace gq {

// The record for all these jobs, split so that the IDs fit into each record.
std::vector<std::string> copied_records(event::Copied copied);

// The add record of a job with its workload, for a node that has neither. Empty if the workload is damaged or gone.
// Also empty if it cannot be read now; `unread` then has the reason.
std::string add_record(Monitor& monitor, const std::string& id, const Job& job, std::string& unread);

class Outbox {
 public:
  Outbox(Monitor& monitor, const std::string& node) : m_monitor(monitor), m_line(monitor, node) {}
  ~Outbox() { join(); }

  PeerLine& line() { return m_line; }
  const std::string& node() const { return m_line.name(); }

  // Runs until the monitor stops. Throws Error(retry) if no thread can be started; the caller may try again.
  void start();
  void join();

  // Tells the node at once of changes to jobs, if it can be reached. Otherwise it is owed the changes. Thread-safe.
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
  // Used by the thread only:
  std::list<Apart> m_apart;  // under way
  std::string m_published;   // what other processes can read of its debts
  Monitor::Clock::time_point m_next_ask{}, m_next_publish{};
  Lsn m_seen = 0;  // the end of the journal when it was last read
};

}  // namespace gq
