// Names of hosts, looked up without holding up whoever asks. getaddrinfo(3) cannot be interrupted, and beside a name
// server that does not answer it takes many seconds; so it has a thread of its own, for which nobody waits. All who ask
// for a name share one lookup.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gq/base/fd.hpp"

namespace gq {

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
  int family() const { return bytes.ss_family; }
};

class Lookup {
 public:
  struct Result {
    std::vector<Address> addresses;
    std::string reason;  // why there are none
  };

  // Begins to look a name up, or joins those who do, or did a moment ago. Throws Error(retry) where that cannot begin.
  static std::shared_ptr<Lookup> of(const std::string& host, uint16_t port);

  // nullopt while it goes on; poll(2) on fd() returns from its end on.
  std::optional<Result> result() const;
  int fd() const { return m_end.reader.get(); }

 private:
  using Clock = std::chrono::steady_clock;
  void end(Result result);

  Pipe m_end;  // its writer is closed then, which cannot fail
  mutable std::mutex m_mutex;
  std::optional<Result> m_result;
  Clock::time_point m_ended;
};

}  // namespace gq
