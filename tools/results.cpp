#include "results.hpp"

#include <poll.h>
#include <sodium.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "frame.hpp"
#include "gq/base/text.hpp"
#include "gq/state/result.hpp"
#include "gq/store/append_watch.hpp"

namespace gq {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

// Without news the store is looked at again after this time.
constexpr Millis look_interval{1000};
// With news it is not looked at more often than this.
constexpr Millis shortest_pause{2};

// Waits until something is appended to the store.
void wait_for_news(AppendWatch& watch, Millis longest) {
  pollfd fd{watch.fd(), POLLIN, 0};
  ::poll(&fd, 1, static_cast<int>(std::clamp(longest, Millis(0), look_interval).count()));
  std::this_thread::sleep_for(shortest_pause);
  watch.clear();
}

Result still_waits(const std::string& why) { return {.status = status_still_waits, .problem = why}; }
Result failed(const std::string& why) { return {.status = status_unknown, .problem = why}; }

std::string base64(std::string_view bytes) {
  constexpr int variant = sodium_base64_VARIANT_ORIGINAL;
  std::string text(sodium_base64_ENCODED_LEN(bytes.size(), variant), '\0');
  sodium_bin2base64(text.data(), text.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                    variant);
  text.pop_back();  // a NUL
  return text;
}

// The output as JSON has it: text, or if it is not UTF-8, base64.
void tell_output(Json& json, const std::string& bytes) {
  if (is_utf8(bytes)) json["output"] = bytes;
  else json["output_base64"] = base64(bytes);
}

// What is shown of a job when it has ended, or is not waited for any more.
struct Shown {
  std::string id{};
  Result result{};
  std::string state{};  // empty: it is not known
  uint32_t exit = no_exit, signal = 0;
  // If the result has an output: print it, and return it.
  std::function<void()> print{};
  std::function<std::string()> read{};
};

// Shows how a job has ended. Returns its status.
int show(const Shown& job, bool as_json) {
  const Result& result = job.result;
  if (as_json) {
    Json json = {{"id", job.id}, {"status", result.status}};
    if (!job.state.empty()) json["state"] = job.state;
    if (job.exit != no_exit) json["exit_status"] = job.exit;
    if (job.signal) json["signal"] = job.signal;
    if (!result.problem.empty()) json["reason"] = result.problem;
    if (result.has_output) tell_output(json, job.read());
    print(json_line(json));
  } else if (result.has_output) {
    job.print();
  }
  if (result.status != 0 && !as_json) log(Level::error, job.id + ": " + result.problem);
  return result.status;
}

Workload output_of(Ledger& ledger, const std::string& id, const Job& job) {
  std::string reason;
  auto output = ledger.output(id, job, reason);
  if (!output) throw Error(Exit::storage, "cannot show the output of " + id + ": " + reason);
  return std::move(*output);
}

std::string read_output(Ledger& ledger, const std::string& id, const Job& job) {
  const Workload output = output_of(ledger, id, job);
  if (!output.blob) return output.data;
  std::string bytes(job.output_size, '\0');
  if (read_at(output.blob.get(), bytes.data(), bytes.size(), 0) != bytes.size())
    throw Error(Exit::storage, "cannot read a blob: it is too short");
  return bytes;
}

}  // namespace

void print_workload(std::string_view bytes) {
  if (!::isatty(STDOUT_FILENO)) return print(bytes);
  std::string shown;
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find_first_of("\n\t"), bytes.size());
    shown += printable(bytes.substr(0, end), any_length);
    shown += bytes.substr(end, 1);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
  }
  print(shown);
}

void print_part(int fd, uint64_t offset, uint64_t size) {
  std::vector<char> buffer(1 << 20);
  for (uint64_t left = size; left > 0;) {
    size_t n = read_at(fd, buffer.data(), std::min<uint64_t>(left, buffer.size()), offset);
    if (n == 0) throw Error(Exit::storage, "cannot read a blob: it is too short");
    print_workload(std::string_view(buffer.data(), n));
    offset += n;
    left -= n;
  }
}

void print_output(Ledger& ledger, const std::string& id, const Job& job) {
  const Workload output = output_of(ledger, id, job);
  if (output.blob) print_part(output.blob.get(), 0, job.output_size);
  else print_workload(output.data);
}

int wait_for_results(Queue& store, const std::vector<std::string>& ids, const WaitOptions& options) {
  std::optional<Clock::time_point> until;
  if (options.longest) until = Clock::now() + *options.longest;
  AppendWatch watch(store);
  int status = 0;
  for (const auto& id : ids) {
    std::optional<Job> job;
    std::optional<Result> result;
    for (;;) {
      store.look([&](Fold& fold) { job = fold.get(id); });
      if ((result = result_of(job, options.needs_output, store.group().self.node))) break;
      const auto now = Clock::now();
      if (until && now >= *until) break;
      wait_for_news(watch, until ? std::chrono::ceil<Millis>(*until - now) : look_interval);
    }
    // What a power cut can take back has not happened.
    if (result && store.synced().value_or(0) < store.end()) store.sync_all();
    Shown shown{.id = id, .result = result ? *result : still_waits("it has not ended, and goes on")};
    if (job) shown.state = job->dropped ? "dropped" : state_name(*job);
    if (job) shown.exit = job->exit, shown.signal = job->signal;
    shown.print = [&] { print_output(store, id, *job); };
    shown.read = [&] { return read_output(store, id, *job); };
    const int its = show(shown, options.json);
    if (status == 0) status = its;
  }
  return status;
}

// ------------------------------------------------------------------------------------------------- from another store

namespace {

// How long a store may take to answer before the next one is asked, and without which answer the user is told.
constexpr Millis store_patience{3000}, warn_after{10'000};
// The most bytes of an output that are held in memory before they are printed, and of one that is put into JSON.
constexpr size_t most_held = 1 << 20, most_in_json = 256 << 20;

// Waits for the ends of jobs in other stores, and reads their outputs.
class Remote {
 public:
  Remote(Puller& puller, std::vector<Pull::Waiting> jobs, std::optional<Millis> longest)
      : m_puller(puller), m_pull(std::move(jobs), Clock::now()) {
    if (longest) m_until = Clock::now() + *longest;
  }

  size_t size() const { return m_pull.size(); }

  Shown wait(size_t job) {
    while (!m_pull.end(job) && !is_late()) ask(*m_pull.next());
    Shown shown{.id = m_pull.id(job)};
    const StoreSays* end = m_pull.end(job);
    if (!end) {
      shown.result = m_pull.is_over(job) ? failed("it has ended, and the store that has its output does not answer")
                     : m_has_answer      ? still_waits("it has not ended, and goes on")
                                         : still_waits("no store that may know its end answers: " + m_puller.reason());
    } else if (end->what == StoreSays::What::unknown) {
      shown.result = failed("no store knows it, or all have forgotten it");
    } else {
      shown.result = end->result;
      shown.state = end->state;
      shown.exit = end->exit, shown.signal = end->signal;
      shown.print = [this, job] { read(job, [](std::string_view bytes) { print_workload(bytes); }); };
      shown.read = [this, job] {
        std::string output;
        if (m_pull.end(job)->size > most_in_json) throw failure(job, "it is too large for JSON");
        read(job, [&](std::string_view bytes) { output += bytes; });
        return output;
      };
    }
    return shown;
  }

 private:
  bool is_late() const { return m_until && Clock::now() >= *m_until; }
  void sleep_until(Clock::time_point time) const {
    std::this_thread::sleep_until(m_until ? std::min(time, *m_until) : time);
  }
  Clock::time_point patience() const {
    const auto time = Clock::now() + store_patience;
    return m_until ? std::min(time, *m_until) : time;
  }
  Error failure(size_t job, const std::string& why) const {
    return {Exit::storage, "cannot show the output of " + m_pull.id(job) + ": " + why};
  }

  // Notes whether a store has answered. If none has for long, tells the user.
  void note_answer(bool is, size_t job) {
    const auto now = Clock::now();
    m_has_answer = m_has_answer || is;
    if (is) m_last_answer = now;
    if (is || now < m_last_answer + warn_after || std::exchange(m_warned, true)) return;
    log(Level::warning, "still waiting for " + m_pull.id(job) + ": " + m_puller.reason());
  }

  void ask(const Pull::Question& question) {
    sleep_until(question.at);
    if (is_late()) return;
    std::vector<std::string> ids;
    for (size_t job : question.jobs) ids.push_back(m_pull.id(job));
    const auto says = m_puller.ends(question.store, ids, patience());
    if (says) m_pull.answered(question, *says, Clock::now());
    else m_pull.silent(question, Clock::now());
    if (!says && m_puller.reason() == needs_keys)
      throw Error(Exit::retry, "cannot wait for " + ids[0] + ": the store that has it answers, but " + needs_keys);
    note_answer(says.has_value(), question.jobs[0]);
  }

  // Whether the output of a job can come with that of another one.
  bool is_small(size_t job, const std::string& store) const {
    const StoreSays* end = m_pull.end(job);
    return end && end->result.has_output && end->size > 0 && end->size <= max_inline_data && m_pull.store(job) == store;
  }

  // Returns bytes of a job's output from this offset on. Also asks for outputs that are needed next.
  std::string piece(size_t job, uint64_t offset) {
    if (auto kept = m_kept.extract(job)) return std::move(kept.mapped());
    const std::string& store = m_pull.store(job);
    std::vector<Wanted> wanted{{m_pull.id(job), offset}};
    uint64_t size = m_pull.end(job)->size - offset;
    for (size_t next = job + 1; next < m_pull.size() && is_small(next, store) && wanted.size() < most_asked; ++next) {
      if ((size += m_pull.end(next)->size) > most_pulled) break;
      wanted.push_back({m_pull.id(next), 0});
    }
    std::optional<std::vector<Piece>> pieces;
    for (Millis pause = Pull::first_interval; !(pieces = m_puller.outputs(store, wanted, patience()));) {
      note_answer(false, job);
      if (is_late()) throw failure(job, m_puller.reason());
      sleep_until(Clock::now() + pause);
      pause = std::min(pause * 2, Pull::longest_interval);
    }
    note_answer(true, job);
    for (size_t i = 1; i < pieces->size(); ++i)
      if ((*pieces)[i].bytes.size() == m_pull.end(job + i)->size) m_kept[job + i] = std::move((*pieces)[i].bytes);
    Piece& first = pieces->front();
    if (!first.problem.empty()) throw failure(job, first.problem);
    if (first.bytes.empty()) throw failure(job, "its store sends nothing more of it");
    return std::move(first.bytes);
  }

  // Reads an output. If it is not longer than most_held, its sum is right before any of it is taken.
  void read(size_t job, const std::function<void(std::string_view)>& take) {
    const StoreSays& end = *m_pull.end(job);
    std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> sum(XXH3_createState(), XXH3_freeState);
    XXH3_64bits_reset(sum.get());
    std::string held;
    for (uint64_t offset = 0; offset < end.size;) {
      const std::string bytes = piece(job, offset);
      if (bytes.size() > end.size - offset) throw failure(job, "its store sends more than it has");
      XXH3_64bits_update(sum.get(), bytes.data(), bytes.size());
      offset += bytes.size();
      held += bytes;
      if (offset == end.size || held.size() <= most_held) continue;
      take(held);
      held.clear();
    }
    if (XXH3_64bits_digest(sum.get()) != end.sum) throw failure(job, "its checksum is wrong");
    take(held);
  }

  Puller& m_puller;
  Pull m_pull;
  std::optional<Clock::time_point> m_until;
  Clock::time_point m_last_answer = Clock::now();
  bool m_has_answer = false, m_warned = false;
  std::map<size_t, std::string> m_kept;  // outputs that have come early
};

}  // namespace

int wait_for_results(Puller& puller, std::vector<Pull::Waiting> jobs, const WaitOptions& options) {
  Remote remote(puller, std::move(jobs), options.longest);
  int status = 0;
  for (size_t job = 0; job < remote.size(); ++job) {
    const int its = show(remote.wait(job), options.json);
    if (status == 0) status = its;
  }
  return status;
}

}  // namespace gq
