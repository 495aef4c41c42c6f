// Transfers: the messages between nodes of a replication group. A transfer is a foreground Gearman job on the function
// that has the other node's name; the job's result is the answer. Both begin with a line of words:
//
//   transfer: gq1 KIND GROUP NODE IDENTITY TO SESSION NUMBER TO-SESSION MAC
//   answer:   gq1 NODE IDENTITY SESSION MAC
//
// and continue with a body. NODE and IDENTITY are those of the sender. A SESSION is a ULID that a process creates for
// itself, so that other nodes notice when it restarts; with keys, it creates a new one now and then. The kinds:
//
// take: the body is records, one directly after the other: `add` with its workload, and `state`. The answer has one
// verdict line for each record, in order:
//
//   have            the record is on stable storage
//   need            the answering node lacks the job of this state
//   conflict        another job has the record's ID; or its key, if the answering node decides about the key
//   refused REASON  the record cannot be taken now. (An older node answers "refused ID" if another job has the key.)
//
// part: the body is a line "OFFSET", the head of an add record, and a part of its workload that begins at OFFSET. The
// answer is "at OFFSET" if the node has the workload up to that offset; the next part begins there. If the workload is
// complete, or the node does not need it, the answer is the verdict. A part that begins at another offset, because it
// is late or repeated, changes nothing. An empty part asks where to begin.
//
// ask: the body is job IDs, one a line, or empty. The answer has these lines:
//
//   end LSN                     the end of the answering node's journal
//   runner 0|1                  whether a process that runs commands lives on this node
//   functions FUNCTION...       the functions that this process runs; without this line: all
//   taking 1                    the node is taking over jobs of the asking node, so the asking node must ask again
//   room 0|1                    whether the node can store jobs
//   relay 0|1                   whether the node is a relay, which stores no jobs
//   sent NODE IDENTITY LSN      for each peer: the position in the answering node's journal up to which it has sent
//                               everything to this peer
//   known ID, unknown ID        for each ID of the question, in order
//   yours ID                    the known job is owned by the asking node
//   other ID                    the known job is fresh (is_fresh()) and is owned by a third node
//   ended ID                    the known job has ended
//   about ID FUNCTION SIZE SUM  the known job; distinguishes it from another job with this ID (older nodes do not send
//                               this)
//
// Any transfer may be answered "bad REASON", or "again". "again" means that keys are used and TO-SESSION is not a
// session of the answering process.
//
// Questions go to the function NODE.ask if a node serves it, so that they do not wait for a large transfer.
//
// With keys, MAC is HMAC-SHA-512-256 (libsodium's crypto_auth) over all words before it and the body; in an answer,
// also over the transfer's line. A recorded transfer cannot be replayed: it names a session of the receiver, and the
// receiver accepts its number once. If a stranger holds a transfer back, it is accepted only while that session is
// valid: at most for half of the time for which finished jobs are remembered, so that no finished job can run again.
// Without keys MAC is "-".
//
// To change the format: choose a new first word. A node refuses a first word that it does not know.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gq/gearman/requests.hpp"
#include "gq/store/settings.hpp"

namespace gq {

// The shared secrets of the group. The first key signs; a signature by any of them is valid. So the nodes can replace
// their keys one after the other.
class Keys {
 public:
  Keys() = default;
  // Reads a file of 1 or 2 lines, 64 hexadecimal digits each, that no other user may read. Throws Error(config).
  explicit Keys(const std::string& path);

  explicit operator bool() const { return !m_keys.empty(); }
  std::string sign(std::string_view text) const;  // "-" without keys
  bool verify(std::string_view text, std::string_view mac) const;

 private:
  std::vector<std::string> m_keys;
};

// Returns the text that a MAC covers: the line without the MAC, which is its last word, `other` (in an answer, the line
// of the message that is answered), and the body.
std::string signed_text(std::string_view line, std::string_view other, std::string_view body);

// The most bytes in a transfer.
inline constexpr size_t max_transfer_size = 4 << 20;

struct Transfer {
  std::string kind, group, node, store, to, session, to_session;
  uint64_t number = 0;
  std::string_view line;  // the first line
  std::string_view body;
};

std::string encode_transfer(const Transfer& transfer, std::string_view body, const Keys& keys);
// Parses a transfer and checks its signature. Returns nullopt and sets the reason if it is not a valid transfer, or not
// signed as it must be. The views in the result point into `payload`.
std::optional<Transfer> parse_transfer(std::string_view payload, const Keys& keys, std::string& reason);

struct Reply {
  std::string node, store, session;
  std::string body;
};

std::string encode_reply(const Reply& reply, std::string_view transfer_line, const Keys& keys);
std::optional<Reply> parse_reply(std::string_view result, std::string_view transfer_line, const Keys& keys);

// Remembers the numbers that were received in the sessions of other processes. Refuses a number that was received
// before, or that is so old that this is unknown.
class ReplayGuard {
 public:
  bool is_new(const std::string& session, uint64_t number);
  bool is_full() const;

 private:
  struct Seen {
    uint64_t highest = 0, mask = 0;  // `mask` has a bit for each of the 64 numbers up to `highest`
  };
  std::map<std::string, Seen> m_sessions;
};

// The size of a part of a large workload, in bytes. At 1 MB/s, the smallest part leaves time for other transfers. If
// the answer to a part comes soon, the next part is twice as large, because each answer costs a round trip.
constexpr size_t least_part_size = 256 << 10, most_part_size = 1 << 20;
size_t next_part_size(size_t size, Millis took);

// The sessions of a process that answers transfers. A new session begins after each period, or when the ReplayGuard of
// the current session is full. The previous session stays valid for another period, unless its guard is full. Nothing
// that was signed more than two periods ago is accepted. Pure: the caller passes the time.
class Sessions {
 public:
  explicit Sessions(Millis period) : m_period(period) {}
  void set_period(Millis period) { m_period = period; }

  // Returns the current session, which answers name.
  const std::string& current(Millis now);

  enum class Verdict { taken, repeated, unknown };
  // Takes a number of another process's session, from a transfer that was sent to `to_session`. Accepts each number
  // once.
  Verdict take(const std::string& to_session, const std::string& session, uint64_t number, Millis now);

 private:
  struct Session {
    std::string id;
    Millis since;
    ReplayGuard guard;
  };
  Millis m_period;
  std::deque<Session> m_sessions;  // one or two; the last one is the current one
};

// Returns a quarter of the time for which finished jobs are remembered, but at least the time that a transfer needs.
Millis session_period(Millis remember, Millis peer_timeout);

// A connection to a peer, with one transfer at a time. Not thread-safe.
class Link {
 public:
  // `function` is the Gearman function that the peer serves for these transfers. Once `stop` is true, every wait throws
  // Error(retry).
  Link(const std::vector<Server>& servers, Self self, std::string group_id, std::string peer,
       const std::string& function, const Keys& keys, const std::atomic<bool>* stop = nullptr);

  // Sends a transfer until a send would block. The body must stay valid until finish(). Throws Error as finish() does.
  void start(const std::string& kind, std::string_view body, Millis timeout);

  // Continues the transfer for this long. Returns true when finish() need not wait.
  bool wait(Millis most);

  // Waits for the answer. If a server has ended and may have passed the transfer on, sends the transfer again through
  // another server: a peer takes it only once. Throws Error: unavailable if no server can be reached, retry if the peer
  // does not answer in time, config if its answer cannot be used.
  Reply finish();
  // The same, but does not throw for an answer "bad REASON": then `bad` is set to the reason.
  Reply finish(std::string& bad);

  const std::string& function() const { return m_function; }
  // Whether the peer knows the kind `part`. False once the peer has answered that it does not, until its process
  // changes.
  bool takes_parts() const { return m_takes_parts; }
  void takes_no_parts() { m_takes_parts = false; }

  // The size of parts that suits the speed of this link.
  size_t part_size() const { return m_part_size; }
  void part_took(Millis time) { m_part_size = next_part_size(m_part_size, time); }

  Reply call(const std::string& kind, std::string_view body, Millis timeout) {
    start(kind, body, timeout);
    return finish();
  }

 private:
  void send();

  Requests m_requests;
  const Self m_self;
  const std::string m_group_id, m_peer, m_function;
  const Keys& m_keys;
  const std::string m_session;
  std::string m_peer_session = "-";
  bool m_takes_parts = true;
  size_t m_part_size = least_part_size;
  uint64_t m_number = 0;
  // The transfer that is under way:
  std::string m_kind;
  std::string_view m_body;
  std::string m_payload;
  std::optional<Reply> m_reply;
  Requests::Clock::time_point m_deadline;
};

// Sends records to a peer, piece by piece: small records together, a large record in parts. Each piece is answered
// before the next one is sent. So the sender gives up only if the peer stops answering, however long the whole transfer
// takes. Not thread-safe.
class Sending {
 public:
  using Clock = Requests::Clock;
  using Answered = std::function<void(const Reply&)>;

  // `records` must stay valid until finish(). `timeout` is for each piece. `answered` is called with each answer, and
  // may throw. Throws as finish() does.
  Sending(std::unique_ptr<Link> link, std::string_view records, Millis timeout, Answered answered);

  // Continues the transfer for this long. Returns true when finish() need not wait.
  bool wait(Millis most);

  // A peer's answer to a record: its verdict (verdict.hpp), and the identity that the peer had then.
  struct Said {
    std::string line, identity;
  };

  // Returns the verdicts, one for each record. Throws as Link::finish() does, but not for an answer "bad": then the
  // records are sent one by one, and the bad record gets the verdict refused.
  std::vector<Said> finish();

  // Sends no further piece, so that there are fewer verdicts than records.
  void cut_short() { m_cut_short = true; }

  Clock::time_point last_answer() const { return m_last_answer; }
  std::unique_ptr<Link> take_link() { return std::move(m_link); }

 private:
  bool send();
  void receive();
  void pass(std::vector<std::string> verdicts, const std::string& identity);

  std::unique_ptr<Link> m_link;
  const std::string_view m_records;
  const Millis m_timeout;
  const Answered m_answered;
  std::vector<Said> m_verdicts;
  Clock::time_point m_last_answer = Clock::now();
  bool m_cut_short = false, m_over = false;
  std::exception_ptr m_failure;
  // The piece under way: `m_count` records of `m_size` bytes, from `m_at` on.
  size_t m_at = 0, m_count = 0, m_size = 0;
  size_t m_alone_until = 0;  // up to this offset, each record is sent in its own piece
  // If the record is sent in parts: how much of the workload the peer has, and how often that has not grown.
  bool m_in_parts = false;
  uint64_t m_offset = 0, m_data_size = 0;
  bool m_asked = false;
  int m_repeats = 0;
  std::string m_part;
  Clock::time_point m_part_sent;
};

}  // namespace gq
