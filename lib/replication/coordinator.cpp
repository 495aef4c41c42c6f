#include "gq/replication/coordinator.hpp"

#include <algorithm>

#include "gq/base/log.hpp"
#include "gq/gearman/receivers.hpp"
#include "gq/replication/features.hpp"
#include "gq/state/parentage.hpp"
#include "gq/store/exchange.hpp"
#include "gq/store/parts.hpp"

namespace gq {
namespace {

using Clock = Monitor::Clock;

constexpr Millis hurried_patience{1000};
constexpr size_t ids_at_once = 2000;  // they fit into a question

// Handles one submission: carries out the decisions of its quorum until the quorum answers.
class ClientWrite {
 public:
  ClientWrite(Monitor& monitor, Queue& queue, Peers& peers, const std::atomic<Clock::time_point>& limit,
              std::timed_mutex& reading, std::vector<NewJob> jobs, Quorum::Rule rule)
      : m_monitor(monitor),
        m_queue(queue),
        m_peers(peers),
        m_limit(limit),
        m_reading(reading, std::defer_lock),
        m_jobs(std::move(jobs)) {
    std::vector<Quorum::Asked> asked;
    for (const auto& job : m_jobs)
      asked.push_back({job.add.id, job.add.given || !job.add.asked.key.empty(), !job.add.part.source.empty()});
    m_quorum = std::make_shared<Quorum>(rule, monitor.self(), std::move(asked));
  }

  std::vector<Answer> answer();

 private:
  Quorum::Effect next_effect();
  void append(bool then_send);
  std::vector<std::optional<Quorum::Known>> known_by(std::vector<Answer>& answers);
  bool take_place(NewJob& job, const std::string& id, const Job& known);
  std::optional<NewJob> whole(const NewJob& job);
  uint64_t to_be_read(const Quorum::Send& send, size_t number) const;
  std::vector<size_t> with_room(const Quorum::Send& send);
  std::shared_ptr<const Batch> batch_of(const Quorum::Send& send);
  bool hand_out(const Quorum::Send& send);
  bool record_copies(const Quorum::Record& what);
  void let_go(bool counted);

  Monitor& m_monitor;
  Queue& m_queue;
  Peers& m_peers;
  const std::atomic<Clock::time_point>& m_limit;
  std::unique_lock<std::timed_mutex> m_reading;  // held while workloads that were read are in memory
  std::vector<NewJob> m_jobs;
  std::shared_ptr<Quorum> m_quorum;
  std::list<Call> m_calls;    // the calls that are under way
  std::optional<Lsn> m_from;  // the position of the jobs that were sent when they were appended
};

std::vector<Answer> ClientWrite::answer() {
  for (;;) {
    auto effect = next_effect();
    if (auto* stored = std::get_if<Quorum::Append>(&effect)) {
      append(stored->then_send);
    } else if (auto* send = std::get_if<Quorum::Send>(&effect)) {
      hand_out(*send);
    } else if (auto* wait = std::get_if<Quorum::Wait>(&effect)) {
      auto call = next_answered(m_calls, std::min(wait->until, Clock::now() + poll_interval));
      if (call == m_calls.end()) continue;
      call->line->receive_or_complain(*call);
      m_calls.erase(call);
      m_quorum->ended();
    } else if (auto* record = std::get_if<Quorum::Record>(&effect)) {
      m_quorum->recorded(record_copies(*record));
    } else {
      auto& reply = std::get<Quorum::Reply>(effect);
      let_go(reply.counted);
      return std::move(reply.answers);
    }
  }
}

Quorum::Effect ClientWrite::next_effect() {
  // A call that makes progress prolongs the wait.
  for (const auto& call : m_calls) m_quorum->progressed(call.sending->last_answer());
  m_quorum->hurry(m_limit);
  const auto others = m_monitor.step([](Replica& r) { return r.others(); });
  return m_quorum->next(Clock::now(), others);
}

// Stores the jobs. If `then_send` is true, sends them to the other nodes while they are being synced.
void ClientWrite::append(bool then_send) {
  auto hand = [&](const std::vector<size_t>& numbers, Lsn from, Lsn end) {
    if (!hand_out(m_quorum->to_send(numbers))) return;
    m_from = from;
    // A walk must see the add record of a job with a blob, to note the blob; so it must not skip these records.
    if (std::any_of(numbers.begin(), numbers.end(), [&](size_t n) { return m_jobs[n].data.size() > max_inline_data; }))
      return;
    for (auto& call : m_calls) call.from = from, call.end = end;
  };
  auto answers = m_queue.add(m_jobs, then_send ? Queue::Appended(hand) : Queue::Appended());
  std::vector<std::optional<Quorum::Known>> known(m_jobs.size());
  if (!then_send) known = known_by(answers);
  m_quorum->stored(std::move(answers), known);
}

// Returns for each submitted job the job in the store that has its ID or its key.
std::vector<std::optional<Quorum::Known>> ClientWrite::known_by(std::vector<Answer>& answers) {
  std::vector<std::optional<Quorum::Known>> known(m_jobs.size());
  try {
    m_monitor.ledger().look([&](Fold& fold) {
      for (size_t i = 0; i < m_jobs.size(); ++i) {
        std::optional<Job> job;
        if (answers[i].outcome == Outcome::queued) job = fold.get(m_jobs[i].add.id);
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

// Replaces a submitted job by a job of the store, with its record and workload. Returns false if the workload cannot be
// read.
bool ClientWrite::take_place(NewJob& job, const std::string& id, const Job& known) {
  std::string unread;
  auto record = std::make_shared<const std::string>(add_record(m_monitor, id, known, unread));
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

// `job` has a workload that is a part of another job's workload. Returns the job with a copy of that part; nullopt if
// the part cannot be read, or if the job was replaced (take_place()).
std::optional<NewJob> ClientWrite::whole(const NewJob& job) {
  if (job.add.part.source.empty()) return std::nullopt;
  Fd blob = m_monitor.ledger().open_blob(job.add.part.source);
  if (!blob) return std::nullopt;
  std::string part(job.add.part.length, '\0');
  if (read_at(blob.get(), part.data(), part.size(), job.add.part.offset) != part.size()) return std::nullopt;
  return with_data(job.add, std::move(part));
}

// Returns how many bytes must be read from the store to send a job: its client has not sent them.
uint64_t ClientWrite::to_be_read(const Quorum::Send& send, size_t number) const {
  if (send.whole) return m_jobs[number].add.part.length;
  auto* standing = m_quorum->stands_for(number);
  return standing ? standing->job.size : 0;
}

// Returns those of the jobs for which there is room in memory. With few bytes a client can refer to many large
// workloads that must be read. So for one submission at most PartsCost::most_copied bytes are read, or one larger
// workload. If that is more than small_job, no other thread reads at the same time. The outboxes send the remaining
// jobs to the other nodes.
std::vector<size_t> ClientWrite::with_room(const Quorum::Send& send) {
  std::vector<size_t> numbers;
  uint64_t all = 0, read = 0;
  for (size_t n : send.numbers) all = std::max(all, all + to_be_read(send, n));
  const auto until = std::min(m_limit.load(), Clock::now() + m_monitor.config().peer_timeout);
  const bool alone = all <= small_job || m_reading.owns_lock() || m_reading.try_lock_until(until);
  const uint64_t most = alone ? PartsCost::most_copied : small_job;
  for (size_t n : send.numbers) {
    const uint64_t size = to_be_read(send, n);
    if (size == 0 || (size <= most && read <= most - size) || (alone && read == 0)) {
      read += size;
      numbers.push_back(n);
    } else if (auto* standing = m_quorum->stands_for(n); standing && !send.whole) {
      m_quorum->cannot_send(n, "the workload of " + standing->id + " is not read while other large ones are");
    }
  }
  return numbers;
}

// Returns the records of these jobs in the form in which they are sent.
std::shared_ptr<const Batch> ClientWrite::batch_of(const Quorum::Send& send) {
  auto batch = std::make_shared<Batch>();
  const auto numbers = with_room(send);
  size_t size = 0;
  for (size_t n : numbers) size += m_jobs[n].head.size() + m_jobs[n].data.size() + to_be_read(send, n);
  batch->records.reserve(size);
  for (size_t n : numbers) {
    std::optional<NewJob> made;
    if (send.whole && !(made = whole(m_jobs[n]))) continue;
    if (auto* standing = send.whole ? nullptr : m_quorum->stands_for(n);
        standing && !take_place(m_jobs[n], standing->id, standing->job)) {
      m_quorum->cannot_send(n, "the workload of " + standing->id + " cannot be given to another node");
      continue;
    }
    const NewJob& job = made ? *made : m_jobs[n];
    batch->records += job.head;
    batch->records += job.data;
    batch->numbers.push_back(n);
  }
  batch->count = batch->numbers.size();
  return batch;
}

// Begins to send jobs to all peers that are up. Returns false if there is nothing to send.
bool ClientWrite::hand_out(const Quorum::Send& send) {
  const auto batch = batch_of(send);
  if (batch->count == 0) return false;
  const size_t before = m_calls.size();
  for (const auto& node : m_monitor.step([](Replica& r) { return r.up(); })) {
    Outbox* outbox = m_peers.find(node);
    if (!outbox || !outbox->line().is_free()) continue;
    try {
      m_calls.push_back(outbox->line().start(batch, m_quorum));
    } catch (const std::exception& e) {
      outbox->line().complain(e.what());
    }
  }
  m_quorum->sent(m_calls.size() - before, Clock::now());
  return true;
}

// Records which nodes have the jobs. Returns false if that fails.
bool ClientWrite::record_copies(const Quorum::Record& what) {
  std::vector<std::string> records;
  for (const auto& copied : what.copied)
    for (auto& record : copied_records(copied)) records.push_back(std::move(record));
  try {
    // Sync only if needed: which nodes have the jobs can be found out again; that fewer copies are enough cannot.
    if (what.commit) m_monitor.ledger().commit({records.begin(), records.end()}, Room::completion);
    else m_monitor.ledger().append({records.begin(), records.end()}, Room::completion);
    return true;
  } catch (const Error& e) {
    log(Level::warning, std::string(e.what()) + "; jobs wait until their copies are counted again");
    return false;
  }
}

// The client is answered, and does not wait for the calls under way any more. The outboxes send what these calls do
// not. If not all copies were counted, the outboxes send the jobs again, because answers may come late or could not be
// recorded.
void ClientWrite::let_go(bool counted) {
  const bool again = !counted && m_from;
  if (again) m_monitor.step([&](Replica& r) { r.not_sent(*m_from); });
  for (auto& call : m_calls) {
    if (again) call.end = 0;
    call.line->leave(std::move(call));
  }
}

// Throws if another node does not read a feature of one of these jobs.
void check_features(Ledger& ledger, const std::vector<NewJob>& jobs) {
  std::vector<std::optional<Answer>> answers(jobs.size());
  refuse_unread(ledger, jobs, answers);
  for (const auto& answer : answers)
    if (answer) throw Error(Exit::retry, answer->reason);
}

// Finds the parents of jobs that clients send, before the jobs are queued.
class ParentSearch {
 public:
  ParentSearch(Monitor& monitor, Queue& queue, Peers& peers) : m_monitor(monitor), m_queue(queue), m_peers(peers) {}

  // Moves the parents of each job to its add record. Returns an answer for each job that cannot be queued. If another
  // node knows a parent that this node does not know, the search waits until the parent has come, until `until` at
  // most.
  std::vector<std::optional<Answer>> take_parents(std::vector<NewJob>& jobs, Clock::time_point until);

 private:
  void look_at(std::vector<NewJob>& jobs);
  void look_at(Fold& fold, NewJob& job);
  void ask();

  Monitor& m_monitor;
  Queue& m_queue;
  Peers& m_peers;
  std::set<std::string> m_unknown{};  // the parents that this node does not know
  std::map<std::string, Answer>
      m_reasons{};  // why no job can be after these, as far as the other nodes have been asked
};

std::vector<std::optional<Answer>> ParentSearch::take_parents(std::vector<NewJob>& jobs, Clock::time_point until) {
  std::vector<std::optional<Answer>> answers(jobs.size());
  if (std::none_of(jobs.begin(), jobs.end(), [](const NewJob& job) { return job.has_parents(); })) return answers;
  const bool once = m_monitor.step([](Replica& r) { return r.group().once; });
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (!jobs[i].has_parents()) continue;
    if (!once) answers[i] = {Outcome::bad, "in a group whose nodes all run each job, none is after other jobs", 0};
    else if (jobs[i].parents.size() > parents_in_record)
      answers[i] = {Outcome::bad,
                    "in a group, a job can be after at most " + std::to_string(parents_in_record) + " others", 0};
  }
  if (!once) return answers;
  look_at(jobs);
  if (!m_unknown.empty()) ask();
  const auto can_come = [&](const std::string& id) { return m_reasons.at(id).outcome == Outcome::unknown; };
  while (std::any_of(m_unknown.begin(), m_unknown.end(), can_come) && Clock::now() < until &&
         !m_monitor.pause(poll_interval))
    look_at(jobs);
  for (size_t i = 0; i < jobs.size(); ++i)
    for (const auto& id : jobs[i].add.parents)
      if (!answers[i] && m_unknown.count(id)) answers[i] = m_reasons.at(id);
  return answers;
}

void ParentSearch::look_at(std::vector<NewJob>& jobs) {
  m_queue.look([&](Fold& fold) {
    m_unknown.clear();
    for (auto& job : jobs)
      if (job.has_parents() && job.parents.size() <= parents_in_record) look_at(fold, job);
  });
}

void ParentSearch::look_at(Fold& fold, NewJob& job) {
  const auto known = fold.get(job.add.id);
  // A crash has left the records of a part of its parents, before this store was in a group.
  if (known && !has_ended(*known) && known->edges < known->after) return;
  auto parents = std::exchange(job.parents, {});
  if (parents.empty()) parents = job.add.parents;
  for (auto& id : name_parents(job.add, std::move(parents), fold)) m_unknown.insert(std::move(id));
}

// Asks the other nodes for the unknown parents.
void ParentSearch::ask() {
  for (const auto& id : m_unknown)
    m_reasons[id] = {Outcome::bad, "it is to run after " + id + ", which no node of the group knows", 0};
  const std::vector<std::string> unknown(m_unknown.begin(), m_unknown.end());
  for (const auto& node : m_monitor.step([](Replica& r) { return r.group().members; })) {
    if (node == m_monitor.self().node) continue;
    for (size_t at = 0; at < unknown.size(); at += ids_at_once) {
      const auto begin = unknown.begin() + static_cast<long>(at);
      const std::vector<std::string> ids(begin, begin + static_cast<long>(std::min(ids_at_once, unknown.size() - at)));
      std::string why;
      std::vector<bool> found(ids.size(), true);
      try {
        found = m_peers.ask(node, ids).known;
      } catch (const Error& e) {
        why = std::string("; ") + e.what();
      }
      for (size_t i = 0; i < ids.size(); ++i)
        if (found[i])
          m_reasons[ids[i]] = {Outcome::unknown,
                               "it is to run after " + ids[i] + ", which this node does not know" +
                                   (why.empty() ? ", and " + node + " does" : why),
                               0};
    }
  }
}

// Returns the jobs that have no answer yet. When they have theirs, join() returns all answers in their order.
std::vector<NewJob> without_answer(std::vector<NewJob> jobs, const std::vector<std::optional<Answer>>& answers) {
  std::vector<NewJob> others;
  for (size_t i = 0; i < jobs.size(); ++i)
    if (!answers[i]) others.push_back(std::move(jobs[i]));
  return others;
}

std::vector<Answer> join(std::vector<std::optional<Answer>> answers, std::vector<Answer> others) {
  std::vector<Answer> all;
  auto next = others.begin();
  for (auto& answer : answers) all.push_back(answer ? std::move(*answer) : std::move(*next++));
  return all;
}

}  // namespace

std::vector<std::optional<Answer>> Coordinator::take_parents(std::vector<NewJob>& jobs) {
  const auto until = std::min(m_limit.load(), Clock::now() + m_monitor.config().peer_timeout);
  return ParentSearch(m_monitor, m_queue, m_peers).take_parents(jobs, until);
}

std::vector<Answer> Coordinator::add(std::vector<NewJob> jobs) {
  check_features(m_queue, jobs);
  auto answers = take_parents(jobs);
  jobs = without_answer(std::move(jobs), answers);
  if (jobs.empty()) return join(std::move(answers), {});
  const Group group = m_monitor.step([](Replica& r) { return r.group(); });
  for (auto& job : jobs) {
    job.add.node = group.self.node;
    job.add.store = group.self.store;
    job.add.copies = group.copies;
    job.add.once = group.once;
    job.encode();
  }
  const auto& config = m_monitor.config();
  return join(std::move(answers), ClientWrite(m_monitor, m_queue, m_peers, m_limit, m_reading, std::move(jobs),
                                              {group.copies, config.owe, true, config.peer_timeout})
                                      .answer());
}

std::vector<Answer> Coordinator::relay(std::vector<NewJob> jobs, uint32_t copies) {
  check_features(m_queue, jobs);
  auto answers = take_parents(jobs);  // refuses them: the nodes of a group with a relay all run each job
  jobs = without_answer(std::move(jobs), answers);
  if (jobs.empty()) return join(std::move(answers), {});
  // The jobs get an identity that no member has, so that all nodes that have a job pass it on.
  const std::string store = m_monitor.step([](Replica& r) { return r.session(read_times()); });
  for (auto& job : jobs) {
    job.add.node = m_monitor.self().node;
    job.add.store = store;
    // Ignore the client's value: each node of a group with a relay runs the job as soon as the node has it.
    job.add.once = false;
    job.add.copies = 0;
    job.encode();
  }
  return join(std::move(answers), ClientWrite(m_monitor, m_queue, m_peers, m_limit, m_reading, std::move(jobs),
                                              {copies, false, false, m_monitor.config().peer_timeout})
                                      .answer());
}

void Coordinator::hurry() {
  auto none = Clock::time_point::max();
  m_limit.compare_exchange_strong(none, Clock::now() + hurried_patience);
}

}  // namespace gq
