#include "gq/replication/monitor.hpp"

#include "gq/base/log.hpp"
#include "gq/replication/debts.hpp"

namespace gq {

Monitor::Monitor(Ledger& ledger, ReplicationConfig config)
    : m_ledger(ledger),
      m_config(std::move(config)),
      m_keys(m_config.keyfile.empty() ? Keys() : Keys(m_config.keyfile)),
      m_self(ledger.group().self),
      m_group_id(ledger.group().id()),
      m_replica(ledger.group(),
                {m_config.takeover, m_config.alone_after, m_keys ? period_of(ledger.limits(), m_config) : Millis::max(),
                 static_cast<bool>(m_keys)},
                // Without other nodes, do not read the index: a process that only adds jobs does not need it.
                ledger.group().members.size() > 1 ? known_peers(ledger) : std::map<std::string, PeerState>(),
                read_times()) {}

Replica::Effects Monitor::take_effects() {
  Replica::Effects effects = m_replica.effects();
  m_lease_changed = m_lease_changed || effects.lease;
  return effects;
}

void Monitor::carry_out(const Replica::Effects& effects) {
  if (effects.lease || effects.returned) m_changed.notify_all();
  for (const auto& line : effects.lines) log(line.level, line.text);
}

void Monitor::log_limited(Level level, const std::string& kind, const std::string& text) {
  step([&](Replica& r) { r.say_limited(level, kind, text, read_times()); });
}

void Monitor::stop() {
  {
    MutexLock guard(m_mutex);
    m_stop = true;
  }
  m_changed.notify_all();
}

bool Monitor::pause(Millis duration) {
  wait(duration, [](const Replica&) { return false; });
  return m_stop;
}

void Monitor::wake() {
  { MutexLock guard(m_mutex); }
  m_changed.notify_all();
}

bool Monitor::wait_for_lease(Millis most) {
  MutexLock lock(m_mutex);
  m_changed.wait_for(lock, most,
                     [this]() REQUIRES(m_mutex) { return m_stop || std::exchange(m_lease_changed, false); });
  return m_stop;
}

}  // namespace gq
