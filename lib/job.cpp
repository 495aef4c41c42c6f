#include "job.hpp"

#include "bytes.hpp"
#include "table.hpp"

namespace gq {
namespace {

constexpr size_t fixed_size = 1 + 3 * 4 + 7 * 8 + 3 * 2;

}  // namespace

const char* state_name(State state) {
  static constexpr const char* names[state_count] = {"queued", "delayed", "queued", "running", "dead", "finished"};
  return names[static_cast<size_t>(state)];
}

std::string encode_job(const Job& job) {
  std::string out;
  out.reserve(fixed_size + job.function.size() + job.owner.size() + job.why.size());
  out += static_cast<char>(job.state);
  for (uint32_t v : {job.starts, job.failures, job.crashes}) put_le<uint32_t>(out, v);
  for (uint64_t v : {job.first_lsn, job.location, job.size, job.sum, static_cast<uint64_t>(job.enqueued_at.count()),
                     static_cast<uint64_t>(job.changed_at.count()), static_cast<uint64_t>(job.due.count())})
    put_le<uint64_t>(out, v);
  for (const std::string* s : {&job.function, &job.owner, &job.why})
    put_le<uint16_t>(out, static_cast<uint16_t>(s->size()));
  for (const std::string* s : {&job.function, &job.owner, &job.why}) out += *s;
  return out;
}

Job decode_job(std::string_view in) {
  auto broken = [] { return TableError("something that is not a job"); };
  if (in.size() < fixed_size || static_cast<uint8_t>(in[0]) >= state_count) throw broken();
  Job job;
  job.state = static_cast<State>(in[0]);
  size_t at = 1;
  for (uint32_t* v : {&job.starts, &job.failures, &job.crashes}) {
    *v = get_le<uint32_t>(in, at);
    at += 4;
  }
  for (uint64_t* v : {&job.first_lsn, &job.location, &job.size, &job.sum}) {
    *v = get_le<uint64_t>(in, at);
    at += 8;
  }
  for (Millis* v : {&job.enqueued_at, &job.changed_at, &job.due}) {
    *v = Millis(static_cast<int64_t>(get_le<uint64_t>(in, at)));
    at += 8;
  }
  size_t text = at + 6;
  for (std::string* s : {&job.function, &job.owner, &job.why}) {
    size_t size = get_le<uint16_t>(in, at);
    at += 2;
    if (text + size > in.size()) throw broken();
    *s = in.substr(text, size);
    text += size;
  }
  return job;
}

}  // namespace gq
