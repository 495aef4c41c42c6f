#include "gq/replication/replicator.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/base/thread.hpp"
#include "gq/base/ulid.hpp"
#include "gq/replication/ask.hpp"
#include "gq/store/exchange.hpp"

namespace gq {
namespace {

constexpr Millis ask_interval{1000};
// How long what has come to the journal may rest before the debts are looked at: add() has then mostly paid them.
constexpr Millis look_interval{100};
constexpr Millis keep_interval{200};
constexpr Millis save_interval{1000};
constexpr Millis quiet_wait{3000};      // longer ones are logged
constexpr Millis leave_patience{1800};  // at the end, with peers that take nothing
constexpr Millis hurried_patience{1000};
constexpr long ids_in_record = 2000;    // they fit into its meta data
constexpr Millis again_soon{1000};      // when a job that was not answered is told again
constexpr size_t max_records = 32'000;  // in a transfer from another node
constexpr size_t max_under_way = 3;     // transfers of debts to a peer
constexpr size_t max_late = 16;         // other transfers to a peer that does not answer in time
constexpr size_t max_late_bytes = 32 << 20;
constexpr size_t window_bytes = 32 << 20;  // of debts on their way to a peer
// With more than one answer to wait for, so long for each in turn.
constexpr Millis turn{1};
constexpr const char* debts_suffix = ".debts";
const std::string unreadable_mark = "\t";  // before the reason, there; no reason that another gives begins so
constexpr size_t most_refusals = 100;      // that are logged, each once

// The records that say the same of these jobs, as many as fit into each.
std::vector<std::string> copied_records(event::Copied copied) {
  std::vector<std::string> records;
  copied.at = now_ms();
  const auto ids = std::exchange(copied.ids, {});
  for (auto at = ids.begin(); at != ids.end();) {
    auto next = at + std::min<long>(ids.end() - at, ids_in_record);
    copied.ids.assign(at, next);
    records.push_back(encode_record(copied));
    at = next;
  }
  return records;
}

Millis boot_now() { return read_times().boot; }

// The function on which a node answers what it is asked.
std::string ask_function(const std::string& node) { return node + ".ask"; }

}  // namespace

// Records on their way to peers.
struct Replicator::Batch {
  std::string records;
  size_t count = 0;                // of records
  std::vector<Debt*> debts;        // by record, where they are debts
  std::unique_ptr<Debt> apart;     // where it is one that is told on its own
  std::shared_ptr<Quorum> quorum;  // where a client waits for them
  std::vector<size_t> numbers;     // likewise: by record, the number of the job there
  Lsn from = 0, end = 0;           // where they stand in the journal; end is 0 where that is not to be passed over
};

// A transfer of them to one peer, under way.
struct Replicator::Call {
  Peer* peer;
  std::shared_ptr<Batch> batch;
  std::unique_ptr<Sending> sending;  // of the batch's records
};

struct Replicator::Peer {
  std::string name;
  std::thread thread;
  std::vector<std::unique_ptr<Link>> idle, idle_asks;  // lines
  std::list<Call> late;                                // that nobody waits for any more

  bool removed = false;  // from the group
  bool up = true;        // believed to answer, and to have room
  std::string trouble;   // why it is not up
  bool unsaid = false;   // and that has not been logged
  Progress progress;
  Clock::time_point saved_at;
  std::list<Call> apart_calls;  // its own thread's
  std::set<std::string> named;  // jobs that were named in the log, each once
  std::string published;        // likewise its own thread's
  Clock::time_point published_at{};
  Hearsay hearsay;

  // What it knows, as the journal says; what was heard of that since is forgotten.
  void take_up(Lsn its_position, Lsn its_since) {
    progress.take_up(its_position, its_since);
    hearsay = {};
  }

  size_t late_bytes() const {
    return std::accumulate(late.begin(), late.end(), size_t{0},
                           [](size_t sum, const Call& call) { return sum + call.batch->records.size(); });
  }
};

Replicator::Replicator(Store& store, Config config)
    : m_store(store),
      m_config(std::move(config)),
      m_keys(m_config.keyfile.empty() ? Keys() : Keys(m_config.keyfile)),
      m_self(store.group().self),
      m_group_id(store.group().id()),
      m_sessions(m_keys ? session_period(m_store.limits().remember, m_config.peer_timeout) : Millis::max()),
      m_members(store.group()),
      m_ownership(m_self),
      m_detector(m_config.takeover, m_config.alone_after) {
  try {
    for (const auto& member : m_members.group().members)
      if (member != m_self.node) add_peer(member);
  } catch (...) {
    stop();
    throw;
  }
}

Replicator::~Replicator() { stop(); }

Replicator::Peer* Replicator::find(const std::string& node) {
  for (auto& peer : m_peers)
    if (peer.name == node && !peer.removed) return &peer;
  return nullptr;
}

// A node is in the group from now on, or again.
void Replicator::add_peer(const std::string& name) {
  PeerState known;
  m_store.look([&](Fold& fold) { known = fold.peer(name); });
  std::lock_guard<std::mutex> guard(m_mutex);
  auto it = std::find_if(m_peers.begin(), m_peers.end(), [&](const Peer& p) { return p.name == name; });
  Peer& peer = it == m_peers.end() ? m_peers.emplace_back() : *it;
  peer.name = name;
  prepare(peer, known);
  peer.removed = true;  // until its thread has begun
  if (!peer.thread.joinable()) peer.thread = start_thread([this, &peer] { look_after(peer); });
  peer.removed = false;
}

// A line to the peer that nobody uses; given back when it has had its answer, else thrown away.
std::unique_ptr<Link> Replicator::take_line(Peer& peer) {
  for (bool again : {true, false}) {
    {
      std::lock_guard<std::mutex> guard(m_mutex);
      if (!peer.idle.empty()) {
        auto line = std::move(peer.idle.back());
        peer.idle.pop_back();
        return line;
      }
      if (peer.late.empty()) break;
    }
    if (again) hear_late(peer);
  }
  return std::make_unique<Link>(m_config.servers, m_self, m_group_id, peer.name, peer.name, m_keys, &m_stop);
}

// Asks on the line for that, which is not behind a large transfer; a node of before has none.
std::unique_ptr<Link> Replicator::start_ask(Peer& peer, std::string_view body) {
  std::unique_ptr<Link> line;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (!peer.idle_asks.empty()) {
      line = std::move(peer.idle_asks.back());
      peer.idle_asks.pop_back();
    }
  }
  if (!line)
    line = std::make_unique<Link>(m_config.servers, m_self, m_group_id, peer.name, ask_function(peer.name), m_keys,
                                  &m_stop);
  try {
    line->start("ask", body, m_config.peer_timeout);
  } catch (const Error& e) {
    if (e.code() != Exit::retry) throw;
    line = take_line(peer);
    line->start("ask", body, m_config.peer_timeout);
  }
  return line;
}

Replicator::Call Replicator::start_call(Peer& peer, std::shared_ptr<Batch> batch) {
  Call call{&peer, std::move(batch), {}};
  call.sending = std::make_unique<Sending>(take_line(peer), call.batch->records, m_config.peer_timeout,
                                           [this, &peer](const Reply& r) {
                                             note(peer, r);
                                             std::lock_guard<std::mutex> guard(m_mutex);
                                             m_taken_at = Clock::now();
                                           });
  return call;
}

void Replicator::stop() {
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    m_stop = true;
  }
  m_changed.notify_all();
  if (m_keeper.joinable()) m_keeper.join();
  if (m_pulse.joinable()) m_pulse.join();
  m_receivers.reset();
  m_asked.reset();
  for (auto& peer : m_peers)
    if (peer.thread.joinable()) peer.thread.join();
}

// Waits, unless this stops meanwhile; true when it does.
bool Replicator::pause(Millis duration) {
  std::unique_lock<std::mutex> lock(m_mutex);
  return m_changed.wait_for(lock, duration, [&] { return m_stop.load(); });
}

// Says what is wrong, once until it is right again.
void Replicator::complain(Peer& peer, const std::string& trouble) {
  std::lock_guard<std::mutex> guard(m_mutex);
  peer.up = false;
  if (m_stop || peer.removed) return;
  const bool is_new = std::exchange(peer.trouble, trouble) != trouble;
  if (is_new || peer.unsaid) {
    auto behind = m_seldom.behind(trouble, Clock::now());
    peer.unsaid = !behind;  // it is said when it lasts
    if (behind) log(Level::warning, trouble + *behind);
  }
}

// --------------------------------------------------------------------------------------------------------------- add

std::vector<Answer> Replicator::add(std::vector<NewJob> jobs) {
  Group group;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    group = m_members.group();
  }
  for (auto& job : jobs) {
    job.add.node = group.self.node;
    job.add.store = group.self.store;
    job.add.copies = group.copies;
    job.add.once = group.once;
    job.encode();
  }
  return answer(std::move(jobs), {group.copies, m_config.owe, true, m_config.peer_timeout});
}

std::vector<Answer> Replicator::relay(std::vector<NewJob> jobs, uint32_t copies) {
  std::string store;  // one that is no more: all who have the job pass it on
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    store = m_sessions.current(read_times().boot);
  }
  for (auto& job : jobs) {
    job.add.node = m_self.node;
    job.add.store = store;
    // Whatever the client says: each node of such a group runs it, where it is as soon as it is there.
    job.add.once = false;
    job.add.copies = 0;
    job.encode();
  }
  return answer(std::move(jobs), {copies, false, false, m_config.peer_timeout});
}

// Carries out what a quorum decides, until it answers.
std::vector<Answer> Replicator::answer(std::vector<NewJob> jobs, Quorum::Rule rule) {
  std::vector<Quorum::Asked> asked;
  for (const auto& job : jobs)
    asked.push_back({job.add.id, job.add.given || !job.add.asked.key.empty(), !job.add.part.source.empty()});
  auto quorum = std::make_shared<Quorum>(rule, m_self, std::move(asked));
  std::list<Call> calls;
  std::shared_ptr<Batch> first;
  for (;;) {
    auto effect = next_effect(*quorum, calls);
    if (auto* append = std::get_if<Quorum::Append>(&effect)) {
      first = append_jobs(quorum, append->then_send, jobs, calls);
    } else if (auto* send = std::get_if<Quorum::Send>(&effect)) {
      hand_out(quorum, *send, jobs, calls);
    } else if (auto* wait = std::get_if<Quorum::Wait>(&effect)) {
      auto call = next_answered(calls, std::min(wait->until, Clock::now() + look_interval));
      if (call == calls.end()) continue;
      hear_or_complain(*call);
      calls.erase(call);
      quorum->ended();
    } else if (auto* record = std::get_if<Quorum::Record>(&effect)) {
      quorum->recorded(record_copies(*record));
    } else {
      auto& reply = std::get<Quorum::Reply>(effect);
      let_go(calls, reply.counted, first);
      return std::move(reply.answers);
    }
  }
}

Quorum::Effect Replicator::next_effect(Quorum& quorum, const std::list<Call>& calls) {
  // As long as one gets on it is waited for.
  for (const auto& call : calls) quorum.progressed(call.sending->last_answer());
  std::lock_guard<std::mutex> guard(m_mutex);
  if (m_hurried) quorum.hurry(*m_hurried + hurried_patience);
  Quorum::Others others;
  for (const auto& peer : m_peers) {
    if (peer.removed) continue;
    others.identities[peer.name] = m_members.store_of(peer.name);
    others.up += peer.up;
  }
  return quorum.next(Clock::now(), others);
}

// Stores jobs, and hands them out meanwhile where `then_send` is true. Returns what is on its way then.
std::shared_ptr<Replicator::Batch> Replicator::append_jobs(const std::shared_ptr<Quorum>& quorum, bool then_send,
                                                           std::vector<NewJob>& jobs, std::list<Call>& calls) {
  std::shared_ptr<Batch> batch;
  auto hand = [&](const std::vector<size_t>& numbers, Lsn from, Lsn end) {
    batch = hand_out(quorum, quorum->to_send(numbers), jobs, calls);
    if (!batch) return;
    batch->from = from;
    // A blob has to be remembered.
    if (std::all_of(numbers.begin(), numbers.end(), [&](size_t n) { return jobs[n].data.size() <= max_inline_data; }))
      batch->end = end;
  };
  auto answers = m_store.add(jobs, then_send ? Store::Appended(hand) : Store::Appended());
  std::vector<std::optional<Quorum::Known>> known(jobs.size());
  if (!then_send) known = known_by(jobs, answers);
  quorum->stored(std::move(answers), known);
  return batch;
}

// The jobs that these are, or that stand for them.
std::vector<std::optional<Quorum::Known>> Replicator::known_by(const std::vector<NewJob>& jobs,
                                                               std::vector<Answer>& answers) {
  std::vector<std::optional<Quorum::Known>> known(jobs.size());
  try {
    m_store.look([&](Fold& fold) {
      for (size_t i = 0; i < jobs.size(); ++i) {
        std::optional<Job> job;
        if (answers[i].outcome == Outcome::queued) job = fold.get(jobs[i].add.id);
        if (answers[i].outcome == Outcome::same) job = fold.get(answers[i].reason);
        known[i].reset();
        if (job) known[i] = {*job, has_ended(*job) && fold.is_owed(*job)};
      }
    });
  } catch (const Error& e) {
    for (auto& answer : answers)
      if (answer.outcome == Outcome::queued || answer.outcome == Outcome::same)
        answer = {Outcome::unknown, e.what(), e.error_number()};
  }
  return known;
}

// A job that is here already takes the place of the one that came, with its record and workload; false where that
// cannot be read.
bool Replicator::take_place(NewJob& job, const std::string& id, const Job& known) {
  std::string unread;
  auto record = std::make_shared<const std::string>(add_record(id, known, unread));
  auto read = parse_record(*record);
  auto* add = read ? std::get_if<event::Add>(&read->event) : nullptr;
  if (!add) return false;
  job.add = std::move(*add);
  job.head = record->substr(0, read->head_size);
  job.data = std::string_view(*record).substr(read->head_size);
  job.data_sum = read->data_sum;
  job.own = std::move(record);
  return true;
}

// The job with its workload, which is a part of another's; nullopt where that cannot be read.
std::optional<NewJob> Replicator::whole(const NewJob& job) {
  Fd blob = m_store.blobs().open(job.add.part.source);
  if (!blob) return std::nullopt;
  std::string part(job.add.part.length, '\0');
  if (read_at(blob.get(), part.data(), part.size(), job.add.part.offset) != part.size()) return std::nullopt;
  return with_data(job.add, std::move(part));
}

// Begins to send jobs to all peers that are up. Returns what is on its way; nullptr where nothing is.
std::shared_ptr<Replicator::Batch> Replicator::hand_out(const std::shared_ptr<Quorum>& quorum, const Quorum::Send& send,
                                                        std::vector<NewJob>& jobs, std::list<Call>& calls) {
  auto batch = std::make_shared<Batch>();
  size_t size = 0;
  for (size_t n : send.numbers) size += jobs[n].head.size() + jobs[n].data.size();
  batch->records.reserve(size);
  for (size_t n : send.numbers) {
    std::optional<NewJob> made;
    if (send.whole && !(made = whole(jobs[n]))) continue;
    if (auto* standing = quorum->stands_for(n); standing && !take_place(jobs[n], standing->id, standing->job)) {
      quorum->cannot_send(n, "the workload of " + standing->id + " cannot be given to another node");
      continue;
    }
    const NewJob& job = made ? *made : jobs[n];
    batch->records += job.head;
    batch->records += job.data;
    batch->numbers.push_back(n);
  }
  batch->count = batch->numbers.size();
  batch->quorum = quorum;
  if (batch->count == 0) return nullptr;
  std::vector<Peer*> up;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    for (auto& peer : m_peers)
      if (peer.up && !peer.removed && peer.late.size() < max_late && peer.late_bytes() < max_late_bytes)
        up.push_back(&peer);
  }
  const size_t before = calls.size();
  for (Peer* peer : up) {
    try {
      calls.push_back(start_call(*peer, batch));
    } catch (const std::exception& e) {
      complain(*peer, e.what());
    }
  }
  quorum->sent(calls.size() - before, Clock::now());
  return batch;
}

// Notes which nodes have jobs; false where that fails.
bool Replicator::record_copies(const Quorum::Record& what) {
  std::vector<std::string> records;
  for (const auto& copied : what.copied)
    for (auto& record : copied_records(copied)) records.push_back(std::move(record));
  try {
    // Which nodes have them can be found out again; that fewer are enough cannot.
    if (what.commit) m_store.journal().commit({records.begin(), records.end()}, Room::completion);
    else m_store.journal().append({records.begin(), records.end()}, Room::completion);
    return true;
  } catch (const Error& e) {
    log(Level::warning, std::string(e.what()) + "; jobs wait until their copies are counted again");
    return false;
  }
}

// Nobody waits for these any more: what is left of them is told with the debts. Where not all were counted, answers
// that are late, or could not be noted, are asked for again then.
void Replicator::let_go(std::list<Call>& calls, bool counted, const std::shared_ptr<Batch>& first) {
  std::lock_guard<std::mutex> guard(m_mutex);
  for (auto& call : calls) {
    call.sending->cut_short();
    call.peer->late.push_back(std::move(call));
  }
  if (counted || !first) return;
  first->end = 0;
  for (auto& peer : m_peers) peer.progress.not_told(first->from);
}

// Goes on with all of these until one has its answer, which is returned; end(), when the time is over before.
std::list<Replicator::Call>::iterator Replicator::next_answered(std::list<Call>& calls, Clock::time_point deadline) {
  for (auto now = Clock::now(); !calls.empty() && now < deadline; now = Clock::now())
    for (auto call = calls.begin(); call != calls.end(); ++call)
      if (call->sending->wait(calls.size() > 1 ? turn
                                               : std::min(ask_interval, std::chrono::ceil<Millis>(deadline - now))))
        return call;
  return calls.end();
}

// Waits for the verdicts on a transfer, one for each record; fewer where it was cut short. Throws where there are none.
std::vector<Sending::Said> Replicator::hear(Call& call) {
  Peer& peer = *call.peer;
  Batch& batch = *call.batch;
  auto said = call.sending->finish();
  std::lock_guard<std::mutex> guard(m_mutex);
  peer.idle.push_back(call.sending->take_link());
  bool all = said.size() == batch.count;
  for (size_t i = 0; i < std::min(batch.numbers.size(), said.size()); ++i) {
    PeerVerdict verdict = parse_verdict(said[i].line);
    batch.quorum->heard(batch.numbers[i], peer.name, said[i].identity, verdict);
    all = all && verdict.kind == PeerVerdict::Kind::have;
  }
  if (all && batch.end && m_serving) peer.progress.told_at_once(batch.from, batch.end);
  return said;
}

void Replicator::hear_or_complain(Call& call) {
  try {
    hear(call);
  } catch (const std::exception& e) {
    complain(*call.peer, e.what());
  }
}

// What came too late for those who waited for it.
void Replicator::hear_late(Peer& peer) {
  std::list<Call> late;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    late.swap(peer.late);
  }
  for (auto call = late.begin(); call != late.end();) {
    if (call->sending->wait(Millis::zero())) {
      hear_or_complain(*call);
      call = late.erase(call);
    } else {
      ++call;
    }
  }
  std::lock_guard<std::mutex> guard(m_mutex);
  peer.late.splice(peer.late.begin(), late);
}

// ------------------------------------------------------------------------------------------------------ what peers are

// What follows when one has spoken for a node. Called with m_mutex held.
void Replicator::take_up(Peer& peer, const Meeting& meeting) {
  using What = Meeting::What;
  if (meeting.restarted) m_ownership.may_have_lost(peer.name);
  if (meeting.what == What::unproved) {
    if (auto behind = m_seldom.behind("identity " + peer.name, Clock::now()))
      log(Level::warning,
          "a transfer from " + peer.name + " has another identity than that which answers as " + peer.name + *behind);
    return;
  }
  if (meeting.what == What::another) {
    if (auto behind = m_seldom.behind("another store " + peer.name, Clock::now()))
      log(Level::warning,
          peer.name + " is another store than before; it is told everything that is not finished" + *behind);
    peer.take_up(0, m_store.journal().end());
    for (auto& p : m_peers) p.hearsay.is_another(peer.name);
    m_detector.is_another(peer.name);
    walk_again(peer.name);
  }
  if (meeting.what != What::first && meeting.what != What::another) return;
  m_ownership.may_have_lost(peer.name);
  if (m_serving) record_peer(peer);
}

// What came from this node is from now on told by this one too. Called with m_mutex held.
void Replicator::walk_again(const std::string& origin) {
  for (auto& p : m_peers) p.progress.walk_again(origin);
}

// After an answer. Throws where it is not from whom it should be.
void Replicator::note(Peer& peer, const Reply& reply) {
  std::lock_guard<std::mutex> guard(m_mutex);
  if (m_serving) beat();  // where this process was away, the silence of others says nothing
  const Millis now = boot_now();
  const Meeting meeting =
      m_members.meet(peer.name, reply.store, reply.session, m_detector.answers(peer.name, now), now);
  if (meeting.what == Meeting::What::refused) throw Error(Exit::config, meeting.reason);
  take_up(peer, meeting);
  if (auto why = m_detector.heard(peer.name, now)) begin_to_return(*why);
  if (m_serving) {
    auto peers = m_store.directory().find_below(Store::peers_name);
    Fd fd = peers ? peers->try_open(peer.name, O_RDWR | O_CREAT) : Fd();
    if (fd) ::futimens(fd.get(), nullptr);
  }
}

// Called with m_mutex held.
void Replicator::record_peer(Peer& peer) {
  if (peer.removed) return;
  const std::string record = encode_record(event::Peer{.node = peer.name,
                                                       .store = m_members.store_of(peer.name),
                                                       .at = now_ms(),
                                                       .position = peer.progress.position(),
                                                       .since = peer.progress.since()});
  peer.saved_at = Clock::now();
  try {
    m_store.journal().append({record}, Room::completion);
    peer.progress.recorded(true);
  } catch (const Error&) {  // then it will be told again
    peer.progress.recorded(false);
  }
}

// Asks a peer how it is, and which of these jobs it knows.
AskReply Replicator::ask(Peer& peer, const std::vector<std::string>& ids) {
  Lsn here = m_store.journal().end();
  const std::string body = encode_ask(ids);
  Reply reply;
  FailureDetector::Round round;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    round = m_detector.round();
  }
  std::unique_ptr<Link> link;
  try {
    link = start_ask(peer, body);
    reply = link->finish();
    note(peer, reply);
  } catch (const Error& e) {
    std::lock_guard<std::mutex> guard(m_mutex);
    m_detector.failed(peer.name, round, e.code() != Exit::unavailable, boot_now());
    throw;
  }
  auto answer = parse_ask_reply(reply.body, ids);
  std::lock_guard<std::mutex> guard(m_mutex);
  (link->function() == peer.name ? peer.idle : peer.idle_asks).push_back(std::move(link));
  if (!answer) throw Error(Exit::config, peer.name + " answers something else");
  if (answer->relay && !m_members.says_relay(peer.name, *answer->relay, boot_now()))
    throw Error(Exit::config, Membership::turned_over(peer.name));
  const bool relay = m_members.is_relay(peer.name);
  std::optional<Lsn> told;
  for (const auto& sent : answer->sent) {
    // To whom it was, not to one that has its name now.
    if (!m_members.is(sent.node, sent.store)) continue;
    if (sent.node == m_self.node) told = sent.upto;
    else peer.hearsay.told(sent.node, sent.upto);
  }
  if (m_detector.answered(peer.name, round, *answer, told, boot_now())) log(Level::warning, peer.name + " is back");
  const bool room = answer->room && !relay;
  if (room || relay) {
    if (!peer.trouble.empty()) log(Level::info, peer.name + " answers again");
    peer.trouble.clear(), peer.unsaid = false;
  }
  peer.up = room;
  if (m_serving && peer.progress.says_relay(relay, here)) record_peer(peer);
  peer.hearsay.ended(answer->end, here);
  return std::move(*answer);
}

void Replicator::look_after(Peer& peer) {
  Clock::time_point next_ask{};
  Lsn seen = 0;
  for (;;) {
    bool serving, up, removed;
    {
      std::lock_guard<std::mutex> guard(m_mutex);
      serving = m_serving;
      up = peer.up;
      removed = peer.removed;
    }
    bool more = false;
    hear_late(peer);
    try {
      if (!removed && (serving || !up) && Clock::now() >= next_ask) {
        next_ask = Clock::now() + ask_interval;
        ask(peer, {});
      }
      {
        std::lock_guard<std::mutex> guard(m_mutex);
        up = peer.up && m_detector.has_answered(peer.name);
      }
      if (!removed && serving && up) {
        Lsn end = m_store.journal().end();
        more = pay(peer, seen);
        seen = end;
        more = tell_apart(peer) || more;
        save_position(peer);
        publish_debts(peer);
      }
    } catch (const std::exception& e) {
      complain(peer, e.what());
    }
    if (pause(more ? Millis(0) : look_interval)) break;
  }
  std::lock_guard<std::mutex> guard(m_mutex);
  if (m_serving && peer.progress.is_unsaved() && !peer.removed) record_peer(peer);
}

// ------------------------------------------------------------------------------------------------------------- debts

// Tells a peer what the next part of the journal, up to `end` at most, says; true when there is more. Throws where it
// could not be told.
bool Replicator::pay(Peer& peer, Lsn end) {
  std::optional<Walk> walk;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    walk = peer.progress.walk(m_self.node, peer.name, m_members.store_of(peer.name), end);
  }
  if (!walk) return false;
  read_on(*walk, end);
  if (const auto ids = walk->jobs(); !ids.empty())
    m_store.look([&](Fold& fold) {
      walk->look_again();
      for (const auto& id : ids) walk->look(id, fold.get(id));
    });
  if (const auto unsure = walk->unsure(); !unsure.empty()) {
    auto known = ask(peer, unsure).known;
    for (size_t i = 0; i < unsure.size(); ++i)
      if (known[i]) walk->knows(unsure[i]);
  }
  deliver(peer, walk->debts(), walk->identity());
  if (auto copied = walk->copied(); !copied.empty()) {
    auto records = copied_records({.ids = std::move(copied), .peers = peer.name, .stores = walk->identity()});
    m_store.journal().append({records.begin(), records.end()}, Room::completion);
  }
  std::lock_guard<std::mutex> guard(m_mutex);
  const auto left = peer.progress.walked(*walk, m_members.store_of(peer.name), boot_now());
  if (!left) return true;
  for (const auto& what : *left) say_left(peer, what);
  for (auto& blob : peer.progress.take_blobs()) m_blobs.push_back(std::move(blob));
  return walk->upto() < end;
}

// Shows a walk its part of the journal.
void Replicator::read_on(Walk& walk, Lsn end) {
  auto is_mine = [this](const std::string& node, const std::string& store) {
    std::lock_guard<std::mutex> guard(m_mutex);
    return is_mine_to_tell(m_members, m_detector, node, store);
  };
  EventReader reader(m_store.journal(), walk.upto());
  std::string bytes;
  while (walk.upto() < end && !walk.is_full()) {
    if (const Lsn at = walk.upto(); walk.skip() != at) {
      reader.skip_to(walk.upto());
      continue;
    }
    auto item = reader.next(true);
    if (item != JournalReader::Item::record) {
      walk.pass(reader.position());
      if (item == JournalReader::Item::end) return;
      continue;
    }
    bytes.clear();
    if (std::holds_alternative<event::Add>(reader.event()) && reader.head().data_size <= max_inline_data &&
        reader.has_data()) {
      bytes = reader.head_bytes();
      bytes += reader.data();
    }
    walk.see(reader.event(), reader.head(), reader.lsn(), reader.position(), bytes, is_mine);
  }
}

// Says what a peer will not have, or does not have yet, of each job once. Called with m_mutex held.
void Replicator::say_left(Peer& peer, const Progress::Left& left) {
  using What = Progress::Left::What;
  if (peer.named.size() >= most_refusals || !peer.named.insert(left.id).second) return;
  if (left.what == What::conflict)
    log(Level::error,
        left.id + ": " + peer.name + " has another job with this ID or key" +
            (left.pending ? "; as long as too few nodes have it, it is pending (gq-flush --drop ends that)" : ""));
  else if (left.what == What::unreadable)
    log(Level::error, left.id + ": cannot give it to " + peer.name + ": " + left.why +
                          "; it is still owed, and tried again now and then");
  else
    log(Level::warning,
        left.id + ": " + peer.name + " refuses it: " + left.why + "; it is still owed, and offered again now and then");
}

// The add record of a job with its workload, for one who has neither; empty where it is damaged or gone, or where the
// disk does not give it back now, which `unread` tells.
std::string Replicator::add_record(const std::string& id, const Job& job, std::string& unread) try {
  EventReader reader(m_store.journal(), 0);
  for (Lsn lsn : {job.location, job.first_lsn}) {
    auto* add = reader.read_record_at(lsn, true) ? std::get_if<event::Add>(&reader.event()) : nullptr;
    if (!add || add->id != id) continue;
    std::string data;
    if (job.is_inline()) {
      if (!reader.has_data()) continue;
      data = reader.data();
    } else {
      data.resize(job.size);
      Fd blob = m_store.blobs().open(blob_of(id, job));
      if (!blob || read_at(blob.get(), data.data(), data.size(), job.offset) != data.size() || sum64(data) != job.sum)
        continue;
    }
    event::Add told = told_add(*add, job);
    if (told.store == add->store && job.source.empty()) return std::string(reader.head_bytes()) + data;
    NewJob made = with_data(std::move(told), std::move(data));
    return made.head + *made.own;
  }
  std::lock_guard<std::mutex> guard(m_mutex);
  if (auto behind = m_seldom.behind("damaged", Clock::now()))
    log(Level::error, id + ": its workload is damaged or gone, and cannot be given to another node" + *behind);
  return {};
} catch (const Error& e) {
  unread = e.what();
  return {};
}

// What a peer says of a record.
void Replicator::take_verdict(Peer& peer, Debt& debt, const std::string& line) {
  if (!debt.take(parse_verdict(line))) throw Error(Exit::config, peer.name + " answers something else");
}

// Sends what is owed, and notes with each what became of it. Throws where the peer does not answer, or, where
// an identity is given, is another.
void Replicator::deliver(Peer& peer, std::vector<Debt>& debts, const std::string& identity) {
  std::list<Call> under_way;
  auto next = std::make_shared<Batch>();
  size_t bytes = 0;
  auto hear_next = [&] {
    auto call = next_answered(under_way, Clock::time_point::max());
    auto batch = call->batch;
    auto lines = hear(*call);
    under_way.erase(call);
    bytes -= batch->records.size();
    for (size_t i = 0; i < lines.size(); ++i) {
      if (!identity.empty() && lines[i].identity != identity)
        throw Error(Exit::retry, peer.name + " is another store than before");
      take_verdict(peer, *batch->debts[i], lines[i].line);
    }
  };
  auto send = [&] {
    if (next->count == 0) return;
    if (m_stop) throw Error(Exit::retry, "cannot go on: stopping");
    bytes += next->records.size();
    under_way.push_back(start_call(peer, std::exchange(next, std::make_shared<Batch>())));
    while (under_way.size() >= max_under_way || bytes > window_bytes) hear_next();
  };
  auto put = [&](Debt& debt, std::string record) {
    if (record.empty()) return;
    std::string& records = next->records;
    if (!records.empty() && records.size() + record.size() > max_transfer) send();
    if (next->records.empty()) next->records = std::move(record);
    else next->records += record;
    ++next->count;
    next->debts.push_back(&debt);
  };
  auto finish = [&] {
    send();
    while (!under_way.empty()) hear_next();
  };
  for (auto& debt : debts) {
    if (debt.again) continue;
    put(debt, debt.reads_add() ? add_record(debt.id, debt.job, debt.unreadable) : debt.add);
    if (debt.state && !debt.is_left()) put(debt, told_record(debt.id, debt.job, m_self));
  }
  finish();
  for (auto& debt : debts) {
    if (!debt.is_told_again()) continue;
    debt.again = false;
    put(debt, add_record(debt.id, debt.job, debt.unreadable));
    if (!debt.is_left() && !is_fresh(debt.job)) put(debt, told_record(debt.id, debt.job, m_self));
  }
  finish();
}

// Tells a peer large jobs, and what it has refused, for a moment, so that they hold nothing else up. True when there is
// more to do at once.
bool Replicator::tell_apart(Peer& peer) {
  begin_apart(peer);
  if (peer.apart_calls.empty()) return false;
  auto call = next_answered(peer.apart_calls, Clock::now() + look_interval);
  if (call == peer.apart_calls.end()) return true;
  Call ended = std::move(*call);
  peer.apart_calls.erase(call);
  end_apart(peer, ended);
  return true;
}

void Replicator::begin_apart(Peer& peer) {
  size_t bytes = 0;
  for (const auto& call : peer.apart_calls) bytes += call.batch->records.size();
  while (peer.apart_calls.size() < max_under_way && bytes < window_bytes) {
    std::optional<std::pair<std::string, Progress::Apart>> next;
    Lsn since;
    {
      std::lock_guard<std::mutex> guard(m_mutex);
      next = peer.progress.next_apart(boot_now());
      since = peer.progress.since();
    }
    if (!next) return;
    const std::string& id = next->first;
    std::optional<Job> job;
    m_store.look([&](Fold& fold) { job = fold.get(id); });
    auto batch = std::make_shared<Batch>();
    if (auto debt = debt_apart(id, job, next->second.needs_add, since)) {
      batch->apart = std::make_unique<Debt>(std::move(*debt));
      if (batch->apart->needs_add) batch->records = add_record(id, *job, batch->apart->unreadable);
      batch->count = batch->records.empty() ? 0 : 1;
      if (batch->apart->state) batch->records += told_record(id, *job, m_self), ++batch->count;
    }
    if (batch->apart && batch->apart->is_left()) {
      std::lock_guard<std::mutex> guard(m_mutex);
      if (auto left = peer.progress.ended(*batch->apart, boot_now())) say_left(peer, *left);
      continue;
    }
    if (batch->count == 0) {
      std::lock_guard<std::mutex> guard(m_mutex);
      peer.progress.nothing_to_tell(id);
      continue;
    }
    batch->debts.assign(batch->count, batch->apart.get());
    bytes += batch->records.size();
    try {
      peer.apart_calls.push_back(start_call(peer, batch));
    } catch (...) {
      std::lock_guard<std::mutex> guard(m_mutex);
      peer.progress.not_heard(id, boot_now());
      throw;
    }
  }
}

void Replicator::end_apart(Peer& peer, Call& call) {
  Debt& debt = *call.batch->apart;
  std::string identity;
  try {
    for (const auto& said : hear(call)) {
      take_verdict(peer, debt, said.line);
      identity = said.identity;
    }
  } catch (const std::exception&) {
    std::lock_guard<std::mutex> guard(m_mutex);
    peer.progress.not_heard(debt.id, boot_now() + again_soon);
    throw;
  }
  if (debt.is_there() && debt.job.state == State::pending) {
    auto records = copied_records({.ids = {debt.id}, .peers = peer.name, .stores = identity});
    m_store.journal().append({records.begin(), records.end()}, Room::completion);
  }
  std::lock_guard<std::mutex> guard(m_mutex);
  if (auto left = peer.progress.ended(debt, boot_now())) say_left(peer, *left);
}

// What a peer knows for certain is recorded now and then, so that another process need not tell it all again.
void Replicator::save_position(Peer& peer) {
  std::vector<std::string> done_with;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (Clock::now() < peer.saved_at + save_interval) return;
    auto confirmed = [&](const std::string& origin) {
      Peer* its = find(origin);
      return its ? its->hearsay.confirmed(peer.name) : nothing_owed;
    };
    if (!peer.progress.moves_on(confirmed)) return;
    record_peer(peer);
    Lsn least = nothing_owed;
    for (const auto& p : m_peers)
      if (!p.removed) least = std::min(least, p.progress.position());
    std::deque<std::pair<Lsn, std::string>> left;
    for (auto& blob : m_blobs)
      if (blob.first < least) done_with.push_back(std::move(blob.second));
      else left.push_back(std::move(blob));
    m_blobs = std::move(left);
  }
  m_store.remove_blobs_of(done_with);
}

// Says what a peer is still to be told, where the position does not, for who looks at it (debts_of).
void Replicator::publish_debts(Peer& peer) {
  std::string text;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (Clock::now() < peer.published_at + save_interval) return;
    if (peer.progress.sent() > peer.progress.position())
      text = m_members.store_of(peer.name) + " " + std::to_string(peer.progress.sent()) + "\n";
    for (const auto& [id, apart] : peer.progress.apart())
      text += id + " " +
              (apart.unreadable.empty() ? printable(apart.refused) : unreadable_mark + printable(apart.unreadable)) +
              "\n";
    if (text == peer.published) return;
    peer.published = text;
    peer.published_at = Clock::now();
  }
  const Directory peers = m_store.directory().make_below(Store::peers_name);
  const std::string name = peer.name + debts_suffix;
  if (text.empty()) {
    peers.remove(name);
    return;
  }
  // Who reads it may believe nothing of it, so nothing is synced.
  const std::string temporary = name + ".new";
  Fd fd = peers.open(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  write_all(fd.get(), text, temporary);
  if (!peers.rename(temporary, name)) throw_errno(Exit::storage, "rename " + peers.path_of(temporary));
}

// ------------------------------------------------------------------------------------------------------------ service

void Replicator::start() {
  m_keeper = start_thread([this] { keep(); });
  // By itself, since what the keeper does may take long.
  m_pulse = start_thread([this] {
    do {
      std::lock_guard<std::mutex> guard(m_mutex);
      if (m_serving) beat();
    } while (!pause(keep_interval));
  });
}

bool Replicator::take_lock() {
  if (!m_lock) m_lock = m_store.directory().open("replicate.lock", O_RDWR | O_CREAT);
  if (!try_lock(m_lock.get(), FileLock::Mode::exclusive)) return false;
  m_store.directory().make_below(Store::peers_name);
  std::map<std::string, PeerState> known;
  m_store.look([&](Fold& fold) { known = fold.peers(); });
  std::lock_guard<std::mutex> guard(m_mutex);
  for (auto& peer : m_peers)
    if (!peer.removed) prepare(peer, known[peer.name]);
  m_beat_file = m_store.directory().open(Store::returned_name, O_RDWR | O_CREAT);
  const Times now = read_times();
  m_beat = {now, longest_gap(m_config.takeover), {}};
  m_detector.begin(now);
  begin_to_return({});
  m_serving = true;
  return true;
}

// What the journal says of a peer. Called with m_mutex held.
void Replicator::prepare(Peer& peer, const PeerState& known) {
  m_members.take_up(peer.name, known);
  m_detector.add(peer.name, boot_now());
  m_ownership.may_have_lost(peer.name);
  peer.take_up(known.position, known.since);
}

void Replicator::keep() {
  while (!m_stop) {
    try {
      if (!m_serving && !take_lock()) {
        m_elsewhere = true;
        m_changed.notify_all();
      } else if (!m_receivers) {
        auto receivers = std::make_unique<Receivers>(
            m_config.servers,
            std::vector<Service>{
                {m_self.node, false, [this](std::string_view p) { return serve(p); }, max_transfer_size, {}}},
            [] { return Receivers::Serve::all; });
        auto asked = std::make_unique<Receivers>(m_config.servers,
                                                 std::vector<Service>{{ask_function(m_self.node),
                                                                       false,
                                                                       [this](std::string_view p) { return serve(p); },
                                                                       max_transfer_size,
                                                                       {}}},
                                                 [] { return Receivers::Serve::all; });
        receivers->start();
        asked->start();
        m_receivers = std::move(receivers);
        m_asked = std::move(asked);
        m_changed.notify_all();
      } else {
        reload();
        watch_others();
        come_back();
      }
    } catch (const std::exception& e) {
      std::lock_guard<std::mutex> guard(m_mutex);
      if (m_trouble != e.what()) log(Level::warning, e.what());
      m_trouble = e.what();
    }
    if (pause(keep_interval)) return;
  }
}

// Takes up changes that gq-replicate has made to the group.
void Replicator::reload() {
  struct stat st;
  if (!m_store.directory().look_at(settings_name, st)) return;
  auto stamp = std::pair(st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  if (stamp == m_settings_stamp) return;
  const Settings settings = read_settings(m_store.directory());
  std::map<std::string, PeerState> known;
  m_store.look([&](Fold& fold) { known = fold.peers(); });
  GroupChange change;
  std::vector<std::string> added;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    change = m_members.change(settings.group, known);
    for (const auto& node : change.removed) {
      find(node)->removed = true;
      m_detector.remove(node);
    }
    for (const auto& member : m_members.group().members)
      if (m_members.has(member) && !find(member)) added.push_back(member);
    if (m_keys && !change.of_another)
      m_sessions.set_period(session_period(settings.limits.remember, m_config.peer_timeout));
  }
  for (const auto& name : added) add_peer(name);
  std::vector<std::string> forgotten;
  for (const auto& node : change.forgotten) forgotten.push_back(forgotten_record(node));
  if (!forgotten.empty()) m_store.journal().commit({forgotten.begin(), forgotten.end()}, Room::completion);
  m_settings_stamp = stamp;
}

// From now on nothing is started here until the others have told what became of this node's jobs. Called with m_mutex
// held.
void Replicator::begin_to_return(const std::string& why) {
  m_returned_lock.reset();
  if (!m_members.group().once) return;
  m_beat.waits = "until the other nodes can be asked";
  m_beat_written = Millis(0);
  m_waits_logged.clear();
  if (!why.empty())
    log(Level::warning, why + ": nothing is started until the others have told what became of this node's jobs");
}

// Says that this process goes on; called with m_mutex held.
void Replicator::beat() {
  Times now = read_times();
  if (auto why = m_detector.beat(now)) begin_to_return(*why);
  m_beat.at = now;
  if (now.boot - m_beat_written < m_beat.longest / 8) return;
  std::string text = encode_beat(m_beat);
  // Of a longer text before, what stands behind the line is not read.
  if (::pwrite(m_beat_file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()))
    m_beat_written = now.boot;
}

// Says what this node waits for, where people look for it, and in the log when that takes long. Called with m_mutex
// held.
void Replicator::say_wait(const Standby& wait, bool has_jobs) {
  std::string text = wait_text(wait, now_ms());
  if (m_beat.waits != text) m_beat_written = Millis(0);
  m_beat.waits = text;
  auto about = text.substr(0, text.find(','));
  if (!has_jobs || m_waits_logged == about || m_detector.returning_for(boot_now()) < quiet_wait) return;
  log(Level::warning, "no job is run " + text);
  m_waits_logged = about;
}

// Where the others have told what became of this node's jobs while it was away, they may be run.
void Replicator::come_back() {
  FailureDetector::Round round;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (m_detector.has_returned()) return;
    round = m_detector.round();
  }
  if (m_members.group().once) {
    uint64_t own = 0;
    m_store.look([&](Fold& fold) {
      own = 0;
      for (const auto& [function, c] : fold.counters()) own += c.live();
    });
    std::lock_guard<std::mutex> guard(m_mutex);
    Standby wait = m_detector.standby(boot_now(), own > 0);
    if (wait.what != Standby::For::nothing) return say_wait(wait, own > 0);
  }
  Fd lock = m_store.directory().open(Store::returned_name, O_RDWR | O_CREAT);
  wait_for_lock(lock.get(), FileLock::Mode::exclusive);  // somebody looks
  std::lock_guard<std::mutex> guard(m_mutex);
  beat();
  if (!m_detector.end_return(round)) return;
  m_returned_lock = std::move(lock);
  m_beat.waits.clear();
  m_beat_written = Millis(0);
  beat();
  m_changed.notify_all();
}

// Finds out who is gone, and takes over jobs of others where that is due.
void Replicator::watch_others() {
  const HeldHere held = held_here();
  std::vector<Takeover> due;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    beat();
    const Millis now = boot_now();
    for (const auto& node : m_detector.notice_gone(now)) {
      log(Level::warning, node + " has not answered for " + std::to_string(m_config.takeover.count() / 1000) + " s");
      walk_again(node);
    }
    due = m_ownership.due(held, m_members, m_detector, now);
  }
  for (const auto& what : due) {
    const Millis began = boot_now();
    try {
      size_t taken = take_over(what, held.runs);
      std::lock_guard<std::mutex> guard(m_mutex);
      m_ownership.looked(what, taken, began, boot_now());
    } catch (const Error&) {
      std::lock_guard<std::mutex> guard(m_mutex);
      m_ownership.failed(what);
      throw;
    }
  }
}

// What there is of others' jobs here, and runs here.
HeldHere Replicator::held_here() {
  HeldHere held;
  if (!m_members.group().once) return held;
  held.runs = running_here(m_store.owners_directory());
  if (!held.runs.any) return held;
  m_store.look([&](Fold& fold) {
    held.functions.clear();
    for (const auto& [function, c] : fold.counters())
      if (c.jobs[static_cast<size_t>(State::held)] > 0 && held.runs.has(function)) held.functions.insert(function);
    held.nodes = held.functions.empty() ? std::vector<std::string>() : fold.held_nodes();
  });
  return held;
}

// Of jobs that this node owned before it was restored or set up anew: those that are stale. None where not all others
// can be asked.
std::set<std::string> Replicator::unknown_everywhere(const std::vector<HeldJob>& jobs) {
  const auto ids = Ownership::maybe_stale(jobs, m_store.limits().remember, now_ms());
  std::optional<std::vector<std::string>> others;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    others = Ownership::all_others(m_members, m_detector);
  }
  if (ids.empty() || !others || others->empty()) return {};
  std::set<std::string> unknown(ids.begin(), ids.end());
  for (const auto& node : *others) {
    auto known = ask_node(node, ids).known;
    for (size_t i = 0; i < ids.size(); ++i)
      if (known[i]) unknown.erase(ids[i]);
  }
  return unknown;
}

AskReply Replicator::ask_node(const std::string& node, const std::vector<std::string>& ids) {
  Peer* peer;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    peer = find(node);
  }
  if (!peer) throw Error(Exit::retry, node + " is not in this group any more");
  return ask(*peer, ids);
}

// The next jobs of a node from `cursor` on, which moves on; `last` when there are no more.
std::vector<HeldJob> Replicator::held_by(const std::string& node, std::string& cursor, bool& last) {
  std::vector<HeldJob> jobs;
  m_store.look([&](Fold& fold) {
    jobs.clear();
    std::vector<std::string> ids;
    std::string next = cursor;
    last = fold.page('o', node, ids_in_record, next, ids);
    for (const auto& id : ids)
      if (auto job = fold.get(id)) jobs.push_back({.id = id, .job = std::move(*job)});
    cursor = next;
  });
  return jobs;
}

// Leaves the jobs that are for this node to take over, as the others say.
void Replicator::leave_to_others(const Takeover& what, const RunHere& here, std::vector<HeldJob>& jobs) {
  std::unique_lock<std::mutex> lock(m_mutex);
  Ownership::leave_others(jobs, what, here, m_detector, boot_now());
  auto ask_for = [&](const std::string& node, const std::vector<std::string>& ids) {
    lock.unlock();
    AskReply reply = ask_node(node, ids);
    lock.lock();
    return reply;
  };
  if (what.cause == Takeover::Cause::lost && !jobs.empty()) {
    const auto ids = Ownership::ids_of(jobs);
    const AskReply reply = ask_for(what.node, ids);
    const auto doubted = m_ownership.leave_to_owner(jobs, ids, reply, what.node, m_members);
    lock.unlock();
    std::vector<std::string> records;
    for (const auto& state : doubted) records.push_back(encode_record(state));
    if (!records.empty()) m_store.journal().commit({records.begin(), records.end()}, Room::completion);
    lock.lock();
  }
  for (const auto& node : m_ownership.earlier(what, m_members, m_detector)) {
    const auto ids = Ownership::to_ask(jobs, node, m_detector, boot_now());
    if (ids.empty()) continue;
    const AskReply reply = ask_for(node, ids);
    Ownership::leave_to_earlier(jobs, ids, reply);
  }
  // All this took its time. An owner that lives may run them again by now: it is asked once more. What begins there
  // between its answer and what it is told here can run twice.
  if (what.cause != Takeover::Cause::idle || jobs.empty()) return;
  ask_for(what.node, {});
  Ownership::leave_others(jobs, what, here, m_detector, boot_now());
}

// Tells a peer which jobs are this node's now, where it can be reached. If it cannot it is owed that.
void Replicator::tell(Peer& peer, const std::vector<TellThenAppend::Change>& changes) {
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    if (!peer.up || !m_detector.has_answered(peer.name) || m_detector.is_gone(peer.name) || peer.removed) return;
  }
  std::vector<Debt> debts;
  for (const auto& change : changes) debts.push_back({.id = change.id, .job = change.job, .state = true});
  try {
    deliver(peer, debts, {});
  } catch (const Error& e) {
    complain(peer, e.what());  // what another has been told already must become true
  }
}

// Takes over what is to be taken of a node's jobs; returns how many.
size_t Replicator::take_over(const Takeover& what, const RunHere& here) {
  size_t taken = 0;
  std::string cursor;
  for (bool last = false; !last;) {
    std::vector<HeldJob> jobs = held_by(what.node, cursor, last);
    leave_to_others(what, here, jobs);
    const auto stale = what.node == m_self.node ? unknown_everywhere(jobs) : std::set<std::string>();
    if (jobs.empty()) continue;
    std::optional<TellThenAppend> effect;
    {
      std::lock_guard<std::mutex> guard(m_mutex);
      beat();  // this node itself may have been away
      effect = m_ownership.take(what, std::move(jobs), stale, m_detector, read_times());
    }
    if (!effect) return taken;
    struct Taking {
      Replicator& self;
      ~Taking() {
        std::lock_guard<std::mutex> guard(self.m_mutex);
        self.m_ownership.taken();
      }
    } taking{*this};
    log_stale(effect->tell());
    for (auto& peer : m_peers) tell(peer, effect->tell());
    const auto records = std::move(*effect).then_append();
    m_store.journal().commit({records.begin(), records.end()}, Room::completion);
    taken += records.size();
    log(Level::warning, counted(records.size(), "job") + " of " + what.node + " taken over");
  }
  return taken;
}

void Replicator::log_stale(const std::vector<TellThenAppend::Change>& changes) {
  std::lock_guard<std::mutex> guard(m_mutex);
  for (const auto& change : changes)
    if (change.job.state == State::dead && change.stale)
      if (auto behind = m_seldom.behind("stale", Clock::now()))
        log(Level::warning, change.id + ": " + change.job.why + "; it is kept as dead" + *behind);
}

// Whether a transfer is to be heard: only what is new is believed, and says who is there.
Replicator::Admission Replicator::admit(const Transfer& t) {
  std::lock_guard<std::mutex> guard(m_mutex);
  Admission admission;
  admission.refusal = m_members.refuse(t);
  if (admission.refusal) return admission;
  auto refuse = [&](std::string reason) {
    admission.refusal = Refusal{"", std::move(reason)};
    return admission;
  };
  if (t.kind != "take" && t.kind != "part" && t.kind != "ask") return refuse("it is neither take nor ask");
  const Millis now = boot_now();
  auto verdict = m_keys ? m_sessions.take(t.to_session, t.session, t.number, now) : Sessions::Verdict::taken;
  admission.again = verdict == Sessions::Verdict::unknown;
  if (admission.again) return admission;
  if (verdict == Sessions::Verdict::repeated) return refuse("it has been here before");
  const Meeting meeting = m_members.hear(t.node, t.store, m_detector.answers(t.node, now));
  if (meeting.what == Meeting::What::refused) return refuse(meeting.reason);
  if (Peer* peer = find(t.node)) take_up(*peer, meeting);
  if (t.kind != "ask") return admission;
  m_detector.asked_by(t.node, now);
  admission.taking = m_ownership.is_taking(t.node);
  return admission;
}

std::optional<std::string> Replicator::serve(std::string_view payload) {
  std::string reason, kind;
  auto t = parse_transfer(payload, m_keys, reason);
  Reply reply{m_self.node, m_self.store, {}, {}};
  Admission admission;
  if (t) admission = admit(*t);
  if (admission.refusal) kind = admission.refusal->kind, reason = admission.refusal->reason;
  if (admission.again) {
    reply.body = "again\n";
  } else {
    try {
      if (reason.empty())
        reply.body = t->kind == "take"   ? serve_take(*t, reason)
                     : t->kind == "part" ? serve_part(*t, reason)
                                         : serve_ask(*t, reason, admission.taking);
    } catch (const Error& e) {
      if (e.code() == Exit::config) throw;
      reason = e.what();
    } catch (const std::exception& e) {  // of this transfer; given back, it would come again for ever
      reason = e.what();
    }
    if (!reason.empty()) {
      reply.body = "bad " + printable(reason) + "\n";
      std::lock_guard<std::mutex> guard(m_mutex);
      if (auto behind = m_seldom.behind(kind.empty() ? kind_of(reason) : kind, Clock::now()))
        log(Level::warning,
            "refused a transfer" + (t ? " from " + t->node : std::string()) + ": " + printable(reason) + *behind);
    }
  }
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    reply.session = m_sessions.current(read_times().boot);
  }
  return encode_reply(reply, t ? t->line : std::string_view(), m_keys);
}

// Records that another node has sent.
struct Replicator::Taken {
  struct Item {
    bool add;
    size_t number;  // in its list
  };
  std::vector<Item> items;
  std::vector<NewJob> adds;
  std::vector<event::State> states;
  std::vector<std::string> bytes;  // of those
};

std::string Replicator::serve_take(const Transfer& transfer, std::string& reason) {
  if (m_config.relay) {
    reason = "it is a relay, which keeps nothing";
    return {};
  }
  Taken taken;
  auto& items = taken.items;
  auto& adds = taken.adds;
  auto& states = taken.states;
  auto& bytes = taken.bytes;
  adds.reserve(std::min(transfer.body.size() / (8 * record_header_size) + 1, size_t{2000}));  // a guess
  for (std::string_view rest = transfer.body; !rest.empty();) {
    auto read = parse_record(rest);
    auto* add = read ? std::get_if<event::Add>(&read->event) : nullptr;
    auto* state = read ? std::get_if<event::State>(&read->event) : nullptr;
    if (!read || read->data_size > rest.size() - read->head_size) reason = "not a whole record";
    else if (state && (read->data_size != 0 || state->from != transfer.node)) reason = "a state that another told";
    else if ((!add || add->node.empty()) && (!state || state->node.empty())) reason = "a job of no node";
    else if (items.size() == max_records) reason = "too many records";
    if (!reason.empty()) return {};
    std::string_view record = rest.substr(0, read->head_size), data = rest.substr(read->head_size, read->data_size);
    if (sum64(data) != read->data_sum) reason = "a workload with a wrong checksum";
    if (!reason.empty()) return {};
    rest.remove_prefix(record.size() + data.size());
    if (add) {
      items.push_back({true, adds.size()});
      NewJob& job = adds.emplace_back();
      job.add = std::move(*add);
      job.head = record;
      job.data = data;
      job.data_sum = read->data_sum;
    } else {
      items.push_back({false, states.size()});
      bytes.emplace_back(record);
      states.push_back(std::move(*state));
    }
  }
  return take(transfer, std::move(taken), reason);
}

// A part of a workload. When all of it is there, it is taken as if it had come at once.
std::string Replicator::serve_part(const Transfer& transfer, std::string& reason) {
  std::string_view rest = transfer.body;
  auto offset = parse_count(rest.substr(0, std::min(rest.find('\n'), rest.size())));
  rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
  auto head = parse_record(rest);
  auto* add = head ? std::get_if<event::Add>(&head->event) : nullptr;
  if (m_config.relay) reason = "it is a relay, which keeps nothing";
  else if (!offset || !add || add->node.empty() || !add->part.source.empty() || head->data_size <= max_inline_data ||
           *offset > head->data_size || rest.size() - head->head_size > head->data_size - *offset)
    reason = "it is no part of a job";
  if (!reason.empty()) return {};
  const std::string id = add->id;
  const uint64_t size = head->data_size, sum = head->data_sum;
  std::optional<Job> known;
  m_store.look([&](Fold& fold) { known = fold.get(id); });
  if (known && known->first_lsn != 0 &&
      (known->size != size || known->sum != sum || known->function != add->asked.function))
    return "conflict\n";
  if (known && known->state == State::finished) {
    m_store.journal().sync_all();
    return "have\n";
  }
  auto arrived = std::make_shared<Arrived>();
  Fd there = m_store.blobs().open(id);
  if (!there || file_size(there.get()) != size) {
    there.reset();
    try {
      m_store.check_room(size - *offset);
      *arrived = m_store.blobs().put_part(id, sum, *offset, rest.substr(head->head_size));
    } catch (const Error& e) {
      if (e.code() == Exit::config) throw;
      return "refused " + printable(e.what()) + "\n";
    }
    if (uint64_t so_far = file_size(arrived->file.get()); so_far < size) return "at " + std::to_string(so_far) + "\n";
    if (sum_part(arrived->file.get(), 0, size) != sum) {
      m_store.blobs().remove(*arrived);
      return "refused what has come of it is damaged\n";
    }
  }
  const int fd = there ? there.get() : arrived->file.get();
  auto unmap = [size](void* p) { ::munmap(p, size); };
  std::unique_ptr<void, decltype(unmap)> data(::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0), unmap);
  if (data.get() == MAP_FAILED) {
    static_cast<void>(data.release());
    return "refused cannot read what has come of it\n";
  }
  Taken taken;
  taken.items.push_back({true, 0});
  NewJob& job = taken.adds.emplace_back();
  job.add = std::move(*add);
  job.head = rest.substr(0, head->head_size);
  job.data = {static_cast<const char*>(data.get()), size};
  job.data_sum = sum;
  if (!there) job.arrived = arrived;
  std::string verdict = take(transfer, std::move(taken), reason);
  if (arrived->file) m_store.blobs().remove(*arrived);  // it was not wanted
  return verdict;
}

std::string Replicator::take(const Transfer& transfer, Taken taken, std::string& reason) {
  auto& adds = taken.adds;
  const auto& states = taken.states;
  const auto& bytes = taken.bytes;
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    for (const auto& job : adds) {
      if (m_members.has(job.add.node) && !m_members.is(job.add.node, job.add.store))
        m_ownership.may_have_lost(job.add.node);
      const Group& group = m_members.group();
      if (m_members.is_relay(job.add.node) && (job.add.once != group.once || job.add.copies > group.members.size()))
        reason = "a relayed job with another policy than the group's";
    }
  }
  if (!reason.empty()) return {};
  // Its own small jobs need not be looked at again when it is to be told what stands here.
  bool from_there = std::all_of(adds.begin(), adds.end(), [&](const NewJob& job) {
    return job.add.node == transfer.node && job.add.store == transfer.store && job.data.size() <= max_inline_data;
  });
  // Those that refer to what is not here cannot be taken so.
  std::vector<bool> lacking(adds.size());
  if (std::any_of(adds.begin(), adds.end(), [](const NewJob& job) { return !job.add.part.source.empty(); }))
    m_store.look([&](Fold& fold) {
      for (size_t i = 0; i < adds.size(); ++i) {
        const std::string& source = adds[i].add.part.source;
        lacking[i] = !source.empty() && !(m_store.needs_blob(fold, source) && m_store.blobs().open(source));
      }
    });
  std::vector<size_t> number_of(adds.size());
  {
    std::vector<NewJob> here;
    for (size_t i = 0; i < adds.size(); ++i) {
      number_of[i] = here.size();
      if (!lacking[i]) here.push_back(std::move(adds[i]));
    }
    adds = std::move(here);
  }
  std::vector<Answer> added;
  if (!adds.empty())
    added = m_store.add(adds, [&](const std::vector<size_t>&, Lsn from, Lsn end) {
      std::lock_guard<std::mutex> guard(m_mutex);
      if (Peer* peer = find(transfer.node); peer && from_there && m_members.is(transfer.node, transfer.store))
        peer->progress.told_at_once(from, end);
    });
  std::vector<PeerVerdict> told(states.size());
  std::vector<std::string> finished;
  if (!states.empty()) {
    std::vector<RecordBytes> news;
    m_store.look([&](Fold& fold) {
      news.clear(), finished.clear();
      for (size_t i = 0; i < states.size(); ++i) {
        auto job = fold.get(states[i].id);
        const auto [kind, is_news] = verdict_on(states[i], job);
        told[i] = {kind};
        if (is_news) news.emplace_back(bytes[i]);
        if (std::string blob = job && states[i].state == "finished" ? blob_of(states[i].id, *job) : ""; !blob.empty())
          finished.push_back(blob);
      }
    });
    if (!news.empty()) m_store.journal().commit(news, Room::completion);
    m_store.remove_blobs_of(finished);
  }
  std::string body;
  for (const auto& item : taken.items) {
    PeerVerdict verdict = !item.add              ? told[item.number]
                          : lacking[item.number] ? PeerVerdict{PeerVerdict::Kind::need}
                                                 : verdict_on(added[number_of[item.number]]);
    body += verdict.text() + "\n";
  }
  return body;
}

std::string Replicator::serve_ask(const Transfer& transfer, std::string& reason, bool taking) {
  auto ids = parse_ask(transfer.body);
  if (!ids) {
    reason = "it asks for something that is not a job ID";
    return {};
  }
  AskReply reply;
  reply.taking = taking;
  reply.relay = m_config.relay;
  try {
    m_store.check_room(0);
  } catch (const Error&) {
    reply.room = false;
  }
  RunHere here = running_here(m_store.owners_directory());
  reply.end = m_store.journal().end();
  reply.runner = here.any;
  if (here.any && !here.all) reply.functions.emplace(here.functions.begin(), here.functions.end());
  {
    std::lock_guard<std::mutex> guard(m_mutex);
    for (const auto& peer : m_peers)
      if (const auto& its = m_members.store_of(peer.name); !its.empty())
        reply.sent.push_back({peer.name, its, peer.progress.sent()});
  }
  if (!ids->empty())
    m_store.look([&](Fold& fold) {
      reply.known.clear(), reply.yours.clear(), reply.others.clear();
      for (const auto& id : *ids) reply.say_of(id, fold.get(id), {transfer.node, transfer.store}, m_self);
    });
  return encode_ask_reply(reply, *ids);
}

// Whether those who answer know all before `target`. Called with m_mutex held.
bool Replicator::are_told(Lsn target) const {
  return m_serving && std::all_of(m_peers.begin(), m_peers.end(), [&](const Peer& p) {
           return p.removed || (m_detector.was_tried(p.name) &&
                                (!p.up || (p.progress.sent() >= target && p.progress.has_heard_apart(target))));
         });
}

bool Replicator::settle(Millis timeout, const CutShort& cut_short) {
  const Lsn target = m_store.journal().end();
  const auto deadline = Clock::now() + timeout;
  std::unique_lock<std::mutex> lock(m_mutex);
  while (!m_stop && !m_elsewhere && !(m_detector.has_returned() && are_told(target))) {
    if (Clock::now() >= deadline || cut_short()) return false;
    m_changed.wait_for(lock, look_interval);
  }
  return true;
}

bool Replicator::leave(Millis timeout, const CutShort& cut_short) {
  const Lsn target = m_store.journal().end();
  const auto begun = Clock::now();
  std::unique_lock<std::mutex> lock(m_mutex);
  while (!m_stop && !m_elsewhere && !are_told(target)) {
    if (Clock::now() >= std::min(begun + timeout, std::max(begun, m_taken_at) + leave_patience) || cut_short())
      return false;
    m_changed.wait_for(lock, look_interval);
  }
  return true;
}

void Replicator::hurry() {
  std::lock_guard<std::mutex> guard(m_mutex);
  if (!m_hurried) m_hurried = Clock::now();
}

std::string forgotten_record(const std::string& node) {
  return encode_record(event::Peer{.node = node, .at = now_ms(), .position = nothing_owed});
}

Millis answered_at(const Store& store, const std::string& node) {
  struct stat st;
  auto peers = store.directory().find_below(Store::peers_name);
  return peers && peers->look_at(node, st) ? Millis(st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000)
                                           : Millis(0);
}

std::map<std::string, PeerDebt> debts_of(Store& store) {
  std::map<std::string, PeerDebt> debts;
  std::map<std::string, PeerState> known;
  store.look([&](Fold& fold) { known = fold.peers(); });
  const Group& group = store.group();
  if (!group) return debts;
  Membership members(group);
  for (const auto& [node, state] : known) members.take_up(node, state);
  const FailureDetector nobody_is_gone(Millis(0), Millis(0));
  const auto peers = store.directory().find_below(Store::peers_name);
  for (const auto& member : group.members) {
    if (member == group.self.node) continue;
    PeerDebt& debt = debts[member];
    debt.answered_at = answered_at(store, member);
    std::map<std::string, Millis> owed;
    if (known[member].position == nothing_owed) continue;
    // What who serves this node has told it, and what it has not.
    Lsn sent = 0;
    std::map<std::string, std::string> apart;
    if (Fd fd = peers ? peers->try_open(member + debts_suffix, O_RDONLY) : Fd()) {
      std::string text = read_all(fd.get(), 64 << 20, member).value_or("");
      for (const auto& line : lines_of(text)) {
        std::string word = line.substr(0, line.find(' ')), rest = line.substr(std::min(word.size() + 1, line.size()));
        if (word == known[member].store && parse_count(rest)) sent = *parse_count(rest);
        else apart[word] = rest;
      }
    }
    auto is_mine = [&](const std::string& origin, const std::string& store_there) {
      if (origin == member && store_there == known[member].store) return false;
      return is_mine_to_tell(members, nobody_is_gone, origin, store_there);
    };
    EventReader reader(store.journal(), known[member].position);
    for (auto item = reader.next(); item != JournalReader::Item::end; item = reader.next()) {
      if (item != JournalReader::Item::record) continue;
      const Event& event = reader.event();
      if (auto* copied = std::get_if<event::Copied>(&event); copied && copied->says(member, known[member].store))
        for (const auto& id : copied->ids) owed.erase(id);
      if (reader.lsn() < sent && !apart.count(id_of(event))) continue;
      auto* add = std::get_if<event::Add>(&event);
      auto* state = std::get_if<event::State>(&event);
      bool own = add     ? !add->node.empty() && is_mine(add->node, add->store)
                 : state ? state->from.empty() || is_mine(state->from, state->from_store)
                         : is_change(event) && group.once;
      if (own) owed.try_emplace(id_of(event), at_of(event));
    }
    debt.jobs = owed.size();
    for (auto& [id, why] : apart) {
      if (why.empty() || !owed.count(id)) continue;
      if (why[0] == unreadable_mark[0]) debt.unreadable[id] = why.substr(1);
      else debt.refused[id] = why;
    }
    for (const auto& [id, at] : owed)
      if (debt.since.count() == 0 || at < debt.since) debt.since = at;
  }
  return debts;
}

}  // namespace gq
