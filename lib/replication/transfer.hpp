// Transfers: the messages between nodes of a replication group. Each is a foreground Gearman job on the function that
// has the other node's name; its result is the answer. Both begin with a line of words:
//
//   transfer: gq1 KIND GROUP NODE IDENTITY TO SESSION NUMBER TO-SESSION MAC
//   answer:   gq1 NODE IDENTITY SESSION MAC
//
// and go on with a body. NODE and IDENTITY are the sender's. A SESSION is a ULID that a process makes for itself, so
// that others notice its restart; with keys, it makes a new one now and then. The kinds:
//
// take: the body is records, back to back: `add` with its workload, `state`. The answer has one verdict line for each,
// in order:
//
//   have            the record is on stable storage
//   need            a state of a job that is not there
//   conflict        another job has its ID, or its key if the key is for this node to decide
//   refused REASON  it cannot be taken now. (An older node says "refused ID" for a key that is taken.)
//
// part: the body is a line "OFFSET", the head of an add record, and a part of its workload that begins at OFFSET. The
// answer is "at OFFSET" (the node has the workload up to there, and the next part begins there), or the verdict, when
// the workload is complete or the node does not need it. A part that begins elsewhere, late or repeated, changes
// nothing. An empty part asks where to begin.
//
// ask: the body is job IDs, a line each, or nothing. The answer has these lines:
//
//   end LSN                     the end of the journal
//   runner 0|1                  whether a process that runs commands lives there
//   functions FUNCTION...       for which functions; without this line: all
//   taking 1                    jobs of the asking node are being taken over now, so that it has to ask again
//   room 0|1                    whether jobs can be stored
//   relay 0|1                   whether the node is a relay, which stores none
//   sent NODE IDENTITY LSN      for each peer: up to where it has been told this node's journal
//   known ID, unknown ID        for each ID, in order
//   yours ID                    of these: a job of the asking node
//   other ID                    a job of a third node of which there is nothing else to say
//   ended ID                    a job that has ended
//   about ID FUNCTION SIZE SUM  tells the known job from another one with its ID (an older node does not say this)
//
// Any transfer may be answered "bad REASON", or "again": with keys, TO-SESSION was not a session of the answering
// process.
//
// Questions go to the function NODE.ask if a node serves it, so that they do not wait behind a large transfer.
//
// With keys, MAC is HMAC-SHA-512-256 (libsodium's crypto_auth) over all words before it and the body; in an answer,
// also over the transfer's line. A recorded transfer cannot be replayed: it names a session of the receiver, and the
// receiver takes its number once. A transfer that was held back counts only while that session is valid: at most for
// half of the time for which finished jobs are remembered, so that no finished job can begin again. Without keys MAC is
// "-".
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

// Shared secrets: the first signs, each verifies, so that keys can be replaced one after the other.
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

// The most bytes in a transfer.
inline constexpr size_t max_transfer_size = 4 << 20;

struct Transfer {
  std::string kind, group, node, store, to, session, to_session;
  uint64_t number = 0;
  std::string_view line;  // the first line
  std::string_view body;
};

std::string encode_transfer(const Transfer& transfer, std::string_view body, const Keys& keys);
// nullopt with a reason if it is no transfer, or not signed as it must be. The views point into `payload`.
std::optional<Transfer> parse_transfer(std::string_view payload, const Keys& keys, std::string& reason);

struct Reply {
  std::string node, store, session;
  std::string body;
};

std::string encode_reply(const Reply& reply, std::string_view transfer_line, const Keys& keys);
std::optional<Reply> parse_reply(std::string_view result, std::string_view transfer_line, const Keys& keys);

// Remembers what was received of the sessions of others: refuses a number that was seen, or is too old to tell.
class ReplayGuard {
 public:
  bool is_new(const std::string& session, uint64_t number);
  bool is_full() const;

 private:
  struct Seen {
    uint64_t highest = 0, mask = 0;  // the 64 numbers up to the highest
  };
  std::map<std::string, Seen> m_sessions;
};

// Bytes in a part of a large workload. At 1 MB/s, the smallest part leaves room for other transfers. If the answer to a
// part comes soon, the next part is twice as large, because each answer costs a round trip.
constexpr size_t least_part_size = 256 << 10, most_part_size = 1 << 20;
size_t next_part_size(size_t size, Millis took);

// The sessions of a process that answers transfers. A new session begins after each period, or when the guard of the
// last one is full. The last one stays valid for another period, unless its guard is full. Nothing that was signed more
// than two periods ago is accepted. Pure: the caller passes the time.
class Sessions {
 public:
  explicit Sessions(Millis period) : m_period(period) {}
  void set_period(Millis period) { m_period = period; }

  // The session that answers name.
  const std::string& current(Millis now);

  enum class Verdict { taken, repeated, unknown };
  // Takes a number of another process's session, which was sent to `to_session`. Each number is taken once.
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

// A quarter of the time for which finished jobs are remembered, but long enough for a transfer.
Millis session_period(Millis remember, Millis peer_timeout);

// A connection to a peer, with one transfer at a time. Not thread-safe.
class Link {
 public:
  // `function` is the one that the peer serves for it. Once `stop` is true, every wait throws Error(retry).
  Link(const std::vector<Server>& servers, Self self, std::string group_id, std::string peer,
       const std::string& function, const Keys& keys, const std::atomic<bool>* stop = nullptr);

  // Sends a transfer, as far as that goes without waiting. The body must stay valid until finish(). Throws Error as
  // finish() does.
  void start(const std::string& kind, std::string_view body, Millis timeout);

  // Advances the transfer for this long; true when finish() need not wait.
  bool wait(Millis most);

  // Waits for the answer. If a server ended and may have passed the transfer on, it is sent again through another
  // server: a peer takes it once. Throws Error: unavailable if no server can be reached, retry if the peer does not
  // answer in time, config if its answer cannot be used.
  Reply finish();
  // The same, but returns an answer "bad REASON", too: `bad` is then the reason.
  Reply finish(std::string& bad);

  const std::string& function() const { return m_function; }
  // False once the peer has said that it does not know parts, until it is another process.
  bool takes_parts() const { return m_takes_parts; }
  void takes_no_parts() { m_takes_parts = false; }

  // The size of parts that this link carries well.
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
  // The transfer under way:
  std::string m_kind;
  std::string_view m_body;
  std::string m_payload;
  std::optional<Reply> m_reply;
  Requests::Clock::time_point m_deadline;
};

// Records on their way to a peer, piece by piece, each answered before the next is sent: small ones together, a large
// one in parts. So a peer is given up only if it stops answering, however long the whole takes. Not thread-safe.
class Sending {
 public:
  using Clock = Requests::Clock;
  using Heard = std::function<void(const Reply&)>;

  // `records` must stay valid until finish(). `timeout` is for each piece; `heard` is called with each answer, and may
  // throw. Throws as finish() does.
  Sending(std::unique_ptr<Link> link, std::string_view records, Millis timeout, Heard heard);

  // Advances the transfer for this long; true when finish() need not wait.
  bool wait(Millis most);

  // What a peer has said of a record: its verdict (verdict.hpp), and the identity that it had then.
  struct Said {
    std::string line, identity;
  };

  // The verdicts, one for each record. Throws as Link::finish() does, but not for an answer that is "bad": then the
  // records are sent one by one, and the bad one is refused.
  std::vector<Said> finish();

  // Sends nothing more: there will be fewer verdicts.
  void cut_short() { m_cut_short = true; }

  Clock::time_point last_answer() const { return m_last_answer; }
  std::unique_ptr<Link> take_link() { return std::move(m_link); }

 private:
  bool send();
  void hear();
  void pass(std::vector<std::string> verdicts, const std::string& identity);

  std::unique_ptr<Link> m_link;
  const std::string_view m_records;
  const Millis m_timeout;
  const Heard m_heard;
  std::vector<Said> m_verdicts;
  Clock::time_point m_last_answer = Clock::now();
  bool m_cut_short = false, m_over = false;
  std::exception_ptr m_failure;
  // The piece under way: so many records and bytes, from `m_at` on.
  size_t m_at = 0, m_count = 0, m_size = 0;
  size_t m_alone_until = 0;  // before this, each record is sent alone
  // In parts: how much of the workload the peer has, and how often that has not grown.
  bool m_in_parts = false;
  uint64_t m_offset = 0, m_data_size = 0;
  bool m_asked = false;
  int m_repeats = 0;
  std::string m_part;
  Clock::time_point m_part_sent;
};

}  // namespace gq
