// Lists of servers, and what gq needs of libgearman and gearmand apart from jobs: worker handles, and how many clients
// wait for a job.
//
// One libgearman handle is used for one server, by one thread. Handles read the environment variable GEARMAN_SERVERS;
// the programs remove it from their environment before they make a handle. The connections of handles go through
// `packets`.
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
  // HOST:PORT, for people.
  std::string name() const;
};

// "HOST[:PORT],…" with "[v6 address]:PORT" too; nullopt for anything else, an empty list included.
std::optional<std::vector<Server>> parse_servers(std::string_view text);

using WorkerHandle = std::unique_ptr<gearman_worker_st, void (*)(gearman_worker_st*)>;

// A handle for one server, which must be given by its address (reach() in probe.hpp); nullopt if libgearman refuses.
std::optional<WorkerHandle> make_worker(const Server& server, Millis timeout);

// The version of the libgearman that is linked.
const char* libgearman_version();

// What went wrong, for people.
std::string reason_text(gearman_return_t rc);

// Asks a server how many clients wait for the job with a unique, on a connection that it keeps. gearmand keeps only the
// first payload that was submitted under a unique, and gives one answer to all clients that used the unique. An object
// belongs to one thread.
class WaitingClients {
 public:
  // Once `stop` is true, nothing is waited for.
  WaitingClients(const Server& server, const std::atomic<bool>& stop) : m_server(server), m_stop(stop) {}

  // nullopt if the server answers, but does not say the count. Throws Error(unavailable) if it does not answer within
  // `timeout`.
  std::optional<uint64_t> count(const std::string& unique, Millis timeout);

 private:
  bool ask(const std::string& unique, Millis timeout, std::optional<uint64_t>& clients, std::string& reason);

  const Server& m_server;
  const std::atomic<bool>& m_stop;
  Fd m_fd;
  bool m_answers = false;  // the server knows the question
};

// What a server has answered so far to that question and to an echo.
struct ClientCount {
  std::optional<uint64_t> clients;
  bool echo = false;
  bool bad = false;  // this is not an answer
};
ClientCount parse_client_count(std::string_view answer);

// Whether a unique says no more than the payload does, so that jobs which gearmand merges are equal: "-", the payload,
// or the SHA-1 of the function and the payload, which Ruby's client sends.
bool is_made_of_payload(std::string_view unique, std::string_view function, std::string_view payload);

// The function on which a worker takes gq records for `function`.
std::string record_function(const std::string& function);

}  // namespace gq
