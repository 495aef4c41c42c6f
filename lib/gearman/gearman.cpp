#include "gq/gearman/gearman.hpp"

#include <sys/socket.h>

#include <array>
#include <bit>
#include <cerrno>

#include "gq/base/error.hpp"
#include "gq/base/text.hpp"
#include "gq/gearman/probe.hpp"

namespace gq {
namespace {

constexpr size_t packet_header_size = 12;
constexpr size_t max_count_answer = 4096;  // an argument is 64 bytes at most

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

uint32_t read_big_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::string request(uint32_t command, std::string_view body) {
  return std::string("\0REQ", 4) + big_endian(command) + big_endian(static_cast<uint32_t>(body.size())) +
         std::string(body);
}

// SHA-1 (RFC 3174), in hexadecimal. gq uses it only to recognise a value that a client has computed, so its strength
// does not matter.
std::string sha1(std::string text) {
  const uint64_t bits = text.size() * 8;
  text += '\x80';
  text.append((120 - text.size() % 64) % 64, '\0');
  text += big_endian(static_cast<uint32_t>(bits >> 32)) + big_endian(static_cast<uint32_t>(bits));
  std::array<uint32_t, 5> h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  for (size_t at = 0; at < text.size(); at += 64) {
    std::array<uint32_t, 80> w;
    for (size_t i = 0; i < 16; ++i) w[i] = read_big_endian(std::string_view(text).substr(at + 4 * i));
    for (size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    auto [a, b, c, d, e] = h;
    for (size_t i = 0; i < 80; ++i) {
      uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                   : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                   : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                            : (b ^ c ^ d) + 0xca62c1d6;
      uint32_t next = std::rotl(a, 5) + f + e + w[i];
      e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
    }
    h = {h[0] + a, h[1] + b, h[2] + c, h[3] + d, h[4] + e};
  }
  std::string hex;
  for (uint32_t word : h)
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[word >> shift & 0xf];
  return hex;
}

}  // namespace

std::string Server::name() const {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

std::optional<std::vector<Server>> parse_servers(std::string_view text) {
  std::vector<Server> servers;
  for (std::string_view item : split(text, ',')) {
    Server server;
    std::string_view port;
    if (!item.empty() && item[0] == '[') {
      size_t end = item.find(']');
      if (end == std::string_view::npos) return std::nullopt;
      server.host = item.substr(1, end - 1);
      port = item.substr(end + 1);
    } else {
      size_t colon = item.find(':');
      server.host = item.substr(0, colon);
      if (colon != std::string_view::npos) port = item.substr(colon);
    }
    if (!port.empty()) {
      auto number = port[0] == ':' ? parse_count(port.substr(1)) : std::nullopt;
      if (!number || *number == 0 || *number > 65535) return std::nullopt;
      server.port = static_cast<uint16_t>(*number);
    }
    if (server.host.empty() || server.host.size() > 253 || printable(server.host, 300) != server.host ||
        server.host.find_first_of(" []/") != std::string::npos)
      return std::nullopt;
    servers.push_back(std::move(server));
  }
  return servers;
}

std::string record_function(const std::string& function) { return function + ".gq"; }

const char* libgearman_version() { return gearman_version(); }

std::string reason_text(gearman_return_t rc) {
  switch (rc) {
    case GEARMAN_COULD_NOT_CONNECT:
      return "it does not answer";
    case GEARMAN_LOST_CONNECTION:
      return "the connection was lost";
    case GEARMAN_TIMEOUT:
      return "no answer in time";
    default:
      return gearman_strerror(rc);
  }
}

std::optional<WorkerHandle> make_worker(const Server& server, Millis timeout) {
  WorkerHandle worker(gearman_worker_create(nullptr), gearman_worker_free);
  if (!worker) return std::nullopt;
  gearman_worker_set_timeout(worker.get(), static_cast<int>(timeout.count()));
  // With GRAB_JOB_ALL, which is the default, the server tells libgearman the reducer of a job (SUBMIT_REDUCE_JOB).
  // libgearman would submit the job's result as another job, and wait for it on a connection that nothing interrupts.
  gearman_worker_remove_options(worker.get(), GEARMAN_WORKER_GRAB_ALL);
  gearman_worker_add_options(worker.get(), GEARMAN_WORKER_GRAB_UNIQ);
  if (gearman_failed(gearman_worker_add_server(worker.get(), server.host.c_str(), server.port))) return std::nullopt;
  return worker;
}

ClientCount parse_client_count(std::string_view answer) {
  ClientCount count;
  while (answer.size() >= packet_header_size) {
    size_t size = read_big_endian(answer.substr(8));
    count.bad = answer.substr(0, 4) != std::string_view("\0RES", 4) || size > max_count_answer;
    if (count.bad || answer.size() - packet_header_size < size) break;
    uint32_t command = read_big_endian(answer.substr(4));
    // The fields are unique, known, running, numerator, denominator, clients.
    auto fields = split(answer.substr(packet_header_size, size), '\0');
    if (command == GEARMAN_COMMAND_STATUS_RES_UNIQUE && fields.size() == 6) count.clients = parse_count(fields[5]);
    count.echo |= command == GEARMAN_COMMAND_ECHO_RES;
    answer.remove_prefix(packet_header_size + size);
  }
  return count;
}

// Returns false if the connection cannot be used any more.
bool WaitingClients::ask(const std::string& unique, Millis timeout, std::optional<uint64_t>& clients,
                         std::string& reason) {
  const auto deadline = Probe::Clock::now() + timeout;
  if (!m_fd) m_fd = reach(m_server, timeout, m_stop, reason);
  if (!m_fd) return false;
  reason = "no answer";
  std::string question = request(GEARMAN_COMMAND_GET_STATUS_UNIQUE, unique);
  const bool echo = !m_answers;  // a server that does not know the question still answers an echo
  if (echo) question += request(GEARMAN_COMMAND_ECHO_REQ, "gq");
  if (::send(m_fd.get(), question.data(), question.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(question.size()))
    return false;
  for (std::string answer;;) {
    char buffer[1024];
    ssize_t n = ::recv(m_fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
      if (m_stop || Probe::Clock::now() >= deadline) return false;
      wait_for_any({{m_fd.get(), POLLIN, 0}}, deadline, &m_stop);
      continue;
    }
    if (n <= 0) return false;
    answer.append(buffer, static_cast<size_t>(n));
    ClientCount count = parse_client_count(answer);
    if (echo ? count.echo : count.clients.has_value()) {
      clients = count.clients;
      m_answers = clients.has_value();
      return true;
    }
    if (count.bad || answer.size() > 2 * max_count_answer) return false;
  }
}

std::optional<uint64_t> WaitingClients::count(const std::string& unique, Millis timeout) {
  std::optional<uint64_t> clients;
  std::string reason;
  // A connection that was kept open may have ended since the last question.
  for (bool kept = static_cast<bool>(m_fd);; kept = false) {
    if (ask(unique, timeout, clients, reason)) return clients;
    m_fd.reset();
    if (!kept)
      throw Error(Exit::unavailable, "cannot ask " + m_server.name() + " how many clients wait for a job: " + reason);
  }
}

bool is_made_of_payload(std::string_view unique, std::string_view function, std::string_view payload) {
  return unique == "-" || unique == payload ||
         (unique.size() == 40 && unique == sha1(std::string(function) + std::string(payload)));
}

}  // namespace gq
