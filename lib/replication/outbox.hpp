// There is one outbox for each other node. It sends that node the records of this node's journal that the other node
// does not know yet, and asks the other node each second about its state. Progress, which is a part of the Replica,
// decides what there is to send; the outbox reads the records and sends them.
//
// Each outbox has its own thread. Only this thread records in the journal what the other node knows
// (Replica::record()).
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "gq/replication/peer_line.hpp"

namespace gq {

// Returns `copied` as one or more records, split so that the IDs fit into each record.
std::vector<std::string> copied_records(event::Copied copied);

// Returns the add record of a job with its workload, for a node that has neither. Empty if the workload is damaged or
// gone. Also empty if the workload cannot be read now; then `unread` is set to the reason.
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

  // Sends changes of jobs to the other node at once, if it can be reached. Otherwise the changes remain owed to it.
  // Thread-safe.
  void send_now(const std::vector<SendThenAppend::Change>& changes);

 private:
  struct Single : Call {
    Debt debt;
  };
  void run();
  bool go_on();
  bool pay(Lsn end);
  void read_on(Walk& walk, Lsn end);
  bool send_singles();
  void start_singles();
  std::optional<Single> next_single();
  void retry_later(const std::string& id);
  void end_single(Single& single);
  void record(bool last);
  void publish();

  Monitor& m_monitor;
  PeerLine m_line;
  std::thread m_thread;
  // Only the thread uses the following:
  std::list<Single> m_singles;  // the separate jobs that are under way
  std::string m_published;      // the debts to the node, as published for other processes
  Monitor::Clock::time_point m_next_ask{}, m_next_publish{};
  Lsn m_seen = 0;  // the end of the journal when it was last read
};

}  // namespace gq
