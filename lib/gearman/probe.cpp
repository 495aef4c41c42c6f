#include "gq/gearman/probe.hpp"

#include <libgearman/gearman.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "gq/base/error.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/gearman/packets.hpp"

namespace gq {
namespace {

constexpr size_t max_line = 8192;       // of an answer; the whole answer has to come before server_timeout
constexpr Millis server_timeout{3000};  // measured from when the server's addresses are known
constexpr Millis look_interval{50};     // how often to check conditions for which poll(2) cannot wait
constexpr int most_reads = 16;          // in one step, so that other servers and the time are checked in between

}  // namespace

struct Probe::Attempt {
  Fd fd;
  bool connected = false;
  bool asked = false;
  bool good = false;
  std::string line;  // the beginning of a line that is not complete yet
};

Probe::Probe(const Server& server, Question question)
    : m_question(std::move(question)), m_lookup(Lookup::of(server.host, server.port)) {}
Probe::Probe(Probe&&) noexcept = default;
Probe::~Probe() = default;

void Probe::begin(const Lookup::Result& found) {
  m_until = Clock::now() + server_timeout;
  m_reason = found.reason;
  for (const Address& address : found.addresses) {
    Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
      m_reason = errno_text(errno);
      continue;
    }
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.bytes), address.size) == 0 ||
        errno == EINPROGRESS)
      m_attempts.push_back({std::move(fd), false, false, false, {}});
    else m_reason = errno_text(errno);
  }
}

// Returns false when the attempt has ended without an answer.
bool Probe::go_on(Attempt& attempt) {
  if (!attempt.connected) {
    pollfd p{attempt.fd.get(), POLLOUT, 0};
    if (::poll(&p, 1, 0) != 1) return true;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(attempt.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      m_reason = errno_text(error);
      return false;
    }
    attempt.connected = true;
  }
  if (!attempt.asked) {
    // The question is shorter than any socket's buffer.
    ssize_t n = ::send(attempt.fd.get(), m_question.text.data(), m_question.text.size(), MSG_NOSIGNAL);
    attempt.asked = n == static_cast<ssize_t>(m_question.text.size());
  }
  for (int reads = 0; attempt.asked; ++reads) {
    if (reads == most_reads) return true;
    char buffer[16384];
    ssize_t n = ::recv(attempt.fd.get(), buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    if (n <= 0) break;
    attempt.line.append(buffer, static_cast<size_t>(n));
    bool last = false;
    size_t at = 0;
    for (size_t end; !last && (end = attempt.line.find('\n', at)) != std::string::npos; at = end + 1) {
      const std::string_view line = std::string_view(attempt.line).substr(at, end - at);
      last = m_question.is_last(line);
      attempt.good = m_question.good(line) || attempt.good;
    }
    attempt.line.erase(0, at);
    if (last) {
      m_answered = true;
      if (attempt.good) {
        m_state = State::yes;
        m_taken = std::move(attempt.fd);
      }
      return false;
    }
    if (attempt.line.size() > max_line) break;
  }
  m_reason = "no answer";
  return false;
}

Probe::State Probe::step() {
  if (m_state != State::pending) return m_state;
  if (m_lookup) {
    auto result = m_lookup->result();
    if (!result) return m_state;
    m_lookup.reset();
    begin(*result);
  }
  for (auto attempt = m_attempts.begin(); attempt != m_attempts.end() && m_state == State::pending;) {
    if (go_on(*attempt)) ++attempt;
    else attempt = m_attempts.erase(attempt);
  }
  if (m_state == State::pending && !m_attempts.empty() && Clock::now() >= m_until) {
    m_attempts.clear();
    m_reason = "no answer";
  }
  if (m_state == State::pending && m_attempts.empty()) m_state = m_answered ? State::no : State::failed;
  if (m_state != State::pending) m_attempts.clear();
  return m_state;
}

void Probe::waits_for(std::vector<pollfd>& fds) const {
  if (m_state != State::pending) return;
  if (m_lookup) fds.push_back({m_lookup->fd(), POLLIN, 0});
  for (const auto& a : m_attempts) fds.push_back({a.fd.get(), static_cast<short>(a.connected ? POLLIN : POLLOUT), 0});
}

Probe::Question asks_for_workers(const std::string& function) {
  // The line "." ends the status. But gearmand prints the names of functions unescaped, and a client may submit a job
  // for a function whose name contains that line. So after the status, gq asks for an echo of a word that no client can
  // guess.
  const std::string word = new_ulid();
  auto is_last = [word](std::string_view line) { return line == word; };
  auto good = [function](std::string_view line) {
    if (line.substr(0, line.find('\t')) != function) return false;
    auto fields = split(line, '\t');
    return fields.size() == 4 && parse_count(fields[3]).value_or(0) > 0;
  };
  return {"status\n" + request_packet(GEARMAN_COMMAND_ECHO_REQ, "\n" + word + "\n"), is_last, good};
}

Choice choose(const std::vector<Probe::State>& states, const Search& search, Probe::Clock::time_point now) {
  using enum Probe::State;
  auto any = [&](Probe::State state) { return std::count(states.begin(), states.end(), state) > 0; };
  if (auto found = std::find(states.begin(), states.end(), yes); found != states.end()) {
    bool better = std::count(states.begin(), found, pending) > 0 && now < *search.found + preference;
    return {better ? Choice::What::wait : Choice::What::take, static_cast<size_t>(found - states.begin())};
  }
  bool waits = any(pending), reached = any(no);
  if (now >= search.deadline || (!waits && !reached))
    return {reached ? Choice::What::no_worker : Choice::What::unreachable};
  if (!search.patient && reached && (!waits || now >= search.begun + enough)) return {Choice::What::no_worker};
  return {};
}

Fd reach(const Server& server, Millis timeout, const std::atomic<bool>& stop, std::string& reason) try {
  static const Probe::Question version{"version\n", [](std::string_view) { return true; },
                                       [](std::string_view) { return true; }};
  Probe probe(server, version);
  const auto give_up = Probe::Clock::now() + timeout;
  while (probe.step() == Probe::State::pending) {
    reason = "no answer";
    if (stop || Probe::Clock::now() >= give_up) return Fd();
    std::vector<pollfd> fds;
    probe.waits_for(fds);
    wait_for_any(fds, std::min(give_up, probe.until()), &stop);
  }
  reason = probe.reason();
  return probe.take();
} catch (const Error& e) {
  reason = e.what();
  return Fd();
}

std::optional<Server> address_of(const Fd& connection) {
  Address address;
  address.size = sizeof address.bytes;
  auto* bytes = reinterpret_cast<sockaddr*>(&address.bytes);
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (::getpeername(connection.get(), bytes, &address.size) != 0 ||
      ::getnameinfo(bytes, address.size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return std::nullopt;
  return Server{host, static_cast<uint16_t>(parse_count(port).value_or(0))};
}

void wait_for_any(const std::vector<pollfd>& fds, Probe::Clock::time_point deadline, const std::atomic<bool>* stop) {
  auto left = std::chrono::ceil<Millis>(deadline - Probe::Clock::now());
  left = std::clamp(left, Millis(0), stop ? look_interval : Millis(60'000));
  auto copy = fds;
  ::poll(copy.data(), copy.size(), static_cast<int>(left.count()));
}

}  // namespace gq
