// When commands are told to end: SIGTERM, and some time later SIGKILL. Pure: the caller says what happens and when,
// takes the signal that is due, and sends it.
//
// There are two such sequences. Stop is that of the worker: the first stop signal gives all commands the grace, the
// second one none. CommandLimit is that of one command: its time limit, and for a streamed command that has nothing to
// do and whose input has ended, the grace. Both may be under way at once, and neither knows of the other.
#pragma once

#include <chrono>
#include <optional>

#include "gq/base/clock.hpp"

namespace gq {

// SIGTERM at a time, and SIGKILL after a pause.
class SignalSequence {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // The next signal is due then.
  void due(Time at) { m_at = at; }
  // No signal is due. Of no effect on one that has begun.
  void clear();
  bool has_begun() const { return m_sent > 0; }
  // When next() has to be asked; nullopt where nothing is due, or all is sent.
  std::optional<Time> at() const { return m_sent < 2 ? m_at : std::nullopt; }
  // The signal to send now, or 0. What follows it is due after the pause.
  int next(Time now, Millis pause);

 private:
  std::optional<Time> m_at;
  int m_sent = 0;
};

class Stop {
 public:
  using Time = SignalSequence::Time;
  static constexpr Millis kill_delay{2000};  // from SIGTERM to SIGKILL

  explicit Stop(Millis grace) : m_grace(grace) {}

  // The worker is to stop: at the first time within the grace, at any other one now. True at the first time.
  bool ask(Time now);
  bool is_asked() const { return m_asked; }
  // Commands have been told to end: those that do not succeed are not at fault.
  bool cuts_off() const { return m_signals.has_begun(); }
  std::optional<Time> at() const { return m_signals.at(); }
  // The signal for all commands, or 0.
  int next(Time now) { return m_signals.next(now, kill_delay); }

 private:
  const Millis m_grace;
  bool m_asked = false;
  SignalSequence m_signals;
};

// Of one command, from its start to its end. Once it has told the command to end, nothing calls that back.
class CommandLimit {
 public:
  using Time = SignalSequence::Time;

  CommandLimit(Millis time_limit, Millis grace) : m_time_limit(time_limit), m_grace(grace) {}  // 0: no limit

  // The command goes to work on a job now.
  void works(Time now);
  // It has nothing to do, and waits for more.
  void idles();
  // It has nothing to do, and nothing will come: it should end.
  void should_end(Time now);

  // It has been told to end.
  bool is_reached() const { return m_signals.has_begun(); }
  std::optional<Time> at() const { return m_signals.at(); }
  // The signal for the command, or 0.
  int next(Time now) { return m_signals.next(now, m_grace); }

 private:
  Millis m_time_limit, m_grace;
  SignalSequence m_signals;
};

}  // namespace gq
