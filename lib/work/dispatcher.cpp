#include "gq/work/dispatcher.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>

#include "gq/base/child.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr Millis try_again{1000};
constexpr Millis longest_preparing{100};
constexpr Millis sweep_interval{3600'000};
constexpr Millis cancel_interval{1000};  // how often a worker looks whether a user has cancelled its jobs
constexpr size_t most_lingering = 256;
constexpr size_t descriptors_of_output = 3;

constexpr const char *kept_as_dead = "it is kept as dead", *tried_again = "to be tried again";

// Spreads the retries of jobs that failed together.
double random_part() {
  static thread_local std::mt19937 random{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(random);
}

// Returns how many outputs of ended commands this process continues to read. They may use a quarter of its descriptors;
// the rest is for commands that run.
size_t lingering_bound() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return std::min<size_t>(most_lingering, limit.rlim_cur / 4 / descriptors_of_output);
}

std::string join(const std::vector<std::string>& words) {
  std::string all;
  for (const auto& w : words) all += (all.empty() ? "" : " ") + w;
  return all;
}

}  // namespace

void Outage::begin(const Error& e) {
  error = e;
  until = Clock::now() + try_again;
}

Dispatcher::Dispatcher(Queue& store, WorkConfig config, Backlog& backlog, const Stop& stop)
    : m_store(store),
      m_config(std::move(config)),
      m_backlog(backlog),
      m_stop(stop),
      m_owners(store.owners_directory(), m_config.slots, m_config.functions, m_config.rules.then.function,
               m_config.output.directory),
      m_setup{.command = m_config.command,
              .stream = m_config.stream,
              .time_limit = m_config.time_limit,
              .grace = m_config.grace,
              .output = m_config.output,
              .rules = m_config.rules,
              .store = store.directory().path()},
      m_claimer(store, m_owners,
                {.functions = m_config.functions,
                 .max_crashes = m_config.max_crashes,
                 .stream = m_config.stream,
                 .rate = m_config.rate,
                 .polls = m_config.until == Until::drained,
                 .target = m_config.rules.then.function,
                 .target_backlog = m_config.target_backlog}),
      m_recorder(store, m_owners, m_log_limit) {
  if (!m_config.joblog.empty()) m_joblog = std::make_unique<Joblog>(m_config.joblog, printable(join(m_config.command)));
  prepare_outputs(m_config.output);
  for (size_t n = 0; n < m_config.slots; ++n) m_slots.emplace_back(m_setup, m_owners, m_standard_output);
}

// ---- steps

void Dispatcher::enforce_limits() {
  for (auto& slot : m_slots) slot.enforce_limit(Clock::now());
}

void Dispatcher::reap() {
  std::vector<Slot::End> ends;
  for (auto& slot : m_slots) {
    for (auto& ended : slot.answers()) end_attempt(ended, nullptr);
    if (auto end = slot.reap(m_stop.cuts_off())) ends.push_back(std::move(*end));
  }
  make_children(ends);
  for (auto& end : ends) end_command(std::move(end));
}

// Turns the outputs of the commands that have ended into jobs, which are unborn until the ends of their parents are
// recorded. All of them share one sync.
void Dispatcher::make_children(std::vector<Slot::End>& ends) {
  std::vector<Brood> broods;
  std::vector<AttemptEnd*> parents;
  for (auto& end : ends)
    for (auto& ended : end.ended) {
      if (!end.output || !end.output->capture() || !has_offspring(ended.end, m_config.rules)) continue;
      broods.push_back(brood_of(ended.claim, *end.output->capture(), ended.end.output, m_config.rules.then));
      parents.push_back(&ended.end);
    }
  if (broods.empty()) return;
  add_children(m_store, broods);
  for (size_t i = 0; i < parents.size(); ++i) parents[i]->offspring = std::move(broods[i].offspring);
}

void Dispatcher::work() {
  if (m_output_trouble && !m_stop.is_asked() && m_output_trouble.may_try(Clock::now())) look_at_outputs();
  const Schedule now = schedule();
  if (now.wants_jobs() && Clock::now() >= now.not_before && m_claimer.is_due(Clock::now(), now_ms()))
    refill(now.room());
  look_for_cancelled();
  if (auto idle = schedule().to_close()) m_slots[*idle].close(Clock::now());
  start_jobs();
  m_recorder.settle();
}

// Ends the jobs of this process that a user has cancelled. A claimed job that waits for a slot is given back, which
// ends it.
void Dispatcher::look_for_cancelled() {
  if (Clock::now() < m_next_cancel_look || !has_jobs()) return;
  m_next_cancel_look = Clock::now() + cancel_interval;
  const Lsn end = m_store.end();
  if (std::exchange(m_cancels_seen, end) == end && !m_has_cancelled) return;
  const auto ids = m_store.cancelled();
  m_has_cancelled = !ids.empty();
  for (const auto& id : ids) {
    for (auto& slot : m_slots) slot.cancel(id, Clock::now());
    give_back(m_claimer.take_job(id));
  }
}

void Dispatcher::give_back_late() {
  if (schedule().gives_back(Clock::now())) give_back_waiting();
}

void Dispatcher::send(int signal) {
  for (auto& slot : m_slots) slot.send(signal);
}

void Dispatcher::end_streams() {
  for (auto& slot : m_slots)
    if (slot.is_idle_stream()) slot.close_for_stop();
}

// ---- jobs

// The state of the slots and of the claimed jobs.
Schedule Dispatcher::schedule() const {
  Schedule all{.waiting = m_claimer.size(),
               .suspect_first = m_claimer.suspect_first(),
               .is_stopping = m_stop.is_asked(),
               .not_before = not_before(),
               .last_start = m_last_start};
  for (const auto& slot : m_slots) all.places.push_back(slot.place());
  return all;
}

// Claims jobs for `room` places.
void Dispatcher::refill(size_t room) {
  if (m_recorder.gave_back()) m_recorder.settle();
  else m_recorder.append();
  std::set<std::string> held;
  for (const auto& slot : m_slots) slot.add_ids(held);
  const auto ended = m_claimer.claim(room, std::move(held), Clock::now());
  m_backlog.live = static_cast<int64_t>(m_claimer.live());
  for (const auto& id : ended.expired) {
    if (auto suffix = m_log_limit.admit("expired", Clock::now()))
      log(Level::warning, id + ": expired; " + kept_as_dead + *suffix);
    ++m_dead;
  }
  for (const auto& claim : ended.abandoned) {
    const std::string why = "its worker died while it ran, " + counted(claim.job.crashes + 1, "time");
    record(claim, buried(why));
    say(Level::warning, claim, why, kept_as_dead);
  }
}

// Puts claimed jobs into free slots. Records all starts first, with one write.
void Dispatcher::start_jobs() {
  // If this node was away, another node may own the jobs that were claimed before.
  if (!m_claimer.is_empty() && !m_store.may_start()) give_back(m_claimer.take_all());
  auto starts = choose_starts();
  if (m_output_trouble) give_back_waiting();
  if (starts.empty() && m_recorder.is_empty()) return;
  record_starts(starts);
  for (auto& [slot, start] : starts) {
    m_last_start = Clock::now();
    auto failed = slot->give(std::move(start), m_last_start);
    if (!failed) continue;
    record(failed->claim, given_back("the command could not be run"));
    pause(failed->claim.job.function, failed->why);
  }
}

// Chooses which jobs go to which slots. Reading many large workloads takes long. So after some time this function
// stops, and the other jobs wait until signals and time limits have been handled.
std::vector<Dispatcher::Placed> Dispatcher::choose_starts() {
  std::vector<Placed> starts;
  Schedule now = schedule();
  const auto enough = Clock::now() + longest_preparing;
  while (auto place = now.next(Clock::now())) {
    if (auto start = prepare(m_claimer.take())) {
      starts.push_back({&m_slots[*place], std::move(*start)});
      now.started(*place);
      m_claimer.rate().started(Clock::now());
    }
    now.waiting = m_claimer.size();
    now.suspect_first = m_claimer.suspect_first();
    now.not_before = not_before();
    if (Clock::now() >= enough) break;
  }
  return starts;
}

// Creates the resources that a command needs for a job. If the job cannot be run now, records that and returns nullopt.
std::optional<Slot::Start> Dispatcher::prepare(Claim claim) {
  if (is_late(claim.job, now_ms())) {  // the next claim records it as dead
    record(claim, given_back());
    return std::nullopt;
  }
  Slot::Start start;
  std::string reason;
  std::optional<Workload> w;
  try {
    w = m_store.workload(claim.id, claim.job, reason);
    if (w && !m_config.stream)
      start.input = !w->blob                   ? readable(w->data)
                    : claim.job.source.empty() ? std::move(w->blob)
                                               : readable_part(w->blob.get(), w->offset, claim.job.size);
  } catch (const Error& e) {
    // Only this job's workload cannot be read now, so continue with other jobs.
    record(claim, given_back(printable(e.what()), now_ms() + m_config.rules.pause()));
    say(Level::warning, claim, e.what(), tried_again);
    return std::nullopt;
  }
  if (!w) {
    record(claim, buried(reason));
    say(Level::error, claim, reason, kept_as_dead);
    --m_backlog.live;
    return std::nullopt;
  }
  try {
    if (!m_config.stream) {
      const bool becomes_jobs = !m_config.rules.then.function.empty();
      auto limit = output_limit(claim.job, m_config.rules);
      if (becomes_jobs) limit = std::max(limit.value_or(0), m_config.rules.then.max_workload);
      start.output = std::make_unique<Output>(
          m_config.output, claim.id + "." + std::to_string(claim.job.failures + 1),
          limit ? std::make_unique<Capture>(m_store.blobs_directory(), *limit,
                                            [this](uint64_t size) { return m_store.has_free_room(size); })
                : nullptr,
          becomes_jobs ? nullptr : &m_standard_output, printable(claim.job.function) + " " + claim.id + ": ");
    }
  } catch (const Error& e) {
    m_claimer.put_back(std::move(claim));
    output_trouble(e);
    return std::nullopt;
  }
  start.workload = std::move(*w);
  start.claim = std::move(claim);
  return start;
}

void Dispatcher::record_starts(std::vector<Placed>& starts) {
  try {
    std::vector<std::string> records;
    for (auto& [slot, start] : starts) {
      if (slot->owner().name.empty()) slot->owner() = m_recorder.take_owner();
      records.push_back(encode_record(event::Start{
          .id = start.claim.id, .at = now_ms(), .owner = slot->owner().name, .start = start.claim.job.starts + 1}));
    }
    m_recorder.append(records);
  } catch (const Error&) {
    for (auto it = starts.rbegin(); it != starts.rend(); ++it) {
      if (it->start.output) it->start.output->discard();
      m_claimer.put_back(std::move(it->start.claim));
    }
    throw;
  }
  for (auto& [slot, start] : starts) {
    start.claim.job.owner = slot->owner().name;
    ++start.claim.job.starts;
  }
}

// `output` is the command's output if all of it belongs to this job; otherwise nullptr.
void Dispatcher::end_attempt(Slot::Ended& ended, Output* output) {
  using What = Conclusion::What;
  const Claim& claim = ended.claim;
  if (depends_on_output(ended.end, m_config.rules)) ended.end.printed = m_standard_output.look();
  const Conclusion conclusion = conclude(ended.end, claim.job, m_config.rules, now_ms(), random_part());
  auto captured = output ? output->take_capture() : nullptr;
  if (captured && conclusion.discard) captured->clear();
  record(claim, conclusion, std::move(captured));
  if (conclusion.is_attempt()) {
    m_claimer.took(ended.ms);
    if (m_joblog)
      m_joblog->add({.id = claim.id,
                     .function = claim.job.function,
                     .attempt = claim.job.failures + 1,
                     .started = ended.started_at,
                     .seconds = ended.ms / 1000,
                     .sent = claim.job.size,
                     .received = ended.received,
                     .exit = ended.end.exit,
                     .signal = ended.end.signal});
  }
  if (conclusion.discard && output) output->discard();
  if (conclusion.spent && m_claimer.pauses().end(claim.job.function))
    log(Level::warning, "the command can be run again: " + printable(claim.job.function) + " goes on");
  switch (conclusion.what) {
    case What::done:
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
      pause(claim.job.function, conclusion.why);
      break;
    case What::given_back:
      if (ended.end.offspring.passes) say(Level::warning, claim, conclusion.why, tried_again);
      break;
  }
}

void Dispatcher::end_command(Slot::End end) {
  m_recorder.ended(std::move(end.owner));
  for (auto& ended : end.ended) end_attempt(ended, m_config.stream ? nullptr : end.output.get());
  give_back(end.unbegun);
  m_claimer.look_again();
  if (!end.output || !end.output->pump()) return;
  // A process that the command has started may still write to the output.
  m_lingering.push_back(std::move(*end.output));
  if (m_lingering.size() > lingering_bound()) m_lingering.pop_front();
}

// Call it if the command is at fault, not the job: for a while, no job of the function is started.
void Dispatcher::pause(const std::string& function, const std::string& why) {
  const auto begun = m_claimer.pauses().begin(function, Clock::now());
  if (begun == Pauses::Begun::already) return;
  if (begun == Pauses::Begun::first)
    log(Level::error, "cannot run " + printable(m_config.command[0]) + ": " + why + "; no attempt is spent, " +
                          printable(function) + " pauses and is tried again");
  if (m_config.strict || m_config.until == Until::nothing_now) m_broken_ends = true;
  give_back(m_claimer.take_of(function));
}

void Dispatcher::record(const Claim& claim, const Conclusion& conclusion, std::unique_ptr<Capture> output) {
  m_recorder.add(claim, conclusion, std::move(output));
  m_claimer.look_again();
}

void Dispatcher::give_back(const std::vector<Claim>& claims) {
  for (const auto& claim : claims) record(claim, given_back());
}

// Gives back claimed jobs that wait for a slot. A suspect first job stays claimed until a streamed command has nothing
// to do.
void Dispatcher::give_back_waiting() {
  give_back(m_stop.is_asked() ? m_claimer.take_all() : m_claimer.take_all_but_suspect());
}

void Dispatcher::say(Level level, const Claim& claim, const std::string& why, const char* becomes) {
  if (auto suffix = m_log_limit.admit(
          printable(claim.job.function) + ": " + (level == Level::error ? kind_of(why) + "; " : "") + becomes,
          Clock::now()))
    log(level, claim.id + ": " + why + "; " + becomes + *suffix);
}

// Call it if files for the output of commands cannot be created: nothing is started, and claimed jobs are given back.
void Dispatcher::output_trouble(const Error& error) {
  if (begin_trouble("output", error.what()))
    log(Level::warning, std::string(error.what()) + "; no command is started until this works");
  m_output_trouble.begin(error);
}

// Checks whether files for the output of commands can be created again.
void Dispatcher::look_at_outputs() {
  try {
    prepare_outputs(m_config.output);
    m_output_trouble.error.reset();
    if (end_trouble("output")) log(Level::warning, "the output of commands can be kept again");
    m_claimer.look_again();
  } catch (const Error& e) {
    output_trouble(e);
  }
}

// ---- waiting

bool Dispatcher::is_ready() const { return !m_recorder.is_empty() || schedule().next(Clock::now()); }

int64_t Dispatcher::due_in(Clock::time_point now, Clock::time_point earliest) const {
  int64_t due = INT64_MAX;
  auto until = [&](Clock::time_point t) { return std::chrono::ceil<Millis>(t - now).count(); };
  auto at = [&](std::optional<Clock::time_point> t) {
    if (t) due = std::min(due, until(*t));
  };
  const Schedule then = schedule();
  if (has_jobs()) at(std::max(m_next_cancel_look, earliest));
  earliest = std::max(earliest, then.not_before);
  if (auto t = then.due()) due = until(then.room() == 0 ? *t : earliest);
  for (const auto& slot : m_slots) at(slot.limit_at());
  if (then.wants_jobs()) due = std::min(due, std::max(m_claimer.due_in(now, now_ms()), until(earliest)));
  return due;
}

void Dispatcher::watch(std::vector<pollfd>& fds) const {
  fds.push_back({schedule().wants_jobs() ? m_claimer.watch() : -1, POLLIN, 0});
  if (m_standard_output.is_blocked()) fds.push_back({STDOUT_FILENO, POLLOUT, 0});
  for (const auto& slot : m_slots) slot.watch(fds);
  for (const auto& output : m_lingering)
    for (int fd : {output.out(), output.error()})
      if (fd >= 0) fds.push_back({fd, POLLIN, 0});
}

void Dispatcher::woke(bool has_news) {
  if (m_standard_output.is_blocked()) m_standard_output.go_on();
  for (auto& slot : m_slots) slot.pump();
  m_lingering.remove_if([](Output& output) { return !output.pump(); });
  if (has_news) m_claimer.journal_changed();
  m_claimer.woke(Clock::now());
  if (Clock::now() < m_next_sweep) return;
  sweep_outputs(m_config.output);
  m_next_sweep = Clock::now() + sweep_interval;
}

// ---- the state

void Dispatcher::say_left_out() {
  for (const auto& [kind, n] : m_log_limit.take_left_out())
    log(Level::warning, kind + " (" + std::to_string(n) + " more like it)");
}

std::string Dispatcher::text() const {
  size_t running = 0;
  for (const auto& slot : m_slots) running += slot.jobs();
  std::string line = std::to_string(running) + " running, " + std::to_string(m_backlog.live.load()) + " left, " +
                     std::to_string(m_done) + " done, " + std::to_string(m_failed) + " failed, " +
                     std::to_string(m_dead) + " dead";
  for (const auto& function : m_claimer.pauses().functions()) line += ", " + printable(function) + " pauses";
  return line;
}

bool Dispatcher::has_jobs() const {
  return std::any_of(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.jobs() > 0; });
}

bool Dispatcher::has_commands() const {
  return std::any_of(m_slots.begin(), m_slots.end(), [](const Slot& s) { return s.is_running(); });
}

bool Dispatcher::is_idle() const { return m_claimer.is_empty() && m_recorder.is_empty() && !has_jobs(); }

// Returns the earliest time at which something may be started.
Dispatcher::Clock::time_point Dispatcher::not_before() const {
  return std::max({m_output_trouble ? m_output_trouble.until : Clock::time_point{}, m_claimer.rate().next()});
}

}  // namespace gq
