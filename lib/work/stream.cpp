#include "gq/work/stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace gq {
namespace {

constexpr size_t piece_size = 1 << 16;
constexpr size_t most_read = 1 << 16;  // the most bytes in one read; a pipe holds as much

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
  std::string head = m_dialogue.add(claim, attempt);
  m_pending_bytes += head.size() + workload.data.size();
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
  m_dialogue.close();
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
        m_dialogue.fail(EIO);
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
      m_dialogue.fail(errno);
      return;
    }
    piece.sent += static_cast<size_t>(n);
    m_pending_bytes -= static_cast<size_t>(n);
    m_dialogue.sent(static_cast<size_t>(n), Dialogue::Clock::now());
  }
  if (m_dialogue.is_closing()) m_input.reset();
}

std::vector<Dialogue::Answer> Stream::read() {
  std::string text;
  int failure = 0;
  while (text.size() < most_read) {
    char buffer[16384];
    const ssize_t n = ::read(m_output.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      failure = n < 0 ? errno : EPIPE;
      break;
    }
    text.append(buffer, static_cast<size_t>(n));
  }
  auto answers = m_dialogue.receive(text, Dialogue::Clock::now());
  if (failure) m_dialogue.fail(failure);
  return answers;
}

// Reads first: what the command has printed before the send below cannot be an answer to what is sent there.
std::vector<Dialogue::Answer> Stream::pump() {
  auto answers = read();
  if (m_input && !m_pending.empty() && !m_dialogue.failure()) write();
  return answers;
}

}  // namespace gq
