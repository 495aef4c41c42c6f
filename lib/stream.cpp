#include "stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "text.hpp"

namespace gq {
namespace {

constexpr size_t piece_size = 1 << 16;
constexpr size_t longest_answer = 4096;
constexpr int broken_answer = 70;  // EX_SOFTWARE

}  // namespace

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
  std::string head = std::to_string(claim.job.size) + " " + claim.id + " " + std::to_string(attempt) + " " + claim.job.function + "\n";
  m_pending_bytes += head.size() + workload.data.size();
  m_queued += head.size() + claim.job.size;
  m_ends.push_back(m_queued);
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

std::optional<Stream::Answer> Stream::answer() {
  if (!m_answers.empty() && (m_ends.empty() || m_written < m_ends.front())) {
    m_failure = EPROTO;
    return std::nullopt;
  }
  size_t end = m_answers.find('\n');
  if (end == std::string::npos && m_answers.size() < longest_answer) return std::nullopt;
  std::string line = m_answers.substr(0, end);
  m_answers.erase(0, end == std::string::npos ? end : end + 1);
  m_ends.pop_front();
  size_t space = std::min(line.find(' '), line.size());
  auto status = parse_count(std::string_view(line).substr(0, space));
  if (!status || *status > 255) return Answer{broken_answer, "an answer that is none: " + printable(line)};
  return Answer{static_cast<int>(*status), printable(std::string_view(line).substr(std::min(space + 1, line.size())))};
}

}  // namespace gq
