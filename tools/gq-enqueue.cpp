// gq-enqueue: queues jobs, from standard input, files or lines. It prints a job's ID when that job is on stable storage
// at a worker (or, with --local, in the store), and exits 0 only if all are.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "frame.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/given.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/database/open_store.hpp"
#include "gq/replication/forwarder.hpp"
#include "gq/replication/sender.hpp"
#include "gq/replication/wire.hpp"
#include "gq/store/parts.hpp"
#include "replicate_options.hpp"
#include "results.hpp"

namespace gq {
namespace {

// The most jobs that are collected before they are sent: enough to fill the sender's window several times, and a limit
// for the memory.
constexpr size_t batch_jobs = 16384;
constexpr size_t batch_bytes = 8 << 20;
constexpr size_t batch_parents = 100'000;  // of all its jobs

struct Options {
  std::vector<std::string> files;
  bool lines = false;
  bool null = false;
  bool local = false;
  bool spool = false;
  bool many = false;  // the input has more than one job
  Submission job;
  std::string id;  // empty: each job gets a new ID
  Part part;
  std::string range;
  ReplicateOptions replicate;
  std::string at;
  Millis delay{0};
  std::string expire;    // a duration or a time
  Millis expires_in{0};  // from the time at which the job is sent; 0: at a fixed time, or never
  std::string priority = "normal";
  uint64_t max_attempts = 0;
  Millis key_window{24 * 3600 * 1000};
  Millis timeout{10000};
  uint64_t max_workload = 256 << 20;
  std::string after;                 // as the user gives them: the jobs to be after
  std::vector<std::string> parents;  // their IDs
  std::string wait;                  // empty: not; "true": as long as it takes; else how long
  std::optional<Millis> longest_wait;
  bool json = false;
  bool waits() const { return !wait.empty(); }
};

// The place in the input from which a job comes.
struct Place {
  size_t source = 0;    // index of the input
  uint64_t number = 0;  // the number of the line or item; 0: the whole input
};

// Jobs that failed for the same reason.
struct Failure {
  bool unknown = false;  // it is unknown whether they are queued
  std::string reason;
  std::vector<Place> places;
  std::vector<std::string> ids;
};

constexpr std::chrono::seconds try_interval{10};  // with --spool, while no server or worker answers
constexpr size_t most_alike = 3;                  // this many get a line each
constexpr size_t most_names = 5;                  // the most names in a line about several jobs

class Enqueuer {
 public:
  Enqueuer(const Options& options, const Common& common) : m_options(options) {
    if (options.local) {
      set_patience(options.timeout);
      m_store.reset(new Queue(open_store(common.store, true)));
      ReplicateOptions replicate = options.replicate;
      m_replicator = replicate.open(*m_store, common);
    } else {
      m_sender.emplace(common.servers, options.job.function, options.timeout,
                       !options.job.serial.empty() || options.spool, !options.spool);
      if (options.spool) open_spool(common);
      if (options.waits()) m_puller.emplace(common.servers, options.replicate.config.keyfile);
    }
  }

  // Begins a new source. Jobs that are added from now on get `name` as their name, if it is not empty.
  void begin(const std::string& source, const std::string& name) {
    m_sources.push_back(source);
    m_names.push_back(name);
    m_number = 0;
  }

  void add(std::string data) {
    if (!m_options.part.source.empty()) return add_part(data);
    if (data.size() > m_options.max_workload) return too_large();
    m_bytes += data.size();
    m_data.push_back(std::move(data));
    m_places.push_back(next_place());
    if (is_full() || m_bytes >= batch_bytes) flush();
  }

  // Adds a job whose workload is a part of another job's workload. Does not read that workload.
  void add_part(const std::string& text) {
    Place place = next_place();
    auto range = parse_range(text);
    if (!range) return fail(Exit::bad_data, place, "it is not OFFSET:LENGTH");
    const uint64_t copied = std::min<uint64_t>(range->length, max_inline_data);
    if (is_full() || (m_store && !m_parts.add(copied, range->length))) {
      flush();
      m_parts.add(copied, range->length);
    }
    m_data.emplace_back();
    m_places.push_back(place);
    m_ranges.push_back(*range);
  }

  void too_large() {
    fail(Exit::bad_data, next_place(),
         "it is larger than --max-workload, " + std::to_string(m_options.max_workload) + " bytes");
  }

  // Sends the collected jobs, and prints the IDs of those that are durable.
  void flush() {
    if (m_data.empty()) return report();
    std::vector<NewJob> jobs;
    jobs.reserve(m_data.size());
    Submission job = m_options.job;
    Part part = m_options.part;
    if (m_options.delay.count() > 0) job.due = now_ms() + m_options.delay;
    if (m_options.expires_in.count() > 0) job.expire = now_ms() + m_options.expires_in;
    for (size_t i = 0; i < m_data.size(); ++i) {
      if (m_options.many && !m_options.job.key.empty()) job.key = m_options.job.key + "." + std::to_string(++m_count);
      job.name = m_names[m_places[i].source];
      if (!m_ranges.empty()) part.offset = m_ranges[i].offset, part.length = m_ranges[i].length;
      jobs.push_back(make_job(job, m_data[i], m_options.id, part));
      jobs.back().parents = m_options.parents;
    }
    std::vector<Answer> answers;
    try {
      answers = m_forwarder ? send_or_spool(jobs) : m_store ? add_here(jobs) : m_sender->send(jobs);
    } catch (const Error& e) {
      if (e.code() != Exit::retry && e.code() != Exit::unavailable && e.code() != Exit::storage) throw;
      report();
      throw Error(e.code(), describe({false, e.what(), m_places, {}}) + so_far());
    }
    std::string ids;
    std::map<std::string, std::vector<std::string>> notes;
    for (size_t i = 0; i < jobs.size(); ++i) {
      const std::string& id = jobs[i].add.id;
      switch (answers[i].outcome) {
        case Outcome::queued:
          ids += id + "\n";
          wait_for(id, answers[i]);
          ++m_queued;
          if (!answers[i].note.empty()) notes[answers[i].note].push_back(id);
          break;
        case Outcome::same:
          ids += answers[i].reason + "\n";
          wait_for(answers[i].reason, answers[i]);
          ++m_queued;
          if (!answers[i].note.empty()) notes[answers[i].note].push_back(answers[i].reason);
          break;
        case Outcome::conflict:
          fail(Exit::bad_data, m_places[i],
               m_options.job.key.empty() ? "another job has this ID" : "another job has this ID or key");
          break;
        case Outcome::bad:
          fail(Exit::bad_data, m_places[i], answers[i].reason);
          break;
        case Outcome::refused:
          fail(m_store && !m_replicator ? Exit::storage : Exit::retry, m_places[i], answers[i].reason);
          break;
        case Outcome::unknown:
          fail(Exit::retry, m_places[i], answers[i].reason, id);
          break;
      }
    }
    for (const auto& [note, of] : notes) {
      if (of.size() > most_alike) log(Level::warning, counted(of.size(), "job") + " queued with " + note);
      else
        for (const auto& id : of) log(Level::warning, id + ": queued with " + note);
    }
    try {
      if (m_options.waits()) tell(ids);
      else print(ids);
    } catch (const Error&) {
      for (const auto& id : split(ids, '\n'))
        if (!id.empty()) log(Level::error, id + ": queued, but its ID could not be printed");
      throw;
    }
    m_data.clear();
    m_places.clear();
    m_ranges.clear();
    m_bytes = 0;
    m_parts = {};
    report();
  }

  // Call it when all input has been read.
  Exit finish() {
    m_all_read = true;
    flush();
    if (m_was_busy) forward();  // the other process may have looked before these jobs were spooled
    if (!m_options.waits()) return m_result;
    m_replicator.reset();
    const int status = wait();
    return m_result == Exit::ok ? static_cast<Exit>(status) : no_result;
  }

  void fail(Exit code) {
    // The exit code of a failure that may be retried has precedence.
    auto rank = [](Exit c) { return c == Exit::ok ? 0 : c == Exit::retry ? 3 : c == Exit::storage ? 2 : 1; };
    if (rank(code) > rank(m_result)) m_result = code;
  }

 private:
  bool is_full() const {
    return m_data.size() >= batch_jobs || m_data.size() * m_options.parents.size() >= batch_parents;
  }

  // While their results are waited for, the IDs go to standard error.
  void tell(const std::string& ids) {
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, ids.data(), ids.size());
  }

  void wait_for(const std::string& id, const Answer& answer) {
    if (m_options.waits()) m_waiting.push_back({id, answer.stores});
  }

  // Waits for the results of the jobs that were queued. Returns the exit status.
  int wait() {
    const WaitOptions how{.longest = m_options.longest_wait, .needs_output = true, .json = m_options.json};
    if (m_puller) {
      for (const auto& job : m_waiting)
        if (job.stores.empty())
          throw Error(Exit::retry, "cannot wait for " + job.id +
                                       ": it is queued, but its worker, of an older version, cannot be asked");
      return wait_for_results(*m_puller, std::move(m_waiting), how);
    }
    std::vector<std::string> ids;
    for (auto& job : m_waiting) ids.push_back(std::move(job.id));
    return wait_for_results(*m_store, ids, how);
  }

  Place next_place() {
    bool items = m_options.lines || m_options.null;
    return {m_sources.size() - 1, items ? ++m_number : 0};
  }

  // Notes a failure. If `id` is given, it is unknown whether the job is queued.
  void fail(Exit code, Place place, const std::string& reason, const std::string& id = {}) {
    fail(code);
    std::string kind;  // reasons that differ only in a number are of one kind
    for (char c : reason)
      if (bool digit = c >= '0' && c <= '9'; !digit || !kind.ends_with('0')) kind += digit ? '0' : c;
    Failure& alike = m_failures[{!id.empty(), kind}];
    alike.unknown = !id.empty();
    if (alike.reason.empty()) alike.reason = reason;
    alike.places.push_back(place);
    alike.ids.push_back(id);
  }

  // Reports the failures. Throws if there was no answer or no room, because all further jobs would fail, too.
  void report() {
    std::vector<std::string> lines;
    for (const auto& [kind, f] : std::exchange(m_failures, {})) {
      if (f.places.size() > most_alike) {
        lines.push_back(describe(f));
        continue;
      }
      for (size_t i = 0; i < f.places.size(); ++i)
        lines.push_back(describe({f.unknown, f.reason, {f.places[i]}, {f.ids[i]}}));
    }
    const bool ends = m_result == Exit::retry || m_result == Exit::storage;
    for (size_t i = 0; i + ends < lines.size(); ++i) log(Level::error, lines[i]);
    if (ends) throw Error(m_result, lines.back() + so_far());
  }

  std::string describe(const Failure& f) const {
    const bool one = f.places.size() == 1;
    std::string what = one ? names(f.places) : counted(f.places.size(), "job") + " (" + names(f.places) + ")";
    if (f.unknown) what = "cannot tell whether " + what + (one ? " is queued as " + f.ids[0] : " are queued");
    else what = "cannot queue " + what;
    return what + ": " + f.reason + (f.unknown && one ? "; say --id " + f.ids[0] + " to send it again" : "");
  }

  // Returns a text with the number of jobs that were queued besides those that failed, if there can be any.
  std::string so_far() const {
    if (!m_options.many) return {};
    return "; " + counted(m_queued, "job") + (m_queued == 1 ? " is" : " are") + " queued" +
           (m_all_read ? "" : ", and the rest was not read");
  }

  // Returns the names of places: files by their names, lines by their numbers, consecutive lines as a range.
  std::string names(const std::vector<Place>& places) const {
    std::string text;
    size_t parts = 0;
    for (size_t i = 0, next; i < places.size(); i = next) {
      const Place& p = places[i];
      for (next = i + 1; p.number && next < places.size() && places[next].source == p.source &&
                         places[next].number == p.number + (next - i);)
        ++next;
      if (parts++ == most_names) return text + " and others";
      const std::string word = m_options.null ? "item" : "line", source = printable(m_sources[p.source]);
      text += text.empty() ? "" : ", ";
      if (!p.number) {
        text += source;
        continue;
      }
      text += next - i == 1 ? word + " " + std::to_string(p.number)
                            : word + "s " + std::to_string(p.number) + " to " + std::to_string(places[next - 1].number);
      if (m_options.files.size() > 1) text += " of " + source;
    }
    return text;
  }

  void open_spool(const Common& common) {
    set_patience(m_options.timeout);
    m_store.reset(new Queue(open_store(common.store, true)));
    if (m_store->group())
      throw Error(Exit::config, "cannot spool in " + common.store +
                                    ": the store belongs to a replication group, which takes jobs with --local");
    m_forwarder.emplace(*m_store, common.servers, m_options.timeout);
  }

  // Sends the jobs, after those of their function that are spooled; spools those that no other store has taken. After a
  // failure it does not try again for a while: the input may have jobs without end.
  std::vector<Answer> send_or_spool(const std::vector<NewJob>& jobs) {
    const auto now = std::chrono::steady_clock::now();
    std::string reason;
    bool is_busy = false;
    if (now < m_next_try) {
      reason = m_trouble;
    } else {
      const auto pass = forward();
      is_busy = pass.is_busy && m_forwarder->has_spooled(m_options.job.function);
      reason = is_busy ? "other jobs are being forwarded" : pass.trouble;
    }
    auto answers = reason.empty() ? send_in_order(*m_sender, jobs)
                                  : std::vector<Answer>(jobs.size(), Answer{Outcome::refused, reason, 0});
    std::vector<NewJob> left;
    for (size_t i = 0; i < jobs.size(); ++i)
      if (may_take_later(answers[i])) reason = answers[i].reason, left.push_back(jobs[i]);
    if (left.empty()) return answers;
    m_was_busy = m_was_busy || is_busy;
    if (!is_busy) m_trouble = reason, m_next_try = now + try_interval;
    std::vector<std::string> ids;
    auto next = spool(*m_store, std::move(left));
    auto spooled = next.begin();
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (!may_take_later(answers[i])) continue;
      answers[i] = std::move(*spooled++);
      if (has_taken(answers[i]))
        ids.push_back(answers[i].outcome == Outcome::same ? answers[i].reason : jobs[i].add.id);
    }
    if (ids.size() > most_alike) log(Level::warning, counted(ids.size(), "job") + " spooled with copies=1: " + reason);
    else
      for (const auto& id : ids) log(Level::warning, id + ": spooled with copies=1: " + reason);
    return answers;
  }

  Forwarder::Pass forward() {
    auto pass = m_forwarder->run({m_options.job.function});
    for (const auto& [id, why] : pass.dead) log(Level::warning, refused_text(id, why));
    return pass;
  }

  std::vector<Answer> add_here(std::vector<NewJob>& jobs) {
    auto answered = resolve(*m_store, jobs);
    std::vector<NewJob> good;
    for (size_t i = 0; i < jobs.size(); ++i)
      if (!answered[i]) good.push_back(jobs[i]);
    std::vector<Answer> added;
    if (!good.empty()) added = m_replicator ? m_replicator->add(std::move(good)) : m_store->add(good);
    auto next = added.begin();
    std::vector<Answer> answers;
    for (const auto& answer : answered) answers.push_back(answer ? *answer : *next++);
    return answers;
  }

  const Options& m_options;
  std::unique_ptr<Queue> m_store;
  std::unique_ptr<Replicator> m_replicator;  // set if the store belongs to a group
  std::optional<Sender> m_sender;
  // With --spool:
  std::optional<Forwarder> m_forwarder;
  bool m_was_busy = false;  // another process forwarded the jobs before these
  std::string m_trouble;    // why the last jobs could not be sent
  std::chrono::steady_clock::time_point m_next_try{};
  uint64_t m_count = 0;
  std::vector<std::string> m_sources, m_names;
  uint64_t m_number = 0;  // the number of the last item of the last source
  std::vector<std::string> m_data;
  std::vector<Place> m_places;
  std::vector<ByteRange> m_ranges;  // with --from: one range for each job
  size_t m_bytes = 0;
  PartsCost m_parts;
  std::map<std::pair<bool, std::string>, Failure> m_failures;  // by `unknown` and kind of reason
  uint64_t m_queued = 0;
  std::optional<Puller> m_puller;  // set if results are waited for that are in other stores
  std::vector<Pull::Waiting> m_waiting;
  bool m_all_read = false;
  Exit m_result = Exit::ok;
};

// Adds a job for each item that ends in `separator`, and for the rest after the last separator. Whenever no more can be
// read without waiting, sends the items so far, so that a slow writer gets its IDs at once.
void read_items(int fd, char separator, uint64_t max_workload, const std::string& name, Enqueuer& enqueuer) {
  std::string buffer;
  size_t searched = 0;
  bool skipping = false;  // an item that is too large is being skipped
  for (;;) {
    size_t old = buffer.size();
    buffer.resize(old + (1 << 16));
    ssize_t n = ::read(fd, buffer.data() + old, 1 << 16);
    int saved = errno;
    buffer.resize(old + static_cast<size_t>(n > 0 ? n : 0));
    if (n < 0 && saved == EINTR) continue;
    if (n < 0) {
      errno = saved;
      throw_errno(Exit::no_input, "read " + name);
    }
    size_t start = 0;
    for (size_t end; (end = buffer.find(separator, std::max(start, searched))) != std::string::npos; start = end + 1) {
      if (!std::exchange(skipping, false)) enqueuer.add(buffer.substr(start, end - start));
    }
    buffer.erase(0, start);
    searched = buffer.size();
    if (buffer.size() > max_workload) {
      if (!skipping) enqueuer.too_large();
      skipping = true;
      buffer.clear();
      searched = 0;
    }
    if (n == 0) break;
    pollfd p{fd, POLLIN, 0};
    if (::poll(&p, 1, 0) == 0) enqueuer.flush();
  }
  if (!buffer.empty() && !skipping) enqueuer.add(std::move(buffer));
}

// Returns the last step of a path; empty if that cannot be a job's name.
std::string name_of(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return name_problem(name) ? std::string() : name;
}

// Reads the IDs of the jobs to be after. Returns the text on standard input that has them; nullopt if the user gives
// them as an argument.
std::optional<std::string> read_parents(Options& o) {
  std::optional<std::string> text;
  if (o.after == "-") text = read_text();
  o.parents = text ? parse_ids(*text) : std::vector<std::string>();
  for (const auto& id : text ? std::vector<std::string>() : split(o.after, ','))
    for (const auto& parent : parse_ids(id)) o.parents.push_back(parent);
  remove_repeated(o.parents);
  if (o.parents.empty())
    throw Error(Exit::bad_data, "cannot use --after " + printable(o.after) + ": there is no job ID");
  if (o.parents.size() > most_parents)
    throw Error(Exit::bad_data, "cannot use --after " + printable(o.after) + ": there are " +
                                    std::to_string(o.parents.size()) + " job IDs, and a job can be after " +
                                    std::to_string(most_parents));
  o.job.after = static_cast<uint32_t>(o.parents.size());
  o.job.parents_sum = sum_of_parents(o.parents);
  return text;
}

Exit enqueue(const Options& options, const Common& common) {
  check_function(options.job.function);
  Options o = options;
  const bool many = o.many = o.lines || o.null || o.files.size() > 1;
  if (!o.id.empty()) {
    auto id = parse_ulid(o.id);
    if (!id) throw Error(Exit::usage, "cannot use the ID " + printable(o.id) + ": it is not a ULID (26 characters)");
    o.id = *id;
    if (many) throw Error(Exit::usage, "cannot use --id for more than one job");
  }
  for (const std::string* key : {&o.job.key, &o.job.serial})
    if (!key->empty())
      if (auto problem = key_problem(*key))
        throw Error(Exit::usage, "cannot use the key " + printable(*key) + ": " + *problem);
  if (o.job.key.starts_with(raw_key_prefix))
    throw Error(Exit::usage, "cannot use the key " + printable(o.job.key) + ": gq has such keys of its own");
  if (!o.job.name.empty()) {
    if (auto problem = name_problem(o.job.name))
      throw Error(Exit::usage, "cannot use the name " + printable(o.job.name) + ": " + *problem);
    if (o.files.size() > 1 && !o.lines && !o.null) throw Error(Exit::usage, "cannot use --name for more than one file");
  }
  if (many && o.job.key.size() > max_key_size - 20)
    throw Error(Exit::usage, "cannot use the key " + printable(o.job.key) + " for many jobs: it is too long");
  if (o.replicate.config.owe && !o.local)
    throw Error(Exit::usage, "cannot use --owe without --local: the worker decides that");
  if (o.waits()) o.job.result = true;
  if (o.waits() && o.wait != "true") {
    o.longest_wait = parse_duration(o.wait);
    if (!o.longest_wait)
      throw Error(Exit::usage, "cannot use --wait=" + printable(o.wait) + ": it is not a duration, as in 30s");
  }
  if (o.key_window > longest_window) throw Error(Exit::usage, "cannot use --key-window: it is longer than 366 days");
  o.job.window = o.job.key.empty() ? Millis(0) : o.key_window;
  o.job.max_attempts = static_cast<uint32_t>(o.max_attempts);
  o.job.priority = o.priority == "high" ? high_priority : o.priority == "low" ? low_priority : normal_priority;
  if (!o.at.empty()) {
    auto at = parse_time(o.at);
    if (!at)
      throw Error(Exit::usage, "cannot use --at " + printable(o.at) +
                                   ": it is neither RFC 3339 (2026-01-31T12:00:00Z) nor seconds since 1970");
    o.job.due = *at;
  }
  if (!o.expire.empty()) {
    const Millis now = now_ms();
    if (auto in = parse_duration(o.expire)) o.expires_in = *in, o.job.expire = now + *in;
    else if (auto at = parse_time(o.expire)) o.job.expire = *at;
    else
      throw Error(Exit::usage, "cannot use --expire " + printable(o.expire) +
                                   ": it is neither a duration (90s, 2h, 3d) nor a time (2026-01-31T12:00:00Z)");
    const std::string problem = o.job.expire <= now                 ? "it is over already"
                                : o.job.expire > now + longest_wait ? "it is more than 366 days away"
                                : o.job.expire <= std::max(o.job.due, now + o.delay)
                                    ? "the job could not be started before it expires"
                                    : "";
    if (!problem.empty()) throw Error(Exit::usage, "cannot use --expire " + printable(o.expire) + ": " + problem);
  }
  if (!o.part.source.empty()) {
    auto source = parse_ulid(o.part.source);
    if (!source)
      throw Error(Exit::usage,
                  "cannot use --from " + printable(o.part.source) + ": it is not a job ID (26 characters)");
    o.part.source = *source;
    if (o.range.empty()) o.range = "0:";
    if (!parse_range(o.range))
      throw Error(Exit::usage, "cannot use --range " + printable(o.range) + ": it is not OFFSET:LENGTH");
    if (!o.files.empty() && !o.lines && !o.null)
      throw Error(Exit::usage, "cannot use a file with --from, which says what the workload is");
  }
  if (o.after == "-" && (std::count(o.files.begin(), o.files.end(), "-") || (o.files.empty() && (o.lines || o.null))))
    throw Error(Exit::usage, "cannot use --after -: standard input cannot have the job IDs and the jobs");
  const auto ids = o.after.empty() ? std::nullopt : read_parents(o);
  if (!o.part.source.empty() && !o.lines && !o.null) {
    Enqueuer enqueuer(o, common);
    enqueuer.begin("the range " + o.range + " of " + o.part.source, o.job.name);
    enqueuer.add(o.range);
    return enqueuer.finish();
  }
  if (o.files.empty() && ids) {
    Enqueuer enqueuer(o, common);
    enqueuer.begin("standard input", o.job.name);
    enqueuer.add(*ids);
    return enqueuer.finish();
  }
  if (o.files.empty()) o.files.emplace_back("-");
  Enqueuer enqueuer(o, common);
  for (const auto& file : o.files) {
    try {
      std::string name = file == "-" ? "standard input" : file;
      Fd opened;
      if (file != "-") opened = open_given(file, O_RDONLY, anything, Exit::no_input);
      int fd = file == "-" ? STDIN_FILENO : opened.get();
      pollfd first{fd, POLLIN, 0};  // without this, a read of a FIFO without a writer would return its end
      while (::poll(&first, 1, -1) < 0 && errno == EINTR) continue;
      enqueuer.begin(name, o.job.name.empty() && file != "-" && !o.lines && !o.null ? name_of(file) : o.job.name);
      if (o.lines || o.null) {
        read_items(fd, o.null ? '\0' : '\n', o.max_workload, name, enqueuer);
      } else if (auto data = read_all(fd, o.max_workload, name)) {
        enqueuer.add(std::move(*data));
      } else {
        enqueuer.too_large();
      }
    } catch (const Error& e) {
      if (e.code() != Exit::no_input) throw;
      log(Level::error, e.what());
      enqueuer.fail(Exit::no_input);
    }
  }
  return enqueuer.finish();
}

}  // namespace
}  // namespace gq

int main(int argc, char** argv) {
  gq::Options o;
  gq::Program program;
  program.name = "gq-enqueue";
  program.purpose = "Queues jobs durably, and prints the ID of each job that is on disk.";
  program.usage = {"[OPTIONS] FUNCTION [FILE...]"};
  program.example = "gq-enqueue resize -- *.jpg";
  program.takes_files = true;
  program.options = [&](CLI::App& app) {
    app.add_option("FUNCTION", o.job.function, "The function to queue for")->required();
    gq::add_files(app, o.files, "One job each; - is standard input");
    app.option_defaults()->group("Input");
    auto* lines = app.add_flag("-l,--lines", o.lines, "Each line is a job");
    auto* null = app.add_flag("-0,--null", o.null, "Each NUL-ended item is a job")->excludes(lines);
    app.option_defaults()->group("Delivery");
    auto* local = app.add_flag("--local", o.local, "Append to the store here, without a server");
    auto* spool =
        app.add_flag("--spool", o.spool,
                     "If no server or worker answers, keep the jobs in the store here, until they can be sent")
            ->excludes(local);
    app.option_defaults()->group("The job");
    auto& id =
        gq::not_empty(*app.add_option("--id", o.id, "Send the job under this ID; the same ID and workload is one job")
                           ->type_name("ID"));
    gq::not_empty(*app.add_option("--key", o.job.key,
                                  "Jobs of the function with one key are one job; prints the first one's ID; with many "
                                  "jobs, KEY.1, KEY.2 and so on")
                       ->type_name("KEY"))
        .excludes(&id);
    gq::add_duration(app, "--key-window", o.key_window,
                     "How long after that job has finished the key stands for it (default 1d)");
    gq::not_empty(*app.add_option("--serial", o.job.serial, "Jobs with one serial key run one at a time, in order")
                       ->type_name("KEY"));
    gq::not_empty(*app.add_option("--name", o.job.name, "The job's name (default: the file's, without directories)")
                       ->type_name("NAME"));
    app.add_option("--priority", o.priority, "high, normal or low (default normal)")
        ->type_name("LEVEL")
        ->check(CLI::IsMember({"high", "normal", "low"}));
    app.option_defaults()->group("When the job starts");
    auto* delay = gq::add_duration(app, "--delay", o.delay, "Not to be started before this has passed");
    gq::not_empty(
        *app.add_option("--at", o.at, "Not to be started before: RFC 3339, or seconds since 1970")->type_name("TIME"))
        .excludes(delay);
    gq::not_empty(*app.add_option("--expire", o.expire,
                                  "A job that is not started before is dead: a duration from now, or a time (RFC 3339)")
                       ->type_name("DUR|TIME"));
    auto* after = &gq::not_empty(*app.add_option("--after", o.after,
                                                 "Not to be started before these jobs are done: ID[,ID...], or - for "
                                                 "those on standard input, which are then "
                                                 "also the workload, unless a file is given")
                                      ->type_name("ID,..."));
    app.add_flag("--after-any", o.job.after_any, "With --after: these jobs may also end dead or dropped")->needs(after);
    spool->excludes(after);
    app.option_defaults()->group("The job");
    gq::add_count(app, "--max-attempts", o.max_attempts, "Attempts before the job is dead (default: the worker's)", 1,
                  gq::most_attempts);
    app.option_defaults()->group("Result");
    app.add_flag("--result", o.job.result, "Keep what the command prints, for gq-inspect output");
    auto* wait = app.add_flag("--wait", o.wait,
                              "Wait for the ends of the jobs, at most as long as --wait=DUR says, and print what their "
                              "commands print");
    spool->excludes(wait);
    app.add_flag("--json", o.json, "With --wait: a JSON object for each job")->needs(wait);
    app.option_defaults()->group("Input");
    auto* from = &gq::not_empty(
        *app.add_option("--from", o.part.source, "The workload is that of this job, which is not finished or is kept")
             ->type_name("ID"));
    spool->excludes(from);
    gq::not_empty(
        *app.add_option("--range", o.range,
                        "With --from: OFFSET:LENGTH of it in bytes; with -l or -0 each item of the input is one")
             ->type_name("OFFSET:LENGTH"))
        .needs(from)
        ->excludes(lines)
        ->excludes(null);
    o.replicate.add(app, true, false);
    app.option_defaults()->group("Delivery");
    gq::add_duration(app, "--timeout", o.timeout, "How long to wait for a worker (default 10s)");
    gq::add_size(app, "--max-workload", o.max_workload, "Refuse larger jobs (default 256M)");
  };
  program.body = [&](const gq::Common& common) {
    try {
      return gq::enqueue(o, common);
    } catch (const gq::Error& e) {
      if (!o.waits() || e.code() == gq::Exit::usage) throw;
      throw gq::Error(gq::no_result, e.what(), e.error_number());
    }
  };
  return gq::run_program(argc, argv, program);
}
