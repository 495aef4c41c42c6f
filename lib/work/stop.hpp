// Decides when to tell commands to end: with SIGTERM, and some time later with SIGKILL. Pure: the caller reports events
// with their times, and sends the signals that are due.
//
// There are two such sequences. Stop is for the whole worker: at the first stop signal, all commands may continue for
// the grace; at the second, they are ended at once. CommandLimit is for one command: its time limit; and the grace for
// a streamed command that has nothing to do and whose input has ended. Both sequences may run at the same time, and
// they are independent.
#pragma once

#include <chrono>
#include <optional>

#include "gq/base/clock.hpp"

namespace gq {

// SIGTERM at a given time, and SIGKILL after a pause.
class SignalSequence {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Sets the time of the next signal.
  void due(Time at) { m_at = at; }
  // No signal is due. Has no effect once the sequence has begun.
  void clear();
  bool has_begun() const { return m_sent > 0; }
  // Returns when to call next(); nullopt if no signal is due, or if both have been sent.
  std::optional<Time> at() const { return m_sent < 2 ? m_at : std::nullopt; }
  // The signal to send now, or 0. The signal after it is due after the pause.
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

  // Tells the worker to stop. The first call gives commands the grace; any later call ends them now. Returns true at
  // the first call.
  bool ask(Time now);
  bool is_asked() const { return m_asked; }
  // Whether commands have been told to end. A command that does not succeed after that is not at fault.
  bool cuts_off() const { return m_signals.has_begun(); }
  std::optional<Time> at() const { return m_signals.at(); }
  // Returns the signal to send to all commands now, or 0.
  int next(Time now) { return m_signals.next(now, kill_delay); }

 private:
  const Millis m_grace;
  bool m_asked = false;
  SignalSequence m_signals;
};

// The sequence of one command, from its start to its end. Once it has told the command to end, nothing reverses that.
class CommandLimit {
 public:
  using Time = SignalSequence::Time;

  CommandLimit(Millis time_limit, Millis grace) : m_time_limit(time_limit), m_grace(grace) {}  // 0: no limit

  // The command begins to work on a job now.
  void works(Time now);
  // The command has nothing to do, and waits for more jobs.
  void idles();
  // The command has nothing to do, and no job will come: it should end.
  void should_end(Time now);

  // Its job is cancelled: it must end now.
  void cancel(Time now);

  // Whether the command has been told to end.
  bool is_reached() const { return m_signals.has_begun(); }
  std::optional<Time> at() const { return m_signals.at(); }
  // Returns the signal to send to the command now, or 0.
  int next(Time now) { return m_signals.next(now, m_grace); }

 private:
  Millis m_time_limit, m_grace;
  SignalSequence m_signals;
};

}  // namespace gq
