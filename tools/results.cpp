#include "results.hpp"

#include <poll.h>
#include <sodium.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
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

Workload output_of(Ledger& store, const std::string& id, const Job& job) {
  std::string reason;
  auto output = store.output(id, job, reason);
  if (!output) throw Error(Exit::storage, "cannot show the output of " + id + ": " + reason);
  return std::move(*output);
}

std::string read_output(Ledger& store, const std::string& id, const Job& job) {
  const Workload output = output_of(store, id, job);
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

void print_output(Ledger& store, const std::string& id, const Job& job) {
  const Workload output = output_of(store, id, job);
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
    if (!result) result = Result{.status = status_still_waits, .problem = "it has not ended, and goes on"};
    if (options.json) {
      Json json = {{"id", id}, {"status", result->status}};
      if (job) json["state"] = job->dropped ? "dropped" : state_name(job->state);
      if (job && job->exit != no_exit) json["exit_status"] = job->exit;
      if (job && job->signal) json["signal"] = job->signal;
      if (!result->problem.empty()) json["reason"] = result->problem;
      if (result->has_output) tell_output(json, read_output(store, id, *job));
      print(json_line(json));
    } else if (result->has_output) {
      print_output(store, id, *job);
    }
    if (result->status == 0) continue;
    if (!options.json) log(Level::error, id + ": " + result->problem);
    if (status == 0) status = result->status;
  }
  return status;
}

}  // namespace gq
