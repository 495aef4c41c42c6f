// Looks up the names of hosts without blocking the caller. getaddrinfo(3) cannot be interrupted, and takes many seconds
// if the name server does not answer. So it runs in its own thread, and no other thread waits for that thread. All
// callers that look up the same name at the same time share one lookup.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/base/mutex.hpp"

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
    std::string reason;  // why there are no addresses
  };

  // Begins a lookup, or joins one that is under way or has just ended. Throws Error(retry) if it cannot begin.
  static std::shared_ptr<Lookup> of(const std::string& host, uint16_t port);

  // Returns nullopt until the lookup has ended. poll(2) on fd() waits for the end.
  std::optional<Result> result() const;
  int fd() const { return m_end.reader.get(); }

 private:
  using Clock = std::chrono::steady_clock;
  void end(Result result) EXCLUDES(m_mutex);

  Pipe m_end;  // the lookup closes the writer when it ends; a close cannot fail
  mutable Mutex m_mutex;
  std::optional<Result> m_result GUARDED_BY(m_mutex);
  Clock::time_point m_ended GUARDED_BY(m_mutex);
};

}  // namespace gq
