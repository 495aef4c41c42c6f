#include "gq/store/parts.hpp"

#include <algorithm>
#include <memory>
#include <string>

namespace gq {
namespace {

// The cost of the parts of one delivery, and the copies of the parts. The copies are in one block of memory: malloc(3)
// returns a large block to the system when it is freed, but keeps small blocks for the thread.
struct Parts {
  PartsCost cost;
  std::shared_ptr<std::string> copies = std::make_shared<std::string>();  // never grows beyond what it reserves
};

// Copies a part of the source's workload into a job. Returns the reason if the source cannot be read; otherwise an
// empty text.
std::string take_part(Ledger& ledger, EventReader& reader, Parts& parts, const Job& source, bool is_whole,
                      NewJob& job) {
  Part& part = job.add.part;
  std::string reason;
  if (source.is_inline()) {
    auto whole = ledger.workload(part.source, source, reason, reader);
    if (!whole) return reason;
    const size_t from = parts.copies->size();
    parts.copies->append(whole->data, part.offset, part.length);
    job.take_data(parts.copies, from);
    return {};
  }
  part.offset += source.offset;
  part.source = blob_of(part.source, source);
  Fd blob = ledger.open_blob(part.source);
  auto sum = !blob      ? std::nullopt
             : is_whole ? std::optional(source.sum)
                        : sum_part(blob.get(), part.offset, part.length);
  if (!sum) return "its blob is gone or too short";
  part.sum = *sum;
  return {};
}

std::optional<Answer> resolve(Ledger& ledger, EventReader& reader, Parts& parts, const std::optional<Job>& known,
                              NewJob& job) {
  auto bad = [](const std::string& why) { return Answer{Outcome::bad, why, 0}; };
  Part& part = job.add.part;
  const std::string name = part.source;
  if (!known)
    return bad("this store does not have the workload of " + name +
               ": a finished job has it only with gq-flush --keep");
  const Job& source = *known;
  if (part.length == to_the_end && part.offset <= source.size) part.length = source.size - part.offset;
  if (part.offset > source.size || part.length > source.size - part.offset)
    return bad("the workload of " + name + " has only " + std::to_string(source.size) + " bytes");
  const bool is_whole = part.offset == 0 && part.length == source.size;  // then its sum is known
  if (!parts.cost.add(source.is_inline() ? part.length : 0, source.is_inline() || is_whole ? 0 : part.length))
    return Answer{Outcome::refused,
                  "the parts of other jobs' workloads that came with it are too many: more than 32 MiB of small ones, "
                  "or 256 MiB of large ones",
                  0};
  try {
    if (auto reason = take_part(ledger, reader, parts, source, is_whole, job); !reason.empty())
      return bad("the workload of " + name + " cannot be read: " + reason);
  } catch (const Error& e) {
    return Answer{Outcome::refused, e.what(), e.error_number()};
  }
  job.encode();
  return std::nullopt;
}

}  // namespace

bool PartsCost::add(uint64_t copied, uint64_t read) {
  if (copied > most_copied - m_copied || (m_read > 0 && read > most_read - m_read)) return false;
  m_copied += copied;
  m_read = read > most_read - m_read ? most_read : m_read + read;
  return true;
}

std::vector<std::optional<Answer>> resolve(Ledger& ledger, std::vector<NewJob>& jobs) {
  std::vector<std::optional<Answer>> answers(jobs.size());
  if (std::none_of(jobs.begin(), jobs.end(), [](const NewJob& j) { return j.is_part(); })) return answers;
  std::vector<std::optional<Job>> sources(jobs.size());
  ledger.look([&](Fold& fold) {
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (!jobs[i].is_part()) continue;
      const std::string& source = jobs[i].add.part.source;
      sources[i] = fold.get(source);
      if (sources[i] && sources[i]->state == State::finished && !fold.is_referenced(source)) sources[i].reset();
    }
  });
  EventReader reader = ledger.read(0);
  Parts parts;
  uint64_t copied = 0;
  for (size_t i = 0; i < jobs.size(); ++i)
    if (sources[i] && sources[i]->is_inline()) copied += std::min(jobs[i].add.part.length, sources[i]->size);
  parts.copies->reserve(std::min(copied, PartsCost::most_copied));
  for (size_t i = 0; i < jobs.size(); ++i)
    if (jobs[i].is_part()) answers[i] = resolve(ledger, reader, parts, sources[i], jobs[i]);
  return answers;
}

}  // namespace gq
