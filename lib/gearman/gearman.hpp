// Lists of servers, worker handles of libgearman, and the number of clients that wait for a job.
//
// A libgearman handle is used for one server, by one thread. libgearman reads the environment variable GEARMAN_SERVERS
// when it makes a handle, so the programs first remove the variable from their environment. The connections of handles
// go through packets.hpp.
#pragma once

#include <libgearman/gearman.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/clock.hpp"
#include "gq/base/fd.hpp"

namespace gq {

inline constexpr uint16_t gearman_port = 4730;  // IANA's number, and gearmand's default

struct Server {
  std::string host;
  uint16_t port = gearman_port;
  // HOST:PORT, for messages.
  std::string name() const;
};

// Parses "HOST[:PORT],…"; an IPv6 address is written "[ADDRESS]:PORT". Returns nullopt for anything else, also for an
// empty list.
std::optional<std::vector<Server>> parse_servers(std::string_view text);

using WorkerHandle = std::unique_ptr<gearman_worker_st, void (*)(gearman_worker_st*)>;

// Returns a handle for one server, which must be given by its address (address_of() in probe.hpp); nullopt if
// libgearman refuses.
std::optional<WorkerHandle> make_worker(const Server& server, Millis timeout);

// The version of the libgearman that is linked.
const char* libgearman_version();

// Returns the text of an error, for messages.
std::string reason_text(gearman_return_t rc);

// Asks a server how many clients wait for the job with a given unique. gearmand keeps only the first payload that was
// submitted under a unique, and gives one answer to all clients that used the unique. An object keeps its connection
// open, and belongs to one thread.
class WaitingClients {
 public:
  // Once `stop` is true, no function waits.
  WaitingClients(const Server& server, const std::atomic<bool>& stop) : m_server(server), m_stop(stop) {}

  // Returns the number of clients; nullopt if the server answers, but does not know this question. Throws
  // Error(unavailable) if it does not answer within `timeout`.
  std::optional<uint64_t> count(const std::string& unique, Millis timeout);

 private:
  bool ask(const std::string& unique, Millis timeout, std::optional<uint64_t>& clients, std::string& reason);

  const Server& m_server;
  const std::atomic<bool>& m_stop;
  Fd m_fd;
  bool m_answers = false;  // whether the server knows the question
};

// The state of the server's answers to that question and to an echo.
struct ClientCount {
  std::optional<uint64_t> clients;
  bool echo = false;
  bool bad = false;  // what came is not an answer
};
ClientCount parse_client_count(std::string_view answer);

// Whether a unique is computed from the payload alone, so that all jobs that gearmand merges are equal. Such a unique
// is "-", the payload itself, or the SHA-1 of the function and the payload, which Ruby's client sends.
bool is_made_of_payload(std::string_view unique, std::string_view function, std::string_view payload);

// Returns the Gearman function on which a worker takes gq records for `function`.
std::string record_function(const std::string& function);

}  // namespace gq
