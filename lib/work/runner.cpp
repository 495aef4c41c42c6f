#include "gq/work/runner.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <numeric>
#include <random>

#include "gq/base/log.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

// How often to look whether other owners have died, and at the journal where inotify is not to be had.
constexpr Millis look_interval{1000};
constexpr Millis disk_retry{1000};
constexpr Millis last_tries{1500};  // when nothing runs any more, and the disk refuses
// Short jobs are claimed several at a time: about this much work for each slot, so that others get their share soon.
constexpr double claim_ahead_ms = 50;
constexpr double most_ahead = 64;
constexpr Millis hold_claims{100};  // how long they may wait for a slot before they are given back
constexpr size_t stream_bytes = 1 << 20;
constexpr Millis first_pause{1000}, longest_pause{60000};  // for a broken command
constexpr Millis sweep_interval{3600'000};
constexpr Millis status_interval{1000};
constexpr size_t most_lingering = 256;

constexpr const char *kept_as_dead = "it is kept as dead", *tried_again = "to be tried again";

// To spread the retries of jobs that failed together.
double random_part() {
  static thread_local std::mt19937 random{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(random);
}

std::string join(const std::vector<std::string>& words) {
  std::string all;
  for (const auto& w : words) all += (all.empty() ? "" : " ") + w;
  return all;
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

Runner::Runner(Store& store, Config config, Backlog& backlog)
    : m_store(store),
      m_config(std::move(config)),
      m_backlog(backlog),
      m_owners(store.owners_directory(), m_config.slots, m_config.functions),
      m_slots(m_config.slots),
      m_stop(m_config.grace) {
  sigset_t set = runner_signals();
  m_signals = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!m_signals) throw_errno(Exit::retry, "watch signals");
  m_journal_watch = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (m_journal_watch && ::inotify_add_watch(m_journal_watch.get(), store.journal().lock_path().c_str(), IN_MODIFY) < 0)
    m_journal_watch.reset();
  if (!m_config.joblog.empty()) m_joblog = std::make_unique<Joblog>(m_config.joblog, printable(join(m_config.command)));
  prepare_outputs(m_config.output);
  m_nowhere = open_file("/dev/null", O_WRONLY);
}

Runner::~Runner() = default;

// How many more jobs a slot can take.
size_t Runner::capacity(const Slot& slot) const {
  if (!m_config.stream) return slot.pid == 0 ? 1 : 0;
  if (slot.limit.is_reached()) return 0;
  if (slot.stream && slot.stream->pending() > stream_bytes) return 0;
  // A job that a worker has died of before gets a command of its own, so that no other is taken for the guilty one.
  if (guilty_first()) return slot.pid == 0 ? 1 : 0;
  if (slot.stream && slot.stream->closing()) return 0;
  size_t window = slot.stream ? slot.stream->window() : 1;
  return window - std::min(window, slot.jobs.size());
}

size_t Runner::room() const {
  size_t n = 0;
  for (const auto& slot : m_slots) n += capacity(slot);
  return n;
}

bool Runner::idle() const {
  return m_claimed.empty() && m_records.empty() &&
         std::all_of(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.jobs.empty(); });
}

// When something may be started again.
Runner::Clock::time_point Runner::not_before() const {
  return std::max({m_troubled ? m_blocked_until : Clock::time_point{},
                   m_output_error ? m_output_until : Clock::time_point{}, m_next_start});
}

void Runner::trouble(const Error& error) {
  // A pass ends; a worker waits until the disk is well.
  if (m_config.until == Until::nothing_now && !running()) throw error;
  if (begin_trouble("store", error.what())) log(Level::warning, error.what());
  m_troubled = true;
  m_trouble = error.what();
  m_blocked_until = Clock::now() + disk_retry;
}

bool Runner::running() const {
  return std::any_of(m_slots.begin(), m_slots.end(), [](const Slot& s) { return !s.jobs.empty(); });
}

// No files for what commands print: nothing is started, and others may have what is claimed.
void Runner::output_trouble(const Error& error) {
  if (begin_trouble("output", error.what()))
    log(Level::warning, std::string(error.what()) + "; nothing is started until that can be done");
  m_output_error = error;
  m_output_until = Clock::now() + disk_retry;
}

// Whether what commands print arrives; said when it no longer does, and when it does again.
Printed Runner::printed() {
  const Printed now = standard_output();
  auto tell = [&](Printed which, const char* what, const std::string& wrong, const std::string& right) {
    std::string text = std::string("cannot write standard output: ") + what;
    if (now == which ? begin_trouble(what, text) : end_trouble(what))
      log(Level::warning, now == which ? text + wrong : right);
  };
  tell(Printed::nowhere, "nobody reads it", "; what commands print is thrown away", "standard output is read again");
  tell(Printed::no_room, "its disk is full", "; attempts that fail are not counted",
       "there is room for standard output again");
  m_lost_output = m_lost_output || now == Printed::nowhere;
  return now;
}

// What has become of a job.
void Runner::record(const Claim& claim, const Conclusion& conclusion) {
  m_records.push_back(conclusion_record(claim, conclusion, now_ms()));
  m_gave_back = m_gave_back || !conclusion.spent;
  m_look = true;
}

void Runner::say(Level level, const Claim& claim, const std::string& why, const char* becomes) {
  if (auto behind = m_seldom.behind(
          printable(claim.job.function) + ": " + (level == Level::error ? kind_of(why) + "; " : "") + becomes,
          Clock::now()))
    log(level, claim.id + ": " + why + "; " + becomes + *behind);
}

// The command is at fault, not the job: nothing of the function is started for a while.
void Runner::broken(const std::string& function, const std::string& why) {
  Broken& b = m_broken[function];
  if (Clock::now() < b.until) return;  // another one of the same start
  if (b.delay.count() == 0)
    log(Level::error, "cannot run " + printable(m_config.command[0]) + ": " + why + "; no job is spent, " +
                          printable(function) + " pauses and is tried again");
  b.delay = std::clamp(b.delay * 2, first_pause, longest_pause);
  b.until = Clock::now() + b.delay;
  b.waiting = true;
  if (m_config.strict || m_config.until == Until::nothing_now) m_broken_ends = true;
  auto others = std::move(m_claimed);
  m_claimed.clear();
  for (auto& claim : others)
    if (claim.job.function == function) record(claim, given_back());
    else m_claimed.push_back(std::move(claim));
}

// A job's attempt has ended.
void Runner::end_attempt(const Slot& slot, const Running& job, AttemptEnd end) {
  using What = Conclusion::What;
  const Claim& claim = job.claim;
  if (depends_on_output(end, m_config.rules)) end.printed = printed();
  const Conclusion conclusion = conclude(end, claim.job, m_config.rules, now_ms(), random_part());
  if (conclusion.is_attempt()) {
    double ms = std::chrono::duration<double, std::milli>(Clock::now() - std::max(job.started, slot.answered)).count();
    m_average_ms = 0.8 * m_average_ms + 0.2 * ms;
    if (m_joblog) {
      Attempt a;
      a.id = claim.id;
      a.function = claim.job.function;
      a.attempt = claim.job.failures + 1;
      a.started = job.started_at;
      a.seconds = ms / 1000;
      a.sent = claim.job.size;
      a.received = slot.output && !slot.stream ? slot.output->bytes() : 0;
      a.exit = end.exit;
      a.signal = end.signal;
      m_joblog->add(a);
    }
    ++m_unrecorded;
    if (conclusion.discard && slot.output && !slot.stream) slot.output->discard();
    if (conclusion.spent && m_broken.erase(claim.job.function) > 0)
      log(Level::warning, "the command can be run again: " + printable(claim.job.function) + " goes on");
  }
  record(claim, conclusion);
  switch (conclusion.what) {
    case What::done:
      if (std::string blob = blob_of(claim.id, claim.job); !blob.empty()) m_done_blobs.push_back(blob);
      --m_backlog.live;
      ++m_done;
      break;
    case What::dead:
      say(Level::warning, claim, conclusion.why, kept_as_dead);
      --m_backlog.live;
      ++m_dead;
      break;
    case What::again:
      log(Level::info, claim.id + ": " + conclusion.why + "; " + tried_again);
      ++m_failed;
      break;
    case What::broken:
      broken(claim.job.function, conclusion.why);
      break;
    case What::given_back:
      break;
  }
}

// A command has ended, and with it the attempts of what it was given.
void Runner::ended(Slot& slot, int status) {
  if (slot.output) slot.output->pump();
  if (slot.stream) {
    slot.stream->pump();
    take_answers(slot);
  }
  slot.pid = 0;
  slot.refuses = false;
  m_ended.push_back(std::move(slot.owner));
  slot.owner = {};
  if (!slot.jobs.empty()) {
    AttemptEnd end{.of = slot.stream ? AttemptEnd::Of::stream : AttemptEnd::Of::command};
    if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
    else end.exit = WEXITSTATUS(status);
    if (slot.output) end.said = slot.output->tail();
    end.at_limit = slot.limit.is_reached();
    end.cut_off = m_stop.cuts_off();
    end.unsent = slot.stream ? slot.stream->failure() : 0;
    end.prints = slot.prints;
    Running job = std::move(slot.jobs.front());
    slot.jobs.pop_front();
    end_attempt(slot, job, std::move(end));
  }
  for (const auto& job : slot.jobs) record(job.claim, given_back());  // not begun
  slot.jobs.clear();
  slot.stream.reset();
  slot.limit = CommandLimit(m_config.time_limit, m_config.grace);
  if (slot.output && slot.output->pump()) {
    // Something that it has started still writes there.
    m_lingering.push_back(std::move(*slot.output));
    if (m_lingering.size() > most_lingering) m_lingering.pop_front();
  }
  slot.output.reset();
  m_look = true;
}

void Runner::take_answers(Slot& slot) {
  for (auto& answer : slot.stream->answers()) {
    auto it =
        std::find_if(slot.jobs.begin(), slot.jobs.end(), [&](const Running& r) { return r.claim.id == answer.id; });
    Running job = std::move(*it);
    slot.jobs.erase(it);
    end_attempt(slot, job, {.of = AttemptEnd::Of::answer, .exit = answer.status, .said = std::move(answer.reason)});
    slot.answered = Clock::now();
    if (!slot.jobs.empty()) slot.limit.works(slot.answered);
    else if (slot.stream->closing()) slot.limit.should_end(slot.answered);
    else slot.limit.idles();
  }
}

void Runner::reap() {
  for (auto& slot : m_slots) {
    if (slot.pid == 0) continue;
    if (slot.stream) {
      slot.stream->pump();
      take_answers(slot);
      if (slot.stream->failure()) ::kill(-slot.pid, SIGKILL);
    }
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(slot.pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid != slot.pid)
      continue;
    // While it is not reaped, the number of its group is nobody else's.
    if (slot.limit.is_reached() || m_stop.cuts_off()) ::kill(-slot.pid, SIGKILL);
    int status = 0;
    if (::waitpid(slot.pid, &status, 0) == slot.pid) ended(slot, status);
  }
}

// Claims what there is room for.
void Runner::refill() {
  // What is given back must not be claimed again before that is on disk: recorded anew after a failed sync, it would
  // let go of the new claim, too.
  if (m_gave_back) settle();
  else append_records();
  m_look = false;
  m_next_look = Clock::now() + look_interval;
  double ahead = m_config.stream ? 1 : std::clamp(claim_ahead_ms / std::max(m_average_ms, 0.1), 1.0, most_ahead);
  if (m_config.rate > 0) ahead = std::min(ahead, std::max(1.0, m_config.rate * claim_ahead_ms / 1000));
  Store::ClaimRequest request;
  request.functions = m_config.functions;
  request.most = m_stop.is_asked() ? 0 : static_cast<size_t>(static_cast<double>(room()) * ahead);
  if (m_config.rate > 0) request.most = std::min(request.most, static_cast<size_t>(ahead));
  request.max_crashes = m_config.max_crashes;
  request.owners = &m_owners;
  for (const auto& slot : m_slots)
    for (const auto& job : slot.jobs) request.held.insert(job.claim.id);
  for (const auto& [function, b] : m_broken)
    if (Clock::now() < b.until) request.except.insert(function);
  m_seen = m_store.claim(request);
  m_backlog.live = static_cast<int64_t>(m_seen.live);
  for (const auto& claim : m_seen.abandoned) {
    const std::string why = "its worker died while it ran, " + counted(claim.job.crashes + 1, "time");
    record(claim, buried(why));
    say(Level::warning, claim, why, kept_as_dead);
  }
  for (auto& claim : m_seen.jobs) m_claimed.push_back(std::move(claim));
  m_seen.jobs.clear();
}

// Starts the slot's command: for one job, or for all that a stream will be sent. False where it cannot be run; then
// that has been dealt with.
bool Runner::start_command(Slot& slot, const Claim& claim, int input, const std::string& path) {
  Command command;
  command.argv = m_config.command;
  command.input = input;
  command.keep_open = slot.owner.lock.get();
  const Job& job = claim.job;
  command.environment = {{"GQ_STORE", m_store.directory().path()}, {"GQ_CRASHES", std::to_string(job.crashes)}};
  command.unset = {"GQ_JOB_ID",    "GQ_FUNCTION", "GQ_ATTEMPT",       "GQ_MAX_ATTEMPTS",    "GQ_ENQUEUED_AT",
                   "GQ_KEY",       "GQ_PRIORITY", "GQ_WORKLOAD_FILE", "GQ_WORKLOAD_OFFSET", "GQ_WORKLOAD_LENGTH",
                   "NOTIFY_SOCKET"};
  if (!m_config.stream) {
    command.environment.insert(command.environment.end(),
                               {{"GQ_JOB_ID", claim.id},
                                {"GQ_FUNCTION", job.function},
                                {"GQ_ATTEMPT", std::to_string(job.failures + 1)},
                                {"GQ_MAX_ATTEMPTS", std::to_string(m_config.rules.attempts(job))},
                                {"GQ_ENQUEUED_AT", format_time(job.enqueued_at)},
                                {"GQ_PRIORITY", priority_name(job.priority)}});
    command.environment.emplace_back("GQ_WORKLOAD_LENGTH", std::to_string(job.size));
    if (!job.key.empty()) command.environment.emplace_back("GQ_KEY", job.key);
    if (!path.empty()) {
      command.environment.emplace_back("GQ_WORKLOAD_FILE", path);
      command.environment.emplace_back("GQ_WORKLOAD_OFFSET", std::to_string(job.offset));
    }
  }
  slot.limit = CommandLimit(m_config.time_limit, m_config.grace);
  slot.limit.works(Clock::now());
  std::string why;
  pid_t pid = 0;
  try {
    if (!slot.output) slot.output = std::make_unique<Output>(m_config.output, "");
    command.output = slot.stream ? slot.stream->command_output() : slot.output->out_end();
    slot.prints = command.output < 0 && printed() != Printed::nowhere;
    if (command.output < 0 && !slot.prints) command.output = m_nowhere.get();
    command.error = slot.output->error_end();
    pid = spawn(command);
    if (pid <= 0) why = errno_text(-pid);
    slot.output->close_ends();
  } catch (const Error& e) {
    why = e.what();
  }
  if (pid > 0) {
    m_owners.started(slot.owner, slot.pid = pid);
    return true;
  }
  if (slot.output) slot.output->discard();
  slot.output.reset();
  slot.stream.reset();
  auto jobs = std::move(slot.jobs);
  slot.jobs.clear();
  for (const auto& j : jobs) {
    record(j.claim, given_back("the command could not be run"));
    broken(j.claim.job.function, why);
  }
  return false;
}

// Puts claimed jobs into free slots. Each start is recorded first, all of them with one write.
void Runner::start_jobs() {
  struct Start {
    size_t slot;
    Claim claim;
    Workload workload;
    Fd input;
    std::unique_ptr<Output> output;
  };
  // What was claimed before this node was away may be another's by now.
  if (!m_claimed.empty() && !m_store.may_start()) {
    for (const auto& claim : m_claimed) record(claim, given_back());
    m_claimed.clear();
  }
  std::vector<Start> starts;
  bool unlimited = m_config.rate <= 0;
  auto give = [&](size_t i) {
    for (const bool guilty = guilty_first(); !m_claimed.empty() && guilty_first() == guilty;) {
      Claim claim = std::move(m_claimed.front());
      m_claimed.pop_front();
      std::string reason;
      std::optional<Workload> w;
      Start start;
      try {
        w = m_store.workload(claim.id, claim.job, reason);
        if (w && !m_config.stream)
          start.input = !w->blob                   ? readable(w->data)
                        : claim.job.source.empty() ? std::move(w->blob)
                                                   : readable_part(w->blob.get(), w->offset, claim.job.size);
      } catch (const Error& e) {
        // This one cannot be read now. Others can.
        record(claim, given_back(printable(e.what()), now_ms() + m_config.rules.pause()));
        say(Level::warning, claim, e.what(), tried_again);
        continue;
      }
      if (!w) {
        record(claim, buried(reason));
        say(Level::error, claim, reason, kept_as_dead);
        --m_backlog.live;
        continue;
      }
      try {
        if (!m_config.stream)
          start.output =
              std::make_unique<Output>(m_config.output, claim.id + "." + std::to_string(claim.job.failures + 1));
      } catch (const Error& e) {
        m_claimed.push_front(std::move(claim));
        output_trouble(e);
        return false;
      }
      start.slot = i;
      start.workload = std::move(*w);
      start.claim = std::move(claim);
      starts.push_back(std::move(start));
      return true;
    }
    return false;
  };
  // The one that has least to do comes first.
  std::vector<size_t> order(m_slots.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (m_config.stream)
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return m_slots[a].jobs.size() < m_slots[b].jobs.size(); });
  for (size_t n = 0; n < order.size() && !m_stop.is_asked() && !m_output_error; ++n) {
    size_t i = order[n], space = capacity(m_slots[i]), share = m_claimed.size() / (order.size() - n) + 1;
    for (space = std::min(space, share); space > 0; --space) {
      if (!unlimited && Clock::now() < m_next_start) break;
      bool guilty = guilty_first();
      bool alone = m_slots[i].jobs.empty() && (starts.empty() || starts.back().slot != i);
      if ((guilty && !alone) || !give(i)) break;
      if (!unlimited)
        m_next_start = std::max(m_next_start, Clock::now()) +
                       std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / m_config.rate));
      if (guilty) break;
    }
  }
  if (m_output_error) give_back();
  if (starts.empty() && m_records.empty()) return;
  try {
    for (auto& s : starts) {
      Slot& slot = m_slots[s.slot];
      if (slot.owner.name.empty()) slot.owner = take_owner();
    }
    std::vector<std::string> records = m_records;
    for (auto& s : starts) {
      records.push_back(encode_record(event::Start{
          .id = s.claim.id, .at = now_ms(), .owner = m_slots[s.slot].owner.name, .start = s.claim.job.starts + 1}));
    }
    m_store.append(records);
  } catch (const Error&) {
    for (auto s = starts.rbegin(); s != starts.rend(); ++s) {
      if (s->output) s->output->discard();
      m_claimed.push_front(std::move(s->claim));
    }
    throw;
  }
  appended();
  for (auto& s : starts) {
    s.claim.job.owner = m_slots[s.slot].owner.name;
    ++s.claim.job.starts;
  }
  for (auto& s : starts) {
    Slot& slot = m_slots[s.slot];
    m_last_start = Clock::now();
    if (!m_config.stream) {
      slot.jobs.push_back({std::move(s.claim), m_last_start, now_ms()});
      slot.output = std::move(s.output);
      start_command(slot, slot.jobs.front().claim, s.input.get(), s.workload.path);
      continue;
    }
    if (slot.jobs.empty()) slot.limit.works(m_last_start);
    slot.jobs.push_back({s.claim, m_last_start, now_ms()});
    if (slot.pid == 0) {
      try {
        slot.stream = std::make_unique<Stream>();
      } catch (const Error& e) {
        slot.jobs.clear();
        record(s.claim, given_back(e.what()));
        broken(s.claim.job.function, e.what());
        continue;
      }
      if (!start_command(slot, s.claim, slot.stream->command_input(), {})) continue;
      slot.stream->close_ends();
    }
    slot.stream->send(s.claim, s.claim.job.failures + 1, std::move(s.workload));
    if (s.claim.job.crashes > 0) slot.stream->close();
  }
}

// A full disk may have no room for one more file; those of commands that have ended are free once that is recorded.
Owner Runner::take_owner() {
  try {
    return m_owners.take();
  } catch (const Error&) {
    if (m_ended.empty()) throw;
  }
  append_records();
  return m_owners.take();
}

void Runner::append_records() {
  if (!m_records.empty()) m_store.append(m_records);
  appended();
}

// What has been recorded stands in the journal.
void Runner::appended() {
  m_records.clear();
  for (auto& owner : m_ended) m_owners.let_go(std::move(owner));
  m_ended.clear();
}

// Makes durable what has been recorded; lets go of the blobs of finished jobs.
void Runner::settle() {
  append_records();
  m_store.settle();
  for (const auto& id : m_done_blobs) m_store.forget_blob(id);
  m_done_blobs.clear();
  m_unrecorded = 0;
  m_gave_back = m_troubled = false;
  if (!m_stop.is_asked() && end_trouble("store")) log(Level::warning, "the store can be used again");
}

// To the process group of its command.
void Runner::send(Slot& slot, int signal) {
  if (::kill(-slot.pid, signal) == 0 || errno != EPERM || std::exchange(slot.refuses, true)) return;
  log(Level::error, "cannot stop process " + std::to_string(slot.pid) +
                        (slot.jobs.empty() ? "" : ", which runs " + slot.jobs.front().claim.id) + ": " +
                        errno_text(EPERM));
}

// Whether files for what commands print can be made again.
void Runner::look_at_outputs() {
  try {
    prepare_outputs(m_config.output);
    m_output_error.reset();
    if (end_trouble("output")) log(Level::warning, "what commands print can be kept again");
    m_look = true;
  } catch (const Error& e) {
    output_trouble(e);
  }
}

// True when the first stop signal came.
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
  if (m_broken_ends && !m_stop.is_asked()) first = m_stop.ask(Clock::now());
  if (first) notify("STOPPING=1");
  if (const int signal = m_stop.next(Clock::now()))
    for (auto& slot : m_slots)
      if (slot.pid != 0) send(slot, signal);
  if (m_stop.is_asked()) end_streams();
  return first;
}

// The worker stops: a streamed command sees the end of its input when it has answered for what it was sent. What ends
// it otherwise is the stop.
void Runner::end_streams() {
  for (auto& slot : m_slots) {
    if (!slot.stream || !slot.jobs.empty()) continue;
    slot.stream->close();
    slot.limit.idles();
  }
}

// A job that a worker has died of before needs a command of its own.
void Runner::make_way_for_guilty() {
  if (!guilty_first() ||
      std::any_of(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.pid == 0 || s.stream->closing(); }))
    return;
  auto idle = std::find_if(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.jobs.empty(); });
  if (idle == m_slots.end()) return;
  idle->stream->close();
  idle->limit.should_end(Clock::now());
}

void Runner::enforce_time_limit() {
  for (auto& slot : m_slots) {
    if (slot.pid == 0) continue;
    if (const int signal = slot.limit.next(Clock::now())) send(slot, signal);
  }
}

std::string Runner::state_line() const {
  size_t running = 0;
  for (const auto& slot : m_slots) running += slot.jobs.size();
  std::string line = std::string(m_stop.is_asked() ? "stopping"
                                 : m_troubled      ? "waiting for the disk"
                                                   : "working") +
                     ": " + std::to_string(running) + " running, " + std::to_string(m_backlog.live.load()) + " left, " +
                     std::to_string(m_done) + " done, " + std::to_string(m_failed) + " failed, " +
                     std::to_string(m_dead) + " dead";
  for (const auto& [function, b] : m_broken) line += ", " + printable(function) + " pauses";
  return line;
}

// Milliseconds until something has to be done without being woken; -1 for never.
int Runner::wait_time() const {
  auto now = Clock::now();
  auto until = [&](Clock::time_point t) { return std::chrono::ceil<Millis>(t - now).count(); };
  int64_t wait = INT64_MAX;
  if (m_troubled) wait = std::min(wait, until(m_blocked_until));
  if (m_claimed.size() > (guilty_first() ? 1 : 0) || (guilty_first() && room() > 0))
    wait = std::min(wait, until(room() == 0 ? m_last_start + hold_claims : not_before()));
  if (auto at = m_stop.at()) wait = std::min(wait, until(*at));
  for (const auto& slot : m_slots)
    if (auto at = slot.limit.at(); at && slot.pid != 0) wait = std::min(wait, until(*at));
  if (!m_stop.is_asked() && room() > 0) {
    int64_t start = INT64_MAX;
    if (m_look) start = 0;
    if (m_seen.next_due) start = std::min<int64_t>(start, (*m_seen.next_due - now_ms()).count() + 1);
    for (const auto& [function, b] : m_broken)
      if (b.waiting) start = std::min(start, until(b.until));
    if (!m_seen.other_owners.empty() || !m_journal_watch || m_config.until == Until::drained)
      start = std::min(start, until(m_next_look));
    wait = std::min(wait, std::max(start, until(not_before())));
  }
  if (wait == INT64_MAX) return -1;
  return static_cast<int>(std::clamp<int64_t>(wait, 0, 60'000));
}

// Lets others have what is claimed and waits for a slot.
void Runner::give_back() {
  // One that a worker has died of stays, and a stream runs empty for it.
  auto from = m_claimed.begin() + (guilty_first() && !m_stop.is_asked() ? 1 : 0);
  for (auto it = from; it != m_claimed.end(); ++it) record(*it, given_back());
  m_claimed.erase(from, m_claimed.end());
}

// Waits for signals, output, answers, and news in the journal.
void Runner::wait() {
  bool need = !m_stop.is_asked() && room() > 0 && m_claimed.empty();
  bool ready =
      !m_troubled && (!m_records.empty() || (!m_claimed.empty() && room() > 0 && Clock::now() >= not_before()));
  std::vector<pollfd> fds = {{m_signals.get(), POLLIN, 0},
                             {need && m_journal_watch ? m_journal_watch.get() : -1, POLLIN, 0}};
  auto add = [&](int fd, short events) {
    if (fd >= 0) fds.push_back({fd, events, 0});
  };
  for (const auto& slot : m_slots) {
    if (slot.output) {
      add(slot.output->out(), POLLIN);
      add(slot.output->error(), POLLIN);
    }
    if (slot.stream) {
      add(slot.stream->input(), POLLOUT);
      add(slot.stream->output(), POLLIN);
    }
  }
  for (const auto& output : m_lingering) {
    add(output.out(), POLLIN);
    add(output.error(), POLLIN);
  }
  int time = ready ? 0 : wait_time();
  if (std::string status = m_notifies ? state_line() : m_status; status != m_status) {
    auto left = std::chrono::ceil<Millis>(m_next_status - Clock::now()).count();
    if (left <= 0) {
      set_status(m_status = status);
      m_next_status = Clock::now() + status_interval;
    } else {
      time = static_cast<int>(time < 0 ? left : std::min<int64_t>(time, left));
    }
  }
  ::poll(fds.data(), fds.size(), time);
  for (auto& slot : m_slots)
    if (slot.output) slot.output->pump();
  m_lingering.remove_if([](Output& output) { return !output.pump(); });
  if (fds[1].revents & POLLIN) {
    char events[4096];
    while (::read(m_journal_watch.get(), events, sizeof events) > 0) continue;
    // The file is also written after each sync, which brings nothing new.
    try {
      const Lsn end = m_store.journal().end();
      m_look = m_look || end != m_seen_end;
      m_seen_end = end;
    } catch (const Error&) {
      m_look = true;  // then it hears that the disk refuses
    }
  }
  if (need && fds[1].fd < 0 && Clock::now() >= m_next_look) m_look = true;
  for (auto& [function, b] : m_broken)
    if (Clock::now() >= b.until && std::exchange(b.waiting, false)) m_look = true;
  if (Clock::now() >= m_next_sweep) {
    sweep_outputs(m_config.output);
    m_next_sweep = Clock::now() + sweep_interval;
  }
}

bool Runner::run(const std::function<void()>& end_intake) {
  auto stop_intake = [&] {
    if (!std::exchange(m_intake_ended, true)) end_intake();
  };
  notify("READY=1");
  for (;;) {
    if (handle_signals()) {
      stop_intake();
      give_back();
    }
    enforce_time_limit();
    reap();
    if (!m_claimed.empty() && room() == 0 && Clock::now() >= m_last_start + hold_claims) give_back();
    if (!m_troubled || Clock::now() >= m_blocked_until) {
      try {
        if (m_output_error && !m_stop.is_asked() && Clock::now() >= m_output_until) look_at_outputs();
        if (!m_stop.is_asked() && m_claimed.empty() && room() > 0 && Clock::now() >= not_before()) {
          bool due = m_seen.next_due && *m_seen.next_due <= now_ms();
          if (m_look || due || Clock::now() >= m_next_look) refill();
        }
        make_way_for_guilty();
        start_jobs();
        settle();
      } catch (const Error& e) {
        m_look = true;
        trouble(e);
      }
    }
    reap();
    if (idle() && !m_troubled) {
      bool ended = m_stop.is_asked();
      if (m_config.until == Until::drained && m_seen.live == 0 && !m_look) {
        ended |= m_intake_ended;
        stop_intake();
        m_look = true;  // for what came in last
      }
      if (m_config.until == Until::nothing_now && !m_look && !(m_seen.next_due && *m_seen.next_due <= now_ms()))
        ended = true;
      if (ended) {
        bool gone = std::all_of(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.pid == 0; });
        if (gone) break;
        end_streams();
        if (!m_stop.is_asked()) m_stop.ask(Clock::now());
      }
    }
    if (m_output_error && m_config.until == Until::nothing_now && !running() && !m_troubled && m_records.empty())
      throw *m_output_error;
    bool gone = std::all_of(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.pid == 0; });
    if (m_stop.is_asked() && gone && m_troubled) {
      // A fault that passes is tried again for a while; one that stays holds nobody up.
      if (m_give_up == Clock::time_point{}) m_give_up = Clock::now() + last_tries;
      if (Clock::now() >= m_give_up && m_unrecorded > 0)
        throw Error(Exit::storage, "cannot record how " + counted(m_unrecorded, "command") +
                                       " ended, whose jobs run again: " + m_trouble);
      if (Clock::now() >= m_give_up) return !m_broken_ends;
    }
    wait();
  }
  appended();
  m_store.forget_blobs();
  for (const auto& [kind, n] : m_seldom.take_left_out())
    log(Level::warning, kind + " (" + std::to_string(n) + " more like it)");
  return !m_broken_ends;
}

}  // namespace gq
