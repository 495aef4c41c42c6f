// Transfers: what nodes of a replication group say to each other. Each is a foreground Gearman job on the function that
// has the other node's name; its result is the answer. Both begin with a line of words:
//
//   transfer: gq1 KIND GROUP NODE IDENTITY TO SESSION NUMBER TO-SESSION MAC
//   answer:   gq1 NODE IDENTITY SESSION MAC
//
// and go on with a body. NODE and IDENTITY are those of the one who speaks; a SESSION is a ULID that a process makes
// for itself, so that a restart is noticed; with keys, now and then a new one.
//
//   take  records, one behind the other: `add` with its workload, `state`. The answer has a line for each, in order,
//   its verdict:
//         "have", on stable storage; "need", a state of a job that is not there; "conflict", another job has its ID, or
//         its key where that is this node's to say; "refused REASON", it cannot be taken now. (A node of before says
//         "refused ID" of a key that is taken.)
//   part  "OFFSET", a line; the head of an add record; a part of its workload, from there on. The answer: "at OFFSET",
//   so much of
//         the workload is there, the first of it, and what comes next begins there; or the verdict, when all of it is,
//         or none of it need be. A part that begins elsewhere, late or repeated, changes nothing. An empty one asks
//         where to begin.
//   ask   job IDs, a line each, or nothing. The answer: "end LSN", the end of the journal; "runner 0|1", whether a
//   process
//         that runs commands lives, and "functions FUNCTION...", for which ones (no such line: all); "taking 1", where
//         jobs of the one that asks are just being taken over, so that it has to ask again; "room 0|1", whether jobs
//         can be stored; "relay 0|1", whether none ever are; for each peer "sent NODE IDENTITY LSN", up to where it has
//         been told what happened there; then for each ID "known ID" or "unknown ID"; "yours ID"
//         for those of them that are jobs of the one that asks, "other ID" for those of a third node of which there is
//         nothing else to say, "ended ID" for those that have ended; "about ID FUNCTION SIZE SUM", which tells the job
//         that is known from another one with its ID. (A node of before does not say that.)
//   any   may be answered "bad REASON", or "again": with keys, TO-SESSION was not this one.
//
// Asks go to the function NODE.ask where a node serves it, so that a large transfer is no silence.
//
// With keys, MAC is HMAC-SHA-512-256 (libsodium's crypto_auth) over all words before it and the body, in an answer over
// the transfer's line too. A transfer that was recorded cannot be sent again: it names the session of the one that it
// was for, and its number is taken once. One that was held back counts only while that session is valid: for half of
// the time for which finished jobs are remembered at most, so that none of them can begin anew. Without keys MAC is
// "-".
//
// To change the format: a new first word; a node refuses one that it does not know.
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

// Shared secrets: the first signs, each verifies, so that they can be replaced one after the other.
class Keys {
 public:
  Keys() = default;
  // Reads a file of 1 or 2 lines, 64 hexadecimal digits each, that nobody else may read. Throws Error(config).
  explicit Keys(const std::string& path);

  explicit operator bool() const { return !m_keys.empty(); }
  std::string sign(std::string_view text) const;  // "-" without keys
  bool verify(std::string_view text, std::string_view mac) const;

 private:
  std::vector<std::string> m_keys;
};

// None is longer.
inline constexpr size_t max_transfer_size = 4 << 20;

struct Transfer {
  std::string kind, group, node, store, to, session, to_session;
  uint64_t number = 0;
  std::string_view line;  // the first one
  std::string_view body;
};

std::string encode_transfer(const Transfer& transfer, std::string_view body, const Keys& keys);
// nullopt with a reason for what is no transfer, or not signed as it must be. The views point into `payload`.
std::optional<Transfer> parse_transfer(std::string_view payload, const Keys& keys, std::string& reason);

struct Reply {
  std::string node, store, session;
  std::string body;
};

std::string encode_reply(const Reply& reply, std::string_view transfer_line, const Keys& keys);
std::optional<Reply> parse_reply(std::string_view result, std::string_view transfer_line, const Keys& keys);

// What has been received of the sessions of others: refuses a number that was there, or is too old to tell.
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

// Bytes in a part of a large workload. At 1 MB/s the least one leaves room for what others wait for; one after which
// the answer came soon is followed by one twice as large, since each answer costs a way back.
constexpr size_t least_part_size = 256 << 10, most_part_size = 1 << 20;
size_t next_part_size(size_t size, Millis took);

// The sessions of one that answers transfers. A new one begins after each period, or when the guard of the one before
// is full; that one stays valid for a period more, unless its guard is full. Nothing that was signed over two periods
// ago is taken. Pure: time is what it is told.
class Sessions {
 public:
  explicit Sessions(Millis period) : m_period(period) {}
  void set_period(Millis period) { m_period = period; }

  // The one that answers name.
  const std::string& current(Millis now);

  enum class Verdict { taken, repeated, unknown };
  // Takes a number of another's session, which was sent to `to_session`, once.
  Verdict take(const std::string& to_session, const std::string& session, uint64_t number, Millis now);

 private:
  struct Session {
    std::string id;
    Millis since;
    ReplayGuard guard;
  };
  Millis m_period;
  std::deque<Session> m_sessions;  // one or two, the last one is the current one
};

// A quarter of the time for which finished jobs are remembered, but time enough for a transfer.
Millis session_period(Millis remember, Millis peer_timeout);

// A line to a peer, on which one transfer at a time is under way. Not thread-safe.
class Link {
 public:
  // `function` is the one that the peer serves for it. Once `stop` is true nothing is waited for: then it throws
  // Error(retry).
  Link(const std::vector<Server>& servers, Self self, std::string group_id, std::string peer,
       const std::string& function, const Keys& keys, const std::atomic<bool>* stop = nullptr);

  // Sends a transfer, as far as that goes without waiting; the body must stay until finish(). Throws Error as finish()
  // does.
  void start(const std::string& kind, std::string_view body, Millis timeout);

  // Goes on for so long; true when finish() need not wait.
  bool wait(Millis most);

  // Waits for the answer. What a server that ended may have passed on is sent again through another one: a peer takes
  // it once. Throws Error: unavailable where no server can be reached, retry where the peer does not answer in time,
  // config where it answers what cannot be used.
  Reply finish();
  // The same, but an answer "bad REASON" is one: `bad` is the reason.
  Reply finish(std::string& bad);

  // False once the peer has said that it knows no parts, until it is another process.
  const std::string& function() const { return m_function; }

  bool takes_parts() const { return m_takes_parts; }
  void takes_no_parts() { m_takes_parts = false; }

  // How large the parts are that this link carries well.
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
// one in parts. So only a peer that stops to answer is given up, however long it takes. Not thread-safe.
class Sending {
 public:
  using Clock = Requests::Clock;
  using Heard = std::function<void(const Reply&)>;

  // `records` must stay until finish(). `timeout` is for each piece; `heard` is called with each answer, and may throw.
  // Throws as finish() does.
  Sending(std::unique_ptr<Link> link, std::string_view records, Millis timeout, Heard heard);

  // Goes on for so long; true when finish() need not wait.
  bool wait(Millis most);

  // What a peer has said of a record: its verdict (verdict.hpp), and the identity that it had then.
  struct Said {
    std::string line, identity;
  };

  // The verdicts, one for each record. Throws as Link::finish() does, but not for an answer that is "bad": then the
  // records are sent one by one, and that one is refused.
  std::vector<Said> finish();

  // Sends nothing more: the verdicts will be fewer.
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
  // The piece under way: so many records and bytes, from `at` on.
  size_t m_at = 0, m_count = 0, m_size = 0;
  size_t m_alone_until = 0;  // before this, each record is sent alone
  // In parts: what is there of the workload, and how often that has not become more.
  bool m_in_parts = false;
  uint64_t m_offset = 0, m_data_size = 0;
  bool m_asked = false;
  int m_repeats = 0;
  std::string m_part;
  Clock::time_point m_part_sent;
};

}  // namespace gq
