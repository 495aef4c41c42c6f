#include "packets.hpp"

#include <libgearman/gearman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <utility>

#include "caller.hpp"

namespace gq {

// The packets of the Gearman protocol that a server sends to clients and workers, but for WORK_EXCEPTION, on which
// libgearman 1.1.20 hangs.
struct PacketCheck::Command {
  uint32_t number;
  int args;      // of them, all but the last end in NUL; the last one too where data follow
  bool handle;   // the first argument is a job handle
  bool data;
};

namespace {

// gearmand's own names and error texts are shorter.
constexpr size_t max_arg = 4096;
constexpr uint32_t max_body_without_data = 2 * max_arg;

}  // namespace

const PacketCheck::Command* PacketCheck::command(uint32_t number) {
  static constexpr Command commands[] = {
      {GEARMAN_COMMAND_NOOP, 0, false, false},         {GEARMAN_COMMAND_JOB_CREATED, 1, true, false},
      {GEARMAN_COMMAND_NO_JOB, 0, false, false},       {GEARMAN_COMMAND_JOB_ASSIGN, 2, true, true},
      {GEARMAN_COMMAND_WORK_STATUS, 3, true, false},   {GEARMAN_COMMAND_WORK_COMPLETE, 1, true, true},
      {GEARMAN_COMMAND_WORK_FAIL, 1, true, false},     {GEARMAN_COMMAND_ECHO_RES, 0, false, true},
      {GEARMAN_COMMAND_ERROR, 2, false, false},        {GEARMAN_COMMAND_WORK_DATA, 1, true, true},
      {GEARMAN_COMMAND_WORK_WARNING, 1, true, true},   {GEARMAN_COMMAND_JOB_ASSIGN_UNIQ, 3, true, true},
      {GEARMAN_COMMAND_JOB_ASSIGN_ALL, 4, true, true},
  };
  auto found = std::find_if(std::begin(commands), std::end(commands), [&](auto& c) { return c.number == number; });
  return found == std::end(commands) ? nullptr : found;
}

bool PacketCheck::header_complete() {
  auto big_endian = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value << 8 | m_header[i];
    return value;
  };
  m_command = command(big_endian(4));
  m_left = big_endian(8);
  if (!m_command || (!m_command->data && m_left > max_body_without_data)) return false;
  if (m_command->number == GEARMAN_COMMAND_NOOP) m_woken = true;
  m_args_left = m_command->args - (m_command->data ? 0 : 1);
  m_arg_size = 0;
  // An argument of no bytes but its end is one still; a body without arguments has none.
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
    } else if (m_args_left > 0 || !m_command->data) {  // arguments, a byte at a time: they are short
      ++m_arg_size;
      bool first = m_args_left == m_command->args - (m_command->data ? 0 : 1);
      if (m_arg_size > (first && m_command->handle ? size_t{GEARMAN_JOB_HANDLE_SIZE} : max_arg)) m_bad = true;
      if (*data++ == 0 && m_args_left > 0) {
        --m_args_left;
        m_arg_size = 0;
      }
      --m_left;
      // No body ends before its arguments do.
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

namespace {

bool in_libgearman(const void* return_address) {
  static const CallerRange range("libgearman.so");
  return range.contains(return_address);
}

std::mutex streams_mutex;

std::map<int, PacketCheck>& streams() {
  static auto* map = new std::map<int, PacketCheck>;  // never destroyed: threads may outlive main
  return *map;
}

constexpr int send_buffer = 1 << 20;
thread_local int last_connected = -1;
thread_local bool woken = false;
thread_local const std::atomic<bool>* ends_when_woken = nullptr;

}  // namespace

int take_connected() { return std::exchange(last_connected, -1); }

bool take_woken() { return std::exchange(woken, false); }

void end_when_woken(const std::atomic<bool>& when) { ends_when_woken = &when; }

}  // namespace gq

extern "C" {

int connect(int fd, const sockaddr* address, socklen_t size) {
  if (gq::in_libgearman(__builtin_return_address(0))) {
    // libgearman sets 32 KiB, with which a workload of 4 MB takes seconds.
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &gq::send_buffer, sizeof gq::send_buffer);
    std::lock_guard<std::mutex> guard(gq::streams_mutex);
    gq::streams()[fd] = gq::PacketCheck();
    gq::last_connected = fd;
  }
  return static_cast<int>(::syscall(SYS_connect, fd, address, size));
}

ssize_t recv(int fd, void* data, size_t size, int flags) {
  ssize_t n = ::recvfrom(fd, data, size, flags, nullptr, nullptr);
  if (n <= 0 || !gq::in_libgearman(__builtin_return_address(0))) return n;
  std::lock_guard<std::mutex> guard(gq::streams_mutex);
  gq::PacketCheck& stream = gq::streams()[fd];
  bool good = stream.feed(static_cast<const char*>(data), static_cast<size_t>(n));
  if (stream.take_woken()) {
    gq::woken = true;
    if (gq::ends_when_woken && *gq::ends_when_woken) good = false;
  }
  if (good) return n;
  errno = ECONNRESET;
  return -1;
}

}
