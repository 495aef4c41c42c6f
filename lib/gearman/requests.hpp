// Requests: foreground Gearman jobs on one function whose results are answers, through whichever server has a worker
// for it.
//
// They speak the protocol themselves, on the connection over which the server was found: so they leave in the order in
// which they were given, whichever libgearman there is; it is known which of them have begun to leave; and nothing is
// waited for that cannot be interrupted. A fresh Gearman unique is used for each, since gearmand drops jobs by their
// unique. An object belongs to one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/base/fd.hpp"
#include "gq/gearman/gearman.hpp"
#include "gq/gearman/packets.hpp"

namespace gq {

class Requests {
 public:
  using Clock = std::chrono::steady_clock;

  // `nobody` is what Error(retry) says when no worker serves the Gearman function. Once `stop` is true, nothing is
  // waited for.
  Requests(std::vector<Server> servers, std::string gearman_function, std::string nobody,
           const std::atomic<bool>* stop = nullptr);
  ~Requests();

  // Finds a server with a worker for the function; whether that lives, only its answer tells. Returns at once when one
  // has been found and has not failed since. Throws Error: unavailable where no server can be reached, retry where no
  // worker serves the function; one that is `patient` waits for a worker until the deadline.
  void connect(Clock::time_point deadline, bool patient);

  // Sends these in their order, as far as that goes without waiting, and calls `answered` with the number and the
  // result of each that is answered; false from it means that the result is none. At most `window` are under way at a
  // time; behind one that has failed none begins. The payloads must stay until finish(). connect() has to be called
  // before.
  using Answered = std::function<bool(size_t, std::string_view)>;
  void start(const std::vector<std::string_view>& payloads, Answered answered, size_t window = SIZE_MAX);

  // Goes on with that for so long at most; true when there is nothing more to wait for.
  bool wait(Millis timeout);

  // When a part of what does not leave at once last left.
  Clock::time_point left_at() const { return m_left_at; }

  // Goes on until the deadline. Returns an empty string when all were answered, else why not; then the next connect()
  // of this process for the same function tries another server first.
  std::string finish(Clock::time_point deadline);

  // After finish(): whether anything of a request may have reached the server.
  bool was_sent(size_t number) const;

 private:
  struct Request;
  void lost(const std::string& reason);
  bool write();
  void read();
  bool take_packet(uint32_t command, std::string_view body);
  bool is_over() const;

  std::vector<Server> m_servers;
  std::string m_function, m_nobody;
  const std::atomic<bool>* m_stop;
  size_t m_server = 0;  // that is connected
  Fd m_connection;
  PacketCheck m_check;     // of what comes over it
  std::string m_received;  // the beginning of a packet
  // What is under way:
  Answered m_answered;
  std::deque<Request> m_requests;
  size_t m_window = 0, m_begun = 0, m_ended = 0;
  size_t m_longest = 0;    // packet that may come
  size_t m_unasked = 0;    // packets that have come and answer nothing
  bool m_failed = false;   // one of them
  std::string m_reason;    // why the connection was given up
  bool m_blocked = false;  // more could not be sent at once
  Clock::time_point m_left_at{};
};

}  // namespace gq
