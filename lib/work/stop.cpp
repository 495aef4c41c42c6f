#include "gq/work/stop.hpp"

#include <signal.h>

namespace gq {

void SignalSequence::clear() {
  if (m_sent == 0) m_at.reset();
}

int SignalSequence::next(Time now, Millis pause) {
  if (m_sent == 2 || !m_at || now < *m_at) return 0;
  m_at = now + pause;
  return m_sent++ == 0 ? SIGTERM : SIGKILL;
}

bool Stop::ask(Time now) {
  const bool first = !m_asked;
  m_asked = true;
  m_signals.due(first ? now + m_grace : now);
  return first;
}

void CommandLimit::works(Time now) {
  if (is_reached()) return;
  if (m_time_limit.count() > 0) m_signals.due(now + m_time_limit);
  else m_signals.clear();
}

void CommandLimit::idles() { m_signals.clear(); }

void CommandLimit::cancel(Time now) {
  if (!is_reached()) m_signals.due(now);
}

void CommandLimit::should_end(Time now) {
  if (!is_reached()) m_signals.due(now + m_grace);
}

}  // namespace gq
