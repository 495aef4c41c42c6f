#include "gq/work/runner.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "gq/base/log.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr Millis last_tries{1500};  // how long to retry a disk that fails, after all commands have ended
constexpr Millis status_interval{1000};

}  // namespace

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // A blocked signal becomes pending even if it is ignored.
  struct sigaction hangup;
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
  return set;
}

bool stop_signal_waits() {
  sigset_t stop = stop_signals(), pending;
  ::sigpending(&pending);
  for (int signal : {SIGTERM, SIGINT, SIGHUP})
    if (sigismember(&stop, signal) && sigismember(&pending, signal)) return true;
  return false;
}

sigset_t runner_signals() {
  sigset_t set = stop_signals();
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGUSR1);
  return set;
}

Runner::Runner(Queue& store, Config config, Backlog& backlog)
    : m_store(store), m_stop(config.grace), m_jobs(store, std::move(config), backlog, m_stop) {
  sigset_t set = runner_signals();
  m_signals = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!m_signals) throw_errno(Exit::retry, "watch signals");
}

Runner::~Runner() = default;

bool Runner::run(const std::function<void()>& end_intake) {
  m_end_intake = &end_intake;
  notify("READY=1");
  for (;;) {
    if (handle_signals()) {
      stop_intake();
      m_jobs.give_back_waiting();
    }
    m_jobs.enforce_limits();
    m_jobs.reap();
    m_jobs.give_back_late();
    work();
    m_jobs.reap();
    const Next next = look_for_end();
    if (next == Next::gives_up) return !m_jobs.broken_ends();
    if (next == Next::ends) break;
    wait();
  }
  m_jobs.append();
  m_store.forget_blobs();
  m_jobs.say_left_out();
  return !m_jobs.broken_ends();
}

// Reads the pending signals and acts on them. Returns true when the first stop signal has come.
bool Runner::handle_signals() {
  bool first = false;
  signalfd_siginfo info;
  while (::read(m_signals.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD) continue;
    if (info.ssi_signo == SIGUSR1) {
      log(Level::error, with_troubles(state_line()));
      continue;
    }
    first = m_stop.ask(Clock::now()) || first;
    stop_waiting();
  }
  if (m_jobs.broken_ends() && !m_stop.is_asked()) first = m_stop.ask(Clock::now());
  if (first) notify("STOPPING=1");
  if (const int signal = m_stop.next(Clock::now())) m_jobs.send(signal);
  if (m_stop.is_asked()) m_jobs.end_streams();
  return first;
}

// Does all work that needs the store. If the store fails, gq-flush ends; a worker waits until the store works again.
void Runner::work() {
  if (!m_trouble.may_try(Clock::now())) return;
  try {
    m_jobs.work();
    m_trouble.error.reset();
    if (!m_stop.is_asked() && end_trouble("store")) log(Level::warning, "the store can be used again");
  } catch (const Error& e) {
    m_jobs.look_again();
    if (m_jobs.config().until == Until::nothing_now && !m_jobs.has_jobs()) throw;
    if (begin_trouble("store", e.what())) log(Level::warning, e.what());
    m_trouble.begin(e);
  }
}

Runner::Next Runner::look_for_end() {
  const Until until = m_jobs.config().until;
  if (m_jobs.is_idle() && !m_trouble) {
    bool ended = m_stop.is_asked();
    if (until == Until::drained && m_jobs.is_drained()) {
      ended |= m_intake_ended;
      stop_intake();
      m_jobs.look_again();  // this finds jobs that came in last
    }
    if (until == Until::nothing_now && !m_jobs.may_find_more()) ended = true;
    if (ended) {
      if (!m_jobs.has_commands()) return Next::ends;
      // Streamed commands that wait for more jobs get the end of their input.
      m_jobs.end_streams();
      if (!m_stop.is_asked()) m_stop.ask(Clock::now());
    }
  }
  if (until == Until::nothing_now && m_jobs.output_error() && !m_trouble && !m_jobs.has_jobs() && !m_jobs.has_records())
    throw *m_jobs.output_error();
  return m_stop.is_asked() && m_trouble && !m_jobs.has_commands() && gives_up() ? Next::gives_up : Next::goes_on;
}

// Call it if the disk fails while the worker is stopping. The worker retries for a while, and then ends. Returns true
// when it should end.
bool Runner::gives_up() {
  if (!m_give_up) m_give_up = Clock::now() + last_tries;
  if (Clock::now() < *m_give_up) return false;
  if (m_jobs.unrecorded() > 0)
    throw Error(Exit::storage, "cannot record how " + counted(m_jobs.unrecorded(), "command") +
                                   " ended; their jobs will run again: " + m_trouble.error->what());
  return true;
}

// Waits for signals, output, answers, and new records in the journal.
void Runner::wait() {
  std::vector<pollfd> fds = {{m_signals.get(), POLLIN, 0}};
  const size_t journal = fds.size();
  m_jobs.watch(fds);
  ::poll(fds.data(), fds.size(), show_status(!m_trouble && m_jobs.is_ready() ? 0 : wait_time()));
  m_jobs.woke(fds[journal].revents & POLLIN);
}

// Returns in how many milliseconds something must be done even without an event; -1: never.
int Runner::wait_time() const {
  const auto now = Clock::now();
  int64_t wait = m_jobs.due_in(now, m_trouble ? m_trouble.until : Clock::time_point{});
  auto at = [&](Clock::time_point t) { wait = std::min(wait, std::chrono::ceil<Millis>(t - now).count()); };
  if (m_trouble) at(m_trouble.until);
  if (auto next = m_stop.at()) at(*next);
  if (wait == INT64_MAX) return -1;
  return static_cast<int>(std::clamp<int64_t>(wait, 0, 60'000));
}

void Runner::stop_intake() {
  if (!std::exchange(m_intake_ended, true)) (*m_end_intake)();
}

std::string Runner::state_line() const {
  return std::string(m_stop.is_asked() ? "stopping"
                     : m_trouble       ? "waiting for the disk"
                                       : "working") +
         ": " + m_jobs.text();
}

// Sends the state to the service manager, at most once a second. Returns `time`, or less if the state must be sent
// sooner.
int Runner::show_status(int time) {
  std::string status = m_notifies ? state_line() : m_status;
  if (status == m_status) return time;
  auto left = std::chrono::ceil<Millis>(m_next_status - Clock::now()).count();
  if (left > 0) return static_cast<int>(time < 0 ? left : std::min<int64_t>(time, left));
  set_status(m_status = status);
  m_next_status = Clock::now() + status_interval;
  return time;
}

}  // namespace gq
