#include "gq/state/job.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>

#include "gq/base/bytes.hpp"
#include "gq/base/ulid.hpp"
#include "gq/state/table.hpp"

namespace gq {
namespace {

// The encoding of a job: the state, then these members: numbers, then the sizes of the texts, then the texts.
constexpr uint32_t Job::*counts[] = {&Job::starts, &Job::failures, &Job::crashes, &Job::priority, &Job::max_attempts,
                                     &Job::term,   &Job::version,  &Job::copies,  &Job::once,     &Job::keep};
constexpr uint64_t Job::*longs[] = {&Job::first_lsn, &Job::location, &Job::size, &Job::sum, &Job::offset};
constexpr Millis Job::*times[] = {&Job::enqueued_at, &Job::changed_at, &Job::due, &Job::window};
constexpr std::string Job::*texts[] = {&Job::function, &Job::owner, &Job::why,   &Job::key,   &Job::serial,
                                       &Job::node,     &Job::store, &Job::peers, &Job::source};
// These members follow the texts, if one of them differs from its value in a new job. If the job has a name, its size
// and the name come next, and then the time at which it expires, if there is one. If the job has a result, or will have
// one, the result comes next: `result` and `output` with 4 bytes each, and the others with 8. If the job has parents,
// the members about them come next, then `cancelled`. If it is a child, `unborn` and the job whose output it is come
// next; in their place dashes stand for the latter in a spooled job, and `spooled` comes last. If a member is present,
// all members before it are present, too. A newer program may append more members, and an older program writes fewer.
constexpr uint32_t Job::*later[] = {&Job::tries, &Job::exit, &Job::signal, &Job::dropped};
constexpr uint64_t Job::*output_longs[] = {&Job::output_lsn, &Job::output_size, &Job::output_sum};
constexpr uint32_t Job::*parents[] = {&Job::after, &Job::edges, &Job::unmet};
constexpr const char* no_parent = "--------------------------";
static_assert(std::string_view(no_parent).size() == ulid_size);
constexpr size_t parents_size = (std::size(parents) + 1) * 4;
constexpr size_t result_size = 2 * 4 + std::size(output_longs) * 8;
constexpr size_t fixed_size =
    1 + std::size(counts) * 4 + (std::size(longs) + std::size(times)) * 8 + std::size(texts) * 2;

using Rank = std::tuple<int, uint32_t, uint32_t, Millis, std::string_view>;

Rank rank_of(const event::State& state) {
  const int end = state.state == "finished" ? 2 : state.state == "kept" ? 1 : 0;
  return {end, state.term, state.version, state.at, state.store};
}

Rank rank_of(const Job& job) {
  const int end = job.state == State::finished ? 2 : job.state == State::kept ? 1 : 0;
  return {end, job.term, job.version, job.changed_at, job.store};
}

}  // namespace

const char* state_name(State state) {
  static constexpr const char* names[state_count] = {"queued",  "delayed", "queued", "running", "dead",
                                                     "waiting", "pending", "held",   "kept",    "finished"};
  return names[static_cast<size_t>(state)];
}

const char* state_name(const Job& job) { return is_spooled(job) ? "spooled" : state_name(job.state); }

event::State state_of(const std::string& id, const Job& job) {
  event::State state{
      .id = id,
      .at = job.changed_at,
      .function = job.function,
      .state = job.state == State::finished ? "finished"
               : job.state == State::kept   ? "kept"
               : job.state == State::dead   ? "dead"
                                            : "queued",
      .node = job.node,
      .store = job.store,
      .term = job.term,
      .version = job.version,
      .due = job.due,
      .starts = job.starts,
      .failures = job.failures,
      .crashes = job.crashes,
      .why = job.why,
      .exit = job.exit,
      .signal = job.signal,
      .attempts = job.tries,
      .keep = job.keep != 0,
      .dropped = job.dropped != 0,
      .lifted = job.expire == lifted,
      .cancelled = job.cancelled != 0,
      .size = job.size,
      .sum = job.sum,
  };
  limit_reason(state.why);
  return state;
}

std::string blob_of(const std::string& id, const Job& job) {
  return job.is_inline() ? std::string() : job.source.empty() ? id : job.source;
}

bool is_another_job(const event::State& state, const Job& job) {
  const bool tells = state.size != 0 || state.sum != 0;
  return tells && knows_workload(job) ? !is_of(job, state.function, state.size, state.sum)
                                      : state.function != job.function;
}

bool is_newer(const event::State& state, const Job& job) {
  return job.state != State::finished && rank_of(state) > rank_of(job);
}

// Of two ends, neither is newer: each node keeps the end that it received first.
bool is_older(const event::State& state, const Job& job) {
  return state.state != "finished" && rank_of(state) < rank_of(job);
}

std::string owner_process(const std::string& owner) { return owner.substr(0, owner.rfind('.')); }

std::string encode_job(const Job& job) {
  std::string out;
  out.reserve(fixed_size + job.function.size() + job.owner.size() + job.why.size());
  out += static_cast<char>(job.state);
  for (auto m : counts) put_le<uint32_t>(out, job.*m);
  for (auto m : longs) put_le<uint64_t>(out, job.*m);
  for (auto m : times) put_le<uint64_t>(out, static_cast<uint64_t>((job.*m).count()));
  for (auto m : texts) put_le<uint16_t>(out, static_cast<uint16_t>((job.*m).size()));
  for (auto m : texts) out += job.*m;
  static const Job fresh;
  const auto differs = [&](auto m) { return job.*m != fresh.*m; };
  const bool is_child = !job.parent.empty(), has_origin = is_child || job.spooled;
  const bool has_sum = has_origin || job.parents_sum, has_parents = has_sum || job.cancelled || job.after > 0;
  const bool has_result = has_parents || job.result || job.output != Kept::not_asked;
  const bool expires = has_result || job.expire != fresh.expire, named = expires || !job.name.empty();
  if (!named && std::none_of(std::begin(later), std::end(later), differs)) return out;
  for (auto m : later) put_le<uint32_t>(out, job.*m);
  if (!named) return out;
  put_le<uint16_t>(out, static_cast<uint16_t>(job.name.size()));
  out += job.name;
  if (expires) put_le<uint64_t>(out, static_cast<uint64_t>(job.expire.count()));
  if (!has_result) return out;
  put_le<uint32_t>(out, job.result);
  put_le<uint32_t>(out, static_cast<uint32_t>(job.output));
  for (auto m : output_longs) put_le<uint64_t>(out, job.*m);
  if (!has_parents) return out;
  for (auto m : parents) put_le<uint32_t>(out, job.*m);
  put_le<uint32_t>(out, job.after_any);
  if (job.cancelled || has_sum) put_le<uint32_t>(out, job.cancelled);
  if (has_sum) put_le<uint64_t>(out, job.parents_sum);
  if (!has_origin) return out;
  put_le<uint32_t>(out, job.unborn);
  out += is_child ? job.parent : no_parent;
  if (job.spooled) put_le<uint32_t>(out, job.spooled);
  return out;
}

Job decode_job(std::string_view in) {
  auto broken = [] { return TableError("something that is not a job"); };
  if (in.size() < fixed_size || static_cast<uint8_t>(in[0]) >= state_count) throw broken();
  Job job;
  job.state = static_cast<State>(in[0]);
  size_t at = 1;
  for (auto m : counts) {
    job.*m = get_le<uint32_t>(in, at);
    at += 4;
  }
  for (auto m : longs) {
    job.*m = get_le<uint64_t>(in, at);
    at += 8;
  }
  for (auto m : times) {
    job.*m = Millis(static_cast<int64_t>(get_le<uint64_t>(in, at)));
    at += 8;
  }
  size_t text = at + std::size(texts) * 2;
  for (auto m : texts) {
    size_t size = get_le<uint16_t>(in, at);
    at += 2;
    if (text + size > in.size()) throw broken();
    job.*m = in.substr(text, size);
    text += size;
  }
  for (auto m : later) {
    if (text + 4 > in.size()) break;
    job.*m = get_le<uint32_t>(in, text);
    text += 4;
  }
  if (text + 2 <= in.size()) {
    const size_t size = get_le<uint16_t>(in, text);
    if (text + 2 + size > in.size()) throw broken();
    job.name = in.substr(text + 2, size);
    text += 2 + size;
    if (text + 8 <= in.size()) job.expire = Millis(static_cast<int64_t>(get_le<uint64_t>(in, text)));
    text += 8;
  }
  if (text + result_size <= in.size()) {
    job.result = get_le<uint32_t>(in, text) != 0;
    const auto output = get_le<uint32_t>(in, text + 4);
    if (output >= kept_values) throw broken();
    job.output = static_cast<Kept>(output);
    text += 8;
    for (auto m : output_longs) {
      job.*m = get_le<uint64_t>(in, text);
      text += 8;
    }
  }
  if (text + parents_size <= in.size()) {
    for (auto m : parents) {
      job.*m = get_le<uint32_t>(in, text);
      text += 4;
    }
    job.after_any = get_le<uint32_t>(in, text) != 0;
    text += 4;
    if (text + 4 <= in.size()) job.cancelled = get_le<uint32_t>(in, text);
    text += 4;
    if (text + 8 <= in.size()) job.parents_sum = get_le<uint64_t>(in, text);
    text += 8;
  }
  if (text + 4 + ulid_size <= in.size()) {
    job.unborn = get_le<uint32_t>(in, text);
    job.parent = in.substr(text + 4, ulid_size);
    if (job.parent == no_parent) job.parent.clear();
    text += 4 + ulid_size;
    if (text + 4 <= in.size()) job.spooled = get_le<uint32_t>(in, text);
  }
  if (job.priority > low_priority) throw broken();
  return job;
}

std::string no_output_reason(const Job& job, const std::string& self) {
  if (job.dropped) return "it was dropped";
  if (job.output == Kept::too_large) return "its output was larger than its worker keeps";
  if (job.output == Kept::no_room) return "there was no room for its output";
  if (!job.node.empty() && job.once && job.node != self)
    return job.node + " ran it, and only the store of that node has its output";
  return job.result ? "what ended it keeps no outputs" : "its output was not asked for";
}

}  // namespace gq
