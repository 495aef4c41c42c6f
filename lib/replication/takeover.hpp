// Carries out takeovers: looks up jobs of other nodes in this store, asks the other nodes about them, and takes over
// those that fall to this node. ownership.hpp decides which jobs, and when; inquiry.hpp decides which nodes to ask
// what.
#pragma once

#include <string>
#include <vector>

#include "gq/replication/peers.hpp"

namespace gq {

class TakeoverWatch {
 public:
  TakeoverWatch(Monitor& monitor, Peers& peers) : m_monitor(monitor), m_peers(peers) {}

  // Notices nodes that are gone, and takes over jobs of others if that is due. Called often by the process that serves
  // this node. Throws Error if a node could not be asked, or a job could not be recorded.
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
