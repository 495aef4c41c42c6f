#include "gq/gearman/requests.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <set>

#include "gq/base/error.hpp"
#include "gq/base/log.hpp"
#include "gq/base/mutex.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/gearman/probe.hpp"

namespace gq {
namespace {

constexpr Millis status_interval{1000};
constexpr Millis look_interval{50};
constexpr int send_buffer = 1 << 20;
// A packet has 4 bytes of magic, the command, the size of the body, and the body. Numbers are big-endian. NUL separates
// the arguments in the body.
constexpr size_t header_size = 12;
// The limits of an answer's size. Real answers are far shorter: they have one line for each record or ID.
constexpr size_t least_longest = 4 << 20, bytes_for_one = 8, most_longest = 16 << 20;
// After this many reads, check the deadlines and whether to stop.
constexpr int most_reads = 16;
// The most packets that answer no request. gq's workers send at most one with a job.
constexpr size_t most_unasked = 1000;
constexpr const char* too_much = "it sends more than any answer has";

// What this process has learnt about the servers. All objects share it, because many objects live for one request only.
class Seen {
 public:
  // Returns the index of the server to try first for a function.
  size_t first(const std::string& function) {
    MutexLock guard(m_mutex);
    return m_first[function];
  }
  void prefer(const std::string& function, size_t server) {
    MutexLock guard(m_mutex);
    m_first[function] = server;
  }

  // Logs why a server cannot be reached: once, and again only after it has answered.
  void unreachable(const std::string& server, const std::string& why) {
    MutexLock guard(m_mutex);
    if (m_unreachable.count(server)) return;
    auto suffix = m_log_limit.admit(server, Requests::Clock::now());
    if (!suffix) return;
    m_unreachable.insert(server);
    log(Level::warning, "cannot reach " + server + ": " + why + *suffix);
  }
  void answers(const std::string& server) {
    MutexLock guard(m_mutex);
    m_unreachable.erase(server);
  }

 private:
  Mutex m_mutex;
  std::map<std::string, size_t> m_first GUARDED_BY(m_mutex);
  std::set<std::string> m_unreachable GUARDED_BY(m_mutex);
  LogLimit m_log_limit GUARDED_BY(m_mutex);
};

Seen& seen() {
  static auto* all = new Seen;  // never destroyed: threads may outlive main
  return *all;
}

enum Command : uint32_t {
  submit_job = 7,
  job_created = 8,
  work_complete = 13,
  work_fail = 14,
  error = 19,
  work_warning = 29
};

void put_number(std::string& text, size_t number) {
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(number >> shift & 0xff);
}

uint32_t number_at(std::string_view text, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(text[i]);
  return value;
}

}  // namespace

struct Requests::Request {
  std::string head;  // the packet up to the payload
  std::string_view payload;
  size_t sent = 0;  // how many bytes of head and payload have been sent
  std::string handle;
  bool answered = false;
  std::string warning, failure;

  size_t size() const { return head.size() + payload.size(); }
  bool is_over() const { return answered || !failure.empty(); }
};

Requests::Requests(std::vector<Server> servers, std::string gearman_function, std::string no_worker,
                   const std::atomic<bool>* stop)
    : m_servers(std::move(servers)),
      m_function(std::move(gearman_function)),
      m_no_worker(std::move(no_worker)),
      m_stop(stop) {}

Requests::~Requests() = default;

void Requests::connect(Clock::time_point deadline, bool patient) {
  char byte;
  if (m_connection && ::recv(m_connection.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN) return;
  m_connection.reset();  // it has ended, or the server sends packets that answer no request
  struct Candidate {
    size_t server = 0;
    std::optional<Probe> probe;
    Clock::time_point next{};
  };
  std::vector<Candidate> candidates(m_servers.size());
  std::vector<Probe::State> states(m_servers.size(), Probe::State::pending);
  Search search{Clock::now(), deadline, {}, patient};
  std::string reason;
  auto warn = [&](size_t server, const std::string& why) {
    reason = why;
    if (m_servers.size() > 1) seen().unreachable(m_servers[server].name(), why);
  };
  const size_t first = seen().first(m_function);
  for (size_t i = 0; i < candidates.size(); ++i) candidates[i].server = (first + i) % m_servers.size();
  for (;;) {
    if (m_stop && *m_stop) throw Error(Exit::retry, "cannot go on: stopping");
    auto now = Clock::now();
    auto until = deadline;
    std::vector<pollfd> fds;
    for (size_t i = 0; i < candidates.size(); ++i) {
      Candidate& c = candidates[i];
      if (states[i] == Probe::State::yes) continue;
      if (!c.probe && now >= c.next) c.probe.emplace(m_servers[c.server], asks_for_workers(m_function));
      if (c.probe) {
        auto state = c.probe->step();
        if (state == Probe::State::failed) warn(c.server, c.probe->reason());
        if (state == Probe::State::yes && !search.found) search.found = now;
        if (state == Probe::State::yes || state == Probe::State::no) seen().answers(m_servers[c.server].name());
        if (state != Probe::State::pending) states[i] = state;
        if (state == Probe::State::failed || state == Probe::State::no) {
          c.probe.reset();
          c.next = now + status_interval;
        }
      }
      if (c.probe) c.probe->waits_for(fds);
      until = std::min(until, c.probe ? c.probe->until() : c.next);
    }
    if (search.found) until = std::min(until, *search.found + preference);
    if (!patient && now < search.begun + enough) until = std::min(until, search.begun + enough);
    Choice choice = choose(states, search, now);
    switch (choice.what) {
      case Choice::What::take: {
        Candidate& taken = candidates[choice.index];
        for (size_t i = 0; i < choice.index; ++i)
          if (states[i] == Probe::State::pending) warn(candidates[i].server, "no answer so far");
        m_server = taken.server;
        seen().prefer(m_function, m_server);
        m_connection = taken.probe->take();
        ::setsockopt(m_connection.get(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
        m_check = PacketCheck(most_longest);  // read() limits the length of packets
        m_received.clear();
        return;
      }
      case Choice::What::no_worker:
        throw Error(Exit::retry, m_no_worker);
      case Choice::What::unreachable:
        if (reason.empty()) reason = "no answer in time";
        throw Error(Exit::unavailable, "cannot reach a Gearman server" +
                                           (m_servers.size() == 1 ? " at " + m_servers[0].name() + ": " + reason
                                                                  : ": tried " + std::to_string(m_servers.size())));
      case Choice::What::wait:
        wait_for_any(fds, until, m_stop);
    }
  }
}

void Requests::start(const std::vector<std::string_view>& payloads, Answered answered, size_t window) {
  m_answered = std::move(answered);
  m_requests.clear();
  m_longest = least_longest;
  for (auto payload : payloads) {
    m_longest = std::max(m_longest, std::min(least_longest + bytes_for_one * payload.size(), most_longest));
    Request& r = m_requests.emplace_back();
    const std::string unique = new_ulid();
    r.head.assign("\0REQ", 4);
    put_number(r.head, submit_job);
    put_number(r.head, m_function.size() + 1 + unique.size() + 1 + payload.size());
    r.head.append(m_function.c_str(), m_function.size() + 1).append(unique.c_str(), unique.size() + 1);
    r.payload = payload;
  }
  m_window = window;
  m_begun = m_ended = m_unasked = 0;
  m_failed = false;
  m_reason.clear();
  m_blocked = false;
  m_left_at = {};
  write();
}

// Closes the connection, because of a failure.
void Requests::lost(const std::string& reason) {
  m_connection.reset();
  m_reason = reason;
}

// Sends until a send would block. Returns true if there is more to send.
bool Requests::write() {
  while (m_connection) {
    bool begun = m_begun > 0 && m_requests[m_begun - 1].sent < m_requests[m_begun - 1].size();
    if (!begun) {
      if (m_failed || m_begun == m_requests.size() || m_begun - m_ended >= m_window) return false;
      ++m_begun;
    }
    Request& r = m_requests[m_begun - 1];
    iovec parts[2];
    size_t of_head = std::min(r.sent, r.head.size()), of_payload = r.sent - of_head;
    parts[0] = {r.head.data() + of_head, r.head.size() - of_head};
    parts[1] = {const_cast<char*>(r.payload.data()) + of_payload, r.payload.size() - of_payload};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    ssize_t n = ::sendmsg(m_connection.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return m_blocked = true;
    if (n < 0) {
      lost("the connection was lost");
    } else {
      r.sent += static_cast<size_t>(n);
      if (m_blocked) m_left_at = Clock::now();
    }
  }
  return false;
}

// Reads bytes that have come, but at most most_reads times.
void Requests::read() {
  for (int reads = 0; m_connection && reads < most_reads; ++reads) {
    char buffer[65536];
    ssize_t n = ::recv(m_connection.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return lost("the connection was lost");
    if (!m_check.feed(buffer, static_cast<size_t>(n)))
      return lost(m_check.is_too_long() ? too_much : "it is no Gearman server");
    m_received.append(buffer, static_cast<size_t>(n));
    size_t at = 0;
    while (m_connection && m_received.size() - at >= header_size) {
      std::string_view packet = std::string_view(m_received).substr(at);
      const size_t size = number_at(packet, 8);
      if (size > m_longest) return lost(too_much);
      if (packet.size() < header_size + size) break;
      if (!take_packet(number_at(packet, 4), packet.substr(header_size, size))) return lost("it is no Gearman server");
      if (m_unasked > most_unasked + m_requests.size()) return lost(too_much);
      at += header_size + size;
    }
    m_received.erase(0, at);
  }
}

// Takes one packet. Returns false for a packet that no server sends.
bool Requests::take_packet(uint32_t command, std::string_view body) {
  const size_t end = body.find('\0');
  const std::string_view handle = body.substr(0, end),
                         data = end == std::string_view::npos ? std::string_view() : body.substr(end + 1);
  auto begun = m_requests.begin() + static_cast<long>(m_begun);
  if (command == job_created) {
    auto r = std::find_if(m_requests.begin(), begun, [](const Request& q) { return q.handle.empty() && !q.is_over(); });
    if (r == begun || r->sent < r->size() || handle.empty()) return false;
    r->handle = handle;
    return true;
  }
  if (command == error) {  // the server sends it in place of JOB_CREATED
    auto r = std::find_if(m_requests.begin(), begun, [](const Request& q) { return q.handle.empty() && !q.is_over(); });
    if (r != begun) r->sent = 0;
    lost("the server refuses: " + printable(data));
    return true;
  }
  auto r = begun;
  if (command == work_complete || command == work_fail || command == work_warning)
    r = std::find_if(m_requests.begin(), begun,
                     [&](const Request& q) { return !handle.empty() && q.handle == handle && !q.is_over(); });
  if (r == begun || command == work_warning) ++m_unasked;
  if (r == begun) return true;
  if (command == work_warning) {
    r->warning = printable(data);
    return true;
  }
  if (command == work_complete) {
    r->answered = m_answered(static_cast<size_t>(r - m_requests.begin()), data);
    if (!r->answered) r->failure = "the worker answered: " + printable(data);
  } else {
    r->failure = r->warning.empty() ? "the worker failed" : "the worker failed: " + r->warning;
  }
  m_failed = m_failed || !r->answered;
  ++m_ended;
  return true;
}

// Whether there is nothing more to wait for.
bool Requests::is_over() const {
  return !m_connection || m_ended == m_requests.size() || (m_failed && m_ended == m_begun);
}

bool Requests::wait(Millis timeout) {
  for (const auto deadline = Clock::now() + timeout;;) {
    bool more = write();
    if (is_over()) return true;
    if (m_stop && *m_stop) {
      lost("stopping");
      return true;
    }
    const auto left = std::chrono::ceil<Millis>(deadline - Clock::now());
    pollfd p{m_connection.get(), static_cast<short>(more ? POLLIN | POLLOUT : POLLIN), 0};
    int ready =
        ::poll(&p, 1, static_cast<int>(std::clamp(left, Millis(0), m_stop ? look_interval : Millis(60'000)).count()));
    if (ready > 0) {
      read();
      write();
      return is_over();
    }
    if (left <= Millis(0)) return false;
  }
}

std::string Requests::finish(Clock::time_point deadline) {
  auto left = [&] { return std::chrono::ceil<Millis>(std::max(deadline - Clock::now(), Clock::duration::zero())); };
  while (!wait(left()) && left() > Millis(0)) continue;
  std::string reason = m_reason;
  bool all = true;
  for (const auto& r : m_requests) {
    all = all && r.answered;
    if (reason.empty()) reason = r.failure;
  }
  if (all) return {};
  // Requests that are still under way on this connection are not waited for any more.
  m_connection.reset();
  seen().prefer(m_function, m_server + 1);  // a worker that is registered there may be dead
  return reason.empty() ? "no answer in time" : reason;
}

bool Requests::was_sent(size_t number) const { return m_requests[number].sent > 0; }

}  // namespace gq
