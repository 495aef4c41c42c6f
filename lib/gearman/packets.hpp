// The packets that gearmand sends, checked before libgearman reads them.
//
// libgearman 1.1.20 crashes on bytes that are no Gearman packets: a line of text (any web server's answer) makes it
// write through a null pointer, and a packet shorter than its arguments makes it read past its buffer. So gq links a
// copy of it, which calls the functions of this module in place of connect(2), recv(2) and send(2), and does not link
// without them (cmake/private_copy.cmake). A stream is given on up to the first byte that no gearmand sends, and ends
// there like a lost connection.
//
// libgearman must not see EAGAIN inside a packet, either: when its time-out passes there, it forgets the packet and
// keeps the state of having read a part of it, so that bytes of a workload become its next header, and are written
// where the job was that it has freed. So a thread with a worker waits here, in place of libgearman
// (wait_for_servers()).
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

namespace gq {

// The descriptor of the connection that libgearman has made in this thread since this was last asked; -1 where it has
// made none. (A worker has to be asked before anything else in its thread connects.)
int take_connected();

// Whether a server has woken libgearman's worker in this thread from its sleep since this was last asked. A worker that
// is given a job without that had one waiting for it.
bool take_woken();

// From the moment that `when` is true, the next wake-up ends the connection of libgearman's worker in this thread, as
// if it were lost: a sleeping worker has no job. `when` is kept until the thread ends.
void end_when_woken(const std::atomic<bool>& when);

// A job that a server has assigned, of which all but the workload has come.
struct AssignedJob {
  std::string handle, function;
  uint64_t size = 0;     // of the workload
  bool reduces = false;  // it has a reducer (SUBMIT_REDUCE_JOB): libgearman would submit its result as another job, and
                         // wait for that, on a connection that nothing interrupts
};

// Asked in this thread for each job that libgearman's worker in it is given, before libgearman makes room for the
// workload. nullopt: it is to go on. Else these bytes are sent, and the connection ends: without any, the job stays
// with the server. May wait; is kept until the thread ends.
using Judge = std::function<std::optional<std::string>(const AssignedJob&)>;
void judge_jobs(Judge judge);

// How a call of libgearman's worker that reads or sends stands.
struct ServerWait {
  using Time = std::chrono::steady_clock::time_point;
  enum class Way { in, out };
  Way way = Way::in;
  bool waits = true;             // nothing can come, or leave, at this moment
  Time since{}, now{};           // ... and could not since then
  std::optional<uint64_t> left;  // in: of the workload of the job that is being assigned, before this call
};

// From now on libgearman's calls in this thread do not return before something has come, or left, on the worker's
// connection. `give_up` is asked at each that reads, and every 50 ms while one waits: true ends the connection. It is
// kept until the thread ends.
using GiveUp = std::function<bool(const ServerWait&)>;
void wait_for_servers(GiveUp give_up);
// Whether what libgearman connects to in this thread is the worker's: a client needs to see EAGAIN.
void connects_worker(bool is_worker);

// Nothing comes or leaves for so long only where the other end is gone, or stuck.
inline constexpr std::chrono::seconds longest_silence{30};
// What has been taken is answered when this program stops; the server has so long to read it.
inline constexpr std::chrono::seconds last_words{1};
// Whether nothing is to be hoped for any more of a connection; `stopping` since when this program stops, if it does.
// Pure.
bool is_hopeless(const ServerWait& wait, std::optional<ServerWait::Time> stopping);

// Whether the worker's connection has ended, or has been given up, since this was last asked. Then its handle is of no
// use: it connects again, but takes what it had read of a workload for the beginning of the next.
bool take_ended();

// A packet as a client or worker sends it.
std::string request_packet(uint32_t command, std::string_view body);

// What the data of a packet are at most that is no job: a worker is sent the echo of its own words.
inline constexpr uint32_t most_data = 8192;

// Whether, in this thread, a connection was ended because of a longer one since this was last asked.
bool take_too_long();

// One connection's stream, read in pieces.
class PacketCheck {
 public:
  // `most` bounds the body of a packet that assigns no job.
  explicit PacketCheck(uint32_t most = most_data) : m_most(most) {}
  // False from the first byte on that is not part of a packet which a server sends.
  bool feed(const char* data, size_t size);
  // Whether a wake-up was among what was fed since this was last asked.
  bool take_woken() { return std::exchange(m_woken, false); }
  // A job that has been assigned in what was fed since this was last asked; a server assigns one at a time.
  std::optional<AssignedJob> take_job();
  // How much of the workload of the job that is being assigned is to come.
  std::optional<uint64_t> workload_left() const;
  // Whether what was wrong is the length of a packet.
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
  uint32_t m_left = 0;    // bytes of the body to come
  int m_args_left = 0;    // arguments that must end in NUL before the body does
  size_t m_arg_size = 0;  // of the argument that is being read
  AssignedJob m_assigned;
  std::optional<AssignedJob> m_job;
};

}  // namespace gq
