// Carries out take-overs: looks up the jobs of other nodes that are here, asks the others about them, and makes those
// this node's that are for it to take. Which those are, and when, ownership.hpp decides; look.hpp, whom to ask what.
#pragma once

#include <string>
#include <vector>

#include "gq/replication/peers.hpp"

namespace gq {

class TakeoverWatch {
 public:
  TakeoverWatch(Monitor& monitor, Peers& peers) : m_monitor(monitor), m_peers(peers) {}

  // Finds out who is gone, and takes over jobs of others where that is due. To be called often, by the process that
  // serves this node. Throws Error where one could not be asked, or a job not be recorded.
  void look();

 private:
  HeldHere held_here();
  std::vector<HeldJob> held_by(const std::string& node, std::string& cursor, bool& last);
  size_t take_over(const Takeover& what, const RunHere& here);
  void ask_for(Look& look);

  Monitor& m_monitor;
  Peers& m_peers;
};

}  // namespace gq
