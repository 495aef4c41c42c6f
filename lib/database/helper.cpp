#include "gq/database/helper.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "gq/base/child.hpp"
#include "gq/base/log.hpp"
#include "gq/base/short_hold.hpp"
#include "gq/base/text.hpp"
#include "gq/base/wait.hpp"

namespace gq {
namespace {

constexpr int tries = 3;
constexpr int patience = 60'000;  // ms without a byte, after which gq gives the helper up
constexpr int poll_interval = 200;
constexpr int parting = 2'000, pause = 200;  // ms: how long to wait for its end, and before it is started again
constexpr size_t max_line = 100;
constexpr size_t max_text = 1000;  // the size limit of an error text
// The size limit of all pairs of an answer. The largest request asks for 200 records of up to 32 + 2 * 64 Ki bytes.
constexpr size_t max_answer = 32 << 20;

// Thrown if the helper violates the protocol or has ended; ask() catches it.
struct Broken {
  std::string why;
  bool again = true;  // whether it is worthwhile to start it and ask again
};

void put_text(std::string& out, const std::string& text) { out += std::to_string(text.size()) + "\n" + text; }

}  // namespace

Helper::~Helper() { stop(); }

void Helper::stop() {
  m_socket.reset();
  if (m_pid == 0) return;
  for (int waited = 0; ::waitpid(m_pid, nullptr, waited < parting ? WNOHANG : 0) == 0; waited += 10) {
    if (waited + 10 >= parting) ::kill(m_pid, SIGKILL);
    ::usleep(10'000);
  }
  m_pid = 0;
}

void Helper::start() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw_errno(Exit::retry, "make a pair of sockets");
  Fd theirs(ends[1]);
  m_socket = Fd(ends[0]);
  m_read.clear();
  m_used = 0;
  Command command;
  command.argv = m_argv;
  command.input = command.output = theirs.get();
  command.keeps_private = true;
  pid_t pid = spawn(command);
  if (pid < 0) {
    m_socket.reset();
    throw Error(Exit::config, "cannot start the store's helper " + printable(m_argv[0]) + ": " + errno_text(-pid),
                -pid);
  }
  m_pid = pid;
  theirs.reset();
  send(std::string(helper_greeting) + "\n");
  std::string greeting = line();
  if (greeting != helper_greeting && greeting.rfind(std::string(helper_greeting) + " ", 0) != 0) {
    if (greeting.rfind("error ", 0) == 0) {
      auto size = parse_count(greeting.substr(6));
      throw Broken{size && *size <= max_text ? printable(bytes(*size)) : "it cannot say why", false};
    }
    throw Error(Exit::config, "cannot use the store's helper " + printable(m_argv[0]) + ": it says " +
                                  printable(greeting) + " instead of " + helper_greeting);
  }
  m_readable = false;
  for (const auto& word :
       split(greeting.substr(std::min(greeting.size(), std::string_view(helper_greeting).size() + 1)), ' ')) {
    if (word == "volatile")
      log(Level::warning, "the database may lose what it has confirmed: its helper is configured so");
    m_readable = m_readable || word == "readable";
  }
}

void Helper::wait_until_ready(short events, const char* what) {
  check_no_short_hold("a request to the database");
  pollfd fd = {m_socket.get(), events, 0};
  Wait wait([this] { return process_text(m_pid); }, [what] { return std::string("has ") + what; }, endless_patience);
  while (::poll(&fd, 1, poll_interval) <= 0) {
    if (wait.lasted() >= Millis(patience)) throw Broken{std::string("it has ") + what + " for a minute", false};
    try {
      wait.check();
    } catch (const Error& e) {  // the end of this answer, which may come late, must not be taken for the next answer
      throw Broken{e.what(), false};
    }
  }
}

void Helper::send(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::send(m_socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
      wait_until_ready(POLLOUT, "read nothing");
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      if (errno == EPIPE || errno == ECONNRESET) return;  // the helper may have written the reason to its output
      throw Broken{errno_text(errno)};
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

// Appends more of the helper's output to m_read.
void Helper::fill() {
  m_read.erase(0, std::exchange(m_used, 0));
  for (;;) {
    wait_until_ready(POLLIN, "not answered");
    char buffer[64 * 1024];
    ssize_t n = ::recv(m_socket.get(), buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Broken{"it has ended"};
    m_read.append(buffer, static_cast<size_t>(n));
    return;
  }
}

std::string Helper::line() {
  for (;;) {
    size_t end = m_read.find('\n', m_used);
    if (end != std::string::npos) {
      std::string text = m_read.substr(m_used, end - m_used);
      m_used = end + 1;
      return text;
    }
    if (m_read.size() - m_used > max_line) throw Broken{"it says something that is not an answer"};
    fill();
  }
}

std::string Helper::bytes(size_t size) {
  while (m_read.size() - m_used < size) fill();
  std::string text = m_read.substr(m_used, size);
  m_used += size;
  return text;
}

// Whether there is unread output, which would be taken for the answer to the next request.
bool Helper::says_more() const {
  char byte;
  return m_used < m_read.size() || ::recv(m_socket.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

// Reads an answer of at most `most` pairs.
std::vector<Pair> Helper::answer(size_t most) {
  std::string head = line();
  auto number = [&](const std::string& text, size_t largest) {
    auto n = parse_count(text);
    if (!n || *n > largest) throw Broken{"it says " + printable(head) + ", which is no answer"};
    return static_cast<size_t>(*n);
  };
  if (head.rfind("error ", 0) == 0) throw Error(Exit::retry, printable(bytes(number(head.substr(6), max_text))));
  if (head.rfind("ok ", 0) != 0) throw Broken{"it says " + printable(head) + ", which is no answer"};
  std::vector<Pair> pairs(number(head.substr(3), most));
  size_t total = 0;
  for (auto& pair : pairs) {
    head = line();
    auto sizes = split(head, ' ');
    if (sizes.size() != 2) throw Broken{"it says " + printable(head) + ", which are not two lengths"};
    size_t key = number(sizes[0], max_key), value = number(sizes[1], max_value);
    if ((total += key + value) > max_answer) throw Broken{"it answers with more than 32 MiB", false};
    pair.key = bytes(key);
    pair.value = bytes(value);
  }
  return pairs;
}

std::vector<Pair> Helper::ask(const char* what, const std::string& request, size_t most) {
  for (int n = 1;; ++n) {
    std::string why;
    try {
      if (m_pid == 0) start();
      if (says_more()) throw Broken{"it says more than was asked for"};
      send(request);
      auto pairs = answer(most);
      if (says_more()) throw Broken{"it says more than was asked for"};
      return pairs;
    } catch (const Broken& broken) {
      stop();
      why = broken.why;
      if (!broken.again) n = tries;
    } catch (const Error& e) {
      if (e.code() != Exit::retry) {
        stop();
        throw;
      }
      why = e.what();
      n = tries;
    }
    if (n >= tries)
      throw Error(Exit::retry, std::string("cannot ") + what + " the database by " + printable(m_argv[0]) + ": " + why);
    ::usleep(pause * 1000);
  }
}

void Helper::put(const std::vector<Pair>& pairs) {
  std::string request = "put " + std::to_string(pairs.size()) + "\n";
  for (const auto& p : pairs)
    request += std::to_string(p.key.size()) + " " + std::to_string(p.value.size()) + "\n" + p.key + p.value;
  ask("write to", request, 0);
}

std::optional<std::string> Helper::get(const std::string& key) {
  std::string request = "get ";
  put_text(request, key);
  auto pairs = ask("read", request, 1);
  if (pairs.empty()) return std::nullopt;
  if (pairs.front().key != key) {
    stop();
    throw Error(Exit::config, "cannot read the database by " + printable(m_argv[0]) +
                                  ": it answers with another key than it was asked for");
  }
  return std::move(pairs.front().value);
}

void Helper::remove(const std::vector<std::string>& keys) {
  std::string request = "delete " + std::to_string(keys.size()) + "\n";
  for (const auto& key : keys) put_text(request, key);
  ask("write to", request, 0);
}

std::vector<Pair> Helper::scan(const std::string& from, size_t limit) {
  std::string request = "scan " + std::to_string(limit) + " ";
  put_text(request, from);
  auto pairs = ask("read", request, limit);
  for (size_t i = 0; i < pairs.size(); ++i)
    if (pairs[i].key < from || (i > 0 && pairs[i].key <= pairs[i - 1].key)) {
      stop();
      throw Error(Exit::config, "cannot read the database by " + printable(m_argv[0]) +
                                    ": its keys are not in the order of their bytes");
    }
  return pairs;
}

std::string Helper::notice() {
  if (!m_readable) return {};
  std::string words;
  for (const auto& word : m_argv) words += " " + word;
  return "others can read files of the database that" + printable(words) + " keeps; they are left as they are";
}

}  // namespace gq
