#include "gq/base/resolve.hpp"

#include <netdb.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "gq/base/error.hpp"
#include "gq/base/thread.hpp"

namespace gq {
namespace {

// How long an answer is kept. If the name server is slower than a caller can wait, the caller gets the answer when it
// asks again.
constexpr std::chrono::seconds kept{10};
constexpr size_t most_addresses = 8;

Lookup::Result resolve(const std::string& host, uint16_t port, int flags) {
  Lookup::Result result;
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  if (int rc = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); rc != 0) {
    result.reason = ::gai_strerror(rc);
    return result;
  }
  std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, ::freeaddrinfo);
  for (addrinfo* a = found; a && result.addresses.size() < most_addresses; a = a->ai_next) {
    Address& address = result.addresses.emplace_back();
    std::memcpy(&address.bytes, a->ai_addr, a->ai_addrlen);
    address.size = a->ai_addrlen;
  }
  return result;
}

}  // namespace

std::shared_ptr<Lookup> Lookup::of(const std::string& host, uint16_t port) {
  static auto& mutex = *new Mutex;  // never destroyed: threads may outlive main
  static auto& lookups GUARDED_BY(mutex) = *new std::map<std::string, std::shared_ptr<Lookup>>;
  MutexLock guard(mutex);
  auto& known = lookups[host + " " + std::to_string(port)];
  if (known) {
    MutexLock inner(known->m_mutex);
    if (!known->m_result || Clock::now() < known->m_ended + kept) return known;
  }
  auto lookup = std::make_shared<Lookup>();
  lookup->m_end = make_pipe();
  if (Result numeric = resolve(host, port, AI_NUMERICHOST); !numeric.addresses.empty()) lookup->end(std::move(numeric));
  else
    start_thread([lookup, host, port] {
      try {
        lookup->end(resolve(host, port, 0));
      } catch (const std::bad_alloc&) {
        lookup->end({{}, "out of memory"});
      }
    }).detach();
  return known = lookup;
}

std::optional<Lookup::Result> Lookup::result() const {
  MutexLock guard(m_mutex);
  return m_result;
}

void Lookup::end(Result result) {
  MutexLock guard(m_mutex);
  m_result = std::move(result);
  m_ended = Clock::now();
  m_end.writer.reset();
}

}  // namespace gq
