#include "gq/replication/outbox.hpp"

#include <fcntl.h>

#include <algorithm>

#include "gq/base/log.hpp"
#include "gq/base/text.hpp"
#include "gq/base/thread.hpp"
#include "gq/replication/debts.hpp"
#include "gq/store/exchange.hpp"
#include "gq/store/parts.hpp"

namespace gq {
namespace {

using Clock = Monitor::Clock;

constexpr Millis ask_interval{1000}, publish_interval{1000};
constexpr Millis again_soon{1000};         // how long to wait before a job is sent again that was not answered
constexpr size_t max_under_way = 3;        // transfers of debts to one node at the same time
constexpr size_t window_bytes = 32 << 20;  // the most bytes of debts that are being sent to one node
constexpr long ids_in_record = 2000;       // this many IDs fit into a record's meta data

// Takes the node's verdict on a record.
void take_verdict(const std::string& node, Debt& debt, const std::string& line) {
  if (!debt.take(parse_verdict(line))) throw Error(Exit::config, node + " sent an invalid answer");
}

// Sends debts, and notes in each debt the node's verdict. Throws if the node does not answer, or if an identity is
// given and the node has another one.
class Delivery {
 public:
  Delivery(Monitor& monitor, PeerLine& line, std::string identity)
      : m_monitor(monitor), m_line(line), m_identity(std::move(identity)) {}

  void deliver(std::vector<Debt>& debts) {
    for (auto& debt : debts) {
      if (debt.again) continue;
      // The node reads the part of its blob that a reference names.
      put(debt, debt.reads_add() ? read_add(debt) : debt.add, debt.job.source.empty() ? 0 : debt.job.size);
      if (debt.state && !debt.is_left()) put(debt, record_to_send(debt.id, debt.job, m_monitor.self()));
    }
    finish();
    for (auto& debt : debts) {
      if (!debt.is_sent_again()) continue;
      debt.again = false;
      put(debt, read_add(debt));
      if (!debt.is_left() && !is_fresh(debt.job)) put(debt, record_to_send(debt.id, debt.job, m_monitor.self()));
    }
    finish();
  }

 private:
  struct Pending : Call {
    std::vector<Debt*> debts;  // for each record, its debt
  };

  std::string read_add(Debt& debt) { return add_record(m_monitor, debt.id, debt.job, debt.unreadable); }

  void put(Debt& debt, std::string record, uint64_t read = 0) {
    if (record.empty()) return;
    if (!m_next.records.empty() && m_next.records.size() + record.size() > max_transfer) send();
    if (!m_parts.add(0, read)) {
      send();
      m_parts.add(0, read);
    }
    if (m_next.records.empty()) m_next.records = std::move(record);
    else m_next.records += record;
    ++m_next.count;
    m_next_debts.push_back(&debt);
  }

  void send() {
    if (m_next.count == 0) return;
    if (m_monitor.stopping()) throw Error(Exit::retry, "cannot go on: stopping");
    m_bytes += m_next.records.size();
    m_parts = {};
    auto batch = std::make_shared<const Batch>(std::exchange(m_next, {}));
    m_under_way.push_back({m_line.start(std::move(batch)), std::exchange(m_next_debts, {})});
    while (m_under_way.size() >= max_under_way || m_bytes > window_bytes) receive();
  }

  void receive() {
    auto next = next_answered(m_under_way, Clock::time_point::max());
    Pending pending = std::move(*next);
    m_under_way.erase(next);
    m_bytes -= pending.batch->records.size();
    const auto said = m_line.receive(pending);
    for (size_t i = 0; i < said.size(); ++i) {
      if (!m_identity.empty() && said[i].identity != m_identity)
        throw Error(Exit::retry, m_line.name() + " is another store than before");
      take_verdict(m_line.name(), *pending.debts[i], said[i].line);
    }
  }

  void finish() {
    send();
    while (!m_under_way.empty()) receive();
  }

  Monitor& m_monitor;
  PeerLine& m_line;
  const std::string m_identity;
  std::list<Pending> m_under_way;
  size_t m_bytes = 0;  // the bytes that are being sent
  Batch m_next;
  PartsCost m_parts;  // of its references
  std::vector<Debt*> m_next_debts;
};

}  // namespace

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

// Takes the times from the newest record, but not the workload, which may differ: see Ledger::workload().
std::string add_record(Monitor& monitor, const std::string& id, const Job& job, std::string& unread) try {
  EventReader reader = monitor.ledger().read(0);
  std::string reason;
  if (auto workload = monitor.ledger().workload(id, job, reason, reader)) {
    std::string data = std::move(workload->data);
    if (workload->blob) {
      data.resize(job.size);
      if (read_at(workload->blob.get(), data.data(), data.size(), workload->offset) != data.size()) data.clear();
    }
    for (Lsn lsn : {job.location, job.first_lsn}) {
      auto* add = reader.read_record_at(lsn, false) ? std::get_if<event::Add>(&reader.event()) : nullptr;
      if (!add || add->id != id || data.size() != job.size) continue;
      event::Add sent = add_to_send(*add, job);
      const bool is_after = !sent.parents.empty();
      if (is_after) monitor.ledger().look([&](Fold& fold) { sent.met = fold.parents(id).met; });
      if (sent.store == add->store && add->part.source.empty() && !is_after)
        return std::string(reader.head_bytes()) + data;
      NewJob made = with_data(std::move(sent), std::move(data));
      return made.head + *made.own;
    }
  }
  monitor.log_limited(Level::error, "damaged",
                      id + ": its workload is damaged or gone, and cannot be given to another node");
  return {};
} catch (const Error& e) {
  unread = e.what();
  return {};
}

void Outbox::start() {
  if (!m_thread.joinable()) m_thread = start_thread([this] { run(); });
}

void Outbox::join() {
  if (m_thread.joinable()) m_thread.join();
}

void Outbox::run() {
  bool more = false;
  do {
    m_line.hear_late();
    try {
      more = go_on();
    } catch (const std::exception& e) {
      more = false;
      m_line.complain(e.what());
    }
    record(false);
  } while (!m_monitor.pause(more ? Millis(0) : poll_interval));
  record(true);
}

// Does the work that is due. Returns true if there is more to do at once. Throws if the node does not answer.
bool Outbox::go_on() {
  if (Clock::now() >= m_next_ask && m_monitor.step([&](Replica& r) { return r.asks(node()); })) {
    m_next_ask = Clock::now() + ask_interval;
    m_line.ask({});
  }
  if (!m_monitor.step([&](Replica& r) { return r.pays(node()); })) return false;
  const Lsn end = m_monitor.ledger().end();
  bool more = pay(std::exchange(m_seen, end));
  more = send_singles() || more;
  m_monitor.step([&](Replica& r) { r.move_on(node(), read_times()); });
  publish();
  return more;
}

// Sends the node what the next part of the journal contains, up to `end` at most. Returns true if there is more. Throws
// if the node does not answer.
bool Outbox::pay(Lsn end) {
  auto walk = m_monitor.step([&](Replica& r) { return r.walk(node(), end); });
  if (!walk) return false;
  read_on(*walk, end);
  if (const auto ids = walk->jobs(); !ids.empty())
    m_monitor.ledger().look([&](Fold& fold) {
      walk->restart_lookup();
      for (const auto& id : ids) walk->looked_up(id, fold.get(id));
    });
  if (const auto unsure = walk->unsure(); !unsure.empty()) {
    auto answer = m_line.ask(unsure);
    for (const auto& debt : walk->debts()) answer.leave_out_another(debt.id, debt.job, unsure);
    for (size_t i = 0; i < unsure.size(); ++i)
      if (answer.known[i]) walk->knows(unsure[i]);
  }
  Delivery(m_monitor, m_line, walk->identity()).deliver(walk->debts());
  if (auto copied = walk->copied(); !copied.empty()) {
    auto records = copied_records({.ids = std::move(copied), .peers = node(), .stores = walk->identity()});
    m_monitor.ledger().append({records.begin(), records.end()}, Room::completion);
  }
  return m_monitor.step([&](Replica& r) { return r.walked(node(), *walk, end, read_times()); });
}

// Reads a walk's part of the journal and passes the records to the walk.
void Outbox::read_on(Walk& walk, Lsn end) {
  auto is_mine = [this](const std::string& origin, const std::string& store) {
    return m_monitor.step([&](Replica& r) { return r.is_mine_to_send(origin, store); });
  };
  EventReader reader = m_monitor.ledger().read(walk.upto());
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
    const auto* add = std::get_if<event::Add>(&reader.event());
    // A job that is after others is sent by add_record(), which says which of these have ended meanwhile.
    if (add && add->parents.empty() && reader.head().data_size <= max_inline_data && reader.has_data()) {
      bytes = reader.head_bytes();
      bytes += reader.data();
    }
    walk.see(reader.event(), reader.head(), reader.lsn(), reader.position(), bytes, is_mine);
  }
}

// Continues to send separate jobs (large jobs, and jobs that the node has refused). Returns soon, so that these jobs do
// not delay others. Returns true if there is more to do at once.
bool Outbox::send_singles() {
  start_singles();
  if (m_singles.empty()) return false;
  auto call = next_answered(m_singles, Clock::now() + poll_interval);
  if (call == m_singles.end()) return true;
  Single ended = std::move(*call);
  m_singles.erase(call);
  end_single(ended);
  return true;
}

void Outbox::start_singles() {
  size_t bytes = 0;
  for (const auto& call : m_singles) bytes += call.batch->records.size();
  while (m_singles.size() < max_under_way && bytes < window_bytes) {
    auto next = next_single();
    if (!next) return;
    bytes += next->batch->records.size();
    try {
      static_cast<Call&>(*next) = m_line.start(next->batch);
    } catch (...) {
      retry_later(next->debt.id);
      throw;
    }
    m_singles.push_back(std::move(*next));
  }
}

// Returns the next job to send separately, with the records to send.
std::optional<Outbox::Single> Outbox::next_single() {
  while (auto next = m_monitor.step([&](Replica& r) { return r.next_single(node(), read_times()); })) {
    const std::string& id = next->id;
    auto batch = std::make_shared<Batch>();
    std::optional<Debt> debt;
    try {
      std::optional<Job> job;
      m_monitor.ledger().look([&](Fold& fold) { job = fold.get(id); });
      debt = single_debt(id, job, next->needs_add, next->location, next->since);
      if (debt && debt->needs_add) batch->records = add_record(m_monitor, id, debt->job, debt->unreadable);
      batch->count = batch->records.empty() ? 0 : 1;
      if (debt && debt->state) batch->records += record_to_send(id, *job, m_monitor.self()), ++batch->count;
    } catch (...) {
      retry_later(id);
      throw;
    }
    if (debt && debt->is_left()) m_monitor.step([&](Replica& r) { r.ended(node(), *debt, read_times()); });
    else if (batch->count == 0) m_monitor.step([&](Replica& r) { r.nothing_to_send(node(), id); });
    else return Single{{&m_line, std::move(batch)}, std::move(*debt)};
  }
  return std::nullopt;
}

// The node has not answered about this job. The outbox will try again after `again_soon`.
void Outbox::retry_later(const std::string& id) {
  m_monitor.step([&](Replica& r) { r.retry_at(node(), id, read_times().boot + again_soon); });
}

void Outbox::end_single(Single& single) {
  Debt& debt = single.debt;
  std::string identity;
  try {
    for (const auto& said : m_line.receive(single)) {
      take_verdict(node(), debt, said.line);
      identity = said.identity;
    }
  } catch (const std::exception&) {
    retry_later(debt.id);
    throw;
  }
  if (debt.is_there() && debt.job.state == State::pending) {
    auto records = copied_records({.ids = {debt.id}, .peers = node(), .stores = identity});
    m_monitor.ledger().append({records.begin(), records.end()}, Room::completion);
  }
  m_monitor.step([&](Replica& r) { r.ended(node(), debt, read_times()); });
}

void Outbox::send_now(const std::vector<SendThenAppend::Change>& changes) {
  if (!m_monitor.step([&](Replica& r) { return r.is_reached(node()); })) return;
  std::vector<Debt> debts;
  for (const auto& change : changes) debts.push_back({.id = change.id, .job = change.job, .state = true});
  try {
    Delivery(m_monitor, m_line, {}).deliver(debts);
  } catch (const Error& e) {
    m_line.complain(e.what());  // continue: another node may have received it already
  }
}

// From time to time, records what the node knows, so that another process does not have to send everything again.
void Outbox::record(bool last) {
  const auto peer = m_monitor.step([&](Replica& r) { return r.record(node(), last, read_times()); });
  if (!peer) return;
  bool well = true;
  try {
    m_monitor.ledger().append({encode_record(*peer)}, Room::completion);
  } catch (const std::exception&) {
    well = false;  // then the records will be sent again
  }
  const auto done_with = m_monitor.step([&](Replica& r) { return r.recorded(node(), well, read_times()); });
  if (done_with.empty()) return;
  try {
    m_monitor.ledger().remove_blobs_of(done_with);
  } catch (const std::exception& e) {  // the cleaner will remove the blobs later (cleaner.hpp)
    log(Level::warning, e.what());
  }
}

// Publishes the debts to the node for other processes (debts_of()), as far as they do not follow from the node's
// position.
void Outbox::publish() {
  if (Clock::now() < m_next_publish) return;
  std::string text = m_monitor.step([&](Replica& r) { return r.debts_text(node()); });
  if (text == m_published) return;
  m_published = text;
  m_next_publish = Clock::now() + publish_interval;
  publish_debts(m_monitor.ledger(), node(), text);
}

}  // namespace gq
