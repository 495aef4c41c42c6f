#include "gq/replication/transfer.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include <algorithm>

#include "gq/base/given.hpp"
#include "gq/base/text.hpp"
#include "gq/base/ulid.hpp"
#include "gq/journal/record.hpp"

namespace gq {
namespace {

constexpr const char* magic = "gq1";
constexpr size_t most_sessions = 10000;
constexpr size_t max_line = 1024;
constexpr size_t max_piece = 1 << 20;  // bytes of small records in one transfer; a larger record is sent in parts
constexpr Millis soon{50}, late{200};  // the answer to a part is soon, or late, after these times
constexpr int most_repeats = 10;
constexpr size_t slowest = 8 << 10;  // in bytes a millisecond; limits the time of a large record that is sent whole
constexpr const char* unknown_kind = "neither take nor ask";  // the answer of an older node to a part

std::string hex(const unsigned char* bytes, size_t size) {
  std::string text(2 * size + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), bytes, size);
  text.pop_back();
  return text;
}

// Splits a text into its first line, the words of that line, and the body.
std::optional<std::vector<std::string>> first_line(std::string_view text, std::string_view& line,
                                                   std::string_view& body) {
  size_t end = text.substr(0, max_line).find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  line = text.substr(0, end);
  body = text.substr(end + 1);
  auto words = split(line, ' ');
  if (words[0] != magic) return std::nullopt;
  return words;
}

}  // namespace

std::string signed_text(std::string_view line, std::string_view other, std::string_view body) {
  std::string text(line.substr(0, line.rfind(' ')));
  text += '\n';
  text += other;
  text += '\n';
  text += body;
  return text;
}

Keys::Keys(const std::string& path) {
  if (sodium_init() < 0) throw Error(Exit::bug, "cannot start libsodium");
  auto refuse = [&](const std::string& why) {
    return Error(Exit::config, "cannot use the keys in " + printable(path) + ": " + why);
  };
  bool is_inherited = false;
  Fd fd = open_given(path, O_RDONLY, regular_file | inherited, Exit::config, 0, &is_inherited);
  if (!is_inherited) check_trusted(fd.get(), path, S_IRWXG | S_IRWXO, "chmod 600 it");
  std::optional<std::string> text;
  try {
    text = read_all(fd.get(), 4096, printable(path), start_patience);
  } catch (const Error& e) {
    throw Error(Exit::config, e.what(), e.error_number());
  }
  for (const auto& line : split(text.value_or(""), '\n')) {
    if (line.empty()) continue;
    std::string key(crypto_auth_KEYBYTES, '\0');
    size_t size = 0;
    const char* end = nullptr;
    if (sodium_hex2bin(reinterpret_cast<unsigned char*>(key.data()), key.size(), line.data(), line.size(), nullptr,
                       &size, &end) != 0 ||
        size != key.size() || end != line.data() + line.size())
      throw refuse("a line is not 64 hexadecimal digits");
    m_keys.push_back(std::move(key));
  }
  if (m_keys.empty() || m_keys.size() > 2) throw refuse("it does not have 1 or 2 lines");
}

std::string Keys::sign(std::string_view text) const {
  if (m_keys.empty()) return "-";
  std::array<unsigned char, crypto_auth_BYTES> mac;
  crypto_auth(mac.data(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
              reinterpret_cast<const unsigned char*>(m_keys[0].data()));
  return hex(mac.data(), mac.size());
}

bool Keys::verify(std::string_view text, std::string_view mac) const {
  if (m_keys.empty()) return mac == "-";
  std::array<unsigned char, crypto_auth_BYTES> bytes;
  size_t size = 0;
  if (mac.size() != 2 * bytes.size() ||
      sodium_hex2bin(bytes.data(), bytes.size(), mac.data(), mac.size(), nullptr, &size, nullptr) != 0 ||
      size != bytes.size())
    return false;
  for (const auto& key : m_keys)
    if (crypto_auth_verify(bytes.data(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                           reinterpret_cast<const unsigned char*>(key.data())) == 0)
      return true;
  return false;
}

std::string encode_transfer(const Transfer& t, std::string_view body, const Keys& keys) {
  std::string line = std::string(magic) + " " + t.kind + " " + t.group + " " + t.node + " " + t.store + " " + t.to +
                     " " + t.session + " " + std::to_string(t.number) + " " + t.to_session + " ";
  line += keys ? keys.sign(signed_text(line, {}, body)) : "-";
  line += "\n";
  line += body;
  return line;
}

std::optional<Transfer> parse_transfer(std::string_view payload, const Keys& keys, std::string& reason) {
  Transfer t;
  auto words = first_line(payload, t.line, t.body);
  reason = "it is no transfer that this gq knows";
  if (!words || words->size() != 10) return std::nullopt;
  const auto& w = *words;
  auto number = parse_count(w[7]);
  if (!is_node_name(w[3]) || !is_ulid(w[4]) || !is_ulid(w[6]) || !number) return std::nullopt;
  t.kind = w[1];
  t.group = w[2];
  t.node = w[3];
  t.store = w[4];
  t.to = w[5];
  t.session = w[6];
  t.number = *number;
  t.to_session = w[8];
  if (keys ? !keys.verify(signed_text(t.line, {}, t.body), w[9]) : w[9] != "-") {
    reason = !keys         ? "it is signed, and this node has no --auth"
             : w[9] == "-" ? "its signature is wrong: it has none"
                           : "its signature is wrong";
    return std::nullopt;
  }
  reason.clear();
  return t;
}

std::string encode_reply(const Reply& r, std::string_view transfer_line, const Keys& keys) {
  std::string line = std::string(magic) + " " + r.node + " " + r.store + " " + r.session + " ";
  line += keys ? keys.sign(signed_text(line, transfer_line, r.body)) : "-";
  return line + "\n" + r.body;
}

std::optional<Reply> parse_reply(std::string_view result, std::string_view transfer_line, const Keys& keys) {
  std::string_view line, body;
  auto words = first_line(result, line, body);
  if (!words || words->size() != 5 || !is_node_name((*words)[1]) || !is_ulid((*words)[2]) || !is_ulid((*words)[3]))
    return std::nullopt;
  if (keys ? !keys.verify(signed_text(line, transfer_line, body), (*words)[4]) : (*words)[4] != "-")
    return std::nullopt;
  return Reply{(*words)[1], (*words)[2], (*words)[3], std::string(body)};
}

bool ReplayGuard::is_full() const { return m_sessions.size() >= most_sessions; }

bool ReplayGuard::is_new(const std::string& session, uint64_t number) {
  Seen& seen = m_sessions[session];
  if (number > seen.highest) {
    uint64_t step = number - seen.highest;
    seen.mask = step < 64 ? seen.mask << step : 0;
    seen.highest = number;
  } else if (seen.highest - number >= 64) {
    return false;
  }
  uint64_t bit = 1ULL << (seen.highest - number);
  if (seen.mask & bit) return false;
  seen.mask |= bit;
  return true;
}

const std::string& Sessions::current(Millis now) {
  // Compare half the age with the period, because twice the period may overflow.
  while (!m_sessions.empty() && (now - m_sessions.front().since) / 2 >= m_period) m_sessions.pop_front();
  if (m_sessions.empty() || now - m_sessions.back().since >= m_period || m_sessions.back().guard.is_full())
    m_sessions.push_back({new_ulid(), now, {}});
  if (m_sessions.size() > 2) m_sessions.pop_front();
  return m_sessions.back().id;
}

Sessions::Verdict Sessions::take(const std::string& to_session, const std::string& session, uint64_t number,
                                 Millis now) {
  current(now);
  for (auto& s : m_sessions)
    if (s.id == to_session && !s.guard.is_full())
      return s.guard.is_new(session, number) ? Verdict::taken : Verdict::repeated;
  return Verdict::unknown;
}

Millis session_period(Millis remember, Millis peer_timeout) { return std::max(remember / 4, 2 * peer_timeout); }

Link::Link(const std::vector<Server>& servers, Self self, std::string group_id, std::string peer,
           const std::string& function, const Keys& keys, const std::atomic<bool>* stop)
    : m_requests(servers, function, "no worker serves " + function, stop),
      m_self(std::move(self)),
      m_group_id(std::move(group_id)),
      m_peer(std::move(peer)),
      m_function(function),
      m_keys(keys),
      m_session(new_ulid()) {}

void Link::start(const std::string& kind, std::string_view body, Millis timeout) {
  m_kind = kind;
  m_body = body;
  m_deadline = Requests::Clock::now() + timeout;
  send();
}

void Link::send() {
  m_requests.connect(m_deadline, false);
  m_payload = encode_transfer(
      {m_kind, m_group_id, m_self.node, m_self.store, m_peer, m_session, m_peer_session, ++m_number, {}, {}}, m_body,
      m_keys);
  std::string_view line = std::string_view(m_payload).substr(0, m_payload.find('\n'));
  m_requests.start({m_payload}, [this, line](size_t, std::string_view result) {
    m_reply = parse_reply(result, line, m_keys);
    return m_reply.has_value();
  });
}

bool Link::wait(Millis most) { return m_requests.wait(most) || Requests::Clock::now() >= m_deadline; }

Reply Link::finish() {
  std::string bad;
  Reply reply = finish(bad);
  if (!bad.empty()) throw Error(Exit::config, m_peer + " refuses: " + bad);
  return reply;
}

Reply Link::finish(std::string& bad) {
  for (int tries = 1;; ++tries) {
    std::string failure = m_requests.finish(m_deadline);
    if (failure.empty()) {
      if (m_reply->node != m_peer)
        throw Error(Exit::config, "cannot use the answer of " + m_peer + ": it says that it is " + m_reply->node);
      if (m_peer_session != m_reply->session) m_takes_parts = true;
      m_peer_session = m_reply->session;
      if (m_reply->body.substr(0, 4) == "bad ") bad = printable(m_reply->body.substr(4, m_reply->body.size() - 5));
      if (m_reply->body != "again\n") return std::move(*m_reply);
      failure = "it does not take the session";
    }
    if (tries == 3 || Requests::Clock::now() >= m_deadline)
      throw Error(Exit::retry, m_peer + " does not answer: " + failure);
    send();
  }
}

size_t next_part_size(size_t size, Millis took) {
  if (took >= late) return least_part_size;
  return took < soon ? std::min(2 * size, most_part_size) : size;
}

Sending::Sending(std::unique_ptr<Link> link, std::string_view records, Millis timeout, Answered answered)
    : m_link(std::move(link)), m_records(records), m_timeout(timeout), m_answered(std::move(answered)) {
  m_over = !send();
}

// Sends the next piece until a send would block. Returns false if there is no next piece.
bool Sending::send() {
  std::string_view rest = m_records.substr(m_at);
  m_count = m_size = 0;
  m_in_parts = false;
  for (std::string_view left = rest; !left.empty();) {
    auto sizes = peek_record(left);
    if (!sizes || sizes->head_size + sizes->data_size > left.size())
      throw Error(Exit::bug, "cannot send something that is not a record");
    size_t size = sizes->head_size + sizes->data_size;
    if (m_count > 0 && (m_size + size > max_piece || m_at + m_size < m_alone_until)) break;
    if (m_count == 0 && size > max_piece && m_link->takes_parts()) {
      m_in_parts = true;
      m_data_size = sizes->data_size;
      m_part = std::to_string(m_offset) + "\n";
      m_part += left.substr(0, sizes->head_size);
      if (m_asked)
        m_part +=
            left.substr(sizes->head_size + m_offset, std::min<uint64_t>(m_link->part_size(), m_data_size - m_offset));
    }
    m_size += size;
    ++m_count;
    left.remove_prefix(size);
    if (m_in_parts) break;
  }
  if (m_count == 0) return false;
  m_part_sent = Clock::now();
  if (m_in_parts) m_link->start("part", m_part, m_timeout);
  else
    m_link->start("take", rest.substr(0, m_size), std::max(m_timeout, Millis(static_cast<int64_t>(m_size / slowest))));
  return true;
}

// Takes the verdicts for the records of this piece.
void Sending::pass(std::vector<std::string> verdicts, const std::string& identity) {
  for (auto& v : verdicts) m_verdicts.push_back({std::move(v), identity});
  m_at += m_size;
  m_offset = 0;
  m_asked = false;
  m_repeats = 0;
}

void Sending::receive() {
  std::string bad;
  Reply reply = m_link->finish(bad);
  m_last_answer = Clock::now();
  if (bad.empty()) m_answered(reply);
  auto lines = split(reply.body, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  auto nonsense = [&] { return Error(Exit::config, reply.node + " sent an invalid answer"); };
  if (m_in_parts && !bad.empty()) {
    if (bad.find(unknown_kind) != std::string::npos) m_link->takes_no_parts();
    else pass({"refused " + bad}, reply.store);
  } else if (m_in_parts && lines.size() == 1 && lines[0].substr(0, 3) == "at ") {
    auto at = parse_count(lines[0].substr(3));
    if (!at || *at > m_data_size) throw nonsense();
    if (m_asked && *at <= m_offset && ++m_repeats == most_repeats)
      throw Error(Exit::retry, reply.node + " makes no progress with a job");
    if (m_asked) m_link->part_took(std::chrono::duration_cast<Millis>(m_last_answer - m_part_sent));
    m_offset = *at;
    m_asked = true;
  } else if (!bad.empty() && m_count > 1) {
    m_alone_until = m_at + m_size;
  } else if (!bad.empty()) {
    pass({"refused " + bad}, reply.store);
  } else if (lines.size() != m_count) {
    throw nonsense();
  } else {
    pass(std::move(lines), reply.store);
  }
}

bool Sending::wait(Millis most) {
  if (m_over) return true;
  try {
    if (!m_link->wait(most)) return false;
    receive();
    m_over = m_cut_short || !send();
  } catch (...) {
    m_failure = std::current_exception();
    m_over = true;
  }
  return m_over;
}

std::vector<Sending::Said> Sending::finish() {
  while (!wait(Millis(1000))) {
  }
  if (m_failure) std::rethrow_exception(m_failure);
  return std::move(m_verdicts);
}

}  // namespace gq
