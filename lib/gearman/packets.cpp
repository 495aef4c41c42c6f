#include "gq/gearman/packets.hpp"

#include <libgearman/gearman.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <utility>

#include "gq/base/clock.hpp"
#include "gq/base/fd.hpp"
#include "gq/base/mutex.hpp"

namespace gq {

std::optional<AssignedJob> PacketCheck::take_job() { return std::exchange(m_job, std::nullopt); }

// The packets of the Gearman protocol that a server sends to clients and workers, except WORK_EXCEPTION, on which
// libgearman 1.1.20 hangs.
struct PacketCheck::Command {
  uint32_t number;
  int args;     // the number of arguments; all but the last end in NUL, and so does the last if data follow
  bool handle;  // the first argument is a job handle
  bool data;
};

namespace {

// gearmand's own names and error texts are shorter.
constexpr size_t max_arg = 4096;
constexpr uint32_t max_body_without_data = 2 * max_arg;

}  // namespace

const PacketCheck::Command* PacketCheck::command(uint32_t number) {
  static constexpr Command commands[] = {
      {GEARMAN_COMMAND_NOOP, 0, false, false},       {GEARMAN_COMMAND_JOB_CREATED, 1, true, false},
      {GEARMAN_COMMAND_NO_JOB, 0, false, false},     {GEARMAN_COMMAND_JOB_ASSIGN, 2, true, true},
      {GEARMAN_COMMAND_WORK_STATUS, 3, true, false}, {GEARMAN_COMMAND_WORK_COMPLETE, 1, true, true},
      {GEARMAN_COMMAND_WORK_FAIL, 1, true, false},   {GEARMAN_COMMAND_ECHO_RES, 0, false, true},
      {GEARMAN_COMMAND_ERROR, 2, false, false},      {GEARMAN_COMMAND_WORK_DATA, 1, true, true},
      {GEARMAN_COMMAND_WORK_WARNING, 1, true, true}, {GEARMAN_COMMAND_JOB_ASSIGN_UNIQ, 3, true, true},
  };
  auto found = std::find_if(std::begin(commands), std::end(commands), [&](auto& c) { return c.number == number; });
  return found == std::end(commands) ? nullptr : found;
}

bool PacketCheck::assigns() const {
  return m_command->number == GEARMAN_COMMAND_JOB_ASSIGN || m_command->number == GEARMAN_COMMAND_JOB_ASSIGN_UNIQ;
}

bool PacketCheck::header_complete() {
  auto big_endian = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value << 8 | m_header[i];
    return value;
  };
  m_command = command(big_endian(4));
  m_left = big_endian(8);
  if (!m_command) return false;
  m_too_long = !assigns() && m_left > (m_command->data ? m_most : max_body_without_data);
  if (m_too_long) return false;
  if (m_command->number == GEARMAN_COMMAND_NOOP) m_woken = true;
  m_args_left = m_command->args - (m_command->data ? 0 : 1);
  m_arg_size = 0;
  m_assigned = {};
  // Each argument has at least one byte, its NUL. A body without arguments must be empty, unless data follow.
  return m_command->args > 0 ? m_left >= static_cast<uint32_t>(m_command->args) : m_command->data || m_left == 0;
}

bool PacketCheck::feed(const char* data, size_t size) {
  const char* end = data + size;
  while (data != end && !m_bad) {
    if (m_header_size < sizeof m_header) {
      constexpr char magic[] = {0, 'R', 'E', 'S'};
      if (m_header_size < sizeof magic && *data != magic[m_header_size]) m_bad = true;
      m_header[m_header_size++] = static_cast<unsigned char>(*data++);
      if (m_header_size == sizeof m_header && !m_bad) m_bad = !header_complete();
    } else if (m_args_left > 0 || !m_command->data) {  // arguments are read byte by byte: they are short
      ++m_arg_size;
      bool first = m_args_left == m_command->args - (m_command->data ? 0 : 1);
      if (m_arg_size > (first && m_command->handle ? size_t{GEARMAN_JOB_HANDLE_SIZE} : max_arg)) m_bad = true;
      const char c = *data++;
      --m_left;
      if (assigns() && c != 0 && m_command->args - m_args_left < 2)
        (first ? m_assigned.handle : m_assigned.function) += c;
      if (c == 0 && m_args_left > 0) {
        --m_args_left;
        m_arg_size = 0;
        if (assigns() && m_args_left == 0) {
          if (m_job) m_bad = true;
          m_assigned.size = m_left;
          m_job = std::move(m_assigned);
        }
      }
      // A body must not end before its arguments do.
      if (m_left == 0 && m_args_left > 0) m_bad = true;
    } else {
      auto n = static_cast<uint32_t>(std::min<size_t>(m_left, static_cast<size_t>(end - data)));
      data += n;
      m_left -= n;
    }
    if (m_header_size == sizeof m_header && m_left == 0) m_header_size = 0;
  }
  return !m_bad;
}

std::optional<uint64_t> PacketCheck::workload_left() const {
  if (m_header_size < sizeof m_header || !assigns() || m_args_left > 0) return std::nullopt;
  return m_left;
}

bool is_hopeless(const ServerWait& wait, std::optional<ServerWait::Time> stopping) {
  if (stopping && (wait.way == ServerWait::Way::in || wait.now - *stopping >= last_words)) return true;
  return wait.waits && wait.now - wait.since >= longest_silence;
}

namespace {

Mutex streams_mutex;

std::map<int, PacketCheck>& streams() REQUIRES(streams_mutex) {
  static auto* map = new std::map<int, PacketCheck>;  // never destroyed: threads may outlive main
  return *map;
}

constexpr int send_buffer = 1 << 20;
thread_local int last_connected = -1;
thread_local bool woken = false, too_long = false;
thread_local const std::atomic<bool>* ends_when_woken = nullptr;
thread_local Judge judge;
thread_local GiveUp give_up;
thread_local bool ended = false;
thread_local int worker_connection = -1;
constexpr Millis longest_refusal{5000};
constexpr int look_interval = 50;  // ms

std::optional<uint64_t> workload_left(int fd) {
  MutexLock guard(streams_mutex);
  return streams()[fd].workload_left();
}

// Repeats a non-blocking call until bytes have come, or left, or until the connection has ended.
template <typename Call>
ssize_t wait_for(int fd, ServerWait::Way way, Call call) {
  ServerWait wait{way, true, std::chrono::steady_clock::now(), {}, {}};
  if (way == ServerWait::Way::in) wait.left = workload_left(fd);
  for (;;) {
    const ssize_t n = call();
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      if (errno == ENOTCONN) errno = ECONNRESET;  // on ENOTCONN, libgearman would wait
      return n;
    }
    wait.waits = n < 0;
    wait.now = std::chrono::steady_clock::now();
    if ((way == ServerWait::Way::in || wait.waits) && give_up(wait)) {
      errno = ECONNRESET;
      return -1;
    }
    if (n > 0) return n;
    pollfd p{fd, static_cast<short>(way == ServerWait::Way::in ? POLLIN : POLLOUT), 0};
    ::poll(&p, 1, look_interval);
  }
}

// Ends a connection for sending, and reads until the server has read what was sent. If gq closed the connection while
// something is on its way to it, the server might see the close first, and give the job to the next worker.
void end_sending(int fd, const std::function<bool()>& goes_on) {
  ::shutdown(fd, SHUT_WR);
  pollfd p{fd, POLLIN, 0};
  while (goes_on()) {
    char thrown_away[65536];
    ssize_t n = ::recv(fd, thrown_away, sizeof thrown_away, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return;
    if (n < 0) ::poll(&p, 1, look_interval);
  }
}

// Sends the refusal of a job.
void refuse(int fd, std::string_view bytes) {
  ServerWait wait{ServerWait::Way::out, true, std::chrono::steady_clock::now(), {}, {}};
  auto goes_on = [&] {
    wait.now = std::chrono::steady_clock::now();
    return wait.now - wait.since < longest_refusal && !(give_up && give_up(wait));
  };
  pollfd p{fd, POLLOUT, 0};
  while (!bytes.empty() && goes_on()) {
    ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
    else if (errno != EAGAIN && errno != EINTR) return;
    else ::poll(&p, 1, look_interval);
  }
  end_sending(fd, goes_on);
}

std::string packet_header(uint32_t command, uint64_t body_size) {
  std::string header("\0REQ", 4);
  for (uint32_t value : {command, static_cast<uint32_t>(body_size)})
    for (int shift = 24; shift >= 0; shift -= 8) header += static_cast<char>(value >> shift & 0xff);
  return header;
}

}  // namespace

int take_connected() { return std::exchange(last_connected, -1); }

bool take_too_long() { return std::exchange(too_long, false); }

bool take_ended() { return std::exchange(ended, false); }

bool take_woken() { return std::exchange(woken, false); }

void judge_jobs(Judge with) { judge = std::move(with); }

void wait_for_servers(GiveUp when) { give_up = std::move(when); }

std::string request_packet(uint32_t command, std::string_view body) {
  return packet_header(command, body.size()).append(body);
}

bool send_answer(int fd, std::string_view handle, int file, uint64_t size, Millis limit) {
  const auto begun = std::chrono::steady_clock::now();
  ServerWait wait{ServerWait::Way::out, true, begun, begun, {}};
  auto goes_on = [&] {
    wait.now = std::chrono::steady_clock::now();
    return wait.now - begun < limit && !give_up(wait);
  };
  auto is_sent = [&](std::string_view bytes) {
    pollfd p{fd, POLLOUT, 0};
    while (!bytes.empty() && goes_on()) {
      const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) bytes.remove_prefix(static_cast<size_t>(n)), wait.since = wait.now;
      else if (errno != EAGAIN && errno != EINTR) return false;
      else ::poll(&p, 1, look_interval);
    }
    return bytes.empty();
  };
  std::string head = packet_header(GEARMAN_COMMAND_WORK_COMPLETE, handle.size() + 1 + size);
  head.append(handle) += '\0';
  if (!is_sent(head)) return false;
  char piece[65536];
  for (uint64_t at = 0; at < size;) {
    const size_t n = read_at(file, piece, std::min<uint64_t>(sizeof piece, size - at), at);
    if (n == 0 || !is_sent({piece, n})) return false;
    at += n;
  }
  end_sending(fd, goes_on);
  return true;
}

void end_when_woken(const std::atomic<bool>& when) { ends_when_woken = &when; }

}  // namespace gq

extern "C" {

int gq_libgearman_connect(int fd, const sockaddr* address, socklen_t size) {
  // libgearman sets a buffer of 32 KiB, with which a workload of 4 MB takes seconds.
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &gq::send_buffer, sizeof gq::send_buffer);
  // libgearman also makes close(2) wait for ten seconds if the server does not read the bytes that are on their way.
  constexpr linger no_wait{0, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &no_wait, sizeof no_wait);
  {
    gq::MutexLock guard(gq::streams_mutex);
    gq::streams()[fd] = gq::PacketCheck();
  }
  gq::last_connected = gq::worker_connection = fd;
  return ::connect(fd, address, size);
}

ssize_t gq_libgearman_recv(int fd, void* data, size_t size, int flags) {
  auto receive = [&] { return ::recv(fd, data, size, flags); };
  const bool of_worker = fd == gq::worker_connection;
  const ssize_t n = of_worker && gq::give_up ? gq::wait_for(fd, gq::ServerWait::Way::in, receive) : receive();
  gq::ended = gq::ended || (of_worker && n <= 0);
  if (n <= 0) return n;
  bool good;
  std::optional<gq::AssignedJob> job;
  {
    gq::MutexLock guard(gq::streams_mutex);
    gq::PacketCheck& stream = gq::streams()[fd];
    good = stream.feed(static_cast<const char*>(data), static_cast<size_t>(n));
    if (stream.take_woken()) {
      gq::woken = true;
      if (gq::ends_when_woken && *gq::ends_when_woken) good = false;
    }
    if (stream.is_too_long()) gq::too_long = true;
    job = stream.take_job();
  }
  if (good && job) {
    auto refusal = gq::judge ? gq::judge(*job) : std::string();
    if (refusal && !refusal->empty()) gq::refuse(fd, *refusal);
    good = !refusal;
  }
  if (good) return n;
  gq::ended = gq::ended || of_worker;
  errno = ECONNRESET;
  return -1;
}

ssize_t gq_libgearman_send(int fd, const void* data, size_t size, int flags) {
  auto give = [&] { return ::send(fd, data, size, flags); };
  if (fd != gq::worker_connection || !gq::give_up) return give();
  const ssize_t n = gq::wait_for(fd, gq::ServerWait::Way::out, give);
  gq::ended = gq::ended || n < 0;
  return n;
}
}
