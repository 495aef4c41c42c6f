#include "gearman.hpp"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>

#include "error.hpp"
#include "fd.hpp"
#include "text.hpp"

namespace gq {
namespace {

constexpr size_t max_status = 16 << 20;

class Deadline {
 public:
  explicit Deadline(Millis timeout) : m_end(std::chrono::steady_clock::now() + timeout) {}
  int left() const {
    auto left = std::chrono::duration_cast<Millis>(m_end - std::chrono::steady_clock::now()).count();
    return static_cast<int>(left > 0 ? left : 0);
  }

 private:
  std::chrono::steady_clock::time_point m_end;
};

Fd connect_to(const Server& server, const Deadline& deadline, std::string& reason) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  int rc = ::getaddrinfo(server.host.c_str(), std::to_string(server.port).c_str(), &hints, &found);
  if (rc != 0) {
    reason = gai_strerror(rc);
    return Fd();
  }
  std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, freeaddrinfo);
  for (addrinfo* a = found; a; a = a->ai_next) {
    Fd fd(::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) continue;
    int error = 0;
    if (::connect(fd.get(), a->ai_addr, a->ai_addrlen) != 0) error = errno;
    if (error == EINPROGRESS) {
      pollfd p{fd.get(), POLLOUT, 0};
      socklen_t size = sizeof error;
      if (::poll(&p, 1, deadline.left()) == 1)
        ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      else
        error = ETIMEDOUT;
    }
    if (error == 0) return fd;
    reason = errno_text(error);
  }
  return Fd();
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

std::optional<ClientHandle> make_client(const Server& server, Millis timeout) {
  ClientHandle client(gearman_client_create(nullptr), gearman_client_free);
  if (!client) return std::nullopt;
  gearman_client_set_timeout(client.get(), static_cast<int>(timeout.count()));
  if (gearman_failed(gearman_client_add_server(client.get(), server.host.c_str(), server.port))) return std::nullopt;
  return client;
}

std::optional<WorkerHandle> make_worker(const Server& server, Millis timeout) {
  WorkerHandle worker(gearman_worker_create(nullptr), gearman_worker_free);
  if (!worker) return std::nullopt;
  gearman_worker_set_timeout(worker.get(), static_cast<int>(timeout.count()));
  if (gearman_failed(gearman_worker_add_server(worker.get(), server.host.c_str(), server.port))) return std::nullopt;
  return worker;
}

std::optional<uint64_t> capable_workers(const Server& server, const std::string& function, Millis timeout,
                                        std::string& reason) {
  Deadline deadline(timeout);
  Fd fd = connect_to(server, deadline, reason);
  if (!fd) return std::nullopt;
  constexpr std::string_view question = "status\n";
  reason = "no answer";
  if (::send(fd.get(), question.data(), question.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(question.size()))
    return std::nullopt;
  std::string answer;
  auto complete = [&] { return answer == ".\n" || (answer.size() > 2 && answer.substr(answer.size() - 3) == "\n.\n"); };
  while (!complete()) {
    pollfd p{fd.get(), POLLIN, 0};
    if (::poll(&p, 1, deadline.left()) != 1) return std::nullopt;
    char buffer[16384];
    ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (n <= 0) {
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      return std::nullopt;
    }
    answer.append(buffer, static_cast<size_t>(n));
    if (answer.size() > max_status) return std::nullopt;
  }
  for (const auto& line : split(answer, '\n')) {
    auto fields = split(line, '\t');
    if (fields.size() == 4 && fields[0] == function) return parse_count(fields[3]).value_or(0);
  }
  return 0;
}

}  // namespace gq
