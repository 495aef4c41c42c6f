// Carries out takeovers: looks up jobs of other nodes in this store, asks the other nodes about these jobs, and takes
// over those that this node must run. ownership.hpp decides which jobs, and when; inquiry.hpp decides which questions
// to ask which nodes.
#pragma once

#include <string>
#include <vector>

#include "gq/replication/peers.hpp"

namespace gq {

class TakeoverWatch {
 public:
  TakeoverWatch(Monitor& monitor, Peers& peers) : m_monitor(monitor), m_peers(peers) {}

  // Notices nodes that are gone, and takes over jobs of other nodes when that is due. The process that serves this node
  // calls it often. Throws Error if a node could not be asked, or a job could not be recorded.
  void take_over_due();

 private:
  HeldHere held_here();
  std::vector<HeldJob> held_by(const std::string& node, std::string& cursor, bool& last);
  size_t take_over(const Takeover& what, const RunHere& here);
  void ask_for(Inquiry& inquiry);

  Monitor& m_monitor;
  Peers& m_peers;
};

}  // namespace gq
