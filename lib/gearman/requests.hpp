// Requests: sends foreground Gearman jobs on one function, through any server that has a worker for the function. The
// results of the jobs are the answers.
//
// This class speaks the Gearman protocol itself, without libgearman, on the connection on which it found the server. So
// requests leave in the given order, the caller can learn which of them may have been sent, and every wait can be
// interrupted. Each request has a fresh Gearman unique, because gearmand merges jobs by their unique. An object belongs
// to one thread.
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

  // `no_worker` is the text of the Error(retry) that is thrown if no worker serves the Gearman function. Once `stop` is
  // true, no function waits.
  Requests(std::vector<Server> servers, std::string gearman_function, std::string no_worker,
           const std::atomic<bool>* stop = nullptr);
  ~Requests();

  // Finds a server with a worker for the function. (The worker may be dead; only an answer shows that it lives.)
  // Returns at once if a server was found earlier and has not failed since. Throws Error: unavailable if no server can
  // be reached, retry if no worker serves the function. If `patient`, it waits for a worker until the deadline.
  void connect(Clock::time_point deadline, bool patient);

  // Sends the requests in order until a send would block. Calls `answered` with the number and the result of each
  // answered request; `answered` returns false if the result is not a valid answer. At most `window` requests are under
  // way at a time. After one request has failed, no further request is sent. The payloads must stay valid until
  // finish(). Call connect() before.
  using Answered = std::function<bool(size_t, std::string_view)>;
  void start(const std::vector<std::string_view>& payloads, Answered answered, size_t window = SIZE_MAX);

  // Sends and reads for at most this long. Returns true when there is nothing more to wait for.
  bool wait(Millis timeout);

  // When a part of a request was last sent, after a send had blocked.
  Clock::time_point left_at() const { return m_left_at; }

  // Sends and reads until all requests are answered, or until the deadline. Returns an empty string if all were
  // answered. Otherwise returns the reason, and the next connect() of this process for the same function tries another
  // server first.
  std::string finish(Clock::time_point deadline);

  // After finish(): whether any byte of a request may have reached the server.
  bool was_sent(size_t number) const;

 private:
  struct Request;
  void lost(const std::string& reason);
  bool write();
  void read();
  bool take_packet(uint32_t command, std::string_view body);
  bool is_over() const;

  std::vector<Server> m_servers;
  std::string m_function, m_no_worker;
  const std::atomic<bool>* m_stop;
  size_t m_server = 0;  // the index of the connected server
  Fd m_connection;
  PacketCheck m_check;     // checks what comes over the connection
  std::string m_received;  // the received beginning of a packet
  // The requests that are under way:
  Answered m_answered;
  std::deque<Request> m_requests;
  size_t m_window = 0, m_begun = 0, m_ended = 0;
  size_t m_longest = 0;    // the size of the longest packet that may come
  size_t m_unasked = 0;    // how many packets have come that answer no request
  bool m_failed = false;   // a request has failed
  std::string m_reason;    // why the connection was given up
  bool m_blocked = false;  // a send would have blocked
  Clock::time_point m_left_at{};
};

}  // namespace gq
