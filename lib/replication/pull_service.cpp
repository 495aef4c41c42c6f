#include "gq/replication/pull_service.hpp"

#include <algorithm>
#include <new>

#include "gq/base/text.hpp"
#include "gq/replication/ask.hpp"

namespace gq {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t most_looked_at = 200;  // jobs in one visit to the index
constexpr size_t most_verified = 64;
constexpr std::chrono::seconds stays_verified{60};

}  // namespace

PullService::PullService(Ledger& ledger, const Keys& keys)
    : m_ledger(ledger), m_keys(keys), m_name(pull_name(ledger.group() ? ledger.group().self.store : ledger.id())) {}

Service PullService::service() {
  return {.function = pull_function(m_name),
          .foreign = false,
          .take = [this](std::string_view payload) { return std::optional(answer(payload)); },
          .max_size = max_question,
          .refusal = "bad it is too large\n",
          .always = true};
}

std::string PullService::answer(std::string_view payload) {
  std::string reason, text;
  const auto question = parse_question(payload, m_name, m_keys, reason);
  try {
    if (question) text = body(*question, reason);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    reason = e.what();
  }
  if (!reason.empty()) text = "bad " + printable(reason) + "\n";
  return encode_pull_answer(m_name, question ? question->line : std::string_view(), text, m_keys);
}

std::string PullService::body(const PullQuestion& question, std::string& reason) {
  if (question.kind == "ends") return ends(question.body, reason);
  if (question.kind == "output") return output(question.body, reason);
  reason = "it asks for neither ends nor outputs";
  return {};
}

std::string PullService::ends(std::string_view body, std::string& reason) {
  const auto ids = parse_ask(body);
  if (!ids || ids->size() > most_asked) {
    reason = "it does not ask for up to 1000 job IDs";
    return {};
  }
  std::vector<StoreSays> says(ids->size());
  bool has_end = false;
  for (size_t from = 0; from < ids->size(); from += most_looked_at)
    m_ledger.look([&](Fold& fold) {
      for (size_t i = from; i < std::min(from + most_looked_at, ids->size()); ++i)
        says[i] = say_of(fold.get((*ids)[i]), m_ledger.group().self);
    });
  for (const auto& s : says) has_end = has_end || s.what == StoreSays::What::end;
  // What a power cut can take back has not happened.
  if (has_end && m_ledger.synced().value_or(0) < m_ledger.end()) m_ledger.sync_all();
  return encode_ends(*ids, says);
}

bool PullService::is_verified(const std::string& id, Lsn output) {
  MutexLock guard(m_mutex);
  const auto now = Clock::now();
  while (!m_verified.empty() && m_verified.front().until <= now) m_verified.pop_front();
  return std::any_of(m_verified.begin(), m_verified.end(),
                     [&](const Verified& v) { return v.output == std::pair(id, output); });
}

void PullService::verified(const std::string& id, Lsn output) {
  MutexLock guard(m_mutex);
  m_verified.push_back({{id, output}, Clock::now() + stays_verified});
  if (m_verified.size() > most_verified) m_verified.pop_front();
}

// Returns a part of an output. Its sum is verified at its beginning, and by the client at its end.
Piece PullService::piece(const Wanted& wanted, uint64_t most) {
  std::optional<Job> job;
  m_ledger.look([&](Fold& fold) { job = fold.get(wanted.id); });
  if (!job || job->output != Kept::whole) return {{}, "the store has no output of it any more"};
  if (wanted.offset > job->output_size) return {{}, "its output is shorter"};
  const uint64_t length = std::min(most, job->output_size - wanted.offset);
  std::string reason;
  Workload output;
  if (has_output_blob(*job) && (wanted.offset > 0 || is_verified(wanted.id, job->output_lsn))) {
    output.blob = m_ledger.open_blob(output_blob(wanted.id));
  } else if (auto whole = m_ledger.output(wanted.id, *job, reason)) {
    output = std::move(*whole);
    if (has_output_blob(*job)) verified(wanted.id, job->output_lsn);
  } else {
    return {{}, reason};
  }
  if (!has_output_blob(*job)) return {output.data.substr(wanted.offset, length), {}};
  std::string bytes(length, '\0');
  if (!output.blob || read_at(output.blob.get(), bytes.data(), length, wanted.offset) != length)
    return {{}, "its blob is missing or too short"};
  return {std::move(bytes), {}};
}

std::string PullService::output(std::string_view body, std::string& reason) {
  const auto wanted = parse_wanted(body);
  if (!wanted || wanted->empty() || wanted->size() > most_asked) {
    reason = "it does not ask for the outputs of up to 1000 jobs";
    return {};
  }
  std::vector<Piece> pieces;
  uint64_t left = most_pulled;
  for (const auto& w : *wanted) {
    if (left == 0) break;
    left -= pieces.emplace_back(piece(w, left)).bytes.size();
  }
  return encode_pieces(*wanted, pieces);
}

}  // namespace gq
