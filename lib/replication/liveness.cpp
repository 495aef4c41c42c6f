#include "gq/replication/liveness.hpp"

namespace gq {

bool Turnover::believes(Time now) {
  constexpr size_t at_once = 3;
  constexpr std::chrono::minutes each{1};
  while (!m_believed.empty() && now - m_believed.front() >= at_once * each) m_believed.pop_front();
  if (m_believed.size() >= at_once) return false;
  m_believed.push_back(now);
  return true;
}

}  // namespace gq
