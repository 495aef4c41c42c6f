// Requests: foreground Gearman jobs on one function whose results are answers, through any server that has a worker for
// it.
//
// This class speaks the protocol itself, on the connection on which the server was found. So requests leave in the
// given order, whatever the version of libgearman; it is known which of them have begun to leave; and every wait can be
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

  // `no_worker` is the text of Error(retry) if no worker serves the Gearman function. Once `stop` is true, nothing is
  // waited for.
  Requests(std::vector<Server> servers, std::string gearman_function, std::string no_worker,
           const std::atomic<bool>* stop = nullptr);
  ~Requests();

  // Finds a server with a worker for the function; only an answer shows that the worker lives. Returns at once if a
  // server was found and has not failed since. Throws Error: unavailable if no server can be reached, retry if no
  // worker serves the function. If `patient`, it waits for a worker until the deadline.
  void connect(Clock::time_point deadline, bool patient);

  // Sends these in order, as far as that goes without waiting. Calls `answered` with the number and the result of each
  // answered request; it returns false if the result is not an answer. At most `window` requests are under way at a
  // time; after one has failed, no other begins. The payloads must stay valid until finish(). connect() must be called
  // before.
  using Answered = std::function<bool(size_t, std::string_view)>;
  void start(const std::vector<std::string_view>& payloads, Answered answered, size_t window = SIZE_MAX);

  // Advances for at most this long; true when there is nothing more to wait for.
  bool wait(Millis timeout);

  // When a part of a request that could not be sent at once last left.
  Clock::time_point left_at() const { return m_left_at; }

  // Advances until the deadline. Returns an empty string if all requests were answered, else why not; then the next
  // connect() of this process for the same function tries another server first.
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
  size_t m_server = 0;  // that is connected
  Fd m_connection;
  PacketCheck m_check;     // of what comes over it
  std::string m_received;  // the beginning of a packet
  // Under way:
  Answered m_answered;
  std::deque<Request> m_requests;
  size_t m_window = 0, m_begun = 0, m_ended = 0;
  size_t m_longest = 0;    // the longest packet that may come
  size_t m_unasked = 0;    // packets that have come and answer nothing
  bool m_failed = false;   // a request has failed
  std::string m_reason;    // why the connection was given up
  bool m_blocked = false;  // more could not be sent at once
  Clock::time_point m_left_at{};
};

}  // namespace gq
