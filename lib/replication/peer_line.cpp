#include "gq/replication/peer_line.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <numeric>

namespace gq {
namespace {

constexpr size_t max_late = 16;  // the limit of transfers that the node has not answered in time
constexpr size_t max_late_bytes = 32 << 20;

}  // namespace

// Takes an idle Link, or makes one. The caller gives the Link back when its answer has come, and otherwise destroys it.
std::unique_ptr<Link> PeerLine::take_line() {
  for (bool again : {true, false}) {
    {
      MutexLock guard(m_mutex);
      if (!m_idle.empty()) {
        auto line = std::move(m_idle.back());
        m_idle.pop_back();
        return line;
      }
      if (m_late.empty()) break;
    }
    if (again) hear_late();
  }
  return std::make_unique<Link>(m_monitor.config().servers, m_monitor.self(), m_monitor.group_id(), m_name, m_name,
                                m_monitor.keys(), &m_monitor.stopping());
}

// Asks on the function for questions, where a question does not wait for a large transfer. Older nodes do not serve
// this function.
std::unique_ptr<Link> PeerLine::start_ask(std::string_view body) {
  std::unique_ptr<Link> line;
  {
    MutexLock guard(m_mutex);
    if (!m_idle_asks.empty()) {
      line = std::move(m_idle_asks.back());
      m_idle_asks.pop_back();
    }
  }
  if (!line)
    line = std::make_unique<Link>(m_monitor.config().servers, m_monitor.self(), m_monitor.group_id(), m_name,
                                  ask_function(m_name), m_monitor.keys(), &m_monitor.stopping());
  try {
    line->start("ask", body, m_monitor.config().peer_timeout);
  } catch (const Error& e) {
    if (e.code() != Exit::retry) throw;
    line = take_line();
    line->start("ask", body, m_monitor.config().peer_timeout);
  }
  return line;
}

// Call it after each answer. Throws if the answer is not from the expected store.
void PeerLine::note(const Reply& reply, Millis asked) {
  bool serves = false;
  auto accept = [&](std::optional<Lsn> end) {
    return m_monitor.step([&](Replica& r) {
      serves = r.serves();
      return r.accept(m_name, reply.store, reply.session, end, asked, read_times());
    });
  };
  Replica::Acceptance acceptance = accept({});
  if (acceptance.needs_end) acceptance = accept(m_monitor.ledger().end());
  if (acceptance.refused) throw Error(Exit::config, *acceptance.refused);
  if (!serves) return;
  auto peers = m_monitor.ledger().directory().find_below(peers_name);
  Fd fd = peers ? peers->try_open(m_name, O_RDWR | O_CREAT) : Fd();
  if (fd) ::futimens(fd.get(), nullptr);
}

AskReply PeerLine::ask(const std::vector<std::string>& ids) {
  const Lsn here = m_monitor.ledger().end();
  const std::string body = encode_ask(ids);
  const auto round = m_monitor.step([](Replica& r) { return r.round(); });
  const Millis asked = read_times().boot;
  std::unique_ptr<Link> link;
  Reply reply;
  try {
    link = start_ask(body);
    reply = link->finish();
    note(reply, asked);
  } catch (const Error& e) {
    m_monitor.step([&](Replica& r) { r.not_answered(m_name, round, e.code() != Exit::unavailable, read_times()); });
    throw;
  }
  auto answer = parse_ask_reply(reply.body, ids);
  {
    MutexLock guard(m_mutex);
    (link->function() == m_name ? m_idle : m_idle_asks).push_back(std::move(link));
  }
  if (!answer) throw Error(Exit::config, m_name + " sent an invalid answer");
  auto refused = m_monitor.step([&](Replica& r) { return r.answered(m_name, round, *answer, here, read_times()); });
  if (refused) throw Error(Exit::config, *refused);
  publish({reply.store, answer->reads});
  return std::move(*answer);
}

// Tells other processes which features the node reads, if this process serves and the node has not said the same
// before.
void PeerLine::publish(const NodeReads& reads) {
  if (!m_monitor.step([](Replica& r) { return r.serves(); })) return;
  {
    MutexLock guard(m_mutex);
    if (m_reads == reads) return;
  }
  publish_reads(m_monitor.ledger(), m_name, reads);
  MutexLock guard(m_mutex);
  m_reads = reads;
}

bool PeerLine::is_free() const {
  MutexLock guard(m_mutex);
  return m_late.size() < max_late &&
         std::accumulate(m_late.begin(), m_late.end(), size_t{0}, [](size_t sum, const Call& call) {
           return sum + call.batch->records.size();
         }) < max_late_bytes;
}

Call PeerLine::start(std::shared_ptr<const Batch> batch, std::shared_ptr<Quorum> quorum) {
  Call call{this, std::move(batch)};
  call.quorum = std::move(quorum);
  call.sending = std::make_unique<Sending>(take_line(), call.batch->records, m_monitor.config().peer_timeout,
                                           [this, asked = read_times().boot](const Reply& reply) {
                                             note(reply, asked);
                                             m_monitor.taken();
                                           });
  return call;
}

std::vector<Sending::Said> PeerLine::receive(Call& call) {
  const Batch& batch = *call.batch;
  auto said = call.sending->finish();
  {
    MutexLock guard(m_mutex);
    m_idle.push_back(call.sending->take_link());
  }
  bool all = said.size() == batch.count;
  for (size_t i = 0; i < std::min(batch.numbers.size(), said.size()); ++i) {
    const PeerVerdict verdict = parse_verdict(said[i].line);
    if (call.quorum) call.quorum->answered(batch.numbers[i], m_name, said[i].identity, verdict);
    all = all && verdict.kind == PeerVerdict::Kind::have;
  }
  if (all && call.end) m_monitor.step([&](Replica& r) { r.sent_at_once(m_name, call.from, call.end); });
  return said;
}

void PeerLine::receive_or_complain(Call& call) {
  try {
    receive(call);
  } catch (const std::exception& e) {
    complain(e.what());
  }
}

void PeerLine::leave(Call call) {
  call.quorum.reset();
  call.sending->cut_short();
  MutexLock guard(m_mutex);
  m_late.push_back(std::move(call));
}

void PeerLine::hear_late() {
  std::list<Call> late;
  {
    MutexLock guard(m_mutex);
    late.swap(m_late);
  }
  for (auto call = late.begin(); call != late.end();) {
    if (call->sending->wait(Millis::zero())) {
      receive_or_complain(*call);
      call = late.erase(call);
    } else {
      ++call;
    }
  }
  MutexLock guard(m_mutex);
  m_late.splice(m_late.begin(), late);
}

void PeerLine::complain(const std::string& trouble) {
  m_monitor.step([&](Replica& r) { r.failed(m_name, m_monitor.stopping() ? std::string() : trouble, read_times()); });
}

}  // namespace gq
