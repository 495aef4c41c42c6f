#include "runner.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <random>

#include "child.hpp"
#include "log.hpp"
#include "text.hpp"

namespace gq {
namespace {

// How often to look whether other owners have died, and at the journal where inotify is not to be had.
constexpr Millis look_interval{1000};
constexpr Millis disk_retry{1000};
constexpr Millis unreadable_retry{60000};
constexpr Millis kill_delay{2000};  // from SIGTERM to SIGKILL
// Short jobs are claimed several at a time: about this much work for each slot, so that others get their share soon.
constexpr double claim_ahead_ms = 50;
constexpr double most_ahead = 64;
constexpr Millis hold_claims{100};  // how long they may wait for a slot before they are given back

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit " + std::to_string(WEXITSTATUS(status));
}

Meta meta_of(RecordType type, const Claim& claim) {
  Meta meta;
  meta.type = type;
  meta.id = claim.id;
  meta.at = now_ms();
  meta.owner = claim.job.owner;
  meta.start = claim.job.starts;
  return meta;
}

}  // namespace

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // A signal that is blocked is kept even if it is ignored.
  struct sigaction hangup;
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
  return set;
}

Runner::Runner(Store& store, Config config, Backlog& backlog)
    : m_store(store),
      m_config(std::move(config)),
      m_backlog(backlog),
      m_owners(store.owners_directory(), m_config.slots),
      m_slots(m_config.slots) {
  sigset_t set = stop_signals();
  sigaddset(&set, SIGCHLD);
  m_signals = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!m_signals) throw_errno(Exit::bug, "watch signals");
  m_journal_watch = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (m_journal_watch &&
      ::inotify_add_watch(m_journal_watch.get(), store.journal().lock_path().c_str(), IN_MODIFY) < 0)
    m_journal_watch.reset();
}

Runner::~Runner() = default;

size_t Runner::free_slots() const {
  return static_cast<size_t>(std::count_if(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.pid == 0; }));
}

bool Runner::idle() const { return free_slots() == m_slots.size() && m_claimed.empty() && m_records.empty(); }

Millis Runner::retry_delay(uint32_t failures) const {
  static thread_local std::mt19937 random{std::random_device{}()};
  double base = static_cast<double>(m_config.backoff.count()) * std::pow(2.0, std::min(failures, 40u) - 1);
  base = std::min(base, static_cast<double>(m_config.longest_backoff.count()));
  return Millis(std::llround(base * std::uniform_real_distribution<double>(0.75, 1.25)(random)));
}

void Runner::trouble(const Error& error) {
  // A pass ends; a worker waits until the disk is well.
  if (m_config.until == Until::nothing_now && free_slots() == m_slots.size()) throw error;
  if (!m_troubled) log(Level::warning, error.what());
  m_troubled = true;
  m_blocked_until = Clock::now() + disk_retry;
}

void Runner::finish(Slot& slot, int status) {
  const Claim& claim = slot.claim;
  double ms = std::chrono::duration<double, std::milli>(Clock::now() - slot.started).count();
  m_average_ms = 0.8 * m_average_ms + 0.2 * ms;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    m_records.push_back(encode_record(meta_of(RecordType::done, claim)));
    if (claim.job.size > max_inline_data) m_done_blobs.push_back(claim.id);
    --m_backlog.live;
  } else if (m_kills > 0) {
    // Cut off by the stop of this process: the job is as if it had not been started.
    Meta meta = meta_of(RecordType::fail, claim);
    meta.spent = false;
    meta.why = "stopped with its worker";
    m_records.push_back(encode_record(meta));
  } else {
    uint32_t failures = claim.job.failures + 1;
    bool dead = failures >= m_config.max_attempts;
    Meta meta = meta_of(dead ? RecordType::dead : RecordType::fail, claim);
    meta.why = how_it_ended(status);
    if (!dead) meta.due = meta.at + retry_delay(failures);
    m_records.push_back(encode_record(meta));
    log(dead ? Level::warning : Level::info, claim.id + ": " + meta.why + (dead ? "; it is kept as dead" : "; to be tried again"));
    if (dead) --m_backlog.live;
  }
  slot.pid = 0;
  m_look = true;
}

void Runner::reap() {
  for (auto& slot : m_slots) {
    int status = 0;
    if (slot.pid != 0 && ::waitpid(slot.pid, &status, WNOHANG) == slot.pid) finish(slot, status);
  }
}

// Claims what the free slots need.
void Runner::refill() {
  append_records();  // what is given back must not be claimed again before that stands in the journal
  m_look = false;
  m_next_look = Clock::now() + look_interval;
  double ahead = std::clamp(claim_ahead_ms / std::max(m_average_ms, 0.1), 1.0, most_ahead);
  Store::ClaimRequest request;
  request.functions = m_config.functions;
  request.most = m_stopping ? 0 : static_cast<size_t>(static_cast<double>(free_slots()) * ahead);
  request.max_crashes = m_config.max_crashes;
  request.owners = &m_owners;
  for (const auto& slot : m_slots)
    if (slot.pid != 0) request.held.insert(slot.claim.id);
  m_seen = m_store.claim(request);
  m_backlog.live = static_cast<int64_t>(m_seen.live);
  for (const auto& claim : m_seen.abandoned) {
    Meta meta = meta_of(RecordType::dead, claim);
    meta.why = "its worker died while it ran, " + counted(claim.job.crashes + 1, "time");
    m_records.push_back(encode_record(meta));
    log(Level::warning, claim.id + ": " + meta.why + "; it is kept as dead");
    m_look = true;
  }
  for (auto& claim : m_seen.jobs) m_claimed.push_back(std::move(claim));
  m_seen.jobs.clear();
}

// Puts claimed jobs into free slots. Each start is recorded first, all of them with one write.
void Runner::start_jobs() {
  struct Start {
    size_t slot;
    Claim claim;
    Fd input;
    std::string path;
  };
  std::vector<Start> starts;
  for (size_t i = 0; i < m_slots.size() && !m_stopping; ++i) {
    while (m_slots[i].pid == 0 && !m_claimed.empty()) {
      Claim claim = std::move(m_claimed.front());
      m_claimed.pop_front();
      std::string reason;
      std::optional<Workload> w;
      Start start;
      try {
        w = m_store.workload(claim.id, claim.job, reason);
        if (w) start.input = w->blob ? std::move(w->blob) : readable(w->data);
      } catch (const Error& e) {
        // This one cannot be read now. Others can.
        Meta meta = meta_of(RecordType::fail, claim);
        meta.spent = false;
        meta.why = printable(e.what());
        meta.due = meta.at + std::min(unreadable_retry, m_config.longest_backoff);
        m_records.push_back(encode_record(meta));
        log(Level::warning, claim.id + ": " + e.what() + "; to be tried again");
        m_look = true;
        continue;
      }
      if (!w) {
        Meta meta = meta_of(RecordType::dead, claim);
        meta.why = reason;
        m_records.push_back(encode_record(meta));
        log(Level::error, claim.id + ": " + reason + "; it is kept as dead");
        --m_backlog.live;
        m_look = true;
        continue;
      }
      start.slot = i;
      start.path = w->path;
      start.claim = std::move(claim);
      starts.push_back(std::move(start));
      break;
    }
  }
  std::vector<std::string> records = m_records;
  for (auto& s : starts) {
    Claim after = s.claim;
    after.job.owner = m_owners.name(s.slot + 1);
    ++after.job.starts;
    records.push_back(encode_record(meta_of(RecordType::start, after)));
  }
  if (records.empty()) return;
  try {
    m_store.append(records);
    m_records.clear();
  } catch (const Error&) {
    for (auto s = starts.rbegin(); s != starts.rend(); ++s) m_claimed.push_front(std::move(s->claim));
    throw;
  }
  for (auto& s : starts) {
    Slot& slot = m_slots[s.slot];
    slot.claim = std::move(s.claim);
    Job& job = slot.claim.job;
    job.owner = m_owners.name(s.slot + 1);
    ++job.starts;
    Command command;
    command.argv = m_config.command;
    command.input = s.input.get();
    command.keep_open = m_owners.descriptor(s.slot + 1);
    command.environment = {{"GQ_JOB_ID", slot.claim.id},
                           {"GQ_FUNCTION", job.function},
                           {"GQ_ATTEMPT", std::to_string(job.failures + 1)},
                           {"GQ_MAX_ATTEMPTS", std::to_string(m_config.max_attempts)},
                           {"GQ_ENQUEUED_AT", format_time(job.enqueued_at)},
                           {"GQ_STORE", m_store.directory()}};
    command.unset = {"GQ_WORKLOAD_FILE", "GQ_WORKLOAD_OFFSET", "GQ_WORKLOAD_LENGTH", "NOTIFY_SOCKET"};
    if (!s.path.empty()) {
      command.environment.emplace_back("GQ_WORKLOAD_FILE", s.path);
      command.environment.emplace_back("GQ_WORKLOAD_OFFSET", "0");
      command.environment.emplace_back("GQ_WORKLOAD_LENGTH", std::to_string(job.size));
    }
    slot.started = m_last_start = Clock::now();
    pid_t pid = spawn(command);
    if (pid > 0) {
      slot.pid = pid;
      continue;
    }
    log(Level::error, "cannot run " + printable(m_config.command[0]) + ": " + errno_text(-pid));
    finish(slot, 127 << 8);  // as a shell would say it
  }
}

void Runner::append_records() {
  if (m_records.empty()) return;
  m_store.append(m_records);
  m_records.clear();
}

// Makes durable what has been recorded; lets go of the blobs of finished jobs.
void Runner::settle() {
  append_records();
  m_store.settle();
  for (const auto& id : m_done_blobs) m_store.forget_blob(id);
  m_done_blobs.clear();
  m_troubled = false;
}

void Runner::kill_all(int signal) {
  for (const auto& slot : m_slots)
    if (slot.pid != 0) ::kill(-slot.pid, signal);
}

// True when the first stop signal came.
bool Runner::handle_signals() {
  bool first = false;
  signalfd_siginfo info;
  while (::read(m_signals.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD) continue;
    first = !m_stopping;
    m_kill_at = Clock::now() + (m_stopping ? Millis(0) : m_config.grace);
    m_stopping = true;
  }
  if (m_stopping && m_kills < 2 && Clock::now() >= m_kill_at) {
    kill_all(m_kills++ == 0 ? SIGTERM : SIGKILL);
    m_kill_at = Clock::now() + kill_delay;
  }
  return first;
}

// Milliseconds until something has to be done without being woken; -1 for never.
int Runner::wait_time() const {
  auto now = Clock::now();
  auto until = [&](Clock::time_point t) { return std::chrono::ceil<Millis>(t - now).count(); };
  int64_t wait = INT64_MAX;
  if (m_troubled) wait = std::min(wait, until(m_blocked_until));
  if (!m_claimed.empty() && free_slots() == 0) wait = std::min(wait, until(m_last_start + hold_claims));
  if (m_stopping && m_kills < 2) wait = std::min(wait, until(m_kill_at));
  if (!m_stopping && free_slots() > 0) {
    if (m_look) wait = 0;
    if (m_seen.next_due) wait = std::min<int64_t>(wait, (*m_seen.next_due - now_ms()).count() + 1);
    if (!m_seen.other_owners.empty() || !m_journal_watch || m_config.until == Until::drained)
      wait = std::min(wait, until(m_next_look));
    if (m_troubled) wait = std::max(wait, until(m_blocked_until));
  }
  if (wait == INT64_MAX) return -1;
  return static_cast<int>(std::clamp<int64_t>(wait, 0, 60'000));
}

// Lets others have what is claimed and waits for a slot.
void Runner::give_back() {
  for (const auto& claim : m_claimed) {
    Meta meta = meta_of(RecordType::fail, claim);
    meta.spent = false;
    m_records.push_back(encode_record(meta));
  }
  m_claimed.clear();
}

void Runner::run(const std::function<void()>& end_intake) {
  auto stop_intake = [&] {
    if (!std::exchange(m_intake_ended, true)) end_intake();
  };
  for (;;) {
    if (handle_signals()) {
      stop_intake();
      give_back();
    }
    reap();
    if (!m_claimed.empty() && free_slots() == 0 && Clock::now() >= m_last_start + hold_claims) give_back();
    if (!m_troubled || Clock::now() >= m_blocked_until) {
      try {
        if (!m_stopping && m_claimed.empty() && free_slots() > 0) {
          bool due = m_seen.next_due && *m_seen.next_due <= now_ms();
          if (m_look || due || Clock::now() >= m_next_look) refill();
        }
        start_jobs();
        settle();
      } catch (const Error& e) {
        m_look = true;
        trouble(e);
      }
    }
    reap();
    if (idle() && !m_troubled) {
      if (m_stopping) break;
      if (m_config.until == Until::drained && m_seen.live == 0 && !m_look) {
        if (m_intake_ended) break;
        stop_intake();
        m_look = true;  // for what came in last
      }
      if (m_config.until == Until::nothing_now && !m_look && !(m_seen.next_due && *m_seen.next_due <= now_ms()))
        break;
    }
    if (m_stopping && m_kills == 2 && free_slots() == m_slots.size()) return;  // the disk refuses: what is lost is a record

    bool need = !m_stopping && free_slots() > 0 && m_claimed.empty();
    bool ready = (!m_records.empty() || (!m_claimed.empty() && free_slots() > 0)) && !m_troubled;
    pollfd fds[2] = {{m_signals.get(), POLLIN, 0}, {need && m_journal_watch ? m_journal_watch.get() : -1, POLLIN, 0}};
    ::poll(fds, 2, ready ? 0 : wait_time());
    if (fds[1].revents & POLLIN) {
      char events[4096];
      while (::read(m_journal_watch.get(), events, sizeof events) > 0) continue;
      m_look = true;
    }
    if (need && fds[1].fd < 0 && Clock::now() >= m_next_look) m_look = true;
  }
  m_store.forget_blobs();
}

}  // namespace gq
