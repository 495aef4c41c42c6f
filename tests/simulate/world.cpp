#include "world.hpp"

#include <algorithm>
#include <numeric>

#include "gq/base/text.hpp"
#include "gq/replication/verdict.hpp"
#include "gq/state/parentage.hpp"

namespace simulate {
namespace {

using gq::Outcome;
using gq::Quorum;
namespace event = gq::event;
using Step = Task::Step;

// After the faults were removed, this many steps are enough to finish everything.
constexpr uint64_t enough_steps = 200'000;

// If a node gets a new store more often than this, the other nodes accept only one change a minute (gq::RateLimit).
constexpr unsigned most_wiped = 3;

Quorum::Time time_of(Millis now) { return Quorum::Time(now); }

// Makes an ID of 26 characters, like a real one.
std::string make_id(char kind, unsigned number, unsigned more = 0) {
  const std::string end = std::to_string(100'000 + number) + std::to_string(1'000 + more);
  return "01SIM" + std::string(20 - end.size(), '0') + kind + end;
}

}  // namespace

std::string text_of(const gq::Job& job) {
  return std::string(gq::state_name(job.state)) + " of " + job.node + ", term " + std::to_string(job.term) +
         ", version " + std::to_string(job.version);
}

World::World(const Setting& setting) : m_setting(setting), m_nodes(setting.nodes) {
  for (size_t i = 0; i < m_nodes.size(); ++i) {
    Node& node = m_nodes[i];
    node.name = "rep_" + std::to_string(i + 1);
    for (size_t other = 0; other < m_nodes.size(); ++other)
      if (other != i) node.settings.insert("rep_" + std::to_string(other + 1));
    set_up(node);
  }
  for (auto& node : m_nodes) start(node);
}

std::string World::name(unsigned number) const { return number == client ? "client" : m_nodes[number].name; }

void World::say(const std::string& text) {
  if (m_wants_log) m_log += "    " + text + "\n";
}

void World::fail(const std::string& text) {
  say("FAULT: " + text);
  if (!m_fault) m_fault = text;
}

// ----------------------------------------------------------------------------------------------------- what a node is

void World::set_up(Node& node) {
  node.self = {node.name, make_id('N', number_of(node) + 1, ++node.stores)};
  node.journal.clear();
  node.end = 0;
  node.losses = 0;
  refold(node);
}

void World::refold(Node& node) {
  node.table = std::make_unique<gq::MapTable>();
  node.fold = std::make_unique<gq::Fold>(*node.table, node.self);
  for (const auto& entry : node.journal) node.fold->apply(entry.event, entry.head, entry.lsn, entry.end);
}

void World::stop(Node& node) {
  node.up = node.stopped = false;
  node.next_sync_fails = false;
  for (const auto& task : node.tasks)
    if (task.kind == Task::Kind::raw) m_raws[task.job].place = Raw::Place::server;
  node.tasks.clear();
}

void World::lose_unsynced(Node& node) {
  auto kept = std::find_if(node.journal.begin(), node.journal.end(), [](const Entry& e) { return !e.synced; });
  if (kept == node.journal.end()) return;
  ++node.losses;
  for (; kept != node.journal.end(); ++kept) {
    if (auto* claim = std::get_if<event::Claim>(&kept->event)) m_excused.insert(claim->ids.begin(), claim->ids.end());
    else m_excused.insert(gq::id_of(kept->event));
  }
  // A record may depend on an earlier record whose sync has failed: on the add record of its job, or on the end of the
  // job that had its key. This depends on the disk, not on the nodes' decisions, and is not checked here.
  bool had_failed = false;
  for (const auto& entry : node.journal) {
    if (!entry.doubtful || entry.synced) continue;
    had_failed = true;
    m_regrouped.insert(gq::id_of(entry.event));
  }
  if (had_failed)
    for (const auto& entry : node.journal)
      if (auto* add = std::get_if<event::Add>(&entry.event); add && !add->asked.key.empty())
        m_regrouped.insert(add->id);
  std::erase_if(node.journal, [](const Entry& e) { return !e.synced; });
  refold(node);
}

Lsn World::append(Node& node, const gq::Event& what, const gq::RecordHead& head) {
  const Lsn lsn = node.end;
  if (m_wants_log && std::holds_alternative<event::Add>(what)) {
    const auto& add = std::get<event::Add>(what);
    say(node.name + " appends " + add.id + " of " + add.node + " " + add.store + " at " +
        std::to_string(add.at.count()));
  }
  node.end += 1000;
  node.journal.push_back({lsn, node.end, what, head});
  node.fold->apply(what, head, lsn, node.end);
  if (auto* copied = std::get_if<event::Copied>(&what))
    for (const auto& id : copied->ids)
      if (auto job = node.fold->get(id); job && job->state != gq::State::pending) count(node, id);
  return lsn;
}

// Call it when a node has counted enough copies of a job. Notes the job as complete if there are enough, including
// copies that are gone without the node's knowledge.
void World::count(const Node& node, const std::string& id) {
  auto there = holders(id);
  for (const auto& lost : m_lost)
    if (lost.ids.count(id) && !node.gone.count(lost.identity)) there.insert(lost.identity);
  if (there.size() >= m_setting.copies) m_complete.insert(id);
}

// Syncs all records that this process has appended. If a sync fails, a later sync does not make its records durable.
bool World::sync(Node& node) {
  const bool well = !std::exchange(node.next_sync_fails, false);
  for (auto entry = node.journal.rbegin(); entry != node.journal.rend() && !entry->synced; ++entry) {
    if (entry->doubtful) continue;
    if (!well) {
      entry->doubtful = true;
      continue;
    }
    entry->synced = true;
    if (auto* add = std::get_if<event::Add>(&entry->event)) {
      node.safe.insert(add->id);
      if (holders(add->id).size() >= m_setting.copies) m_complete.insert(add->id);
    }
  }
  return well;
}

// ------------------------------------------------------------------------------------------------------------ messages

void World::send(Message message) { m_messages.push_back(std::move(message)); }

bool World::deliver(const Action& action) {
  auto message = m_messages.end();
  unsigned nth = action.which;
  for (auto m = m_messages.begin(); m != m_messages.end(); ++m) {
    if (m->from != action.a || m->to != action.b || m->job != action.job) continue;
    message = m;
    if (nth-- == 0) break;
  }
  if (message == m_messages.end()) return false;
  if (action.kind == Action::Kind::twice) {
    if (m_messages.size() > 30) return false;
    m_messages.push_back(*message);
    return true;
  }
  const bool arrives = action.kind == Action::Kind::deliver;
  if (arrives && action.b != client && !m_nodes[action.b].is_going()) return false;  // messages to the node wait for it
  Message taken = std::move(*message);
  m_messages.erase(message);
  if (arrives) arrive(std::move(taken));
  return true;
}

void World::arrive(Message message) {
  if (message.to == client) {
    Client& c = m_clients[message.job];
    const gq::Answer& answer = message.answer;
    ++m_figures.answers;
    const bool good = answer.outcome == Outcome::queued || answer.outcome == Outcome::same;
    m_figures.good += good;
    c.done = c.done || good || answer.outcome == Outcome::conflict || answer.outcome == Outcome::bad ||
             answer.reason.find("another job") != std::string::npos;
    return;
  }
  Node& node = m_nodes[message.to];
  switch (message.kind) {
    case Message::Kind::submit:
      node.tasks.push_back({.kind = Task::Kind::add,
                            .begun = m_figures.steps,
                            .from = message.from,
                            .job = message.job,
                            .records = std::move(message.records)});
      return;
    case Message::Kind::take:
      if (!admit(node, message)) return;
      for (const auto& record : message.records)
        say(node.name + " is given " + (record.state ? "the state of " + record.state->id : record.add.id) + " by " +
            name(message.from));
      node.tasks.push_back({.kind = Task::Kind::take,
                            .from = message.from,
                            .job = message.job,
                            .call = message.call,
                            .asked_at = message.sent_at,
                            .records = std::move(message.records)});
      return;
    case Message::Kind::ask:
      return answer_ask(node, message);
    case Message::Kind::asked:
      return hear_ask(node, message);
    case Message::Kind::answer:
      return;
    case Message::Kind::verdicts:
      break;
  }
  const bool believed = note(node, message);
  for (auto& task : node.tasks) {
    auto call = std::find_if(task.calls.begin(), task.calls.end(),
                             [&](const Task::Call& c) { return c.number == message.call; });
    if (call == task.calls.end()) continue;
    const unsigned to = call->to;
    const size_t job = call->job;
    task.calls.erase(call);
    if (!task.quorum) {
      if (believed) hear_verdicts(task, message);
      else if (task.kind == Task::Kind::keep) task.step = Step::next_tell;
      else not_sent(node, task);
      break;
    }
    if (believed) task.quorum->answered(job, name(to), message.identity, gq::parse_verdict(message.words[0]));
    task.quorum->progressed(time_of(m_now));
    task.quorum->ended();
    if (task.step == Step::wait) task.step = Step::go_on;
    break;
  }
  std::erase_if(node.tasks, [](const Task& t) { return t.step == Step::done; });
}

// --------------------------------------------------------------------------------------------------------------- tasks

bool World::is_ready(const Node& node, const Task& task) const {
  if (!node.is_going()) return false;
  if (task.step == Step::wait && !task.quorum) return false;
  if (task.step == Step::wait) return m_now >= task.wait.until.time_since_epoch();
  return task.step != Step::begin || m_now >= task.again_at;
}

// Whether a node expects another node to answer and to have room.
bool World::is_up(const Node& node, unsigned other) const {
  const auto up = node.replica->up();
  return std::find(up.begin(), up.end(), name(other)) != up.end();
}

bool World::step(Node& node, const Action& action) {
  unsigned nth = action.which;
  Task* found = nullptr;
  for (auto& task : node.tasks) {
    if (task.job != action.job || !is_ready(node, task)) continue;
    found = &task;
    if (nth-- == 0) break;
  }
  if (!found) return false;
  go_on(node, *found);
  std::erase_if(node.tasks, [](const Task& t) { return t.step == Step::done; });
  return true;
}

void World::go_on(Node& node, Task& task) {
  if (task.kind == Task::Kind::pay || task.kind == Task::Kind::single) return go_on_paying(node, task);
  if (task.kind == Task::Kind::keep) return go_on_keeping(node, task);
  if (task.kind == Task::Kind::forget || task.kind == Task::Kind::join) return go_on_changing(node, task);
  const bool own = task.kind != Task::Kind::take;
  switch (task.step) {
    case Step::begin:
      if (own) return begin(node, task);
      task.step = Step::append;
      [[fallthrough]];
    case Step::append: {
      task.answers.assign(task.records.size(), {Outcome::queued});
      task.entries.clear();
      const bool adds = std::any_of(task.records.begin(), task.records.end(), [](const Record& r) { return !r.state; });
      if (!adds) {
        task.step = Step::judge;
        return;
      }
      if (node.full) return refused(node, task, Outcome::refused);
      put(node, task);
      task.step = Step::sync;
      if (!own || !task.append.then_send) return;
      std::vector<size_t> all(task.records.size());
      std::iota(all.begin(), all.end(), 0);
      hand_out(node, task, task.quorum->to_send(all));
      return;
    }
    case Step::send: {
      auto [to, job] = task.to_send.front();
      task.to_send.pop_front();
      task.calls.push_back({++m_next_call, to, m_now, job});
      Message message{.kind = Message::Kind::take,
                      .from = number_of(node),
                      .to = to,
                      .job = task.job,
                      .call = m_next_call,
                      .records = {task.records[job]},
                      .sent_at = m_now};
      speak(node, message);
      send(std::move(message));
      task.quorum->sent(1, time_of(m_now));
      if (task.to_send.empty()) task.step = task.after;
      return;
    }
    case Step::sync:
      // Records are also appended again if the failed sync of another process left them in doubt.
      if (sync(node) && is_safe(node, task)) task.step = Step::decide;
      else task.step = Step::sync_again;
      return;
    case Step::sync_again:
      put(node, task);
      if (!sync(node) || !is_safe(node, task)) return refused(node, task, Outcome::unknown);
      task.step = Step::decide;
      return;
    case Step::decide:
      decide(node, task);
      if (!own) task.step = Step::judge;
      else if (task.append.then_send) stored(node, task, {});
      else task.step = Step::find_known;
      return;
    case Step::find_known: {
      std::vector<std::optional<Quorum::Known>> known;
      for (size_t i = 0; i < task.records.size(); ++i) {
        std::optional<gq::Job> job;
        if (task.answers[i].outcome == Outcome::queued) job = node.fold->get(task.records[i].add.id);
        if (task.answers[i].outcome == Outcome::same) job = node.fold->get(task.answers[i].reason);
        known.emplace_back();
        if (!job) continue;
        known.back() = {*job, node.fold->is_owed(*job)};
        // If the job has ended on this node and is owed to no known node, no other node has to have it.
        task.has_ended = gq::has_ended(*job) && !known.back()->owed;
      }
      return stored(node, task, known);
    }
    case Step::wait:
    case Step::go_on:
      return next_effect(node, task);
    case Step::record: {
      for (auto& copied : task.record.copied) {
        copied.at = wall(node);
        append(node, copied, {});
      }
      task.step = Step::record_sync;
      if (task.record.commit) return;
      task.quorum->recorded(true);
      task.step = Step::go_on;
      return;
    }
    case Step::record_sync:
      task.quorum->recorded(sync(node));
      task.step = Step::go_on;
      return;
    case Step::judge:
      return judge(node, task);
    case Step::reply:
      return reply(node, task);
    case Step::finish:
      m_done_jobs.insert(task.id);
      append(node,
             event::Done{.id = task.id, .at = wall(node), .owner = task.owner, .start = 1, .exit = 0, .attempts = 1},
             {});
      task.step = Step::done;
      return;
    default:
      return;
  }
}

unsigned World::number_of(const Node& node) const { return static_cast<unsigned>(&node - m_nodes.data()); }

void World::put(Node& node, Task& task) {
  for (const auto& record : task.records) {
    if (record.state) continue;
    gq::RecordHead head;
    head.data_size = record.size;
    head.data_sum = record.sum;
    task.entries.push_back(append(node, record.add, head));
  }
}

// Whether each of the task's records is in the journal and synced.
bool World::is_safe(const Node& node, const Task& task) const {
  return std::all_of(task.records.begin(), task.records.end(), [&](const Record& record) {
    return record.state || std::any_of(node.journal.rbegin(), node.journal.rend(), [&](const Entry& e) {
             auto* add = std::get_if<event::Add>(&e.event);
             return add && e.synced && e.lsn >= task.entries.front() && add->id == record.add.id;
           });
  });
}

void World::begin(Node& node, Task& task) {
  std::vector<Quorum::Asked> asked;
  for (auto& record : task.records) {
    auto& add = record.add;
    add.node = node.name;
    add.store = node.self.store;
    add.copies = m_setting.copies;
    add.once = m_setting.once;
    task.id = add.id;
    // Acts as ParentSearch.
    if (!record.parents.empty()) {
      const auto unknown = gq::name_parents(add, record.parents, *node.fold);
      const bool somewhere = std::any_of(m_nodes.begin(), m_nodes.end(), [&](const Node& other) {
        return !unknown.empty() && other.fold->get(unknown.front());
      });
      if (!unknown.empty()) {
        task.answers = {{somewhere ? Outcome::unknown : Outcome::bad, "a parent"}};
        task.step = Step::reply;
        return;
      }
    }
    asked.push_back({add.id, add.given || !add.asked.key.empty()});
    m_accepted[add.id].insert(add.store + "-" + std::to_string(node.losses));
  }
  task.quorum = std::make_shared<Quorum>(Quorum::Rule{m_setting.copies, m_setting.owe, true, peer_timeout}, node.self,
                                         std::move(asked));
  task.calls.clear();
  next_effect(node, task);
}

void World::next_effect(Node& node, Task& task) {
  auto effect = task.quorum->next(time_of(m_now), node.replica->others());
  if (auto* append = std::get_if<Quorum::Append>(&effect)) {
    task.append = *append;
    task.step = Step::append;
  } else if (auto* what = std::get_if<Quorum::Send>(&effect)) {
    task.step = Step::go_on;
    hand_out(node, task, *what);
  } else if (auto* wait = std::get_if<Quorum::Wait>(&effect)) {
    task.wait = *wait;
    task.step = Step::wait;
  } else if (auto* record = std::get_if<Quorum::Record>(&effect)) {
    task.record = std::move(*record);
    task.step = Step::record;
    task.decided = m_figures.steps;
  } else {
    task.answers = std::move(std::get<Quorum::Reply>(effect).answers);
    if (task.decided < task.begun) task.decided = m_figures.steps;
    task.step = Step::reply;
  }
}

// Sends to each node that is up, one after the other. Then the task continues where it was.
void World::hand_out(Node& node, Task& task, const Quorum::Send& what) {
  task.after = task.step;
  for (size_t n : what.numbers) {
    if (auto* standing = task.quorum->stands_for(n)) {
      auto entry = find_add(node, standing->id, {standing->job.location, standing->job.first_lsn});
      if (!entry) {
        task.quorum->cannot_send(n, "it is gone");
        continue;
      }
      task.records[n] = add_record_to_send(node, *entry, standing->job);
    }
    for (unsigned to = 0; to < m_nodes.size(); ++to)
      if (is_up(node, to)) task.to_send.emplace_back(to, n);
  }
  if (!task.to_send.empty()) task.step = Step::send;
}

void World::stored(Node& node, Task& task, const std::vector<std::optional<Quorum::Known>>& known) {
  task.quorum->stored(task.answers,
                      known.empty() ? std::vector<std::optional<Quorum::Known>>(task.records.size()) : known);
  next_effect(node, task);
}

// Call it if the store could not store the records.
void World::refused(Node& node, Task& task, Outcome outcome) {
  task.answers.assign(task.records.size(), {outcome, "the disk"});
  if (task.kind == Task::Kind::take) task.step = Step::judge;
  else stored(node, task, {});
}

// Acts as Queue::add().
void World::decide(Node& node, Task& task) {
  for (size_t i = 0; i < task.records.size(); ++i) {
    const event::Add& add = task.records[i].add;
    if (task.records[i].state || (!add.given && add.asked.key.empty())) continue;
    auto known = node.fold->get(add.id);
    std::optional<std::string> first;
    if (!known && !add.asked.key.empty() && add.node == node.name)
      if ((first = node.fold->keyed(add.asked.function, add.asked.key, add.at))) known = node.fold->get(*first);
    task.answers[i] = gq::answer_to(add, task.records[i].size, task.records[i].sum, known, first);
  }
}

void World::reply(Node& node, Task& task) {
  task.step = Step::done;
  if (task.kind == Task::Kind::take) {
    Message message{.kind = Message::Kind::verdicts,
                    .from = number_of(node),
                    .to = task.from,
                    .job = task.job,
                    .call = task.call,
                    .sent_at = task.asked_at};
    speak(node, message);
    message.words = task.words;
    return send(std::move(message));
  }
  const gq::Answer& answer = task.answers[0];
  const std::string id = answer.outcome == Outcome::same ? answer.reason : task.id;
  if (answer.outcome == Outcome::queued || answer.outcome == Outcome::same) check_answer(node, task, id, answer);
  if (task.kind == Task::Kind::raw) return reply_raw(task, answer);
  send({.kind = Message::Kind::answer, .from = number_of(node), .to = client, .job = task.job, .answer = answer});
}

void World::reply_raw(Task& task, const gq::Answer& answer) {
  Raw& raw = m_raws[task.job];
  switch (gq::next_raw_step(answer.outcome, task.open)) {
    case gq::RawStep::answer:
      raw.place = Raw::Place::gone;
      return;
    case gq::RawStep::again:
      task.open = true;
      task.step = Step::begin;
      task.begun = m_figures.steps;
      task.again_at = m_now + Millis(100);
      return;
    case gq::RawStep::give_back:
      raw.place = Raw::Place::server;
      check_given_back(task);
  }
}

// A process of the node dies that is not the process that serves the node. The node continues.
bool World::kill(Node& node, const Action& action) {
  using Kind = Task::Kind;
  unsigned nth = action.which;
  auto task = std::find_if(node.tasks.begin(), node.tasks.end(), [&](const Task& t) {
    const bool is_own = t.kind == Kind::add || t.kind == Kind::run || t.kind == Kind::forget || t.kind == Kind::join;
    return t.job == action.job && is_own && nth-- == 0;
  });
  if (task == node.tasks.end()) return false;
  const bool is_runner = task->kind == Kind::run;
  if (!is_runner) node.tasks.erase(task);
  else std::erase_if(node.tasks, [](const Task& t) { return t.kind == Kind::run; }), ++node.runners;
  return true;
}

bool World::give_up(Node& node, const Action& action) {
  if (!node.is_going()) return false;
  for (auto& task : node.tasks) {
    if (task.job != action.job) continue;
    auto call = std::find_if(task.calls.begin(), task.calls.end(),
                             [&](const Task::Call& c) { return m_now - c.sent >= peer_timeout; });
    if (call == task.calls.end()) continue;
    if (call->round) {
      node.replica->not_answered(name(call->to), call->round, true, times(node));
      if (call->sent >= node.back) node.others[call->to].tried = true;
    }
    node.replica->failed(name(call->to), "no answer", times(node));
    task.calls.erase(call);
    if (task.quorum) {
      task.quorum->ended();
      if (task.step == Step::wait) task.step = Step::go_on;
      return true;
    }
    if (task.kind == Task::Kind::keep) {
      if (task.keeping->effect) task.step = Step::next_tell;
      else fail_inquiry(node, task);
      std::erase_if(node.tasks, [](const Task& t) { return t.step == Step::done; });
      return true;
    }
    not_sent(node, task);
    std::erase_if(node.tasks, [](const Task& t) { return t.step == Step::done; });
    return true;
  }
  return false;
}

// --------------------------------------------------------------------------------------------------------------- debts

// Returns the add record of a job, as it is sent to other nodes.
Record World::add_record_to_send(Node& node, const Entry& entry, const gq::Job& job) {
  Record record{gq::add_to_send(std::get<event::Add>(entry.event), job), entry.head.data_size, entry.head.data_sum};
  if (!record.add.parents.empty()) record.add.met = node.fold->parents(record.add.id).met;
  return record;
}

// Finds the add record of a job at one of these positions.
const Entry* World::find_add(const Node& node, const std::string& id, std::initializer_list<Lsn> places) const {
  for (Lsn lsn : places)
    for (const auto& entry : node.journal)
      if (auto* add = std::get_if<event::Add>(&entry.event); add && entry.lsn == lsn && add->id == id) return &entry;
  return nullptr;
}

bool World::pay(Node& node, unsigned to) {
  if (!node.is_going() || !node.replica->pays(name(to))) return false;
  const unsigned job = debts_number + to + 1;
  bool begun = false;
  while (auto next = node.replica->next_single(name(to), times(node))) {
    node.tasks.push_back({.kind = Task::Kind::single, .from = to, .job = job, .id = next->id, .since = next->since});
    node.tasks.back().sent_again = next->needs_add;
    node.tasks.back().location = next->location;
    begun = true;
  }
  for (const auto& task : node.tasks)
    if (task.kind == Task::Kind::pay && task.from == to) return begun;
  auto walk = node.replica->walk(name(to), node.end);
  if (!walk) return begun;
  node.tasks.push_back({.kind = Task::Kind::pay, .from = to, .job = job});
  node.tasks.back().walk = std::move(walk);
  return true;
}

void World::read_on(Node& node, gq::Walk& walk) {
  auto mine = [&](const std::string& origin, const std::string& store) {
    return node.replica->is_mine_to_send(origin, store);
  };
  while (walk.upto() < node.end && !walk.is_full()) {
    if (const Lsn at = walk.upto(); walk.skip() != at) continue;
    auto entry = std::lower_bound(node.journal.begin(), node.journal.end(), walk.upto(),
                                  [](const Entry& e, Lsn lsn) { return e.lsn < lsn; });
    if (entry == node.journal.end()) return walk.pass(node.end);
    if (entry->lsn > walk.upto()) {
      walk.pass(entry->lsn);
      continue;
    }
    const auto* add = std::get_if<event::Add>(&entry->event);
    const bool is_sent = add && add->parents.empty();
    walk.see(entry->event, entry->head, entry->lsn, entry->end, is_sent ? std::to_string(entry->lsn) : "", mine);
  }
}

Task::Call& World::call(Node& node, Task& task, Message message) {
  message.from = number_of(node);
  message.to = task.from;
  message.job = task.job;
  message.call = ++m_next_call;
  message.sent_at = m_now;
  const bool is_ask = message.kind == Message::Kind::ask;
  message.round = is_ask ? node.replica->round() : 0;
  task.calls.push_back({m_next_call, task.from, m_now, 0, message.round});
  speak(node, message);
  send(std::move(message));
  task.step = Step::wait;
  return task.calls.back();
}

void World::go_on_paying(Node& node, Task& task) {
  if (task.kind == Task::Kind::single) return start_single(node, task);
  gq::Walk& walk = *task.walk;
  switch (task.step) {
    case Step::begin:
      read_on(node, walk);
      task.step = Step::look_up;
      return;
    case Step::look_up:
      for (const auto& id : walk.jobs()) walk.looked_up(id, node.fold->get(id));
      task.step = Step::tell;
      if (!walk.unsure().empty())
        call(node, task, {.kind = Message::Kind::ask, .ids = walk.unsure(), .here = node.end});
      return;
    case Step::tell:
      return tell(node, task, Step::tell_again);
    case Step::tell_again:
      task.sent_again = true;
      return tell(node, task, Step::note_copies);
    case Step::note_copies:
      if (auto copied = walk.copied(); !copied.empty())
        append(node,
               event::Copied{
                   .ids = std::move(copied), .at = wall(node), .peers = name(task.from), .stores = walk.identity()},
               {});
      task.step = Step::end_walk;
      return;
    default:
      break;
  }
  task.step = Step::done;
  node.replica->walked(name(task.from), walk, node.end, times(node));
  node.replica->move_on(name(task.from), times(node));
  record_peers(node);
}

// Sends as much of all debts as possible in one transfer. Then the task continues with `next`.
void World::tell(Node& node, Task& task, Step next) {
  Message message{.kind = Message::Kind::take, .from = 0, .to = 0};
  task.sent.clear();
  auto& debts = task.walk ? task.walk->debts() : task.keeping->debts;
  for (size_t i = 0; i < debts.size(); ++i) {
    gq::Debt& debt = debts[i];
    if (task.sent_again ? !debt.is_sent_again() : debt.again) continue;
    bool with_state = debt.state;
    if (task.sent_again) debt.again = false, with_state = !gq::is_fresh(debt.job);
    if (task.sent_again || debt.reads_add() || !debt.add.empty())
      if (auto* entry = debt.add.empty() || task.sent_again
                            ? find_add(node, debt.id, {debt.job.location, debt.job.first_lsn})
                            : find_add(node, debt.id, {std::stoull(debt.add)})) {
        message.records.push_back(
            debt.add.empty() || task.sent_again
                ? add_record_to_send(node, *entry, debt.job)
                : Record{std::get<event::Add>(entry->event), entry->head.data_size, entry->head.data_sum});
        task.sent.push_back(i);
      }
    if (!with_state) continue;
    message.records.push_back({{}, 0, 0, gq::state_to_send(debt.id, debt.job, node.self)});
    task.sent.push_back(i);
  }
  task.after = next;
  if (message.records.empty()) task.step = next;
  else call(node, task, std::move(message));
}

void World::start_single(Node& node, Task& task) {
  if (task.step == Step::end_walk) return end_single(node, task);
  task.debt = gq::single_debt(task.id, node.fold->get(task.id), task.sent_again, task.location, task.since);
  Message message{.kind = Message::Kind::take, .from = 0, .to = 0};
  if (task.debt && task.debt->needs_add)
    if (auto* entry = find_add(node, task.id, {task.debt->job.location, task.debt->job.first_lsn}))
      message.records.push_back(add_record_to_send(node, *entry, task.debt->job));
  if (task.debt && task.debt->state) {
    message.records.push_back({{}, 0, 0, gq::state_to_send(task.id, task.debt->job, node.self)});
  }
  if (message.records.empty()) {
    node.replica->nothing_to_send(name(task.from), task.id);
    task.step = Step::done;
    return;
  }
  call(node, task, std::move(message));
}

void World::end_single(Node& node, Task& task) {
  task.step = Step::done;
  if (task.debt->is_there() && task.debt->job.state == gq::State::pending)
    append(node, event::Copied{.ids = {task.id}, .at = wall(node), .peers = name(task.from), .stores = task.identity},
           {});
  node.replica->ended(name(task.from), *task.debt, times(node));
}

// Call it if another node does not answer, or refuses the transfer.
void World::not_sent(Node& node, Task& task) {
  if (task.kind == Task::Kind::single) node.replica->retry_at(name(task.from), task.debt->id, m_now + Millis(1000));
  task.step = Step::done;
}

void World::hear_verdicts(Task& task, const Message& message) {
  task.identity = message.identity;
  if (task.walk && task.walk->identity() != message.identity) {
    task.step = Step::done;
    return;
  }
  for (size_t i = 0; i < message.words.size(); ++i) {
    const auto verdict = gq::parse_verdict(message.words[i]);
    if (task.kind == Task::Kind::single) task.debt->take(verdict);
    else (task.walk ? task.walk->debts() : task.keeping->debts)[task.sent[i]].take(verdict);
  }
  task.step = task.kind == Task::Kind::single ? Step::end_walk : task.after;
}

// Answers the records of another node, as ReplicaService::take() does.
void World::judge(Node& node, Task& task) {
  task.words.clear();
  bool news = false;
  for (size_t i = 0; i < task.records.size(); ++i) {
    const auto& state = task.records[i].state;
    if (!state) {
      task.words.push_back(gq::verdict_on(task.answers[i]).text());
      continue;
    }
    const auto job = node.fold->get(state->id);
    const auto [kind, record] = gq::verdict_on(*state, job, node.self);
    task.words.push_back(gq::PeerVerdict{kind}.text());
    using What = gq::StateVerdict::Record;
    if (record == What::received) append(node, *state, {});
    if (record == What::received_as_own) append(node, gq::passed_on(*state, node.self), {});
    if (record == What::known) {
      say(node.name + " tells all nodes its state of " + state->id);
      append(node, gq::state_to_send(state->id, *job, node.self), {});
    }
    news = news || record != What::nothing;
  }
  task.step = Step::reply;
  if (!news || sync(node)) return;
  for (size_t i = 0; i < task.words.size(); ++i)
    if (task.records[i].state) task.words[i] = "refused the disk";
}

// ------------------------------------------------------------------------------------------------------------- oracles

bool World::holds(const Node& node, const std::string& id) const { return node.safe.count(id) && node.fold->get(id); }

std::set<std::string> World::holders(const std::string& id) const {
  std::set<std::string> identities;
  for (const auto& node : m_nodes)
    if (holds(node, id)) identities.insert(node.self.store);
  return identities;
}

// Checks an answer "queued". As many store identities must hold the job as the answer says ("copies=N"), or as the
// group asks for if the answer has no number (one, with --owe). An identity that was lost after the node began to
// handle this submission also counts, unless the node knew of the loss when it decided. An answer without a number is
// also right if the full number of copies existed, or was counted, at some earlier moment: the job may have lost copies
// since.
void World::check_answer(const Node& node, const Task& task, const std::string& id, const gq::Answer& answer) {
  if (task.has_ended) return;
  size_t wanted = m_setting.owe ? 1 : m_setting.copies;  // an answer about a job that was owed before has no number
  if (answer.note.rfind("copies=", 0) == 0) wanted = static_cast<size_t>(std::stoul(answer.note.substr(7)));
  auto there = holders(id);
  // Whether the node knew, when it decided, that this identity was replaced.
  auto is_known = [&](const std::string& identity) {
    auto known = node.gone.find(identity);
    return known != node.gone.end() && known->second < task.decided;
  };
  // Count this node if it has a synced record of the submitted job: if it lost the job that has the key, that record
  // would create the submitted job.
  if (node.safe.count(task.id)) there.insert(node.self.store);
  for (const auto& lost : m_lost)
    if (lost.step >= task.begun && lost.ids.count(id) && !is_known(lost.identity)) there.insert(lost.identity);
  say(node.name + " answers " + id + (answer.note.empty() ? "" : " " + answer.note) + ", which is on " +
      std::to_string(there.size()));
  if (there.size() < wanted && !(answer.note.empty() && m_complete.count(id)))
    fail(node.name + " says that " + id + " is on " + std::to_string(wanted) + " nodes, but it is on " +
         std::to_string(there.size()));
  if (there.size() >= m_setting.copies) m_complete.insert(id);
}

// Checks that no node has a job that is given back to the server: it will get another ID, and would run twice.
void World::check_given_back(const Task& task) {
  auto is_it = [&](const Record& r) { return r.add.id == task.id; };
  bool somewhere = std::any_of(m_messages.begin(), m_messages.end(), [&](const Message& m) {
    return std::any_of(m.records.begin(), m.records.end(), is_it);
  });
  for (const auto& node : m_nodes) somewhere = somewhere || node.fold->get(task.id);
  if (somewhere) fail("a job is given back to the server although it was taken as " + task.id);
}

// ------------------------------------------------------------------------------------------------------------- actions

Record World::make(const Submit& submit, unsigned job, const std::string& id) const {
  Record record;
  record.add.given = submit.what == Submit::What::id;
  record.add.id = record.add.given ? make_id('G', submit.which) : id;
  record.add.at = m_now;
  record.add.asked.function = (submit.what == Submit::What::plain ? job : submit.which) % 2 ? "f" : "g";
  if (m_setting.expires) record.add.asked.expire = m_now + Millis(m_setting.expires);
  if (submit.what == Submit::What::key) record.add.asked.key = "key" + std::to_string(submit.which);
  record.size = 10 + submit.payload;
  record.sum = submit.payload;
  const bool is_plain = submit.what == Submit::What::plain && id == make_id('C', job);
  for (unsigned before = job - std::min(job, 2u); is_plain && m_setting.after && m_setting.once && before < job;
       ++before)
    if (const auto asks = m_clients.find(before);
        asks != m_clients.end() && asks->second.record.add.id == make_id('C', before))
      record.parents.push_back(asks->second.record.add.id);
  record.add.asked.after = static_cast<uint32_t>(record.parents.size());
  return record;
}

bool World::act(const Action& action) {
  if (action.a != client && action.a >= m_nodes.size()) return false;
  if (action.b != client && action.b >= m_nodes.size()) return false;
  if (m_wants_log) m_log += to_text(action) + "\n";
  const bool possible = carry_out(action);
  if (!possible) {
    if (m_wants_log) m_log += "    not possible\n";
    return false;
  }
  m_done.push_back(action);
  ++m_figures.steps;
  ++m_figures.kinds[static_cast<size_t>(action.kind)];
  return true;
}

bool World::carry_out(const Action& action) {
  using Kind = Action::Kind;
  const bool of_node = action.kind != Kind::raw && action.kind != Kind::time && action.kind != Kind::deliver &&
                       action.kind != Kind::lose && action.kind != Kind::twice;
  if (of_node && action.a == client) return false;
  Node& node = m_nodes[action.a == client ? 0 : action.a];
  switch (action.kind) {
    case Kind::submit: {
      if (m_raws.count(action.job)) return false;
      if (!m_clients
               .try_emplace(action.job, Client{make(decode_submit(action.n), action.job, make_id('C', action.job))})
               .second)
        return false;
      if (!groups_agree()) m_regrouped.insert(m_clients.at(action.job).record.add.id);
      if (const auto& record = m_clients.at(action.job).record; !record.parents.empty())
        m_parents[record.add.id] = record.parents;
      send_job(action.job, action.a);
      return true;
    }
    case Kind::again: {
      auto asks = m_clients.find(action.job);
      if (asks == m_clients.end() || asks->second.done) return false;
      send_job(action.job, action.a);
      return true;
    }
    case Kind::raw:
      return !m_clients.count(action.job) && m_raws.try_emplace(action.job).second;
    case Kind::grab: {
      auto raw = m_raws.find(action.job);
      if (!node.is_going() || raw == m_raws.end() || raw->second.place != Raw::Place::server) return false;
      raw->second.place = Raw::Place::node;
      node.tasks.push_back({.kind = Task::Kind::raw,
                            .begun = m_figures.steps,
                            .from = client,
                            .job = action.job,
                            .records = {make({}, action.job, make_id('R', action.job, ++raw->second.times))}});
      if (!groups_agree()) m_regrouped.insert(node.tasks.back().records[0].add.id);
      return true;
    }
    case Kind::step:
      return step(node, action);
    case Kind::give_up:
      return give_up(node, action);
    case Kind::deliver:
    case Kind::lose:
    case Kind::twice:
      return deliver(action);
    case Kind::ask:
      return action.b != client && action.b != action.a && ask(node, action.b);
    case Kind::keep:
      return keep(node);
    case Kind::pay:
      return action.b != client && action.b != action.a && pay(node, action.b);
    case Kind::run:
      return run(node);
    case Kind::time:
      pass(Millis(action.n % 10'000));
      return true;
    case Kind::pause:
      if (!node.is_going()) return false;
      node.stopped_at = m_now;
      return node.stopped = true;
    case Kind::resume:
      return wake(node);
    case Kind::clock:
      node.skew = Millis(action.n % 10'000);
      return true;
    case Kind::forget:
    case Kind::join:
      return action.b != client && change_group(node, action);
    case Kind::kill:
      return kill(node, action);
    case Kind::crash:
    case Kind::power:
      if (!node.up) return false;
      stop(node);
      if (action.kind == Kind::power) lose_unsynced(node);
      return true;
    case Kind::start:
      if (node.up) return false;
      start(node);
      return true;
    case Kind::wipe:
      if (node.stores > most_wiped) return false;
      stop(node);
      for (const auto& entry : node.journal)
        if (auto* add = std::get_if<event::Add>(&entry.event)) m_excused.insert(add->id);
      m_lost.push_back({m_figures.steps, node.self.store, std::exchange(node.safe, {})});
      set_up(node);
      return true;
    case Kind::bad_sync:
      if (!node.up || node.next_sync_fails) return false;
      return node.next_sync_fails = true;
    case Kind::full:
      if (node.full) return false;
      return node.full = true;
    case Kind::room:
      if (!node.full) return false;
      node.full = false;
      return true;
  }
  return false;
}

void World::send_job(unsigned job, unsigned node) {
  send({.kind = Message::Kind::submit, .from = client, .to = node, .job = job, .records = {m_clients.at(job).record}});
}

// Returns a random action from these: what nodes do for each other, the passing of time, and what stops a node.
Action World::any_of_group(Random& random) const {
  using Kind = Action::Kind;
  auto number = [&](size_t bound) { return static_cast<unsigned>(random.below(bound)); };
  const unsigned node = number(m_nodes.size()), other = number(m_nodes.size());
  constexpr Kind usual[] = {Kind::ask, Kind::ask, Kind::keep, Kind::run, Kind::time};
  constexpr Kind seldom[] = {Kind::pay, Kind::pause, Kind::resume, Kind::crash, Kind::start, Kind::wipe, Kind::start};
  const Kind kind = random.chance(5) ? seldom[number(std::size(seldom))] : usual[number(std::size(usual))];
  return {.kind = kind, .a = node, .b = other, .n = kind == Kind::time ? 100 + number(800) : 0};
}

// Mostly chooses actions that continue existing tasks and messages, so that many faults hit unfinished work.
Action World::any(Random& random) const {
  using Kind = Action::Kind;
  auto number = [&](size_t bound) { return static_cast<unsigned>(random.below(bound)); };
  const unsigned node = number(m_nodes.size());
  const auto jobs = static_cast<unsigned>(m_clients.size() + m_raws.size());
  auto job = [&] { return 1 + jobs - std::min(jobs, 1 + number(8)); };  // one of the latest jobs
  const auto& tasks = m_nodes[node].tasks;
  if (m_setting.hurries && random.chance(4)) return any_of_group(random);
  if (m_setting.regroups && random.chance(60))
    return {.kind = random.chance(2) ? Kind::forget : Kind::join, .a = node, .b = number(m_nodes.size())};
  const uint64_t dice = random.below(1000);
  if (dice < 480 && !tasks.empty()) {
    const Task& task = tasks[number(tasks.size())];
    const Kind kind = dice < 465 ? Kind::step : dice < 479 ? Kind::give_up : Kind::kill;
    return {.kind = kind, .a = node, .job = task.job, .which = number(2)};
  }
  if (dice >= 480 && dice < 500) return {.kind = Kind::time, .n = 10 + number(400)};
  if (dice < 800 && !m_messages.empty()) {
    const Message& m = m_messages[number(m_messages.size())];
    const Kind kind = dice < 785 ? Kind::deliver : dice < 792 ? Kind::lose : Kind::twice;
    return {.kind = kind, .a = m.from, .b = m.to, .job = m.job, .which = number(2)};
  }
  if (dice < 815) return {.kind = Kind::submit, .a = node, .n = number(3 * few * payloads), .job = jobs + 1};
  if (dice < 880) return {.kind = Kind::again, .a = node, .job = job()};
  if (dice < 885) return {.kind = Kind::raw, .job = jobs + 1};
  if (dice < 900) return {.kind = Kind::grab, .a = node, .job = job()};
  if (dice < 910) return {.kind = Kind::run, .a = node};
  if (dice < 930) return {.kind = Kind::pay, .a = node, .b = number(m_nodes.size())};
  if (dice < 955) return {.kind = Kind::ask, .a = node, .b = number(m_nodes.size())};
  if (dice < 970) return {.kind = Kind::keep, .a = node};
  if (dice < 973) return {.kind = random.chance(2) ? Kind::pause : Kind::clock, .a = node, .n = number(4000)};
  if (dice < 980) return {.kind = Kind::resume, .a = node};
  if (dice < 982) return {.kind = Kind::time, .n = 200 + number(1500)};
  if (dice < 987) return {.kind = Kind::start, .a = node};
  if (dice < 990) return {.kind = Kind::crash, .a = node};
  if (dice < 992) return {.kind = Kind::power, .a = node};
  if (dice < 995) return {.kind = Kind::wipe, .a = node};
  if (dice < 996) return {.kind = Kind::bad_sync, .a = node};
  if (dice < 997) return {.kind = Kind::full, .a = node};
  return {.kind = Kind::room, .a = node};
}

// Returns what is owed to the nodes, as a text for users.
std::string World::owed_text() const {
  std::string text;
  for (const auto& node : m_nodes)
    for (unsigned other = 0; other < m_nodes.size(); ++other) {
      if (&m_nodes[other] == &node) continue;
      if (!node.replica->members().has(name(other)))
        text += "; " + node.name + " does not know " + name(other) + " yet";
      if (node.replica->walk(name(other), node.end))
        text += "; " + node.name + " has not told " + name(other) + " everything";
      for (const auto& line : gq::lines_of(node.replica->debts_text(name(other))))
        if (line.rfind(m_nodes[other].self.store, 0) != 0)
          text += "; " + node.name + " owes " + name(other) + " " + line;
    }
  return text;
}

// Call it when all faults have ended. Checks that each unfinished job that any node has is on all nodes and, if jobs
// run once, that all nodes name the same owner. Returns a text about the first difference, or an empty string.
//
// Skips jobs with a key or with an ID that a user chose, because a recreated node may have another job under it. Skips
// pending jobs. Skips jobs that two nodes have accepted; left_to_run() checks that these end. If every node runs each
// job, also skips a job that has ended on some node, because a recreated node is not told of it; and a job whose record
// a node lost before the client got its answer, because only the nodes that were told before have it.
std::string World::disagreement() const {
  auto has_ended_anywhere = [&](const std::string& id) {
    return std::any_of(m_nodes.begin(), m_nodes.end(), [&](const Node& n) {
      const auto its = n.fold->get(id);
      return its && gq::has_ended(*its);
    });
  };
  for (const auto& node : m_nodes)
    for (const auto& entry : node.journal) {
      auto* add = std::get_if<event::Add>(&entry.event);
      auto job = add && !add->given && add->asked.key.empty() ? node.fold->get(add->id) : std::nullopt;
      if (!job || job->node.empty() || job->state == gq::State::finished || job->state == gq::State::pending) continue;
      if (m_accepted.at(add->id).size() > 1) continue;
      if (!job->once && (has_ended_anywhere(add->id) || m_excused.count(add->id))) continue;
      for (const auto& other : m_nodes) {
        auto its = other.fold->get(add->id);
        if (!its) return add->id + " is on " + node.name + " and not on " + other.name + ":" + states_of(add->id);
        if (job->once && (its->node != job->node || its->store != job->store || its->term != job->term))
          return add->id + " is of another node on " + node.name + " than on " + other.name + ":" + states_of(add->id);
      }
    }
  return {};
}

// Lets each message arrive, and each task take one step.
void World::play_round() {
  using Kind = Action::Kind;
  const auto nodes = static_cast<unsigned>(m_nodes.size());
  for (unsigned n = 0; n < nodes; ++n)
    for (unsigned other = 0; other < nodes; ++other)
      if (n != other && !is_up(m_nodes[n], other) && !m_nodes[n].others[other].ask)
        act({.kind = Kind::ask, .a = n, .b = other});
  for (size_t left = 0; m_messages.size() > left && !m_fault;) {
    const Message& m = m_messages[left];
    if (!act({.kind = Kind::deliver, .a = m.from, .b = m.to, .job = m.job})) ++left;
  }
  for (unsigned n = 0; n < nodes; ++n) {
    std::vector<unsigned> jobs;
    for (const auto& task : m_nodes[n].tasks) jobs.push_back(task.job);
    for (unsigned job : jobs)
      if (!act({.kind = Kind::step, .a = n, .job = job})) act({.kind = Kind::give_up, .a = n, .job = job});
  }
}

// Does what each node does about once a second.
void World::play_second() {
  using Kind = Action::Kind;
  const auto nodes = static_cast<unsigned>(m_nodes.size());
  for (unsigned n = 0; n < nodes; ++n) {
    for (unsigned other = 0; other < nodes; ++other) {
      if (n == other) continue;
      act({.kind = Kind::ask, .a = n, .b = other});
      act({.kind = Kind::pay, .a = n, .b = other});
    }
    act({.kind = Kind::keep, .a = n});
    while (act({.kind = Kind::run, .a = n})) {
    }
  }
}

void World::recreate(unsigned node, unsigned asks) {
  using Kind = Action::Kind;
  if (node == asks || !act({.kind = Kind::wipe, .a = node})) return;
  act({.kind = Kind::start, .a = node});
  act({.kind = Kind::ask, .a = asks, .b = node});
  act({.kind = Kind::deliver, .a = asks, .b = node});
  act({.kind = Kind::deliver, .a = node, .b = asks});
}

void World::go_on_without(unsigned node, bool crashes) {
  using Kind = Action::Kind;
  const auto job = static_cast<unsigned>(m_clients.size() + m_raws.size() + 1);
  act({.kind = Kind::submit, .a = node, .job = job});
  for (unsigned round = 0; round < 12 && !m_fault; ++round) play_round();
  act({.kind = crashes ? Kind::crash : Kind::pause, .a = node});
  for (unsigned round = 0; round < 70 && !m_fault; ++round) {
    play_round();
    if (round % 6 != 0) continue;
    act({.kind = Kind::time, .n = 300});
    play_second();
  }
  act({.kind = crashes ? Kind::start : Kind::resume, .a = node});
  act({.kind = Kind::time, .n = 10});
  act({.kind = Kind::run, .a = node});  // before the node has received anything
}

void World::heal() {
  using Kind = Action::Kind;
  const auto begun = m_figures.steps;
  m_healing = m_done.size();
  const auto nodes = static_cast<unsigned>(m_nodes.size());
  auto waiting = [&] {
    return std::count_if(m_clients.begin(), m_clients.end(), [](const auto& c) { return !c.second.done; }) +
           std::count_if(m_raws.begin(), m_raws.end(),
                         [](const auto& r) { return r.second.place != Raw::Place::gone; });
  };
  auto is_done = [&] {
    return groups_agree() && m_messages.empty() && waiting() == 0 && owed_text().empty() &&
           std::all_of(m_nodes.begin(), m_nodes.end(), [](const Node& n) { return n.tasks.empty(); }) &&
           left_to_run().empty() && left_to_wake().empty() && disagreement().empty();
  };
  for (unsigned n = 0; n < nodes; ++n) {
    act({.kind = Kind::start, .a = n});
    act({.kind = Kind::resume, .a = n});
    act({.kind = Kind::room, .a = n});
    m_nodes[n].next_sync_fails = false;
  }
  constexpr unsigned rejoin = 400;  // in this round, all nodes join one group again
  for (unsigned round = 0; !is_done() && !m_fault; ++round) {
    if (m_figures.steps - begun > enough_steps)
      return fail("after all faults were removed, " + std::to_string(waiting()) + " clients have no answer" +
                  owed_text() + (left_to_run().empty() ? "" : "; no node runs " + left_to_run()) +
                  (left_to_wake().empty() ? "" : "; " + left_to_wake()) +
                  (disagreement().empty() ? "" : "; " + disagreement()));
    play_round();
    if (round == rejoin) check_forgotten();
    for (unsigned n = 0; n < nodes && round >= rejoin && !groups_agree(); ++n)
      for (unsigned other = 0; other < nodes; ++other) act({.kind = Kind::join, .a = n, .b = other});
    if (round % 20 != 0) continue;
    act({.kind = Kind::time, .n = 400});
    play_second();
    const unsigned node = round / 20 % nodes;
    for (const auto& [job, raw] : m_raws)
      if (raw.place == Raw::Place::server) act({.kind = Kind::grab, .a = node, .job = job});
    if (round % 200 != 0) continue;
    for (const auto& [job, asks] : m_clients)
      if (!asks.done) act({.kind = Kind::again, .a = (job + round / 200) % nodes, .job = job});
  }
}

}  // namespace simulate
