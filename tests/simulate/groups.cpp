// The part of the world about the work of a group: changes of the group, questions, takeovers, and running jobs. The
// code acts as the replicator's keeper and the runner do. gq's own code makes the decisions.
#include <algorithm>

#include "world.hpp"

namespace simulate {
namespace {

namespace event = gq::event;
using Step = Task::Step;
using Cause = gq::Takeover::Cause;

}  // namespace

gq::Group World::group_of(const Node& node) const {
  gq::Group group{node.self, {}, m_setting.copies, m_setting.once};
  for (const auto& member : m_nodes)
    if (&member == &node || node.settings.count(member.name)) group.members.push_back(member.name);
  return group;
}

gq::RunHere World::runs(const Node& node) const {
  gq::RunHere here;
  const unsigned not_there = m_setting.serves[number_of(node)];
  if (!(not_there & 1)) here.functions.insert("f");
  if (!(not_there & 2)) here.functions.insert("g");
  here.any = !here.functions.empty();
  here.all = not_there == 0;
  return here;
}

void World::start(Node& node) {
  node.up = true;
  ++node.processes;
  node.others = std::vector<Node::Other>(m_nodes.size());
  node.gone.clear();
  const gq::Replica::Rules rules{.takeover = takeover, .alone_after = alone_after, .check_interval = check_interval};
  node.replica = std::make_unique<gq::Replica>(group_of(node), rules, node.fold->peers(), times(node));
  node.replica->serve(node.fold->peers(), times(node));
  node.has_lease = node.has_read_settings = false;
  node.back = node.heard = m_now;
  for (auto& other : node.others) other.heard = m_now;
  renew_lease(node);
}

// ----------------------------------------------------------------------------------------------- a group that changes

// Whether the group of each node contains all others, and no command is changing that.
bool World::groups_agree() const {
  return std::all_of(m_nodes.begin(), m_nodes.end(), [&](const Node& n) {
    return n.settings.size() == m_nodes.size() - 1 &&
           std::none_of(n.tasks.begin(), n.tasks.end(), [](const Task& t) { return t.job == group_number; });
  });
}

void World::regroup() {
  for (const auto& [number, asks] : m_clients) m_regrouped.insert(asks.record.add.id);
  for (const auto& node : m_nodes) {
    for (const auto& entry : node.journal)
      if (auto* add = std::get_if<event::Add>(&entry.event)) m_regrouped.insert(add->id);
    for (const auto& task : node.tasks)
      for (const auto& record : task.records) m_regrouped.insert(record.add.id);
  }
}

// Acts as gq-replicate forget, or as init with a group that contains the other node again.
bool World::change_group(Node& node, const Action& action) {
  const bool forgets = action.kind == Action::Kind::forget;
  if (&m_nodes[action.b] == &node || node.settings.count(name(action.b)) != forgets) return false;
  if (forgets && (action.b == 0 || node.settings.size() < m_setting.copies)) return false;
  for (const auto& task : node.tasks)
    if (task.job == group_number) return false;
  regroup();
  node.tasks.push_back({.kind = forgets ? Task::Kind::forget : Task::Kind::join,
                        .step = forgets ? Step::write_settings : Step::write_peer,
                        .from = action.b,
                        .job = group_number});
  return true;
}

void World::go_on_changing(Node& node, Task& task) {
  const bool forgets = task.kind == Task::Kind::forget;
  const std::string& other = name(task.from);
  if (task.step == Step::write_settings) {
    if (forgets) node.settings.erase(other);
    else node.settings.insert(other);
    node.joining.erase(other);
    task.step = forgets ? Step::write_peer : Step::done;
    return;
  }
  task.step = forgets ? Step::done : Step::write_settings;
  const bool is_owed = node.fold->peers().count(other) && node.fold->peer(other).position != gq::nothing_owed;
  if (is_owed != forgets) return;
  append(
      node,
      event::Peer{
          .node = other, .at = wall(node), .position = forgets ? gq::nothing_owed : 0, .since = forgets ? 0 : node.end},
      {});
  if (!forgets) node.joining.insert(other);
  if (!sync(node)) task.step = Step::done;
}

// Acts as Replicator::reload().
void World::reload(Node& node) {
  const gq::Group group = group_of(node), before = node.replica->group();
  if (std::exchange(node.has_read_settings, true) && group.members == before.members) return;
  const auto change = node.replica->change(group, node.fold->peers(), node.end, {}, times(node));
  for (unsigned i = 0; i < m_nodes.size(); ++i) {
    const bool has_returned =
        std::find(change.returned.begin(), change.returned.end(), name(i)) != change.returned.end();
    if (has_returned || !before.has(name(i))) node.others[i] = {}, node.others[i].heard = m_now;
  }
  for (const auto& other : node.replica->to_forget()) {
    append(node, event::Peer{.node = other, .at = wall(node), .position = gq::nothing_owed}, {});
    node.replica->forgotten(other);
  }
}

// Checks that nothing is owed to a node outside the group: otherwise all ended jobs would be kept for it. If a command
// died that was to add the node to the group, its user repeats the command.
void World::check_forgotten() {
  for (const auto& node : m_nodes)
    for (const auto& [other, state] : node.fold->peers())
      if (!node.settings.count(other) && !node.joining.count(other) && state.position != gq::nothing_owed)
        fail(node.name + " still owes records to " + other + ", which is not in its group");
}

// ---------------------------------------------------------------------------------------------------------------- time

// Lets time pass. Meanwhile, each running process renews its lease.
void World::pass(Millis duration) {
  constexpr Millis interval{200};
  for (; duration > Millis(0); duration -= interval) {
    m_now += std::min(duration, interval);
    for (auto& node : m_nodes)
      if (node.is_going()) renew_lease(node);
  }
}

// Acts as LeaseKeeper::beat(), after each step and now and then.
void World::renew_lease(Node& node) {
  using What = gq::Replica::Lease::What;
  const auto lease = node.replica->lease(times(node));
  node.has_lease = node.has_lease && lease.what == What::hold;
  node.beat = lease.beat;
  if (lease.what == What::take && node.replica->end_return(lease.round, times(node))) {
    node.has_lease = true;
    node.replica->holds_lease(lease.round);
    say(node.name + " has returned");
  }
  for (const auto& line : node.replica->effects().lines) say(node.name + ": " + line.text);
}

bool World::wake(Node& node) {
  if (!node.stopped) return false;
  node.stopped = false;
  if (m_now - node.stopped_at < takeover) return true;
  node.back = node.heard = m_now;
  for (auto& other : node.others) other.first_end.reset(), other.tried = false;
  return true;
}

// ------------------------------------------------------------------------------------------------------------- answers

void World::speak(const Node& node, Message& message) {
  message.identity = node.self.store;
  message.session = node.self.store + std::to_string(node.processes);
}

// Acts as PeerLine::note(): decides whether the node accepts the identity in an answer, and carries out the result.
bool World::note(Node& node, const Message& message) {
  auto& other = node.others[message.from];
  const std::string& from = name(message.from);
  const std::string before = node.replica->members().store_of(from);
  const bool was_back = node.replica->detector().has_returned();
  auto acceptance = node.replica->accept(from, message.identity, message.session, {}, message.sent_at, times(node));
  if (acceptance.needs_end)
    acceptance = node.replica->accept(from, message.identity, message.session, node.end, message.sent_at, times(node));
  if (acceptance.refused) node.replica->failed(from, *acceptance.refused, times(node));
  else {
    if (!before.empty() && before != message.identity) node.gone.try_emplace(before, m_figures.steps);
    if (was_back && m_now - node.heard >= takeover) {
      node.back = m_now;
      for (auto& o : node.others) o.first_end.reset(), o.tried = false;
    }
    node.heard = other.heard = m_now;
    if (message.bad) node.replica->failed(from, "bad", times(node));
  }
  renew_lease(node);
  record_peers(node);
  return !acceptance.refused && !message.bad;
}

// Appends the records about other nodes that are due.
void World::record_peers(Node& node) {
  for (const auto& other : m_nodes) {
    const auto said = node.replica->record(other.name, false, times(node));
    if (!said) continue;
    append(node, *said, {});
    node.replica->recorded(other.name, true, times(node));
  }
}

// Decides whether the node accepts a transfer. If it does not, answers with the refusal.
std::optional<gq::Replica::Admission> World::admit(Node& node, const Message& message) {
  const bool is_ask = message.kind == Message::Kind::ask;
  gq::Transfer transfer;
  transfer.kind = is_ask ? "ask" : "take";
  transfer.group = node.replica->group().id();
  transfer.to = node.name;
  transfer.node = name(message.from);
  transfer.store = message.identity;
  auto admission = node.replica->admit(transfer, times(node));
  record_peers(node);
  if (admission.refusal) {
    Message reply{.kind = is_ask ? Message::Kind::asked : Message::Kind::verdicts,
                  .from = message.to,
                  .to = message.from,
                  .job = message.job,
                  .call = message.call,
                  .bad = true,
                  .sent_at = message.sent_at};
    speak(node, reply);
    send(std::move(reply));
    return std::nullopt;
  }
  for (const auto& record : message.records)
    if (!record.state) node.replica->refuse(record.add);
  return admission;
}

// ----------------------------------------------------------------------------------------------------------- questions

// A node asks another node for its state, as it does once a second. It does not wait for a late answer.
bool World::ask(Node& node, unsigned to) {
  auto& other = node.others[to];
  if (!node.is_going() || !node.replica->members().has(name(to))) return false;
  if ((other.ask && m_now - other.ask->sent < peer_timeout) || m_messages.size() > 60) return false;
  if (other.ask) {
    node.replica->not_answered(name(to), other.ask->round, true, times(node));
    node.replica->failed(name(to), "no answer", times(node));
    if (other.ask->sent >= node.back) other.tried = true;
  }
  other.ask = Task::Call{++m_next_call, to, m_now, 0, node.replica->round()};
  Message message{.kind = Message::Kind::ask,
                  .from = number_of(node),
                  .to = to,
                  .call = m_next_call,
                  .here = node.end,
                  .round = node.replica->round(),
                  .sent_at = m_now};
  speak(node, message);
  send(std::move(message));
  return true;
}

void World::answer_ask(Node& node, const Message& message) {
  const auto admission = admit(node, message);
  if (!admission) return;
  const std::string& from = name(message.from);
  Message answer{.kind = Message::Kind::asked,
                 .from = message.to,
                 .to = message.from,
                 .job = message.job,
                 .call = message.call,
                 .ids = message.ids,
                 .here = message.here,
                 .round = message.round,
                 .sent_at = message.sent_at};
  speak(node, answer);
  gq::AskReply& reply = answer.reply;
  const auto here = runs(node);
  reply.end = node.end;
  reply.runner = here.any;
  if (here.any && !here.all) reply.functions.emplace(here.functions.begin(), here.functions.end());
  reply.taking = admission->taking;
  reply.room = !node.full;
  reply.sent = node.replica->sent();
  for (const auto& id : message.ids) reply.say_of(id, node.fold->get(id), {from, message.identity}, node.self);
  send(std::move(answer));
}

void World::hear_ask(Node& node, Message& message) {
  auto& other = node.others[message.from];
  const std::string& from = name(message.from);
  const bool once_a_second = other.ask && other.ask->number == message.call;
  if (once_a_second) other.ask.reset();
  auto task = std::find_if(node.tasks.begin(), node.tasks.end(), [&](const Task& t) {
    return std::any_of(t.calls.begin(), t.calls.end(), [&](const auto& c) { return c.number == message.call; });
  });
  if (!once_a_second && task == node.tasks.end()) return;
  const bool believed = note(node, message);
  const gq::AskReply& reply = message.reply;
  if (!believed) node.replica->not_answered(from, message.round, true, times(node));
  if (message.sent_at >= node.back) other.tried = true;
  if (believed) {
    node.replica->answered(from, message.round, reply, message.here, times(node));
    renew_lease(node);
    record_peers(node);
    for (const char* f : {"f", "g"})
      if (!(m_setting.serves[message.from] & (*f == 'f' ? 1 : 2))) other.ran[f] = m_now;
    if (message.sent_at >= node.back && !other.first_end && !reply.taking) other.first_end = reply.end;
  }
  if (once_a_second) return;
  std::erase_if(task->calls, [&](const Task::Call& c) { return c.number == message.call; });
  if (task->kind == Task::Kind::keep) {
    if (believed) hear_inquiry(node, *task, reply);
    else fail_inquiry(node, *task);
  } else {
    for (size_t i = 0; believed && i < message.ids.size(); ++i)
      if (reply.known[i]) task->walk->knows(message.ids[i]);
    task->step = believed ? Step::tell : Step::done;
  }
  std::erase_if(node.tasks, [](const Task& t) { return t.step == Step::done; });
}

// ---------------------------------------------------------------------------------------------------------- take-overs

// Does one round of the keeper, as Replicator::keep_once() does.
bool World::keep(Node& node) {
  if (!node.is_going()) return false;
  for (const auto& task : node.tasks)
    if (task.kind == Task::Kind::keep) return false;
  reload(node);
  gq::HeldHere held;
  if (m_setting.once) held.runs = runs(node);
  if (held.runs.any)
    for (const auto& [function, counters] : node.fold->counters())
      if (counters.jobs[static_cast<size_t>(gq::State::held)] > 0 && held.runs.has(function))
        held.functions.insert(function);
  if (!held.functions.empty()) held.nodes = node.fold->held_nodes();
  auto due = node.replica->due(held, times(node));
  renew_lease(node);
  record_peers(node);
  if (due.empty()) {
    come_back(node);
    return true;
  }
  node.tasks.push_back({.kind = Task::Kind::keep, .step = Step::next_inquiry, .from = client, .job = keep_number});
  auto& keeping = *(node.tasks.back().keeping = std::make_shared<Keeping>());
  keeping.due.assign(due.begin(), due.end());
  keeping.runs = held.runs;
  return true;
}

void World::come_back(Node& node) {
  if (!node.replica->is_returning()) return;
  uint64_t own = 0;
  for (const auto& [function, counters] : node.fold->counters()) own += counters.live();
  node.replica->standby(own > 0, times(node));
  renew_lease(node);
}

void World::go_on_keeping(Node& node, Task& task) {
  switch (task.step) {
    case Step::next_inquiry:
      return next_inquiry(node, task);
    case Step::take_over:
      return take_over(node, task);
    case Step::next_tell:
      return next_tell(node, task);
    case Step::tell:
      return tell(node, task, Step::tell_again);
    case Step::tell_again:
      task.sent_again = true;
      return tell(node, task, Step::next_tell);
    case Step::write: {
      auto changes = task.keeping->effect->to_send();
      task.keeping->taken += changes.size();
      for (const auto& change : changes) append(node, gq::state_of(change.id, change.job), {});
      task.step = Step::write_sync;
      return;
    }
    case Step::write_sync: {
      const bool well = sync(node);
      node.replica->taken();
      task.keeping->effect.reset();
      if (well) end_inquiry(node, task);
      else fail_inquiry(node, task);
      return;
    }
    default:
      return;
  }
}

void World::next_inquiry(Node& node, Task& task) {
  if (task.keeping->due.empty()) {
    task.step = Step::done;
    return come_back(node);
  }
  const gq::Takeover& what = task.keeping->due.front();
  task.keeping->inquiry_began = m_now;
  task.keeping->taken = 0;
  std::string cursor;
  std::vector<std::string> ids;
  node.fold->page('o', what.node, 10'000, cursor, ids);
  std::vector<gq::HeldJob> held;
  for (const auto& id : ids)
    if (auto job = node.fold->get(id)) held.push_back({.id = id, .job = std::move(*job)});
  task.keeping->inquiry.emplace(what, task.keeping->runs, std::move(held));
  next_question(node, task);
}

// Asks the next question of the inquiry, and waits for the answer; or ends if there is no question left.
void World::next_question(Node& node, Task& task) {
  constexpr Millis remember = std::chrono::hours(24);
  const auto question = node.replica->next_question(*task.keeping->inquiry, remember, times(node));
  task.step = Step::take_over;
  for (unsigned i = 0; i < m_nodes.size() && question; ++i) {
    if (name(i) != question->node) continue;
    task.from = i;
    call(node, task, {.kind = Message::Kind::ask, .ids = question->ids, .here = node.end, .sent_at = m_now});
  }
}

void World::hear_inquiry(Node& node, Task& task, const gq::AskReply& reply) {
  for (const auto& state : node.replica->answered(*task.keeping->inquiry, reply, times(node))) {
    say(node.name + " tells all nodes the owner of " + state.id);
    append(node, state, {});
  }
  next_question(node, task);
}

void World::take_over(Node& node, Task& task) {
  gq::Inquiry& inquiry = *task.keeping->inquiry;
  if (inquiry.jobs().empty()) return end_inquiry(node, task);
  const auto jobs = inquiry.jobs();
  task.keeping->effect = node.replica->take(inquiry, times(node));
  renew_lease(node);
  if (!task.keeping->effect) return end_inquiry(node, task);
  check_take(node, inquiry.what(), jobs);
  task.from = UINT32_MAX;
  task.step = Step::next_tell;
}

// Sends the takeover to each node that is up, one after the other. Then the takeover is appended.
void World::next_tell(Node& node, Task& task) {
  task.keeping->debts.clear();
  task.sent_again = false;
  for (++task.from; task.from < m_nodes.size(); ++task.from) {
    const std::string to = name(task.from);
    if (!node.replica->is_reached(to)) continue;
    for (const auto& change : task.keeping->effect->to_send())
      task.keeping->debts.push_back({.id = change.id, .job = change.job, .state = true});
    task.step = Step::tell;
    return;
  }
  task.step = Step::write;
}

void World::end_inquiry(Node& node, Task& task) {
  node.replica->takeover_ended(task.keeping->due.front(), task.keeping->taken, task.keeping->inquiry_began,
                               times(node));
  task.keeping->due.pop_front();
  task.step = Step::next_inquiry;
}

void World::fail_inquiry(Node& node, Task& task) {
  node.replica->takeover_failed(task.keeping->due.front());
  task.step = Step::done;
}

// ------------------------------------------------------------------------------------------------------------- running

// A process starts the first job that it may start, or a job that an earlier process left, as Queue::claim() does.
bool World::run(Node& node) {
  if (!node.is_going()) return false;
  if (m_setting.once && (!node.has_lease || gq::is_gap(node.beat.at, times(node), node.beat.longest))) return false;
  const auto here = runs(node);
  const std::string owner = node.name + "-" + std::to_string(node.stores) + "-" + std::to_string(node.processes) + "-" +
                            std::to_string(node.runners) + ".1";
  std::string id;
  std::vector<std::string> left, late;
  const auto wakes = node.fold->wakes(SIZE_MAX, wall(node));
  for (const auto& woken : wakes) append(node, woken, {});
  node.fold->expired(wall(node), [&](const std::string& first) {
    late.push_back(first);
    return true;
  });
  for (const auto& expired : late) {
    say(node.name + " lets " + expired + " expire");
    append(node,
           event::Dead{.id = expired, .at = wall(node), .owner = gq::event::nobody, .spent = false, .why = "expired"},
           {});
  }
  for (const auto& other : node.fold->owners())
    if (other != owner)
      node.fold->claimed(other, [&](const std::string& first) {
        left.push_back(first);
        return true;
      });
  for (const auto& stray : left) {
    const auto job = node.fold->get(stray);
    const bool released = !node.fold->may_run(*job) || gq::is_late(*job, wall(node));
    if (!released && here.has(job->function)) id = stray;
    else if (released)
      append(node,
             event::Fail{.id = stray, .at = wall(node), .owner = job->owner, .start = job->starts, .spent = false}, {});
  }
  for (const char* function : {"f", "g"})
    if (id.empty() && here.has(function))
      node.fold->queued(function, [&](const std::string& first) {
        id = first;
        return false;
      });
  if (id.empty()) return !left.empty() || !late.empty() || !wakes.empty();
  check_start(node, id);
  append(node, event::Claim{.ids = {id}, .at = wall(node), .owner = owner}, {});
  const auto job = node.fold->get(id);
  append(node, event::Start{.id = id, .at = wall(node), .owner = owner, .start = job->starts + 1}, {});
  say(node.name + " runs " + id);
  node.tasks.push_back({.kind = Task::Kind::run, .step = Step::finish, .from = client, .job = run_number, .id = id});
  node.tasks.back().owner = owner;
  return true;
}

// ------------------------------------------------------------------------------------------------------------- oracles

// Checks a takeover: a node takes over only jobs whose function it runs, except jobs that their owner has lost. It
// takes over the jobs of a node that is gone, or that does not run their function, only if that was so for --takeover.
void World::check_take(const Node& node, const gq::Takeover& what, const std::vector<gq::HeldJob>& jobs) {
  const auto here = runs(node);
  for (const auto& [id, job] : jobs) {
    say(node.name + " takes over " + id + " of " + what.node);
    m_taken_over[id].insert(node.self.store);
    if (!here.has(job.function) && what.cause != Cause::lost)
      fail(node.name + " takes over " + id + ", although it does not run its function");
    for (unsigned i = 0; i < m_nodes.size(); ++i) {
      const auto& other = node.others[i];
      if (name(i) != what.node || &m_nodes[i] == &node) continue;
      auto ran = other.ran.find(job.function);
      const Millis last = ran == other.ran.end() ? Millis(0) : ran->second;
      const bool is_gone = m_now - other.heard >= takeover, is_idle = m_now - last >= takeover;
      if (what.cause == Cause::gone && !is_gone)
        fail(node.name + " takes over " + id + " of " + what.node + ", which has just answered");
      if (what.cause == Cause::idle && !is_gone && !is_idle)
        fail(node.name + " takes over " + id + " of " + what.node + ", where its function runs");
      if (what.cause == Cause::gone || what.cause == Cause::idle) m_excused.insert(id);
    }
  }
}

// Checks the start of a job in a group in which each job runs on one node. Two nodes may run a job only if one of them
// was gone, cut off or stopped for --takeover (then the job was taken over), if one has lost its store, or if both have
// accepted the job. And a node must not run a job again that another node has ended, if it could know that: a node that
// was away asks before it runs anything, and waits for the answers.
void World::check_start(const Node& node, const std::string& id) {
  if (gq::is_late(*node.fold->get(id), wall(node))) fail(node.name + " starts " + id + ", which has expired");
  if (const auto parents = m_parents.find(id); parents != m_parents.end() && !are_done(parents->second))
    fail(node.name + " starts " + id + ", whose parents are not done");
  if (!m_setting.once || m_regrouped.count(id)) return;
  auto& ran = m_ran[id];
  ran.insert(node.self.store);
  auto accepted = m_accepted.find(id);
  const bool by_two = accepted != m_accepted.end() && accepted->second.size() > 1;
  if (ran.size() > 1 && !by_two && !m_excused.count(id))
    fail(node.name + " runs " + id + ", which another node has run");
  // Skip jobs that this node has taken over: their former owner may have answered since, because it was told of the
  // takeover.
  const auto taken = m_taken_over.find(id);
  const bool took = taken != m_taken_over.end() && taken->second.count(node.self.store);
  for (unsigned i = 0; i < m_nodes.size() && !by_two && !took; ++i) {
    const auto& other = node.others[i];
    if (&m_nodes[i] == &node || !ran.count(m_nodes[i].self.store)) continue;
    auto ended = std::find_if(m_nodes[i].journal.begin(), m_nodes[i].journal.end(), [&](const Entry& e) {
      auto* done = std::get_if<event::Done>(&e.event);
      return done && done->id == id;
    });
    if (ended == m_nodes[i].journal.end()) continue;
    if (other.first_end && ended->lsn < *other.first_end && m_now - other.heard < takeover)
      fail(node.name + " runs " + id + " again, which " + name(i) + " had ended before it answered");
    if (!other.tried && m_now - node.back < alone_after)
      fail(node.name + " runs " + id + " again, and has not asked " + name(i) + " since it was away");
  }
}

bool World::are_done(const std::vector<std::string>& ids) const {
  return std::all_of(ids.begin(), ids.end(), [&](const std::string& id) { return m_done_jobs.count(id) > 0; });
}

// Returns a job that waits on its node although some node knows that its parents are done; empty if there is none.
std::string World::left_to_wake() const {
  for (const auto& [id, parents] : m_parents)
    for (const auto& node : m_nodes) {
      const auto job = node.fold->get(id);
      const bool knows = std::all_of(parents.begin(), parents.end(), [&](const std::string& parent) {
        return std::any_of(m_nodes.begin(), m_nodes.end(), [&](const Node& other) {
          const auto known = other.fold->get(parent);
          return known && gq::has_ended(*known);
        });
      });
      if (job && knows && job->state == gq::State::waiting && gq::is_blocked(*job))
        return id + " waits on " + node.name + ", although its parents are done";
    }
  return {};
}

// Returns the state of the job on each node, as a text for users.
std::string World::states_of(const std::string& id) const {
  std::string text;
  for (const auto& node : m_nodes)
    if (const auto job = node.fold->get(id)) text += " " + node.name + " (" + text_of(*job) + ")";
  return text;
}

// Returns a job that is not finished although a node that has it can run it or take it over; empty if there is none.
std::string World::left_to_run() const {
  // Skip pending jobs, which wait until a user drops them; skip jobs that wait for others on their node, which
  // left_to_wake() checks; and skip IDs under which nodes have different jobs: each node takes the other's job for its
  // own.
  auto waits = [&](const std::string& id, const gq::Job& job) {
    return std::any_of(m_nodes.begin(), m_nodes.end(), [&](const Node& n) {
      auto its = n.fold->get(id);
      return its && (its->state == gq::State::pending || its->state == gq::State::waiting || its->sum != job.sum ||
                     its->function != job.function);
    });
  };
  for (const auto& node : m_nodes) {
    const auto here = runs(node);
    uint64_t held = 0;
    for (const auto& [function, counters] : node.fold->counters()) {
      if (!here.has(function)) continue;
      auto of = [&c = counters](gq::State state) { return c.jobs[static_cast<size_t>(state)]; };
      if (of(gq::State::queued) + of(gq::State::claimed) + of(gq::State::running) > 0)
        return function + " on " + node.name;
      held += of(gq::State::held);
    }
    if (held == 0 || !m_setting.once) continue;
    for (const auto& owner : node.fold->held_nodes()) {
      std::string cursor;
      std::vector<std::string> ids;
      node.fold->page('o', owner, 10'000, cursor, ids);
      for (const auto& id : ids)
        if (auto job = node.fold->get(id); here.has(job->function) && !waits(id, *job))
          return id + " on " + node.name + ":" + states_of(id);
    }
  }
  return {};
}

}  // namespace simulate
