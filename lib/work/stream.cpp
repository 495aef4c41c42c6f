#include "gq/work/stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "gq/base/text.hpp"

namespace gq {
namespace {

constexpr size_t piece_size = 1 << 16;
constexpr size_t longest_answer = 4096;
constexpr int broken_answer = 70;  // EX_SOFTWARE
constexpr double window_ms = 50, slow_ms = 1000;
constexpr double least_window = 2, most_window = 256;
constexpr size_t most_paces = 8;
constexpr size_t most_answered = 4096;  // IDs that are remembered

}  // namespace

size_t stream_window(const std::deque<Pace>& latest, double running_ms) {
  if (latest.empty() || latest.back().ms > slow_ms || running_ms > slow_ms) return 1;
  double ms = running_ms, answers = 0;
  for (const auto& p : latest) ms += p.ms, answers += static_cast<double>(p.answers);
  return static_cast<size_t>(std::clamp(window_ms * answers / std::max(ms, 0.001), least_window, most_window));
}

Stream::Stream() {
  Pipe in = make_pipe(), out = make_pipe();
  m_command_input = std::move(in.reader);
  m_input = std::move(in.writer);
  m_output = std::move(out.reader);
  m_command_output = std::move(out.writer);
  for (int fd : {m_input.get(), m_output.get()}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
}

void Stream::close_ends() {
  m_command_input.reset();
  m_command_output.reset();
}

void Stream::send(const Claim& claim, uint32_t attempt, Workload workload) {
  std::string head =
      std::to_string(claim.job.size) + " " + claim.id + " " + std::to_string(attempt) + " " + claim.job.function + "\n";
  m_pending_bytes += head.size() + workload.data.size();
  m_queued += head.size() + claim.job.size;
  m_unanswered.push_back({claim.id, m_queued});
  if (!workload.blob && !m_pending.empty() && !m_pending.back().blob && m_pending.back().bytes.size() < piece_size) {
    m_pending.back().bytes.append(head).append(workload.data);
    return;
  }
  Piece piece;
  piece.bytes = std::move(head) + workload.data;
  if (workload.blob) {
    piece.blob = std::move(workload.blob);
    piece.blob_left = claim.job.size;
    piece.blob_offset = workload.offset;
  }
  m_pending.push_back(std::move(piece));
}

void Stream::close() {
  m_closing = true;
  if (m_pending.empty()) m_input.reset();
}

void Stream::write() {
  // It had nothing to do until now.
  if (m_working_since == Clock::time_point{}) m_working_since = Clock::now();
  while (!m_pending.empty()) {
    Piece& piece = m_pending.front();
    if (piece.sent == piece.bytes.size()) {
      if (piece.blob_left == 0) {
        m_pending.pop_front();
        continue;
      }
      piece.bytes.resize(std::min<uint64_t>(piece.blob_left, piece_size));
      try {
        piece.bytes.resize(read_at(piece.blob.get(), piece.bytes.data(), piece.bytes.size(), piece.blob_offset));
      } catch (const Error&) {
        piece.bytes.clear();
      }
      if (piece.bytes.empty()) {
        m_failure = EIO;
        return;
      }
      piece.sent = 0;
      piece.blob_left -= piece.bytes.size();
      piece.blob_offset += piece.bytes.size();
      m_pending_bytes += piece.bytes.size();
    }
    ssize_t n = ::write(m_input.get(), piece.bytes.data() + piece.sent, piece.bytes.size() - piece.sent);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
      m_failure = errno;
      return;
    }
    piece.sent += static_cast<size_t>(n);
    m_written += static_cast<size_t>(n);
    m_pending_bytes -= static_cast<size_t>(n);
  }
  if (m_closing) m_input.reset();
}

void Stream::pump() {
  if (m_input && !m_pending.empty() && m_failure == 0) write();
  while (m_output && m_answers.size() < longest_answer * 16) {
    char buffer[16384];
    ssize_t n = ::read(m_output.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      m_failure = n < 0 ? errno : EPIPE;
      m_output.reset();
      break;
    }
    m_answers.append(buffer, static_cast<size_t>(n));
  }
}

double Stream::running_ms() const {
  if (m_unanswered.empty() || m_working_since == Clock::time_point{}) return 0;
  return std::chrono::duration<double, std::milli>(Clock::now() - m_working_since).count();
}

size_t Stream::window() const { return stream_window(m_latest, running_ms()); }

std::optional<Stream::Answer> Stream::answer() {
  while (!m_answers.empty() && m_failure != EPROTO) {
    m_early = m_early || m_unanswered.empty() || m_written < m_unanswered.front().end;
    size_t end = m_answers.find('\n');
    if (end == std::string::npos && m_answers.size() < longest_answer) return std::nullopt;
    std::string line = m_answers.substr(0, end);
    m_answers.erase(0, end == std::string::npos ? end : end + 1);
    bool early = std::exchange(m_early, false);
    size_t space = std::min(line.find(' '), line.size());
    std::string_view reason = std::string_view(line).substr(std::min(space + 1, line.size()));
    std::string word(reason.substr(0, reason.find(' ')));
    if (m_answered_set.count(word)) continue;
    if (early) {
      m_failure = EPROTO;
      return std::nullopt;
    }
    auto job = std::find_if(m_unanswered.begin(), m_unanswered.end(), [&](const Sent& s) { return s.id == word; });
    if (job != m_unanswered.end() && m_written < job->end) {
      m_failure = EPROTO;
      return std::nullopt;
    }
    if (job == m_unanswered.end()) job = m_unanswered.begin();
    else reason.remove_prefix(std::min(word.size() + 1, reason.size()));
    Answer answer{job->id, broken_answer, {}};
    auto status = parse_count(std::string_view(line).substr(0, space));
    if (!status || *status > 255) answer.reason = "an answer that is none: " + printable(line);
    else answer.status = static_cast<int>(*status), answer.reason = printable(reason);
    m_unanswered.erase(job);
    m_answered_set.insert(answer.id);
    m_answered.push_back(answer.id);
    if (m_answered.size() > most_answered) {
      m_answered_set.erase(m_answered.front());
      m_answered.pop_front();
    }
    return answer;
  }
  return std::nullopt;
}

std::deque<Stream::Answer> Stream::answers() {
  std::deque<Answer> all;
  double ms = running_ms();
  while (auto next = answer()) all.push_back(std::move(*next));
  if (all.empty()) return all;
  m_latest.push_back({ms, all.size()});
  if (m_latest.size() > most_paces) m_latest.pop_front();
  // Where it waits for more, it is not at work before that is sent.
  m_working_since = m_unanswered.empty() ? Clock::time_point{} : Clock::now();
  return all;
}

}  // namespace gq
