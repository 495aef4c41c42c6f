#include "gq/work/dialogue.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr double window_ms = 50, slow_ms = 1000;
constexpr double least_window = 2, most_window = 256;
constexpr size_t most_paces = 8;

}  // namespace

size_t stream_window(const std::deque<Pace>& latest, double running_ms) {
  if (latest.empty() || latest.back().ms > slow_ms || running_ms > slow_ms) return 1;
  double ms = running_ms, answers = 0;
  for (const auto& p : latest) ms += p.ms, answers += static_cast<double>(p.answers);
  return static_cast<size_t>(std::clamp(window_ms * answers / std::max(ms, 0.001), least_window, most_window));
}

std::string Dialogue::add(const Claim& claim, uint32_t attempt) {
  std::string head =
      std::to_string(claim.job.size) + " " + claim.id + " " + std::to_string(attempt) + " " + claim.job.function + "\n";
  m_added += head.size() + claim.job.size;
  m_unanswered.push_back({claim.id, m_added});
  return head;
}

void Dialogue::sent(uint64_t bytes, Time now) {
  m_sent += bytes;
  if (m_working_since == Time{}) m_working_since = now;
}

std::vector<Dialogue::Answer> Dialogue::receive(std::string_view text, Time now) {
  std::vector<Answer> answers;
  const double ms = running_ms(now);
  while (!text.empty() && !m_broken) {
    if (m_line.empty()) m_sent_at_line = m_sent;
    const size_t newline = text.find('\n');
    const std::string_view piece = text.substr(0, newline);
    const bool is_complete = newline != std::string_view::npos;
    m_line += piece.substr(0, longest_line - m_line.size());
    if ((is_complete || m_line.size() == longest_line) && !m_line_is_taken) take_line(answers);
    m_line_is_taken = !is_complete && m_line.size() == longest_line;
    if (is_complete) m_line.clear();
    text.remove_prefix(piece.size() + (is_complete ? 1 : 0));
  }
  if (answers.empty()) return answers;
  m_latest.push_back({ms, answers.size()});
  if (m_latest.size() > most_paces) m_latest.pop_front();
  // A command without unanswered jobs is not working until the next job is sent.
  m_working_since = m_unanswered.empty() ? Time{} : now;
  return answers;
}

void Dialogue::take_line(std::vector<Answer>& answers) {
  const std::string_view line = m_line;
  const std::string_view word = line.substr(0, line.find(' '));
  std::string_view reason = line.substr(std::min(word.size() + 1, line.size()));
  const std::string name(reason.substr(0, reason.find(' ')));
  const auto is_sent = [&](const Sent& job) { return job.end <= m_sent_at_line; };
  auto job = std::find_if(m_unanswered.begin(), m_unanswered.end(), [&](const Sent& s) { return s.id == name; });
  const bool is_named = job != m_unanswered.end();
  if (!(is_named && is_sent(*job)) && m_answered_set.count(name)) return;
  if (!is_named) job = m_unanswered.begin();
  if (job == m_unanswered.end() || !is_sent(*job)) {
    m_broken = true;
    fail(EPROTO);
    return;
  }
  if (is_named) reason.remove_prefix(std::min(name.size() + 1, reason.size()));
  const auto status = parse_count(word);
  Answer answer{job->id, broken_answer, {}};
  if (!status || *status > 255) answer.reason = "not a valid answer: " + printable(line);
  else answer.status = static_cast<int>(*status), answer.reason = printable(reason);
  m_unanswered.erase(job);
  m_answered_set.insert(answer.id);
  m_answered.push_back(answer.id);
  if (m_answered.size() > most_answered) {
    m_answered_set.erase(m_answered_set.find(m_answered.front()));
    m_answered.pop_front();
  }
  answers.push_back(std::move(answer));
}

void Dialogue::fail(int error) {
  if (m_failure == 0) m_failure = error;
}

size_t Dialogue::room(Time now) const {
  if (m_closing || m_failure) return 0;
  const size_t window = stream_window(m_latest, running_ms(now));
  return window - std::min(window, m_unanswered.size());
}

double Dialogue::running_ms(Time now) const {
  if (m_unanswered.empty() || m_working_since == Time{}) return 0;
  return std::chrono::duration<double, std::milli>(now - m_working_since).count();
}

}  // namespace gq
