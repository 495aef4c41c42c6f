// Checks the packets that gearmand sends before libgearman reads them.
//
// libgearman 1.1.20 crashes on bytes that are no Gearman packets: a line of text (any web server's answer) makes it
// write through a null pointer, and a packet shorter than its arguments makes it read past its buffer. So gq links a
// copy of libgearman that calls the functions of this module in place of connect(2), recv(2) and send(2), and that does
// not link without them (lib/private_copy.cmake). If a call of recv(2) returns a byte that gearmand never sends, or a
// packet that libgearman cannot handle (WORK_EXCEPTION, or a packet that is too long), libgearman gets ECONNRESET
// instead of the bytes of that call.
//
// libgearman must not see EAGAIN inside a packet either. If its time-out passes there, it forgets the packet, but not
// that it has read a part of it. Then it takes bytes of a workload for its next header, and writes them into the memory
// of the job that it has freed. So a thread that uses a libgearman worker waits for bytes in this module
// (wait_for_servers()), not in libgearman.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gq/base/clock.hpp"

namespace gq {

// Returns the descriptor of the connection that libgearman's worker in this thread has made since the last call; -1 if
// it has made none.
int take_connected();

// Whether a server has woken libgearman's worker in this thread since the last call. If a worker gets a job without
// being woken, the job was already waiting.
bool take_woken();

// Once `when` is true, the next wake-up ends the connection of libgearman's worker in this thread, as if the connection
// were lost. No job is lost with it, because a sleeping worker has no job. `when` must stay valid until the thread
// ends.
void end_when_woken(const std::atomic<bool>& when);

// A job that a server has assigned, and that has arrived except for its workload.
struct AssignedJob {
  std::string handle, function;
  uint64_t size = 0;  // of the workload
};

// A Judge decides whether to take a job. It is called in this thread for each job that libgearman's worker gets, before
// libgearman allocates memory for the workload. If it returns nullopt, the worker takes the job. Otherwise the returned
// bytes are sent, and the connection ends; if there are no bytes, the job stays with the server. The Judge may wait. It
// is used until the thread ends.
using Judge = std::function<std::optional<std::string>(const AssignedJob&)>;
void judge_jobs(Judge judge);

// The state of a call of libgearman's worker that reads or sends.
struct ServerWait {
  using Time = std::chrono::steady_clock::time_point;
  enum class Way { in, out };
  Way way = Way::in;
  bool waits = true;    // nothing can be read, or sent, now
  Time since{}, now{};  // since when nothing could, and the present time
  // In: how many bytes of the workload being assigned were still to come before this call.
  std::optional<uint64_t> left;
};

// From now on, libgearman's calls of recv(2) and send(2) in this thread return only when bytes have come, or left, on
// the worker's connection. `give_up` is called for each call that reads, and every 50 ms while a call waits. If it
// returns true, the connection ends. `give_up` is used until the thread ends.
using GiveUp = std::function<bool(const ServerWait&)>;
void wait_for_servers(GiveUp give_up);

// If no byte comes or leaves for this long, gq takes the other end for dead or stuck.
inline constexpr std::chrono::seconds longest_silence{30};
// When this program stops, it still answers the jobs that it has taken; the server has this long to read the answer.
inline constexpr std::chrono::seconds last_words{1};
// Whether to give up a connection. `stopping`: when this program began to stop; nullopt if it has not. Pure.
bool is_hopeless(const ServerWait& wait, std::optional<ServerWait::Time> stopping);

// Whether the worker's connection has ended, or was given up, since the last call. The handle must not be used after
// that: it would connect again, but take the part of a workload that it had read for the beginning of the next
// workload.
bool take_ended();

// The longest time in which a server may take an answer that send_answer() sends.
inline constexpr std::chrono::seconds longest_answer{300};
// Sends the first `size` bytes of a file as the result of a job, on the worker's connection `fd` in this thread, in
// place of libgearman, which would keep two copies of it in memory. Gives up as wait_for_servers() says, and after
// `limit`. Returns whether all was sent; the connection cannot be used after that in any case. Throws if the file
// cannot be read.
bool send_answer(int fd, std::string_view handle, int file, uint64_t size, Millis limit = longest_answer);

// Returns a packet as a client or worker sends it.
std::string request_packet(uint32_t command, std::string_view body);

// The most bytes of data in a packet that is not a job. A worker gets only the echo of its own texts.
inline constexpr uint32_t most_data = 8192;

// Whether a connection in this thread has ended since the last call because a packet was longer than this.
bool take_too_long();

// The stream of one connection, checked piece by piece.
class PacketCheck {
 public:
  // `most` limits the body of a packet that does not assign a job.
  explicit PacketCheck(uint32_t most = most_data) : m_most(most) {}
  // Checks more bytes. Returns false if a byte, now or before, does not belong to a packet that a server sends.
  bool feed(const char* data, size_t size);
  // Whether there was a wake-up since the last call.
  bool take_woken() { return std::exchange(m_woken, false); }
  // Returns the job that was assigned since the last call, if any. A server assigns one job at a time.
  std::optional<AssignedJob> take_job();
  // Returns how many bytes of the workload of the job being assigned are still to come.
  std::optional<uint64_t> workload_left() const;
  // Whether the stream is bad because a packet is too long.
  bool is_too_long() const { return m_too_long; }

 private:
  struct Command;
  static const Command* command(uint32_t number);
  bool header_complete();
  bool assigns() const;

  uint32_t m_most;
  bool m_too_long = false;
  bool m_bad = false, m_woken = false;
  unsigned char m_header[12]{};
  size_t m_header_size = 0;
  const Command* m_command = nullptr;
  uint32_t m_left = 0;    // how many bytes of the body are still to come
  int m_args_left = 0;    // how many arguments must still end in NUL before the body ends
  size_t m_arg_size = 0;  // the size of the argument that is being read
  AssignedJob m_assigned;
  std::optional<AssignedJob> m_job;
};

}  // namespace gq
