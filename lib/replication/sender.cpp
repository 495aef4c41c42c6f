#include "gq/replication/sender.hpp"

#include <algorithm>
#include <thread>

#include "gq/base/text.hpp"
#include "gq/replication/wire.hpp"
#include "gq/store/parts.hpp"

namespace gq {
namespace {

// The number of Gearman jobs under way at the same time: enough to keep the worker's disk busy.
constexpr size_t window = 16;
constexpr Millis reconnect_interval{1000}, pause_after_failure{100};

// One Gearman job: several small gq jobs, or one large gq job.
struct Batch {
  size_t first = 0, count = 0;
  PartsCost parts;  // the cost of the parts of other jobs' workloads that these jobs refer to
  std::string payload;
  std::vector<std::string> ids;
  std::vector<bool> has_key;
  std::vector<Answer> answers;  // empty until the worker has answered
  bool sent = false;            // a part of it may have been sent
};

// Whether an answer names another job in place of a job that has no key. Such an answer is wrong: only a key can make
// another job take a job's place.
bool names_another_job(const Batch& batch, const std::vector<Answer>& answers) {
  for (size_t i = 0; i < answers.size(); ++i)
    if (answers[i].outcome == Outcome::same && answers[i].reason != batch.ids[i] && !batch.has_key[i]) return true;
  return false;
}

bool take_answer(Batch& batch, std::string_view result) {
  if (auto answers = parse_answers(result, batch.ids)) {
    if (names_another_job(batch, *answers)) return false;
    batch.answers = std::move(*answers);
  } else if (result.substr(0, 4) == "bad ") {  // the worker would give the same answer again
    batch.answers.assign(batch.count, Answer{Outcome::bad, printable(result.substr(4, result.size() - 5)), 0});
  }
  return !batch.answers.empty();
}

std::vector<Batch> make_batches(const std::vector<NewJob>& jobs) {
  std::vector<Batch> batches;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const auto parents = jobs[i].parent_records();
    size_t size = jobs[i].head.size() + jobs[i].data.size();
    for (const auto& record : parents) size += record.size();
    const Part& part = jobs[i].add.part;
    const uint64_t length = part.source.empty() ? 0 : part.length, copied = std::min<uint64_t>(length, max_inline_data);
    if (batches.empty() || batches.back().count == max_group_jobs ||
        batches.back().payload.size() + size > max_group_bytes || !batches.back().parts.add(copied, length)) {
      batches.emplace_back();
      batches.back().first = i;
      batches.back().parts.add(copied, length);
    }
    Batch& b = batches.back();
    if (b.count == 0) b.payload.reserve(std::max(size, max_group_bytes / 4));
    b.payload += jobs[i].head;
    b.payload += jobs[i].data;
    for (const auto& record : parents) b.payload += record;
    b.ids.push_back(jobs[i].add.id);
    b.has_key.push_back(!jobs[i].add.asked.key.empty());
    ++b.count;
  }
  return batches;
}

}  // namespace

Sender::Sender(std::vector<Server> servers, const std::string& function, Millis timeout, bool in_order, bool patient,
               const std::atomic<bool>* stop)
    : m_servers(servers.size()),
      m_requests(std::move(servers), record_function(function),
                 "no worker serves the function " + printable(function) + " (is a gq-worker running?)", stop),
      m_timeout(timeout),
      m_window(in_order ? 1 : window),
      m_patient(patient),
      m_stop(stop) {}

std::vector<Answer> Sender::send(const std::vector<NewJob>& jobs) {
  using Clock = Requests::Clock;
  std::vector<Batch> batches = make_batches(jobs);
  auto deadline = Clock::now() + m_timeout;
  auto left_until = [](Clock::time_point end) {
    return std::chrono::ceil<Millis>(std::max(end - Clock::now(), Clock::duration::zero()));
  };
  auto is_stopping = [&] { return m_stop && *m_stop; };
  auto left = [&] { return left_until(deadline); };
  bool sent = false;
  size_t silent = 0;  // how many servers in a row did not answer
  std::string reason;
  for (;;) {
    std::vector<Batch*> open;
    std::vector<std::string_view> payloads;
    for (auto& b : batches) {
      if (!b.answers.empty()) continue;
      open.push_back(&b);
      payloads.push_back(b.payload);
    }
    if (open.empty()) break;
    try {
      m_requests.connect(deadline, m_patient);
    } catch (const Error& e) {
      if (!sent) throw;
      reason = e.what();
      if (left() == Millis::zero() || is_stopping()) break;
      std::this_thread::sleep_for(std::min(left(), reconnect_interval));
      continue;
    }
    m_requests.start(
        payloads, [&](size_t i, std::string_view result) { return take_answer(*open[i], result); }, m_window);
    auto end = [&] { return std::max(deadline, m_requests.left_at() + m_timeout); };
    while (!m_requests.wait(left_until(end())) && Clock::now() < end() && !is_stopping()) continue;
    reason = m_requests.finish(Clock::now());
    const bool answered = std::any_of(open.begin(), open.end(), [](auto* b) { return !b->answers.empty(); });
    silent = answered ? 0 : silent + (left() == Millis::zero());
    // The worker that a server lists may be dead. After finish(), that server is tried last.
    if (answered || (silent > 0 && silent < m_servers)) deadline = Clock::now() + m_timeout;
    for (size_t i = 0; i < open.size(); ++i) {
      open[i]->sent |= m_requests.was_sent(i);
      sent |= open[i]->sent;
    }
    if (reason.empty()) continue;
    if (left() == Millis::zero() || is_stopping()) break;
    std::this_thread::sleep_for(std::min(left(), pause_after_failure));
  }
  std::vector<Answer> answers;
  for (auto& b : batches) {
    if (b.answers.empty()) b.answers.assign(b.count, Answer{b.sent ? Outcome::unknown : Outcome::refused, reason, 0});
    answers.insert(answers.end(), b.answers.begin(), b.answers.end());
  }
  return answers;
}

}  // namespace gq
