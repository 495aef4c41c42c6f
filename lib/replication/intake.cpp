#include "gq/replication/intake.hpp"

#include <algorithm>

#include "gq/base/log.hpp"
#include "gq/base/notify.hpp"
#include "gq/base/text.hpp"
#include "gq/replication/features.hpp"
#include "gq/replication/pull_wire.hpp"
#include "gq/replication/quorum.hpp"
#include "gq/replication/wire.hpp"
#include "gq/store/parts.hpp"

namespace gq {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Millis count_interval{1000};
constexpr Millis first_retry{100}, longest_retry{5000};
// How long after the end of a raw job a redelivery of it is recognised, while its client waits.
constexpr Millis redelivered_within{10 * 60'000};
constexpr size_t most_said = 100;
constexpr size_t most_counted = 2000;      // how many functions, or delayed jobs, are read in one visit to the index
constexpr Millis longest_copying{30'000};  // how long a delivery waits for others that copy many parts

// Returns how many bytes are copied at most when these jobs are resolved (parts.hpp).
uint64_t copied_by(const std::vector<NewJob>& jobs) {
  uint64_t size = 0;
  for (const auto& job : jobs)
    if (job.is_part()) size += std::min<uint64_t>(job.add.part.length, max_inline_data);
  return size;
}

}  // namespace

Intake::Intake(Ledger& ledger, Config config, Add add, Backlog& backlog)
    : m_ledger(ledger),
      m_config(std::move(config)),
      m_add(std::move(add)),
      m_backlog(backlog),
      m_ends(ledger),
      m_receivers(m_config.servers, services(), [this] { return wanted(); }) {
  if (!m_config.raw || m_config.waiting == 0) return;
  // There are raw services only, so it serves all of them or nothing.
  const auto serves = [this] {
    return wanted() == Receivers::Serve::all ? Receivers::Serve::all : Receivers::Serve::nothing;
  };
  m_waiting.emplace(m_config.servers, raw_services(), serves,
                    Receivers::Limits{.most = m_config.waiting, .spare = true});
}

std::vector<Service> Intake::services() {
  std::vector<Service> services;
  for (const auto& f : m_config.functions) {
    // The largest payload: a group of small jobs, or one large job.
    const uint64_t largest = std::max<uint64_t>(m_config.max_workload, max_group_bytes) + record_header_size +
                             max_meta_size + max_parents_size;
    services.push_back({record_function(f), false,
                        [this, f](std::string_view payload) { return take_records(payload, f); }, largest,
                        "bad it is larger than the worker's --max-workload\n"});
    if (m_config.raw && m_config.waiting == 0)
      services.push_back(
          {f, true, [this, f](std::string_view payload) { return take_raw(payload, f); }, m_config.max_workload, {}});
  }
  services.insert(services.end(), m_config.others.begin(), m_config.others.end());
  return services;
}

std::vector<Service> Intake::raw_services() {
  std::vector<Service> services;
  for (const auto& f : m_config.functions)
    services.push_back({.function = f,
                        .foreign = true,
                        .take = {},
                        .max_size = m_config.max_workload,
                        .refusal = {},
                        .respond = [this, f](const Delivery& delivery) { return respond_raw(delivery, f); }});
  return services;
}

void Intake::start() {
  if (m_backlog.limit > 0) count_backlog();
  m_receivers.start();
  if (!m_waiting) return;
  m_ends.start();
  m_waiting->start();
}

void Intake::stop() {
  {
    MutexLock guard(m_mutex);
    m_stop = true;
  }
  m_stopping.notify_all();
  if (m_waiting) m_waiting->take_no_more();
  m_ends.stop();  // those that wait are answered
  m_receivers.stop();
  if (m_waiting) m_waiting->stop();
}

// Other processes finish jobs, too, so read the numbers from the store; at most once a second.
bool Intake::backlog_full() {
  bool count = m_backlog.limit > 0 && m_backlog.live >= m_backlog.limit;
  {
    MutexLock guard(m_mutex);
    count = (count || m_at_bound) && Clock::now() >= m_count_at;
    if (count) m_count_at = Clock::now() + count_interval;
  }
  if (count) count_backlog();
  return m_backlog.full();
}

void Intake::say_if_full(const std::string& function) {
  const std::string text = "taking no more jobs off the servers: " + std::to_string(m_backlog.limit) +
                           " are unfinished (--backlog), most of them of " + function;
  bool full = false, is_new = false;
  {
    // Begin and end the trouble under the same mutex, so that the two cannot change places.
    MutexLock guard(m_mutex);
    full = is_at_bound(m_at_bound, m_backlog.live - m_backlog.later, m_backlog.limit);
    if (std::exchange(m_at_bound, full) == full) return;
    is_new = full ? begin_trouble("backlog", text) : end_trouble("backlog");
  }
  if (is_new) log(Level::warning, full ? text : "taking jobs off the servers again: half of the --backlog is done");
}

void Intake::count_backlog() {
  try {
    const auto& functions = m_config.functions;
    uint64_t live = 0, later = 0, most = 0;
    std::string function;
    std::vector<std::string> delayed;
    for (size_t at = 0; at < functions.size(); at += most_counted) {
      std::vector<Counters> counted;
      m_ledger.look([&](Fold& fold) {
        counted.clear();
        for (size_t i = at; i < std::min(at + most_counted, functions.size()); ++i)
          counted.push_back(fold.counters(functions[i]));
      });
      for (size_t i = 0; i < counted.size(); ++i) {
        const Counters& c = counted[i];
        const std::string& f = functions[at + i];
        const uint64_t ready = c.live() - c.blocked;
        live += ready;
        later += c.first;
        if (c.first > 0) delayed.push_back(f);
        if (const uint64_t n = ready - c.first; function.empty() || n > most) most = n, function = f;
      }
    }
    // Count the delayed jobs that have become due, up to the limit.
    if (const auto limit = static_cast<uint64_t>(m_backlog.limit); live - later < limit)
      later -= std::min(later, count_due(delayed, limit - (live - later)));
    m_backlog.live = static_cast<int64_t>(live);
    m_backlog.later = static_cast<int64_t>(later);
    say_if_full(function);
  } catch (const Error&) {  // keep the old numbers
  }
}

// Counts the delayed jobs of these functions that were never started and have become due, until there are `most`.
uint64_t Intake::count_due(const std::vector<std::string>& functions, uint64_t most) {
  uint64_t due = 0;
  size_t at = 0;
  std::string cursor;
  while (at < functions.size() && due < most) {
    const size_t first = at;
    const std::string from = cursor;
    uint64_t more = 0;
    m_ledger.look([&](Fold& fold) {
      at = first, cursor = from, more = 0;
      for (size_t left = most_counted; left > 0 && at < functions.size();) {
        more += fold.due_first(functions[at], now_ms(), left, cursor);
        if (left == 0) break;
        --left, ++at, cursor.clear();
      }
    });
    due += more;
  }
  return due;
}

Receivers::Serve Intake::wanted() {
  if (backlog_full()) return Receivers::Serve::nothing;
  {
    MutexLock guard(m_mutex);
    if (m_open > 0) return Receivers::Serve::own;
    if (!m_refusing) return Receivers::Serve::all;
    if (Clock::now() < m_retry_at) return Receivers::Serve::own;
  }
  try {
    m_ledger.check_room(0);
    MutexLock guard(m_mutex);
    m_refusing = false;
    end_trouble("intake");
    m_retry_delay = Millis(0);
    return Receivers::Serve::all;
  } catch (const Error& e) {
    refused(e.what());
    return Receivers::Serve::own;
  }
}

void Intake::accepted(Millis due) {
  if (due > now_ms()) ++m_backlog.later;
  ++m_backlog.live;
  bool was_logged = false;
  {
    MutexLock guard(m_mutex);
    if (!std::exchange(m_had_refused, false)) return;
    was_logged = !std::exchange(m_logged, {}).empty();
    end_trouble("intake");
  }
  if (was_logged) log(Level::warning, "taking jobs again");
}

void Intake::refused(const std::string& reason) {
  const std::string text = "taking no more jobs: " + reason;
  std::optional<std::string> suffix;
  {
    MutexLock guard(m_mutex);
    if (Clock::now() < m_retry_at) return;
    m_had_refused = true;
    if (m_logged != reason) suffix = m_log_limit.admit(kind_of(reason), Clock::now());
    if (suffix) m_logged = reason;
    begin_trouble("intake", text);
    m_refusing = true;
    m_retry_delay = std::clamp(m_retry_delay * 2, first_retry, longest_retry);
    m_retry_at = Clock::now() + m_retry_delay;
  }
  if (suffix) log(Level::warning, text + *suffix);
}

std::string Intake::take_records(std::string_view payload, const std::string& function) {
  bool has_result = false;
  std::string answer = answer_group(
      payload, [&](std::string_view part) { return take_group(part, function, has_result); },
      [&](const std::string& why) {
        say_once(function, {Outcome::bad, why, 0});
      });
  if (has_result && m_config.stores) answer += encode_stores(m_config.stores());
  return answer;
}

// Sets `has_result` if a record asks for its result.
std::string Intake::take_group(std::string_view payload, const std::string& function, bool& has_result) {
  std::string reason;
  auto jobs = parse_group(payload, function, reason);
  if (!jobs) {
    say_once(function, {Outcome::bad, reason, 0});
    return "bad " + reason + "\n";
  }
  std::vector<std::string> ids;
  std::vector<std::optional<std::string>> problems;
  const Millis now = now_ms();
  for (size_t i = 0; i < jobs->size(); ++i) {
    ids.push_back((*jobs)[i].add.id);
    has_result = has_result || (*jobs)[i].add.asked.result;
    auto problem = submit((*jobs)[i], now);
    if (problem) (*jobs)[i].add.part = {};
    problems.push_back(std::move(problem));
  }
  std::unique_lock<std::timed_mutex> copying(m_copying, std::defer_lock);
  std::vector<std::optional<Answer>> answered(jobs->size());
  if (copied_by(*jobs) <= small_job || wait_to_copy(copying)) answered = resolve(m_ledger, *jobs);
  else
    for (size_t i = 0; i < ids.size(); ++i)
      if ((*jobs)[i].is_part())
        answered[i] = {Outcome::refused, "the worker copies parts of other jobs' workloads for other clients", 0};
  refuse_unread(m_ledger, *jobs, answered);
  std::vector<Millis> dues;  // when the valid jobs are due
  std::vector<NewJob> good;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (problems[i]) answered[i] = Answer{Outcome::bad, *problems[i], 0};
    if (!answered[i] && (*jobs)[i].data.size() > m_config.max_workload)
      answered[i] = {Outcome::bad, "it is larger than the worker's --max-workload", 0};
    if (answered[i]) continue;
    dues.push_back((*jobs)[i].add.asked.due);
    good.push_back(std::move((*jobs)[i]));
  }
  std::string result;
  std::vector<Answer> answers;
  if (!good.empty()) answers = m_add(std::move(good));
  auto answer = answers.begin();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (answered[i]) {
      result += encode_answer(ids[i], *answered[i]);
      say_once(function, *answered[i]);
      continue;
    }
    result += encode_answer(ids[i], *answer);
    if (answer->outcome == Outcome::queued) accepted(dues[static_cast<size_t>(answer - answers.begin())]);
    if (answer->outcome == Outcome::refused) refused(answer->reason);
    else say_once(function, *answer);
    ++answer;
  }
  return result;
}

// Only one delivery at a time may copy many parts of other jobs' workloads, to limit the memory of all receivers
// together. Waits for the turn of this delivery. Returns false if that takes too long, or if the worker stops.
bool Intake::wait_to_copy(std::unique_lock<std::timed_mutex>& copying) {
  for (const auto end = Clock::now() + longest_copying; Clock::now() < end;) {
    if (copying.try_lock_for(first_retry)) return true;
    MutexLock guard(m_mutex);
    if (m_stop) return false;
  }
  return false;
}

// Takes a raw job. Returns nullopt if the job is not stored and has to stay with gearmand.
std::optional<std::string> Intake::take_raw(std::string_view payload, const std::string& function) {
  const NewJob job = make_job({.function = function}, payload);
  const auto answer = store_raw(job);
  return answer ? std::optional(encode_answer(job.add.id, *answer)) : std::nullopt;
}

// Stores a raw job. If a client waits for its end, waits, too, and returns its result. The job has a key that names
// this delivery, so that it joins the job of an earlier delivery, whose worker has died.
Response Intake::respond_raw(const Delivery& delivery, const std::string& function) {
  const bool waits = delivery.clients != uint64_t{0};
  Submission asked{.function = function, .result = waits};
  if (waits) {
    asked.key = std::string(raw_key_prefix) +
                hash_name(delivery.server + "\n" + std::string(delivery.handle) + "\n" + std::string(delivery.unique));
    // Without a unique of the client's own, a server that has restarted names another job like that.
    const bool is_named = !delivery.unique.empty() && delivery.unique != "-" &&
                          !is_made_of_payload(delivery.unique, function, delivery.payload);
    asked.window = is_named ? redelivered_within : Millis(0);
  }
  NewJob job = make_job(asked, delivery.payload);
  auto answer = store_raw(job);
  if (answer && answer->outcome == Outcome::conflict && waits) {  // the key names another job, of another workload
    asked.key.clear();
    asked.window = Millis(0);
    job = make_job(asked, delivery.payload);
    answer = store_raw(job);
  }
  if (!answer || answer->outcome == Outcome::conflict) return {};
  if (!waits) return {Response::What::answer, encode_answer(job.add.id, *answer)};
  delivery.free_payload();  // the job is in the store, and may take long
  return respond_at_end(answer->outcome == Outcome::same ? answer->reason : job.add.id);
}

// Waits for the end of a job, and returns its result.
Response Intake::respond_at_end(const std::string& id) {
  using What = Response::What;
  const auto end = m_ends.wait(id);
  if (!end) return {What::fail, id + " is still queued\n"};
  const auto failed = [&](const std::string& why) { return Response{What::fail, id + ": " + printable(why) + "\n"}; };
  if (end->result.status != 0) return failed(end->result.problem);
  std::string reason;
  auto output = m_ledger.output(id, end->job, reason);
  if (!output) return failed("cannot read its output: " + reason);
  if (!output->blob) return {What::answer, std::move(output->data)};
  return {What::answer, {}, std::move(output->blob), end->job.output_size};
}

// Stores a raw job. Returns nullopt if the job is not stored and has to stay with gearmand.
std::optional<Answer> Intake::store_raw(const NewJob& job) {
  bool open = false;
  auto close = [&] {
    MutexLock guard(m_mutex);
    m_open -= std::exchange(open, false);
  };
  for (Millis delay{0};;) {
    Answer answer = try_raw(job);
    RawStep step = next_raw_step(answer.outcome, open);
    if (step == RawStep::answer) {
      close();
      accepted(job.add.asked.due);
      return answer;
    }
    refused(answer.reason);
    MutexLock lock(m_mutex);
    if (step == RawStep::again) {
      m_open += !std::exchange(open, true);
      delay = std::clamp(delay * 2, first_retry, longest_retry);
      if (!m_stopping.wait_for(lock, delay, [&]() REQUIRES(m_mutex) { return m_stop; })) continue;
    }
    lock.unlock();
    close();
    return std::nullopt;
  }
}

Answer Intake::try_raw(const NewJob& job) {
  try {
    return m_add({job}).front();
  } catch (const Error& e) {
    return {e.code() == Exit::config ? Outcome::refused : Outcome::unknown, e.what(), e.error_number()};
  } catch (const std::exception& e) {  // whether the record is stored is unknown
    return {Outcome::unknown, e.what(), 0};
  }
}

// Logs a refusal: its client gets the answer, too, but may ignore it.
void Intake::say_once(const std::string& function, const Answer& answer) {
  if (answer.outcome != Outcome::bad && answer.outcome != Outcome::conflict) return;
  std::string reason = answer.outcome == Outcome::bad ? answer.reason : "its ID or key is that of another job";
  {
    MutexLock guard(m_mutex);
    if (m_said.size() >= most_said || !m_said.insert(function + " " + kind_of(reason)).second) return;
  }
  log(Level::warning, "refused a record for " + function + ": " + printable(reason));
}

}  // namespace gq
